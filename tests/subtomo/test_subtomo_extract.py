"""Boxes cut out of tomograms: the right voxels, what is left of positions, edges, NaN, copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.dynamo_table import write_dynamo_table
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.relion_subtomograms import read_relion_subtomograms
from manyviews.io.star import StarBlock, write_star
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.io.tables import read_columns
from manyviews.subtomo.extract import extract
from manyviews.subtomo.options import ExtractOptions

SHAPE = (20, 24, 28)  # z, y, x
PIXEL = 5.0


def a_tomogram() -> np.ndarray:
    """Every voxel tells where it is."""
    z, y, x = np.indices(SHAPE)
    return (x + 100 * y + 10_000 * z).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_mrc(tmp_path / "tomo.mrc", a_tomogram(), PIXEL)
    return tmp_path


def picks(folder: Path, *rows: tuple[float, float, float], name: str = "p.txt") -> Path:
    path = folder / name
    path.write_text("".join("{} {} {}\n".format(*row) for row in rows))
    return path


def options(folder: Path, positions: Path, **more: Any) -> ExtractOptions:
    given = {"tomogram": folder / "tomo.mrc", "positions": positions, "box": 6, "out": folder / "out"}
    if positions.suffix in (".txt", ".csv"):
        given["units"] = "voxels"
    return ExtractOptions(**{**given, **more})


def test_the_middle_of_a_box_is_the_position(folder: Path):
    made = extract(options(folder, picks(folder, (10, 12, 8), (14.3, 9.5, 10.6))))
    assert (made.count, made.filled, made.skipped, made.warnings) == (2, 0, {}, ())
    first, header = read_mrc(folder / "out/volumes/000001.mrc")
    assert first[3, 3, 3] == 10 + 1200 + 80_000
    np.testing.assert_array_equal(first, a_tomogram()[5:11, 9:15, 7:13])
    assert header.pixel_size == (PIXEL,) * 3
    second, _ = read_mrc(folder / "out/volumes/000002.mrc")
    assert second[3, 3, 3] == 14 + 1000 + 110_000
    table = read_relion_subtomograms(made.table)
    np.testing.assert_allclose(table.shifts, np.array([[0, 0, 0], [-0.3, 0.5, 0.4]]) * PIXEL, atol=1e-6)
    np.testing.assert_allclose(table.positions, np.array([[10, 12, 8], [14.3, 9.5, 10.6]]) * PIXEL, atol=1e-6)
    assert (table.pixel_size, table.tomogram_pixel_size, table.tomograms) == (PIXEL, PIXEL, ("tomo",))
    assert table.box == 6
    assert [path.name for path in table.volumes] == ["000001.mrc", "000002.mrc"]


def test_a_particle_off_the_grid_sits_at_minus_its_shift(tmp_path: Path):
    """A round bead between voxels, by the centre of its mass."""
    bead = np.array([13.3, 11.8, 9.6])  # x y z
    z, y, x = np.indices(SHAPE)
    distance = sum((axis - at) ** 2 for axis, at in zip((x, y, z), bead, strict=True))
    write_mrc(tmp_path / "tomo.mrc", np.exp(-distance / 2).astype(np.float32), PIXEL)
    for box in (9, 10):  # odd and even
        extract(options(tmp_path, picks(tmp_path, tuple(bead)), box=box, out=tmp_path / str(box)))
        table = read_relion_subtomograms(tmp_path / str(box) / "particles.star")
        volume, _ = read_mrc(table.volumes[0])
        centre = [
            np.average(np.arange(box), weights=volume.sum(axis=others)) for others in ((0, 1), (0, 2), (1, 2))
        ]
        np.testing.assert_allclose((np.array(centre) - box // 2) * PIXEL, -table.shifts[0], atol=0.01)


EDGE = ((10, 12, 8), (1, 12, 8), (27, 23, 19), (40, 12, 8))


def test_boxes_beyond_the_edge_are_skipped_and_listed(folder: Path):
    made = extract(options(folder, picks(folder, *EDGE)))
    assert (made.count, made.skipped) == (1, {"beyond the edge": 2, "outside the tomogram": 1})
    listed = read_columns(made.listed)
    assert listed["state"].tolist() == ["extracted", "skipped", "skipped", "skipped"]
    assert listed["reason"].tolist()[1] == "33.3% of the box lies beyond the edge"
    assert listed["volume"].tolist() == ["volumes/000001.mrc", "", "", ""]
    assert len(read_relion_subtomograms(made.table)) == 1


def test_boxes_beyond_the_edge_are_filled_with_the_mean_of_the_rest(folder: Path):
    made = extract(options(folder, picks(folder, *EDGE), edge="fill"))
    assert (made.count, made.filled, made.skipped) == (3, 2, {"outside the tomogram": 1})
    volume, _ = read_mrc(folder / "out/volumes/000002.mrc")
    inside = a_tomogram()[5:11, 9:15, 0:4]
    np.testing.assert_array_equal(volume[:, :, 2:], inside)
    np.testing.assert_array_equal(volume[:, :, :2], np.float32(inside.mean(dtype=np.float64)))
    listed = read_columns(made.listed)
    np.testing.assert_allclose(listed["filled_fraction"], [0, 1 / 3, 1 - 4**3 / 6**3, 0], atol=1e-6)


def test_boxes_beyond_the_edge_fail_when_told(folder: Path):
    with pytest.raises(
        InputError, match=r"particle 2: its box cannot be cut out of tomo.mrc: 33.3% of the box"
    ):
        extract(options(folder, picks(folder, *EDGE), edge="fail"))
    assert not (folder / "out").exists()


def test_nan_is_never_written(folder: Path):
    tomogram = a_tomogram()
    path = folder / "tomo.mrc"
    raw = bytearray(path.read_bytes())
    at = np.ravel_multi_index((8, 12, 10), SHAPE)
    raw[1024 + 4 * at : 1028 + 4 * at] = np.float32(np.nan).tobytes()
    path.write_bytes(raw)
    made = extract(options(folder, picks(folder, (10, 12, 8), (20, 12, 8))))
    assert (made.count, made.skipped) == (1, {"NaN or infinity inside": 1})
    made = extract(options(folder, picks(folder, (10, 12, 8)), edge="fill", out=folder / "filled"))
    volume, _ = read_mrc(folder / "filled/volumes/000001.mrc")
    box = tomogram[5:11, 9:15, 7:13]
    rest = np.delete(box.ravel(), np.ravel_multi_index((3, 3, 3), (6, 6, 6)))
    assert volume[3, 3, 3] == np.float32(rest.mean(dtype=np.float64))
    assert read_columns(made.listed)["reason"].tolist() == ["1 voxels are NaN or infinite"]


def test_constant_boxes_are_skipped(tmp_path: Path):
    tomogram = a_tomogram()
    tomogram[:, :, :14] = 7
    write_mrc(tmp_path / "tomo.mrc", tomogram, PIXEL)
    made = extract(options(tmp_path, picks(tmp_path, (6, 12, 8), (20, 12, 8))))
    assert made.skipped == {"empty or constant": 1}
    assert read_columns(made.listed)["reason"].tolist() == ["is constant (7 everywhere)", ""]


def test_duplicates_are_left_out_by_distance_in_space(folder: Path):
    rows = ((10, 12, 8), (10, 12, 11), (10, 13, 8))  # 15 A apart in z, 5 A in y
    made = extract(options(folder, picks(folder, *rows), min_distance=6.0))
    assert (made.count, made.skipped) == (2, {"duplicates": 1})
    assert read_columns(made.listed)["reason"].tolist() == ["", "", "duplicate of particle 1, 5.0 A away"]


def test_inverted_contrast(folder: Path):
    extract(options(folder, picks(folder, (10, 12, 8)), invert=True))
    volume, _ = read_mrc(folder / "out/volumes/000001.mrc")
    np.testing.assert_array_equal(volume, -a_tomogram()[5:11, 9:15, 7:13])


def test_units_must_be_told_and_are_used(folder: Path):
    path = picks(folder, (50, 60, 40))
    with pytest.raises(InputError, match="voxels or angstrom; give --units"):
        extract(options(folder, path, units=None))
    extract(options(folder, path, units="angstrom"))
    assert read_mrc(folder / "out/volumes/000001.mrc")[0][3, 3, 3] == 10 + 1200 + 80_000
    extract(options(folder, picks(folder, (5, 6, 4)), position_pixel_size=10.0, out=folder / "binned"))
    assert read_mrc(folder / "binned/volumes/000001.mrc")[0][3, 3, 3] == 10 + 1200 + 80_000
    star = folder / "p.star"
    write_star(star, [StarBlock("", {f"rlnCoordinate{axis}": ["9"] for axis in "XYZ"})])
    with pytest.raises(InputError, match=r"--units is for .txt and .csv"):
        extract(options(folder, star, units="voxels"))


def test_tables_of_other_programs_cut_out_the_same(folder: Path):
    """Dynamo counts voxels from 1 and adds its shifts; RELION counts from 0 and takes its origins away."""
    table = SubtomogramTable(
        pixel_size=PIXEL,
        shifts=np.array([[2.0, -11.0, 0.0]]),
        coordinates=np.array([[50.0, 60, 45]]),
        angles=np.array([[10.0, 20, 30]]),
    )
    write_dynamo_table(folder / "p.tbl", table)
    columns = {f"rlnCoordinate{axis}": [text] for axis, text in zip("XYZ", ("20", "24", "18"), strict=True)}
    columns |= {f"rlnOrigin{axis}Angst": [text] for axis, text in zip("XYZ", ("2", "-11", "0"), strict=True)}
    optics = {"rlnOpticsGroup": ["1"], "rlnTomoTiltSeriesPixelSize": ["2.5"]}
    blocks = [StarBlock("optics", optics), StarBlock("particles", {**columns, "rlnOpticsGroup": ["1"]})]
    write_star(folder / "p.star", blocks)
    for name in ("p.tbl", "p.star"):
        made = extract(options(folder, folder / name, out=folder / name[2:]))
        read = read_relion_subtomograms(made.table)
        assert read_mrc(read.volumes[0])[0][3, 3, 3] == 10 + 1400 + 90_000  # y: (60 + 11) / 5 = 14.2
        np.testing.assert_allclose(read.positions, [[48, 71, 45]], atol=1e-5)
        np.testing.assert_allclose(read.shifts, [[2, -1, 0]], atol=1e-5)
        assert read.pixel_size == PIXEL
        assert bool(made.warnings) == (name == "p.tbl")  # which does not say what it counts
        if name == "p.tbl":
            assert made.warnings == ("positions are taken to be counted in voxels of the tomogram, 5 A",)
            np.testing.assert_allclose(read.angles, [[10, 20, 30]], atol=1e-5)


def test_positions_from_the_middle_of_the_tomogram(folder: Path):
    columns = {f"rlnCenteredCoordinate{axis}Angst": ["-20"] for axis in "XYZ"}
    write_star(folder / "p.star", [StarBlock("particles", columns)])
    extract(options(folder, folder / "p.star"))
    volume, _ = read_mrc(folder / "out/volumes/000001.mrc")
    assert volume[3, 3, 3] == (14 - 4) + 100 * (12 - 4) + 10_000 * (10 - 4)


def test_several_tomograms(folder: Path):
    write_mrc(folder / "b.rec", a_tomogram() + 0.5, PIXEL)
    path = folder / "p.csv"
    path.write_text("tomogram,x,y,z\ntomo,10,12,8\nb,11,12,8\n")
    with pytest.raises(InputError, match=r"lie in 2 tomograms but one was given; .* --only 'tomo'"):
        extract(options(folder, path))
    made = extract(options(folder, path, tomogram=folder))
    values = [read_mrc(folder / f"out/volumes/00000{n}.mrc")[0][3, 3, 3] for n in (1, 2)]
    assert values == [81_210, 81_211.5]
    assert read_relion_subtomograms(made.table).tomograms == ("tomo", "b")
    made = extract(options(folder, path, tomogram=folder / "b.rec", only="b", out=folder / "b"))
    assert read_mrc(folder / "b/volumes/000002.mrc")[0][3, 3, 3] == 81_211.5
    assert read_columns(made.listed)["particle"].tolist() == [2]
    assert made.warnings == ()
    made = extract(options(folder, path, only="b", out=folder / "other"))
    assert made.warnings == ("the table calls the tomogram of its positions b; taken to be tomo.mrc",)
    path.write_text("tomogram,x,y,z\nnone,10,12,8\n")
    with pytest.raises(InputError, match=r"no tomogram 'none', as none.mrc"):
        extract(options(folder, path, tomogram=folder, out=folder / "c"))
    path.write_text("tomogram,x,y,z\n../x,10,12,8\n")
    with pytest.raises(InputError, match="leads out of the folder"):
        extract(options(folder, path, tomogram=folder, out=folder / "c"))


def test_tomograms_of_relion_5(folder: Path):
    (folder / "Tomograms").mkdir()
    write_mrc(folder / "Tomograms/rec_TS_2.mrc", a_tomogram(), PIXEL)
    columns = {f"rlnCenteredCoordinate{axis}Angst": ["-20"] for axis in "XYZ"}
    write_star(folder / "p.star", [StarBlock("particles", {"rlnTomoName": ["TS_2"], **columns})])
    listed = {
        "rlnTomoName": ["TS_1", "TS_2"],
        "rlnTomoReconstructedTomogram": ["Tomograms/none.mrc", "Tomograms/rec_TS_2.mrc"],
    }
    write_star(folder / "tomograms.star", [StarBlock("global", listed)])
    for number, tomogram in enumerate(("tomograms.star", "Tomograms")):
        out = folder / str(number)
        extract(options(folder, folder / "p.star", tomogram=folder / tomogram, out=out))
        assert read_mrc(out / "volumes/000001.mrc")[0][3, 3, 3] == 10 + 800 + 60_000
    write_star(folder / "other.star", [StarBlock("", {"rlnX": ["1"]})])
    with pytest.raises(InputError, match="does not name tomograms with rlnTomoName"):
        extract(options(folder, folder / "p.star", tomogram=folder / "other.star", out=folder / "no"))
    with pytest.raises(InputError, match="does not say in which tomograms"):
        extract(
            options(folder, picks(folder, (1, 1, 1)), tomogram=folder / "tomograms.star", out=folder / "no")
        )


def test_positions_that_do_not_fit_are_suspicious(folder: Path):
    made = extract(options(folder, picks(folder, (10, 12, 8), (100, 120, 80), (140, 90, 100))))
    assert "67% of the positions lie outside their tomograms" in made.warnings[0]
    with pytest.raises(
        InputError, match="not one of 1 boxes could be cut out: outside the tomogram; check units"
    ):
        extract(options(folder, picks(folder, (100, 120, 80)), out=folder / "none"))


def test_nothing_is_replaced_unless_told(folder: Path):
    given = options(folder, picks(folder, (10, 12, 8)))
    extract(given)
    with pytest.raises(InputError, match="exists already"):
        extract(given)
    given = replace(given, positions=picks(folder, (11, 12, 8), name="q.txt"), overwrite=True)
    extract(given)
    assert read_mrc(folder / "out/volumes/000001.mrc")[0][3, 3, 3] == 81_211


def test_a_tomogram_without_a_pixel_size_or_of_another_kind(folder: Path):
    path = folder / "tomo.mrc"
    raw = bytearray(path.read_bytes())
    raw[40:52] = bytes(12)
    path.write_bytes(raw)
    given = options(folder, picks(folder, (10, 12, 8)))
    with pytest.raises(InputError, match="does not tell one voxel size; give it with --pixel-size"):
        extract(given)
    extract(replace(given, pixel_size=3.0))
    assert read_relion_subtomograms(folder / "out/particles.star").pixel_size == 3
    (folder / "t.tif").write_bytes(b"II*\0" + bytes(2000))
    with pytest.raises(InputError, match="is a TIFF file, not MRC; convert it"):
        extract(replace(given, tomogram=folder / "t.tif", out=folder / "tif"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2\n", "line 1: the line holds 2 numbers where a position x y z"),
        ("x,y\n1,2\n", "there is no column z"),
        ("x,y,z\n", "holds no positions"),
        ("x,y,z\n1,2\n", "position 1: holds 2 fields under 3 headings"),
        ("x,y,z\n1,2,q\n", "column z, position 1: 'q' is not a finite number"),
        ("x,y,z,tomogram\n1,2,3,\n", "position 1 has no tomogram"),
        ("", "holds no numbers"),
    ],
)
def test_what_is_no_list_of_positions(folder: Path, text: str, words: str):
    (folder / "p.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        extract(options(folder, folder / "p.csv"))
