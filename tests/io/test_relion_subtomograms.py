"""RELION's STAR files of subtomograms: least tables, what a column becomes, where the pixel size is from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.io.relion_subtomogram_writer import write_relion_subtomograms
from manyviews.io.relion_subtomograms import read_relion_subtomograms
from manyviews.io.star import StarBlock, read_star, write_star

NAMES = ["sub/a.mrc", "sub/b.mrc"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in (*NAMES, "sub/w.mrc"):
        write_mrc(tmp_path / name, np.arange(64, dtype=np.float32).reshape(4, 4, 4), 6.0)
    return tmp_path


def a_star(folder: Path, particles: dict[str, list[str]], **more: dict[str, list[str]]) -> Path:
    path = folder / "p.star"
    blocks = [StarBlock(name, columns) for name, columns in more.items()]
    write_star(path, [*blocks, StarBlock("particles", particles)], overwrite=True)
    return path


def test_image_names_are_enough(folder: Path):
    table = read_relion_subtomograms(a_star(folder, {"rlnImageName": NAMES}))
    assert [path.relative_to(folder.resolve()) for path in table.volumes] == [Path(name) for name in NAMES]
    assert (table.volume_names, table.weights, table.angles, table.coordinates) == (
        tuple(NAMES),
        (),
        None,
        None,
    )
    assert table.pixel_size == pytest.approx(6)
    assert table.notes == ("the pixel size is 6 A: the header of the first volume",)
    assert table.warnings == ()
    assert not table.shifts.any()


def test_names_are_relative_to_the_folder_that_is_given(folder: Path):
    (folder / "tables").mkdir()
    deep = folder / "tables/1/2/3/4/5"
    deep.mkdir(parents=True)
    path = a_star(deep, {"rlnImageName": NAMES})
    with pytest.raises(InputError, match="--data-root"):
        read_relion_subtomograms(path)
    assert read_relion_subtomograms(path, data_root=folder).volumes[0].name == "a.mrc"


PARTICLES = {
    "rlnTomoName": ["t1", "t2"],
    "rlnImageName": NAMES,
    "rlnCtfImage": ["sub/w.mrc", "None"],
    "rlnCoordinateX": ["10", "20"],
    "rlnCoordinateY": ["11", "21"],
    "rlnCoordinateZ": ["12", "22"],
    "rlnOriginXAngst": ["1", "2"],
    "rlnOriginYAngst": ["3", "4"],
    "rlnOriginZAngst": ["5", "6"],
    "rlnAngleRot": ["7", "8"],
    "rlnAngleTilt": ["9", "10"],
    "rlnAnglePsi": ["11", "12"],
    "rlnAngleTiltPrior": ["90", "91"],
    "rlnTomoSubtomogramRot": ["0", "0"],
    "rlnTomoSubtomogramTilt": ["90", "90"],
    "rlnTomoSubtomogramPsi": ["0", "0"],
    "rlnTomoVisibleFrames": ["[1,0,1]", "[1,1,1]"],
    "rlnRandomSubset": ["2", "1"],
    "rlnClassNumber": ["1", "3"],
    "rlnHelicalTubeID": ["4", "5"],
    "rlnTomoParticleId": ["77", "78"],
    "rlnTomoParticleName": ["t1/1", "t2/1"],
    "rlnOpticsGroup": ["2", "2"],
}
OPTICS = {
    "rlnOpticsGroup": ["1", "2"],
    "rlnImagePixelSize": ["99", "6"],
    "rlnTomoTiltSeriesPixelSize": ["1.5", "1.5"],
    "rlnImageDimensionality": ["3", "3"],
    "rlnImageSize": ["64", "64"],
    "rlnCtfDataAreCtfPremultiplied": ["1", "1"],
}


def test_what_each_column_becomes(folder: Path):
    table = read_relion_subtomograms(a_star(folder, PARTICLES, optics=OPTICS))
    assert [path and path.name for path in table.weights] == ["w.mrc", None]
    np.testing.assert_array_equal(table.coordinates, np.array([[10, 11, 12], [20, 21, 22]]) * 1.5)
    np.testing.assert_array_equal(table.shifts, [[1, 3, 5], [2, 4, 6]])
    np.testing.assert_array_equal(table.angles, [[7, 9, 11], [8, 10, 12]])
    np.testing.assert_array_equal(table.prior_angles, [[np.nan, 90, np.nan], [np.nan, 91, np.nan]])
    np.testing.assert_array_equal(table.box_angles, [[0, 90, 0]] * 2)
    assert table.visible_tilts == ((True, False, True), (True, True, True))
    found = (table.half, table.class_number, table.filament, table.number)
    assert [values.tolist() for values in found] == [[2, 1], [1, 3], [4, 5], [77, 78]]
    assert (table.tomograms, table.tomogram_index.tolist()) == (("t1", "t2"), [0, 1])
    assert table.ctf_premultiplied is True
    assert table.extra == {"rlnTomoParticleName": ["t1/1", "t2/1"], "rlnOpticsGroup": ["2", "2"]}
    assert table.notes == (
        "the pixel size is 6 A: rlnImagePixelSize",
        "positions are counted in voxels of 1.5 A: rlnTomoTiltSeriesPixelSize",
    )
    assert (table.warnings, table.box) == ((), 64)


@pytest.mark.parametrize("tomo", [False, True])
def test_it_comes_out_as_it_went_in(folder: Path, tomo: bool):
    table = read_relion_subtomograms(a_star(folder, PARTICLES, optics=OPTICS))
    assert write_relion_subtomograms(folder / "q.star", table, tomo=tomo) == ()
    again = read_relion_subtomograms(folder / "q.star")
    names = ("volumes", "volume_names", "weights", "tomograms", "visible_tilts", "extra", "ctf_premultiplied")
    for name in (*names, "pixel_size", "tomogram_pixel_size", "box"):
        assert getattr(again, name) == getattr(table, name), name
    for name in (
        "coordinates",
        "shifts",
        "angles",
        "prior_angles",
        "box_angles",
        "half",
        "filament",
        "number",
    ):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name), err_msg=name)
    blocks = {block.name: block.columns for block in read_star(folder / "q.star")}
    assert ("general" in blocks) == tomo
    assert ("rlnTomoName" in blocks["particles"]) == tomo
    assert blocks["optics"]["rlnImagePixelSize"] == ["6.000000", "6.000000"]


def test_positions_from_the_middle_win(folder: Path):
    centred = {f"rlnCenteredCoordinate{axis}Angst": ["-50.5", "7"] for axis in "XYZ"}
    table = read_relion_subtomograms(a_star(folder, {**PARTICLES, **centred}, optics=OPTICS))
    assert table.origin == "centre"
    np.testing.assert_array_equal(table.coordinates, [[-50.5] * 3, [7] * 3])
    assert any("are used, not rlnCoordinateX" in text for text in table.warnings)


@pytest.mark.parametrize(
    ("optics", "columns", "size", "words"),
    [
        ({"rlnImagePixelSize": "3"}, {}, 3, "3 A: rlnImagePixelSize"),
        (
            {"rlnTomoTiltSeriesPixelSize": "1.5", "rlnTomoSubtomogramBinning": "4"},
            {},
            6,
            "x rlnTomoSubtomogramB",
        ),
        ({}, {"rlnPixelSize": "2.5"}, 2.5, "2.5 A: rlnPixelSize"),
        ({}, {"rlnDetectorPixelSize": "5", "rlnMagnification": "10000"}, 5, "and rlnMagnification"),
        ({}, {}, 6, "header of the first volume"),
    ],
)
def test_where_the_pixel_size_is_from(
    folder: Path, optics: dict[str, str], columns: dict[str, str], size: float, words: str
):
    particles = {"rlnImageName": NAMES, **{label: [text] * 2 for label, text in columns.items()}}
    groups = {"optics": {label: [text] for label, text in optics.items()}} if optics else {}
    path = a_star(folder, particles, **groups)
    table = read_relion_subtomograms(path)
    assert table.pixel_size == pytest.approx(size)
    assert words in table.notes[0]
    assert bool(table.warnings) == (size != 6)  # the header says 6, which is not used
    told = read_relion_subtomograms(path, pixel_size=7.0)
    assert told.pixel_size == 7
    assert f"is 7 A as told, not the {size:g} A of" in told.warnings[0]


def test_missing_angles_are_taken_as_zero_aloud(folder: Path):
    table = read_relion_subtomograms(a_star(folder, {"rlnImageName": NAMES, "rlnAngleTilt": ["90", "80"]}))
    np.testing.assert_array_equal(table.angles, [[0, 90, 0], [0, 80, 0]])
    assert "rlnAngleRot, rlnAnglePsi are missing and taken as 0" in table.warnings


def test_version_3_counts_origins_in_pixels(folder: Path):
    origins = {f"rlnOrigin{axis}": ["1", "-2"] for axis in "XYZ"}
    table = read_relion_subtomograms(a_star(folder, {"rlnImageName": NAMES, **origins}))
    np.testing.assert_allclose(table.shifts, [[6] * 3, [-12] * 3])
    assert table.extra == {}


def test_stacks_of_images_are_refused_but_their_positions_are_not(folder: Path):
    particles = {**PARTICLES, "rlnImageName": ["1_stack2d.mrcs", "2_stack2d.mrcs"]}
    path = a_star(folder, particles, general={"rlnTomoSubTomosAre2DStacks": ["1"]}, optics=OPTICS)
    with pytest.raises(InputError, match=r"holds 2-D stacks of the tilt images .* not volumes; extract 3-D"):
        read_relion_subtomograms(path)
    table = read_relion_subtomograms(path, with_volumes=False)
    assert (table.volumes, table.extra["rlnImageName"]) == ((), particles["rlnImageName"])
    write_relion_subtomograms(folder / "q.star", table, tomo=True)
    assert read_star(folder / "q.star")[0].columns == {"rlnTomoSubTomosAre2DStacks": ["1"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"rlnImageName": ["1@a.mrcs", "2@a.mrcs"]},
            "row 1: '1@a.mrcs' is an image of a stack, not a volume",
        ),
        ({"rlnImageName": ["sub/a.mrc", "sub/none.mrc"]}, "'sub/none.mrc' is neither in"),
        ({"rlnTomoVisibleFrames": ["[1,1]", "[0,0]"]}, "row 2: '.0,0.' is not a list of zeros and ones"),
        ({"rlnTomoVisibleFrames": ["[1,2]", "[1,0]"]}, "row 1: '.1,2.' is not a list"),
        ({"rlnRandomSubset": ["1", "3"]}, "row 2: half set 3 is neither 1 nor 2"),
        ({"rlnAngleRot": ["x", "3"]}, "column rlnAngleRot, row 1: 'x' is not a finite"),
        ({"rlnOpticsGroup": ["2", "3"]}, "row 2: optics group 3 is not in data_optics"),
        ({"rlnOpticsGroup": ["2", "1"]}, "different pixel sizes .6 to 99 A."),
    ],
)
def test_what_is_refused(folder: Path, change: dict[str, list[str]], words: str):
    path = a_star(folder, {**PARTICLES, **change}, optics=OPTICS)
    with pytest.raises(InputError, match=words):
        read_relion_subtomograms(path)


def test_other_tables_are_refused(folder: Path):
    for columns, words in (
        ({"rlnX": ["1", "2"]}, "lists no subtomograms"),
        (
            {"rlnTomoName": ["a", "b"], "rlnTomoTiltSeriesStarFile": ["c", "d"]},
            "lists tomograms, not particles",
        ),
        ({"rlnTomoName": ["a", "b"], "rlnCoordinateX": ["1", "2"]}, "lists positions, not subtomograms"),
    ):
        with pytest.raises(InputError, match=words):
            read_relion_subtomograms(a_star(folder, columns))
    path = a_star(folder, {"rlnTomoName": ["a", "b"], "rlnCoordinateX": ["1", "2"]})
    with pytest.raises(InputError, match="the column rlnCoordinateY is missing"):
        read_relion_subtomograms(path, with_volumes=False, pixel_size=1.0)
    with pytest.raises(InputError, match="pixel size of the subtomograms is not told"):
        read_relion_subtomograms(path, with_volumes=False)


def test_a_table_of_relion_4(subtomogram_data: Path, tmp_path: Path):
    source = subtomogram_data / "cryocat_relion_4.0_head400.star"
    table = read_relion_subtomograms(source, with_volumes=False)
    assert (len(table), table.pixel_size, table.tomogram_pixel_size) == (355, 3.942, 1.971)
    np.testing.assert_allclose(table.coordinates[0], np.array([1700, 428, 944]) * 1.971)
    np.testing.assert_allclose(table.positions[0], table.coordinates[0] - [1.260416, 2.364176, 3.783296])
    assert (table.tomogram_of(0), table.half[0], table.ctf_premultiplied) == ("TS_017", 2, True)
    write_relion_subtomograms(tmp_path / "a.star", table, tomo=True)
    given, written = read_star(source)[1].columns, read_star(tmp_path / "a.star")[2].columns
    assert set(written) == set(given)
    for label, texts in given.items():
        try:
            np.testing.assert_allclose(np.array(written[label], float), np.array(texts, float), atol=2e-6)
        except ValueError:
            assert written[label] == texts


def test_copies_are_told(folder: Path):
    table = read_relion_subtomograms(a_star(folder, {"rlnImageName": [NAMES[0]] * 2}))
    assert "1 particles name a volume that another particle names too" in table.warnings
