import numpy as np
import pytest

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


def test_unlike_volumes_are_refused(tmp_path, truth):
    a = written(tmp_path, "a.mrc", truth)
    with pytest.raises(InputError, match="20 x 24 x 10 but"):
        compare(a, written(tmp_path, "b.mrc", truth[:, :-1]))
    with pytest.raises(InputError, match="pixel size is 4 angstrom"):
        compare(a, written(tmp_path, "c.mrc", truth, 5.0))
    with pytest.raises(InputError, match="nothing"):
        compare(a, tmp_path / "nothing.mrc")
