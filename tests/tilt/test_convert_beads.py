"""Beads in a volume lie in its projections where the files of `tilt convert` say, by each program's formula.

The files are parsed here and the formulas written out, without our readers: array indices from 0, IMOD and
AreTomo turning about ``(n - 1) / 2`` of an image, RELION about ``n // 2``. The written alignment is in the
frame of a vertical tilt axis, so beads are turned there by the angle of the axis first.
"""

from __future__ import annotations

from math import cos, radians, sin

import numpy as np
import pytest

from manyviews.api.arrays import project
from manyviews.io.imod import write_angles, write_xf
from manyviews.io.mrc import write_mrc
from manyviews.simulate.phantoms import Gaussians
from manyviews.tilt.convert import convert
from manyviews.tilt.options import ConvertOptions, SeriesOptions
from manyviews.tilt.series.resolve import resolve_series

PIXEL = 4.0
TILTS = np.array([-52.0, -20.25, 0.0, 17.5, 48.0])
OFFSET = 1.75
TURNS = np.array([85.0, 85.4, 84.7, 86.0, -93.0])  # one view was taken upside down
MOVES = np.array([(2.25, -3.5), (0.0, 1.0), (-4.125, 2.0), (3.0, 2.5), (0.5, -0.5)])
X_TILTS = np.array([0.0, 1.5, -2.0, 0.5, 3.0])
SHAPES = [(56, 49), (57, 48), (48, 56), (49, 57)]  # odd and even, upright and lying
BEADS = np.array([[38.0, -22.0, 14.0], [-33.0, 41.0, -17.0], [9.0, 21.0, 19.0]])  # x y z, angstrom
PIXELS_OFF = 0.01


def make_series(folder, shape, axis, *, x_tilted, turned):
    """A stack whose files say all that a program can; ``axis`` is that of the aligned images."""
    stack = folder / "s.mrc"
    write_mrc(stack, np.zeros((len(TILTS), *shape), np.int16), PIXEL, is_volume=False)
    write_angles(folder / "in.tlt", TILTS)
    write_angles(folder / "in.xtilt", X_TILTS)
    turns = np.deg2rad(TURNS if turned else np.zeros(len(TURNS)))
    rows = np.column_stack([np.cos(turns), np.sin(turns), -np.sin(turns), np.cos(turns), MOVES])
    write_xf(folder / "in.xf", rows)
    return SeriesOptions(
        stacks=(stack,),
        tilt_angles=(folder / "in.tlt",),
        axis_angle=(axis,),
        transform=(folder / "in.xf",),
        x_tilt=(folder / "in.xtilt",) if x_tilted else (),
        tilt_offset=OFFSET,
    )


def seen(geometry, shape):
    """Column and row, from 0, of the centres of beads in projected images: ``(view, bead, 2)``."""
    found = np.empty((len(TILTS), len(BEADS), 2))
    rows, columns = np.indices(shape)
    for number, bead in enumerate(BEADS):
        volume = Gaussians.isotropic([1.0], bead[None], [1.3 * PIXEL]).density((40, 64, 64), PIXEL)
        images = project(np.asarray(volume, np.float32), geometry, shape, pixel_size=PIXEL)
        for view, image in enumerate(np.asarray(images, np.float64)):
            found[view, number] = np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()
    return found


def turned(points, degrees):
    """About z, from x to y."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return np.array([[c * x - s * y, s * x + c * y, z] for x, y, z in points])


def by_imod(folder, shape, axis):
    """tilt projects about the vertical axis, .xf takes raw to aligned, both about the middle of the image."""
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    tilts, rows = np.loadtxt(folder / "s.tlt"), np.loadtxt(folder / "s.xf")
    x_tilts = np.loadtxt(folder / "s.xtilt") if (folder / "s.xtilt").exists() else np.zeros(len(tilts))
    found = []
    for tilt, x_tilt, row in zip(tilts, x_tilts, rows, strict=True):
        t, a = radians(tilt), radians(x_tilt)
        view = []
        for x, y, z in turned(BEADS, -axis) / PIXEL:
            aligned = [x * cos(t) + (y * sin(a) + z * cos(a)) * sin(t), y * cos(a) - z * sin(a)]
            view.append(np.linalg.solve(row[:4].reshape(2, 2), np.array(aligned) - row[4:]) + middle)
        found.append(view)
    return np.array(found)


def by_aretomo(folder, shape, axis):
    """The raw image is moved by minus TX, TY and turned by minus ROT, about its middle."""
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    found = []
    for _, rot, magnification, tx, ty, *_, tilt in np.loadtxt(folder / "s.aln", comments="#"):
        c, s, t = cos(radians(rot)), sin(radians(rot)), radians(tilt)
        view = []
        for x, y, z in turned(BEADS, -axis) / PIXEL:
            u, v = (x * cos(t) + z * sin(t)) / magnification, y / magnification
            view.append(np.array([c * u - s * v + tx, s * u + c * v + ty]) + middle)
        found.append(view)
    return np.array(found)


def by_relion(folder, shape, axis):
    """Right-handed about x, then y, then z, then the shift, from the middle ``n // 2`` of the image."""
    lines = (folder / "s.star").read_text().splitlines()
    names = [line.split()[0] for line in lines if line.startswith("_rln")]
    rows = [dict(zip(names, line.split(), strict=True)) for line in lines if "@" in line]
    found = []
    for row in rows:
        a, b, c = (radians(float(row[f"_rlnTomo{name}"])) for name in ("XTilt", "YTilt", "ZRot"))
        move = [float(row[f"_rlnTomo{name}ShiftAngst"]) for name in "XY"]
        view = []
        for x, y, z in turned(BEADS, -axis):
            y1, z1 = y * cos(a) - z * sin(a), y * sin(a) + z * cos(a)
            x2 = x * cos(b) + z1 * sin(b)
            x3, y3 = x2 * cos(c) - y1 * sin(c), x2 * sin(c) + y1 * cos(c)
            view.append([(x3 + move[0]) / PIXEL + shape[1] // 2, (y3 + move[1]) / PIXEL + shape[0] // 2])
        found.append(view)
    return np.array(found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("program", "formula", "x_tilted"),
    [("imod", by_imod, True), ("aretomo", by_aretomo, False), ("relion5", by_relion, True)],
)
@pytest.mark.parametrize("axis", [0.0, 12.5, -77.0])
def test_beads_lie_where_the_files_say(tmp_path, shape, program, formula, x_tilted, axis):
    given = make_series(tmp_path, shape, axis, x_tilted=x_tilted, turned=True)
    geometry = resolve_series(given).geometry
    expected = seen(geometry, shape)
    converted = convert(given, ConvertOptions(program, tmp_path / "new"))
    assert np.abs(formula(tmp_path / "new", shape, axis) - expected).max() < PIXELS_OFF
    again = resolve_series(converted.options).geometry
    assert np.abs(again.project(BEADS) - geometry.project(BEADS)).max() < PIXELS_OFF * PIXEL


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_beads_of_a_plain_series_lie_where_an_mdoc_says(tmp_path, shape):
    """Tilts about one axis in the image, with an offset, and nothing else."""
    whole = make_series(tmp_path, shape, 33.0, x_tilted=False, turned=False)
    given = SeriesOptions(whole.stacks, whole.tilt_angles, axis_angle=(33.0,), tilt_offset=OFFSET)
    geometry = resolve_series(given).geometry
    expected = seen(geometry, shape)
    converted = convert(given, ConvertOptions("serialem", tmp_path / "new"))
    text = (tmp_path / "new/s.mrc.mdoc").read_text()
    tilts = [float(line.split("=")[1]) for line in text.splitlines() if line.startswith("TiltAngle")]
    np.testing.assert_allclose(tilts, TILTS + OFFSET, atol=1e-4)
    for view, tilt in enumerate(tilts):
        t = radians(tilt)
        flat = [[x * cos(t) + z * sin(t), y, 0.0] for x, y, z in turned(BEADS, -33.0)]
        places = turned(flat, 33.0)[:, :2] / PIXEL + [shape[1] // 2, shape[0] // 2]
        assert np.abs(places - expected[view]).max() < PIXELS_OFF
    again = resolve_series(converted.options).geometry
    assert np.abs(again.project(BEADS) - geometry.project(BEADS)).max() < PIXELS_OFF * PIXEL
