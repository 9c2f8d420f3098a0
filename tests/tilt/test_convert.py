"""Written for another program and read again, a geometry is the same, to the digits of the format."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.io.imod import write_angles, write_xf
from manyviews.io.mrc import write_mrc
from manyviews.tilt.convert import convert
from manyviews.tilt.options import ConvertOptions, SeriesOptions
from manyviews.tilt.series.resolve import resolve_series

TILTS = np.array([-48.0, -21.5, 2.0, 13.0, 37.25])
TURNS = np.array([84.0, 84.3, 83.9, -12.0, 10.0])
MOVES = np.array([(3.25, -4.5), (0.0, 1.0), (-7.125, 2.0), (10.0, 11.0), (0.5, -0.5)])
X_TILTS = np.array([0.0, 1.5, -2.0, 0.5, 3.0])
SHAPE = (64, 47)
PIXEL = 2.5
BEADS = np.array([[50.0, -20.0, 30.0], [-35.0, 42.0, -18.0], [11.0, 23.0, 44.0]])  # x y z, angstrom
FILES = {
    "imod": ["a.tlt", "a.xf", "a.xtilt", "a_tilt.com", "b.tlt", "b.xf", "b.xtilt", "b_tilt.com"],
    "aretomo": ["a.aln", "b.aln"],
    "relion5": ["a.star", "b.star"],
    "serialem": ["a.mrc.mdoc", "b.mrc.mdoc"],
}


@pytest.fixture
def given(tmp_path):
    """Two stacks about oblique axes, shifted, turned, magnified, tilted about x, with views left out."""
    stacks, tilts, transforms, x_tilts = [], [], [], []
    for number, name in enumerate("ab"):
        stacks.append(tmp_path / f"{name}.mrc")
        write_mrc(stacks[-1], np.zeros((5, *SHAPE), np.int16), PIXEL, is_volume=False)
        tilts.append(tmp_path / f"in-{name}.tlt")
        write_angles(tilts[-1], TILTS + number)
        x_tilts.append(tmp_path / f"in-{name}.xtilt")
        write_angles(x_tilts[-1], X_TILTS - number)
        turns = np.deg2rad(TURNS + 3 * number)
        scale = 1.01
        cosines, sines = scale * np.cos(turns), scale * np.sin(turns)
        transforms.append(tmp_path / f"in-{name}.xf")
        write_xf(transforms[-1], np.column_stack([cosines, sines, -sines, cosines, MOVES]))
    return SeriesOptions(
        stacks=tuple(stacks),
        tilt_angles=tuple(tilts),
        axis_angle=(12.5, 77.0),
        transform=tuple(transforms),
        x_tilt=tuple(x_tilts),
        exclude=("1:2", "2:1,4"),
    )


def possible(given: SeriesOptions, to: str) -> SeriesOptions:
    """As much of it as a format can express."""
    if to == "aretomo":
        return replace(given, x_tilt=())
    if to == "relion5":
        for path in given.transform:
            rows = np.loadtxt(path)
            rows[:, :4] /= 1.01
            write_xf(path, rows, overwrite=True)
    if to == "serialem":
        return replace(given, transform=(), x_tilt=(), exclude=())
    return given


def places(options):
    """Sections, and where the beads are in pixels, ``(view, bead, 2)``."""
    series = resolve_series(options)
    return series.geometry.sections.tolist(), series.geometry.project(BEADS) / PIXEL, series


@pytest.mark.parametrize("to", FILES)
def test_what_is_written_reads_back(given, to, tmp_path):
    options = possible(given, to)
    sections, expected, before = places(options)
    out = tmp_path / "new" / to
    converted = convert(options, ConvertOptions(to, out))
    assert sorted(path.name for path in converted.files) == FILES[to] == sorted(p.name for p in out.iterdir())
    again, found, after = places(converted.options)
    assert again == sections
    assert after.excluded == before.excluded
    assert found == pytest.approx(expected, abs=6e-3)
    directions = [
        np.cross(s.geometry.matrices[:, 0, :3], s.geometry.matrices[:, 1, :3]) for s in (before, after)
    ]
    assert directions[1] == pytest.approx(directions[0], abs=3e-5)
    assert after.pixel_size == before.pixel_size


@pytest.mark.parametrize(
    ("to", "words"),
    [("aretomo", "tilted about x"), ("relion5", "magnified"), ("serialem", "cannot leave one out")],
)
def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(given, to, words, tmp_path):
    with pytest.raises(InputError, match=words):
        convert(given, ConvertOptions(to, tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["transform", "x_tilt"])
def test_an_mdoc_holds_tilts_alone(given, name, tmp_path):
    one = replace(possible(given, "serialem"), **{name: getattr(given, name)})
    with pytest.raises(InputError, match="shifted, stretched or turned"):
        convert(one, ConvertOptions("serialem", tmp_path / "new"))


def test_nothing_is_replaced(given, tmp_path):
    there = tmp_path / "b.xf"
    there.write_text("mine\n")
    with pytest.raises(InputError, match="exists already"):
        convert(given, ConvertOptions("imod", tmp_path))
    assert there.read_text() == "mine\n"
    assert not (tmp_path / "a.xf").exists()


def test_stacks_of_one_name_are_refused(given, tmp_path):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "a.mrc"
    twin.write_bytes(given.stacks[1].read_bytes())
    with pytest.raises(InputError, match="two stacks are called"):
        convert(replace(given, stacks=(given.stacks[0], twin)), ConvertOptions("imod", tmp_path / "new"))


def test_the_command_prints_the_files_and_how_to_read_them(given, tmp_path, capsys):
    words = ["tilt", "convert", *map(str, given.stacks), "--tilt-angles", *map(str, given.tilt_angles)]
    out = tmp_path / "new"
    assert main([*words, "--axis-angle", "0", "90", "--to", "aretomo", "--out", str(out)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == [str(out / "a.aln"), str(out / "b.aln")]
    assert shown[-1].split()[:3] == ["manyviews", "tilt", "check"]
    assert main(shown[-1].split()[1:]) == 0
    assert "tilt angles: 5 angles from -48" in capsys.readouterr().out
