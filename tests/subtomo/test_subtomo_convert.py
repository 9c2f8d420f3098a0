"""Tables converted from program to program: what is told, what gets lost, where the volumes are."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.io.em_volume import read_em_header, write_em
from manyviews.io.mrc import write_mrc
from manyviews.io.relion_subtomogram_writer import write_relion_subtomograms
from manyviews.io.relion_subtomograms import read_relion_subtomograms
from manyviews.io.subtomogram_formats import read_subtomograms, write_subtomograms
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.io.tables import read_columns
from manyviews.subtomo.convert import convert
from manyviews.subtomo.options import ConvertOptions, SubtomogramOptions
from manyviews.subtomo.tables import told_tilt_range


def a_table(**changes: Any) -> SubtomogramTable:
    given: dict[str, Any] = {
        "pixel_size": 4.0,
        "shifts": np.array([[1.0, 2, 3], [-4, 5, 6]]),
        "angles": np.array([[10.0, 20, 30], [40, 50, 60]]),
        "coordinates": np.array([[100.0, 200, 300], [400, 500, 600]]),
        "tomograms": ("left", "right"),
        "tomogram_index": np.array([0, 1]),
        "number": np.array([3, 4]),
    }
    return SubtomogramTable(**{**given, **changes})


def test_relion_to_dynamo_tells_what_it_cannot_keep(tmp_path: Path):
    table = a_table(
        half=np.array([1, 2]), weight=np.ones(2), box_angles=np.ones((2, 3)),
        volumes=(Path("a.mrc"), Path("b.mrc")), visible_tilts=((True,), (True,)), tomogram_pixel_size=2.0,
        extra={"rlnGroupNumber": ["1", "2"]},
    )  # fmt: skip
    write_relion_subtomograms(tmp_path / "a.star", table, tomo=True)
    made = convert(ConvertOptions(tmp_path / "a.star", tmp_path / "a.tbl"))
    assert made.files == (tmp_path / "a.tbl", tmp_path / "a_tomograms.csv")
    assert made.notes == (
        "the pixel size is 4 A: rlnImagePixelSize",
        "positions are counted in voxels of 2 A: rlnTomoTiltSeriesPixelSize",
    )
    assert made.warnings == (
        "not kept, the format has no place for it: weights of particles, visible tilts, half sets",
        "columns of the other program are not kept: rlnGroupNumber",
        "the volumes lie turned by rlnTomoSubtomogramRot, Tilt, Psi in their tomograms, and the angles"
        " are now those in the tomogram: cut the boxes out again",
        "the format names volumes by number only, so that their names are not kept",
        "positions are now counted in voxels of the subtomograms, 4 A",
        "the format knows tomograms by number only: left = 1, right = 2",
    )
    assert read_columns(tmp_path / "a_tomograms.csv")["tomogram"].tolist() == ["left", "right"]
    read = read_subtomograms(tmp_path / "a.tbl", pixel_size=4.0, with_volumes=False)
    np.testing.assert_allclose(read.positions, table.positions, atol=1e-5)
    assert read.number is not None
    assert read.number.tolist() == [3, 4]


def test_dynamo_to_relion_names_the_volumes(tmp_path: Path):
    (tmp_path / "data").mkdir()
    for number in (3, 4):
        write_em(tmp_path / f"data/particle_{number:05d}.em", np.arange(64.0).reshape(4, 4, 4))
    write_subtomograms(tmp_path / "a.tbl", a_table(), "dynamo")
    options = ConvertOptions(
        tmp_path / "a.tbl", tmp_path / "a.star", pixel_size=4.0, data_root=tmp_path / "data"
    )
    made = convert(options)
    assert not [text for text in made.warnings if "--data-root" in text]
    read = read_relion_subtomograms(tmp_path / "a.star")
    assert [path.name for path in read.volumes] == ["particle_00003.em", "particle_00004.em"]
    (tmp_path / "else/where").mkdir(parents=True)
    made = convert(replace(options, out=tmp_path / "else/where/a.star"))
    folder = str(tmp_path / "data")
    assert made.warnings[-1] == f"read the new table with --data-root {folder}"
    again = read_relion_subtomograms(tmp_path / "else/where/a.star", data_root=Path(folder))
    assert again.volumes == read.volumes


def test_a_table_moved_away_from_its_volumes_says_where_they_are(tmp_path: Path):
    project = tmp_path / "project"
    (project / "sub").mkdir(parents=True)
    for name in ("a", "b"):
        write_mrc(project / f"sub/{name}.mrc", np.arange(64, dtype=np.float32).reshape(4, 4, 4), 4.0)
    names = ("sub/a.mrc", "sub/b.mrc")
    table = a_table(volumes=tuple(map(Path, names)), volume_names=names)
    write_relion_subtomograms(project / "a.star", table)
    (tmp_path / "other").mkdir()
    made = convert(ConvertOptions(project / "a.star", tmp_path / "other/b.star", format="relion-tomo"))
    assert made.warnings[-1] == f"read the new table with --data-root {os.path.realpath(project)}"
    assert len(read_relion_subtomograms(tmp_path / "other/b.star", data_root=project)) == 2


def test_positions_from_the_middle_get_a_size(tmp_path: Path):
    table = a_table(origin="centre", tomogram_pixel_size=2.0)
    write_relion_subtomograms(tmp_path / "a.star", table, tomo=True)
    options = ConvertOptions(tmp_path / "a.star", tmp_path / "a.em")
    with pytest.raises(InputError, match="--tomogram-size X Y Z"):
        convert(options)
    with pytest.raises(InputError, match="2 numbers are no size"):
        convert(replace(options, tomogram_size=(100, 80)))
    convert(replace(options, tomogram_size=(100, 81, 60)))
    row = np.asarray(read_em_header(tmp_path / "a.em").map_voxels())[0, 0]
    # (100 + 100 / 2 * 2) / 4 + 1, and so on
    np.testing.assert_allclose(row[7:10], [51, (200 + 81) / 4 + 1, 91], atol=1e-4)
    np.testing.assert_allclose(row[10:13], [-0.25, -0.5, -0.75])


def test_names_must_fit_formats(tmp_path: Path):
    write_subtomograms(tmp_path / "a.tbl", a_table(), "dynamo")
    with pytest.raises(InputError, match=r"is no name for a file of the format em; let it end in .em"):
        convert(ConvertOptions(tmp_path / "a.tbl", tmp_path / "a.star", format="em", pixel_size=1.0))
    options = ConvertOptions(tmp_path / "a.tbl", tmp_path / "a.tbl", pixel_size=4.0)
    with pytest.raises(InputError, match="exists already"):
        convert(options)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_subtomograms(tmp_path / "a.tbl", a_table(), "dynamo")
    words = ["subtomo", "convert", str(tmp_path / "a.tbl"), "--out", str(tmp_path / "b.em")]
    assert main(words) == 2
    assert "does not tell the pixel size; give it with --pixel-size" in capsys.readouterr().err
    assert main([*words, "--pixel-size", "4"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == ["2 particles as em", str(tmp_path / "b.em")]
    assert "warning: columns of the other program are not kept: dynamo2, dynamo3" in said.err
    write_mrc(tmp_path / "t.mrc", np.random.Generator(np.random.PCG64(1)).normal(size=(20, 20, 20)), 4.0)
    (tmp_path / "p.csv").write_text("10,10,10\n2,10,10\n")
    words = ["subtomo", "extract", str(tmp_path / "t.mrc"), str(tmp_path / "p.csv"), "--units", "voxels"]
    assert main([*words, "--box", "8", "--out", str(tmp_path / "o")]) == 0
    said = capsys.readouterr()
    star, listed = tmp_path / "o/particles.star", tmp_path / "o/extracted.csv"
    assert said.out.splitlines() == ["cut out: 1", "skipped: 1 (beyond the edge)", str(star), str(listed)]
    assert "cutting out subtomograms" in said.err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tilt_range": (1.0,)}, "1 are not two angles"),
        ({"tilt_range": (60.0, -60.0)}, "60 -60 is no range of tilts"),
        ({"tilt_range": (-100.0, 100.0)}, "-100 100 is no range"),
        ({"tilt_axis": "z"}, "tilting about z, along which the beam runs"),
    ],
)
def test_ranges_of_tilts(given: dict[str, Any], words: str):
    with pytest.raises(InputError, match=words):
        told_tilt_range(SubtomogramOptions(**given))
    assert told_tilt_range(SubtomogramOptions(tilt_range=(-60.0, 50.0))) == (-60, 50)
    assert told_tilt_range(SubtomogramOptions()) is None
