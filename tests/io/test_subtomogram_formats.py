"""Tables of subtomograms from format to format: beads sit where they sat, by each program's own formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.em_volume import read_em_header, write_em
from manyviews.io.mrc import write_mrc
from manyviews.io.star import read_star
from manyviews.io.subtomogram_formats import format_by_name, read_subtomograms, write_subtomograms
from manyviews.io.subtomogram_table import SubtomogramTable

PIXEL = 4.0
COUNT = 6
RANDOM = np.random.Generator(np.random.PCG64(3))
# An object that looks different from everywhere, in angstrom, x y z.
BEADS = np.array([[0.0, 0, 0], [90, 0, 0], [0, 50, 0], [0, 0, 30], [40, 40, -70]])
FILES = {"relion": "a.star", "relion-tomo": "b.star", "dynamo": "c.tbl", "em": "d.em", "stopgap": "e.star"}


def turn(axis: str, degrees: float) -> np.ndarray:
    """A right-handed rotation of points."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    rows = {"z": [[c, -s, 0], [s, c, 0], [0, 0, 1]], "x": [[1, 0, 0], [0, c, -s], [0, s, c]]}
    return np.array({**rows, "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]]}[axis])


def a_table(**changes: Any) -> SubtomogramTable:
    given: dict[str, Any] = {
        "pixel_size": PIXEL,
        "shifts": RANDOM.uniform(-9, 9, (COUNT, 3)),
        "angles": RANDOM.uniform(-180, 180, (COUNT, 3)) * [1, 0.5, 1] + [0, 90, 0],
        "coordinates": RANDOM.uniform(100, 999, (COUNT, 3)),
        "tomograms": ("7", "12"),
        "tomogram_index": np.array([0, 0, 1, 1, 0, 1]),
        "number": np.arange(11, 11 + COUNT),
        "parent": np.array([1, 1, 2, 3, 4, 4]),
        "class_number": np.array([1, 2, 1, 2, 1, 2]),
        "score": RANDOM.uniform(0, 1, COUNT),
        "half": np.array([1, 2, 1, 2, 2, 1]),
    }
    return SubtomogramTable(**{**given, **changes})


def beads_by_dynamo(path: Path) -> np.ndarray:
    """Where the beads are in voxels of the tomogram, the first being 1, by Dynamo's columns."""
    found = []
    for row in np.loadtxt(path, ndmin=2):
        tdrot, tilt, narot = row[6:9]
        to_reference = turn("z", narot) @ turn("x", tilt) @ turn("z", tdrot)
        found.append(row[23:26] + row[3:6] + BEADS / PIXEL @ to_reference)  # inverse: transposed
    return np.array(found)


def beads_by_motive_list(path: Path) -> np.ndarray:
    """The same by rows 8-13 and 17-19 of a motive list."""
    found = []
    for row in np.array(read_em_header(path).map_voxels()[0], dtype=np.float64):
        phi, psi, theta = row[16:19]
        found.append(
            row[7:10] + row[10:13] + BEADS / PIXEL @ (turn("z", psi) @ turn("x", theta) @ turn("z", phi)).T
        )
    return np.array(found)


def beads_by_stopgap(path: Path) -> np.ndarray:
    """The same by STOPGAP's columns."""
    (block,) = read_star(path)
    found = []
    for row in range(len(block)):
        value = {label: float(texts[row]) for label, texts in block.columns.items() if label != "halfset"}
        matrix = turn("z", value["psi"]) @ turn("x", value["the"]) @ turn("z", value["phi"])
        where = np.array([value[f"orig_{axis}"] + value[f"{axis}_shift"] for axis in "xyz"])
        found.append(where + BEADS / PIXEL @ matrix.T)
    return np.array(found)


def beads_by_relion(path: Path) -> np.ndarray:
    """The same, the first voxel being 0, by RELION's columns: coordinate - origin + A X."""
    block = read_star(path)[-1]
    found = []
    for row in range(len(block)):
        value = {label: texts[row] for label, texts in block.columns.items()}
        rot, tilt, psi = (float(value[f"rlnAngle{name}"]) for name in ("Rot", "Tilt", "Psi"))
        # Euler_angles2matrix turns axes, not points: the inverse of Rz(rot) Ry(tilt) Rz(psi)
        matrix = (turn("z", rot) @ turn("y", tilt) @ turn("z", psi)).T
        origin = np.array([float(value[f"rlnOrigin{axis}Angst"]) for axis in "XYZ"])
        where = np.array([float(value[f"rlnCoordinate{axis}"]) for axis in "XYZ"])
        found.append(where + (BEADS @ matrix.T - origin) / PIXEL)
    return np.array(found)


BEADS_BY = {
    "relion": (beads_by_relion, 0),
    "relion-tomo": (beads_by_relion, 0),
    "dynamo": (beads_by_dynamo, 1),
    "em": (beads_by_motive_list, 1),
    "stopgap": (beads_by_stopgap, 1),
}


@pytest.mark.parametrize("second", FILES)
@pytest.mark.parametrize("first", FILES)
def test_beads_stay_where_they_are(tmp_path: Path, first: str, second: str):
    """Written in one format, read, written in another: both programs see the beads at the same places."""
    write_subtomograms(tmp_path / f"1{FILES[first]}", a_table(), first)
    read = read_subtomograms(tmp_path / f"1{FILES[first]}", pixel_size=PIXEL, with_volumes=False)
    write_subtomograms(tmp_path / f"2{FILES[second]}", read, second)
    places = []
    for number, kind in ((1, first), (2, second)):
        beads, first_voxel = BEADS_BY[kind]
        places.append(beads(tmp_path / f"{number}{FILES[kind]}") - first_voxel)
    np.testing.assert_allclose(places[1], places[0], atol=2e-4)  # motive lists are float32


@pytest.mark.parametrize("kind", FILES)
def test_there_and_back(tmp_path: Path, kind: str):
    table = a_table()
    path = tmp_path / FILES[kind]
    assert write_subtomograms(path, table, kind) == ()
    read = read_subtomograms(path, pixel_size=PIXEL, with_volumes=False)
    for name in ("shifts", "angles", "coordinates", "score"):
        np.testing.assert_allclose(getattr(read, name), getattr(table, name), atol=2e-4, err_msg=name)
    for name in ("number", "parent", "class_number"):
        np.testing.assert_array_equal(getattr(read, name), getattr(table, name), err_msg=name)
    assert [read.tomogram_of(n) for n in range(COUNT)] == [table.tomogram_of(n) for n in range(COUNT)]
    if kind in ("relion", "relion-tomo", "stopgap"):
        np.testing.assert_array_equal(read.half, table.half)
    write_subtomograms(tmp_path / f"again_{path.name}", read, kind)
    again = read_subtomograms(tmp_path / f"again_{path.name}", pixel_size=PIXEL, with_volumes=False)
    write_subtomograms(tmp_path / f"third_{path.name}", again, kind)
    assert (tmp_path / f"third_{path.name}").read_bytes() == (tmp_path / f"again_{path.name}").read_bytes()


@pytest.mark.parametrize("kind", ["dynamo", "em", "stopgap"])
def test_turned_boxes_are_turned_back(tmp_path: Path, kind: str):
    """RELION 4 in its own words: position - A_box origin, and A_box A of every bead."""
    table = a_table(box_angles=RANDOM.uniform(-90, 90, (COUNT, 3)) + np.array([0, 90, 0]))
    write_subtomograms(tmp_path / "t.star", table, "relion-tomo")
    read = read_subtomograms(tmp_path / "t.star", with_volumes=False)
    write_subtomograms(tmp_path / FILES[kind], read, kind)
    beads, first_voxel = BEADS_BY[kind]
    for row, found in enumerate(beads(tmp_path / FILES[kind]) - first_voxel):
        box, own = (
            (turn("z", rot) @ turn("y", tilt) @ turn("z", psi)).T
            for rot, tilt, psi in (table.box_angles[row], table.angles[row])
        )
        where = table.coordinates[row] - box @ table.shifts[row]
        np.testing.assert_allclose(found, (where + BEADS @ (box @ own).T) / PIXEL, atol=2e-4)


def test_names_of_tomograms_become_numbers_aloud(tmp_path: Path):
    said = write_subtomograms(tmp_path / "a.tbl", a_table(tomograms=("left", "right")), "dynamo")
    assert said == ("the format knows tomograms by number only: left = 1, right = 2",)
    read = read_subtomograms(tmp_path / "a.tbl", pixel_size=PIXEL, with_volumes=False)
    assert [read.tomogram_of(n) for n in range(COUNT)] == ["1", "1", "2", "2", "1", "2"]
    (said,) = write_subtomograms(tmp_path / "b.tbl", a_table(tomograms=("07", "12")), "dynamo")
    assert "07 = 1, 12 = 2" in said


def test_positions_from_the_middle_need_a_size(tmp_path: Path):
    table = a_table(origin="centre")
    for kind in ("relion", "dynamo", "em", "stopgap"):
        with pytest.raises(InputError, match=r"positions count from the middle .* --tomogram-size"):
            write_subtomograms(tmp_path / FILES[kind], table, kind)
    write_subtomograms(tmp_path / "b.star", table, "relion-tomo")
    read = read_subtomograms(tmp_path / "b.star", with_volumes=False)
    assert read.origin == "centre"
    np.testing.assert_allclose(read.coordinates, table.coordinates, atol=1e-6)


def test_endings_tell_formats():
    assert [format_by_name(Path(name)) for name in ("a.STAR", "b.tbl", "c.em")] == ["relion", "dynamo", "em"]
    with pytest.raises(InputError, match=r"ending '.txt' is none of a table"):
        format_by_name(Path("a.txt"))


# --- Dynamo, motive lists, STOPGAP ---


def test_a_table_of_dynamo(subtomogram_data: Path):
    table = read_subtomograms(subtomogram_data / "cryocat_crop.tbl", pixel_size=3.0, with_volumes=False)
    assert (len(table), len(table.tomograms)) == (4485, len({*table.tomograms}))
    # 1 1 1 0.21 -0.26 -0.5 -2.6459 90 2.6459 ... 1 -60 60 -60 60 ... 1 1 0 0 781.5 254.5 219.5
    np.testing.assert_allclose(table.shifts[0], np.array([-0.21, 0.26, 0.5]) * 3)
    np.testing.assert_allclose(table.coordinates[0], np.array([780.5, 253.5, 218.5]) * 3)
    np.testing.assert_allclose(table.angles[0], [2.6459 - 90, 90, -2.6459 + 90])
    assert (table.wedge_type[0], table.tilt_ranges[0].tolist()) == (1, [-60, 60, -60, 60])
    assert (table.tomogram_of(4484), table.parent[4484]) == ("25", 151)


def test_a_table_of_dynamo_comes_out_as_it_went_in(subtomogram_data: Path, tmp_path: Path):
    source = subtomogram_data / "cryocat_crop.tbl"
    table = read_subtomograms(source, pixel_size=3.0, with_volumes=False)
    write_subtomograms(tmp_path / "a.tbl", table, "dynamo")
    given, written = np.loadtxt(source), np.loadtxt(tmp_path / "a.tbl")
    angles = slice(6, 9)  # 180 degrees are -180
    np.testing.assert_allclose(np.exp(1j * np.deg2rad(written - given))[:, angles], 1, atol=1e-6)
    np.testing.assert_allclose(np.delete(written, angles, 1), np.delete(given, angles, 1), atol=1e-5)


def test_a_motive_list_comes_out_as_it_went_in(subtomogram_data: Path, tmp_path: Path):
    source = subtomogram_data / "cryocat_allmotl_sp_cl1_1.em"
    table = read_subtomograms(source, pixel_size=1.7, with_volumes=False)
    assert (len(table), table.tomograms[0], table.number[0]) == (8100, "5", 796)
    write_subtomograms(tmp_path / "a.em", table, "em")
    given, written = (read_em_header(path).map_voxels() for path in (source, tmp_path / "a.em"))
    np.testing.assert_allclose(written, given, atol=4e-4)


def test_volumes_are_found_by_their_numbers(tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(11, 11 + COUNT):
        write_em(folder / f"particle_{number:05d}.em", RANDOM.normal(size=(4, 4, 4)))
    for kind in ("dynamo", "em", "stopgap"):
        write_subtomograms(tmp_path / FILES[kind], a_table(), kind)
        read = read_subtomograms(tmp_path / FILES[kind], pixel_size=PIXEL, data_root=folder)
        assert [path.name for path in read.volumes][:2] == ["particle_00011.em", "particle_00012.em"]
        with pytest.raises(InputError, match="no volume for particle 11"):
            read_subtomograms(tmp_path / FILES[kind], pixel_size=PIXEL)
    for number in range(11, 11 + COUNT):
        write_mrc(folder / f"other_{number}.mrc", np.ones((4, 4, 4), np.float32), PIXEL)
    with pytest.raises(InputError, match=r"particle 11 could be other_11.mrc or particle_00011.em"):
        read_subtomograms(tmp_path / "c.tbl", pixel_size=PIXEL, data_root=folder)
    (folder / "particle_00013.em").unlink()
    (folder / "other_13.mrc").unlink()
    with pytest.raises(InputError, match="no volume for particle 13"):
        read_subtomograms(tmp_path / "c.tbl", pixel_size=PIXEL, data_root=folder)


ROW = "1 1 1 0.5 0 0 10 20 30 0.3 0 0 1 -60 60 -50 50 0 0 2 1 1 0 11 12 13"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no particles"),
        ("1 2 3\n", "line 1: the line holds 3 values, where a Dynamo table has 9 to 100"),
        (f"{ROW}\n{ROW} 4\n", "line 2: the line holds 27 values where the first has 26"),
        (f"{ROW}\n\n{ROW.replace(' 20 ', ' x ')}\n", "column 8, row 2: 'x' is not a finite number"),
        (ROW.replace("1 1 1", "1.5 1 1"), "column 1, row 1: '1.5' is not a whole number"),
        (ROW.replace(" 0.3 0 0 1", " 0.3 x 0 1"), "column 11, row 1: 'x' is not a number"),
        (ROW.replace(" 11 12", " nan 12"), "column 24, row 1: 'nan' is not a finite"),
    ],
)
def test_what_is_no_table_of_dynamo(tmp_path: Path, text: str, words: str):
    (tmp_path / "a.tbl").write_text(text)
    with pytest.raises(InputError, match=words):
        read_subtomograms(tmp_path / "a.tbl", pixel_size=2.0, with_volumes=False)


def test_the_pixel_size_of_a_dynamo_table(tmp_path: Path):
    (tmp_path / "a.tbl").write_text(ROW)
    with pytest.raises(InputError, match="does not tell the pixel size"):
        read_subtomograms(tmp_path / "a.tbl", with_volumes=False)
    (tmp_path / "b.tbl").write_text(ROW + " 0" * 9 + " 2.5\n")
    told = read_subtomograms(tmp_path / "b.tbl", with_volumes=False)
    assert (told.pixel_size, told.notes) == (2.5, ("the pixel size is 2.5 A: column 36 of the table",))
    other = read_subtomograms(tmp_path / "b.tbl", with_volumes=False, pixel_size=5.0)
    assert other.warnings == ("the pixel size is taken as 5 A, not as the 2.5 A of the table's column 36",)


def test_what_is_no_motive_list(tmp_path: Path):
    path = tmp_path / "a.em"
    write_em(path, np.zeros((4, 4, 4)))
    with pytest.raises(InputError, match="holds 4 x 4 x 4 numbers, but a motive list has 20"):
        read_subtomograms(path, pixel_size=1.0, with_volumes=False)
    values = np.zeros((1, 2, 20))
    values[0, 1, 9] = np.nan
    write_em(path, values, overwrite=True)
    with pytest.raises(InputError, match="row 10, particle 2: nan is not a finite number"):
        read_subtomograms(path, pixel_size=1.0, with_volumes=False)
    with pytest.raises(InputError, match="does not tell the pixel size"):
        read_subtomograms(path, with_volumes=False)
    values[0, 1, [4, 9]] = 1.5, 0
    write_em(path, values, overwrite=True)
    with pytest.raises(InputError, match=r"row 5, particle 2: 1.5 is not a whole number"):
        read_subtomograms(path, pixel_size=1.0, with_volumes=False)
    with pytest.raises(InputError, match="number 99999999 of a particle is too large"):
        write_subtomograms(tmp_path / "b.em", a_table(number=np.full(COUNT, 99_999_999)), "em")


def test_what_is_no_list_of_stopgap(tmp_path: Path):
    path = tmp_path / "e.star"
    write_subtomograms(path, a_table(), "stopgap")
    text = path.read_text()
    for old, new, words in (
        (" B ", " C ", "column halfset, row 2: half set 'C' is neither A nor B"),
        ("_score #", "_other #", "the column score is missing"),
        (" 12 B", " 11 B", "particle 11 is listed 2 times"),
    ):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(InputError, match=words):
            read_subtomograms(path, pixel_size=1.0, with_volumes=False)
    path.write_text(text)
    with pytest.raises(InputError, match="does not tell the pixel size"):
        read_subtomograms(path, with_volumes=False)
    path.write_text(text.replace(" B ", " A "))
    alike = read_subtomograms(path, pixel_size=1.0, with_volumes=False)
    assert (alike.half, alike.notes) == (None, ("all particles are of half set A, which is taken as none",))
