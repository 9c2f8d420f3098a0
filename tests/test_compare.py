import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.compare import compare
from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc

PIXEL = 4.0


@pytest.fixture
def truth():
    return np.random.default_rng(0).normal(size=(10, 24, 20)).astype(np.float32)


def written(folder, name, volume, pixel_size=PIXEL):
    write_mrc(folder / name, volume, pixel_size)
    return folder / name


def test_compare_a_scaled_copy(tmp_path, truth):
    found = compare(written(tmp_path, "a.mrc", 2 * truth), written(tmp_path, "b.mrc", truth))
    assert found.shape == (10, 24, 20)
    assert found.pixel_size == pytest.approx(PIXEL)
    assert found.ncc == pytest.approx(1)
    assert found.relative_error == pytest.approx(1, rel=1e-5)
    assert found.scaled_error == pytest.approx(0, abs=1e-3)
    assert found.scale == pytest.approx(0.5)
    assert found.resolution_half == pytest.approx(2 * PIXEL)
    assert "20 x 24 x 10 voxels" in found.lines()[0]


def test_compare_writes_table_and_picture_once(tmp_path, truth):
    a = written(tmp_path, "a.mrc", truth)
    found = compare(a, a)
    table, picture = found.write(tmp_path / "out")
    assert len(table.read_text().splitlines()) == len(found.fsc.frequency) + 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="exists already"):
        found.write(tmp_path / "out")
    table.write_text("old")
    assert found.write(tmp_path / "out", overwrite=True) == (table, picture)
    assert table.read_text().startswith("frequency_per_angstrom,fsc")


def test_the_command_may_be_given_again_with_overwrite(tmp_path, truth, capsys):
    words = ["compare", *[str(written(tmp_path, name, truth)) for name in ("a.mrc", "b.mrc")]]
    words += ["--out", str(tmp_path / "out")]
    assert main(words) == 0
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr()
    assert "give --overwrite" in said.err
    assert said.out == "", "it was refused when all was computed"
    assert main([*words, "--overwrite"]) == 0


def test_a_file_in_place_of_the_folder_is_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert main(["compare", "missing.mrc", "missing.mrc", "--out", str(tmp_path / "out")]) == 2
    assert "out: is no folder" in capsys.readouterr().err


def test_maps_that_look_unaligned_get_a_hint(tmp_path):
    grid = np.stack(np.meshgrid(*[np.arange(32) - 16] * 3, indexing="ij"), axis=-1)
    blobs = [(5, 0, 0), (-3, 4, 2), (0, -5, 3), (1, 2, -6)]
    volume = sum(np.exp(-((grid - blob) ** 2).sum(axis=-1) / 4) for blob in blobs).astype(np.float32)
    a = written(tmp_path, "a.mrc", volume)
    turned = compare(a, written(tmp_path, "b.mrc", np.ascontiguousarray(np.rot90(volume, axes=(0, 2)))))
    assert turned.look_unaligned
    assert "manyviews particles compare" in turned.lines()[-1]
    same = compare(a, written(tmp_path, "c.mrc", volume + np.float32(0.01) * grid[..., 0].astype(np.float32)))
    assert not same.look_unaligned
    assert "particles compare" not in "\n".join(same.lines())


def test_unlike_volumes_are_refused(tmp_path, truth):
    a = written(tmp_path, "a.mrc", truth)
    with pytest.raises(InputError, match="20 x 24 x 10 but"):
        compare(a, written(tmp_path, "b.mrc", truth[:, :-1]))
    with pytest.raises(InputError, match="pixel size is 4 angstrom"):
        compare(a, written(tmp_path, "c.mrc", truth, 5.0))
    with pytest.raises(InputError, match="nothing"):
        compare(a, tmp_path / "nothing.mrc")
