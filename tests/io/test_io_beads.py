"""Three beads at known places: every program's formula, written out here, and our import must agree.

The formulas are those of the programs' documents, coded without our helpers: array indices from 0, IMOD and
AreTomo turning about ``(n - 1) / 2``, RELION about ``n // 2``.
"""

from math import cos, radians, sin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.aretomo import (
    AreTomoAlignment,
    geometry_to_aln,
    read_aln,
    write_aln,
)
from manyviews.io.imod import (
    geometry_to_imod,
    read_angles,
    read_xf,
    write_angles,
    write_xf,
)
from manyviews.io.relion_tomo import (
    geometry_to_relion,
    read_tilt_series_star,
    write_tilt_series_star,
)
from raw_geometry import aln_geometry, imod_geometry, relion_geometry

PIXEL = 2.5
SHAPES = [(64, 48), (65, 47), (64, 47)]
BEADS = np.array([[50.0, -20.0, 30.0], [-35.0, 42.0, -18.0], [11.0, 23.0, 44.0]])  # x y z, angstrom
TILTS = [-60.0, -21.5, 0.0, 13.0, 58.0]
X_TILTS = [0.0, 1.5, -2.0, 0.5, 3.0]
TURNS = [84.0, 84.3, 83.9, -12.0, 10.0]
MOVES = [(3.25, -4.5), (0.0, 1.0), (-7.125, 2.0), (10.0, 11.0), (0.5, -0.5)]


def indices(geometry, image_shape):
    """Column and row, from 0, at which the geometry puts the beads: ``(view, bead, 2)``."""
    rows, columns = image_shape
    return geometry.project(BEADS) / PIXEL + [columns // 2, rows // 2]


def imod_indices(image_shape, magnification=1.0, with_x_tilt=True, mirrored=False):
    """IMOD: tilt.f projects, .xf maps raw to aligned, both about the middle ``(n - 1) / 2`` of the image."""
    rows, columns = image_shape
    middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
    xf, expected = [], []
    for tilt, x_tilt, turn, move in zip(TILTS, X_TILTS, TURNS, MOVES, strict=True):
        t, a, r = radians(-tilt if mirrored else tilt), radians(x_tilt if with_x_tilt else 0.0), radians(turn)
        matrix = magnification * np.array([[cos(r), sin(r)], [-sin(r), cos(r)]])
        xf.append([*matrix.ravel(), *move])
        view = []
        for x, y, z in BEADS / PIXEL:
            aligned = np.array([x * cos(t) + (y * sin(a) + z * cos(a)) * sin(t), y * cos(a) - z * sin(a)])
            view.append(np.linalg.solve(matrix, aligned - move) + middle)
        expected.append(view)
    return np.array(xf), np.array(expected)


def relion_indices(image_shape):
    """RELION-5: right-handed Rx, then Ry, then Rz, then the shift, then the image centre ``n // 2``."""
    rows, columns = image_shape
    expected = []
    for tilt, x_tilt, turn, move in zip(TILTS, X_TILTS, TURNS, MOVES, strict=True):
        a, b, c = radians(x_tilt), radians(tilt), radians(turn)
        view = []
        for x, y, z in BEADS:
            y1, z1 = y * cos(a) - z * sin(a), y * sin(a) + z * cos(a)
            x2 = x * cos(b) + z1 * sin(b)
            x3, y3 = x2 * cos(c) - y1 * sin(c), x2 * sin(c) + y1 * cos(c)
            view.append([(x3 + move[0]) / PIXEL + columns // 2, (y3 + move[1]) / PIXEL + rows // 2])
        expected.append(view)
    return np.array(expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("magnification", [1.0, 1.02])
def test_imod_import_and_export(tmp_path, shape, magnification):
    xf, expected = imod_indices(shape, magnification)
    (tmp_path / "a.xf").write_text("".join(" ".join(f"{v:.9f}" for v in row) + "\n" for row in xf))
    (tmp_path / "a.tlt").write_text("".join(f"{tilt}\n" for tilt in TILTS))
    (tmp_path / "a.xtilt").write_text("".join(f"{tilt}\n" for tilt in X_TILTS))
    geometry = imod_geometry(
        read_angles(tmp_path / "a.tlt"),
        read_xf(tmp_path / "a.xf"),
        PIXEL,
        shape,
        x_tilt_degrees=read_angles(tmp_path / "a.xtilt"),
    )
    assert indices(geometry, shape) == pytest.approx(expected, abs=1e-5)
    out = geometry_to_imod(geometry, PIXEL, shape)
    write_xf(tmp_path / "b.xf", out.xf)
    write_angles(tmp_path / "b.tlt", out.tilt_degrees)
    write_angles(tmp_path / "b.xtilt", out.x_tilt_degrees)
    again = imod_geometry(
        read_angles(tmp_path / "b.tlt"),
        read_xf(tmp_path / "b.xf"),
        PIXEL,
        shape,
        x_tilt_degrees=read_angles(tmp_path / "b.xtilt"),
    )
    assert indices(again, shape) == pytest.approx(expected, abs=2e-3)


def test_a_mirrored_tilt_is_noticed():
    xf, right = imod_indices(SHAPES[0])
    _, mirrored = imod_indices(SHAPES[0], mirrored=True)
    geometry = imod_geometry(TILTS, xf, PIXEL, SHAPES[0], x_tilt_degrees=X_TILTS)
    assert indices(geometry, SHAPES[0]) == pytest.approx(right, abs=1e-6)
    assert np.abs(indices(geometry, SHAPES[0]) - mirrored).max() > 10


@pytest.mark.parametrize("shape", SHAPES)
def test_the_half_pixel_matters_for_even_sides_only(shape):
    xf, expected = imod_indices(shape)
    geometry = imod_geometry(TILTS, xf, PIXEL, shape, x_tilt_degrees=X_TILTS)
    odd = imod_geometry(TILTS, xf, PIXEL, (1, 1), x_tilt_degrees=X_TILTS)  # centres coincide there
    missing = indices(odd, shape) - expected
    assert np.allclose(missing, [0.5 * (shape[1] % 2 == 0), 0.5 * (shape[0] % 2 == 0)])
    assert np.allclose(indices(geometry, shape), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_aretomo_import_and_export(tmp_path, shape):
    magnification = 1.01
    # AreTomo moves the raw image by (-TX, -TY) and turns it by -ROT: .xf shift = -R (TX, TY).
    xf, _ = imod_indices(shape, magnification, with_x_tilt=False)
    lines = ["# AreTomo Alignment / Priims bprmMn", f"# RawSize = {shape[1]} {shape[0]} 7"]
    lines += ["# DarkFrame =     1    0   -66.00", "# DarkFrame =     5    0   10.00"]
    for i, (tilt, turn, move) in enumerate(zip(TILTS, TURNS, MOVES, strict=True)):
        lines.append(f"{i} {turn} {magnification} {move[0]} {move[1]} 1 1 1 0 {tilt}")
    (tmp_path / "a.aln").write_text("\n".join(lines) + "\n")
    rows, columns = shape
    expected = []
    for row, tilt, move in zip(xf, TILTS, MOVES, strict=True):
        matrix, t = row[:4].reshape(2, 2), radians(tilt)
        view = [
            np.linalg.solve(matrix, [x * cos(t) + z * sin(t), y]) + move + [(columns - 1) / 2, (rows - 1) / 2]
            for x, y, z in BEADS / PIXEL
        ]
        expected.append(view)
    geometry = aln_geometry(read_aln(tmp_path / "a.aln"), PIXEL, shape)
    assert geometry.sections.tolist() == [1, 2, 3, 5, 6]
    assert indices(geometry, shape) == pytest.approx(np.array(expected), abs=1e-6)
    write_aln(tmp_path / "b.aln", geometry_to_aln(geometry, PIXEL, (7, *shape)))
    again = aln_geometry(read_aln(tmp_path / "b.aln"), PIXEL, shape)
    assert again.sections.tolist() == [1, 2, 3, 5, 6]
    assert indices(again, shape) == pytest.approx(np.array(expected), abs=5e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_relion_import_and_export(tmp_path, shape):
    names = ["rlnMicrographName", "rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot"]
    names += ["rlnTomoXShiftAngst", "rlnTomoYShiftAngst"]
    lines = ["data_TS_1", "", "loop_", *[f"_{name} #{i + 1}" for i, name in enumerate(names)]]
    for i in range(5):
        x, y = MOVES[i]
        lines.append(f"{i + 3:06d}@stack.mrc {X_TILTS[i]} {TILTS[i]} {TURNS[i]} {x} {y}")
    (tmp_path / "a.star").write_text("\n".join(lines) + "\n")
    geometry = relion_geometry(read_tilt_series_star(tmp_path / "a.star"))
    assert geometry.sections.tolist() == [2, 3, 4, 5, 6]
    assert indices(geometry, shape) == pytest.approx(relion_indices(shape), abs=1e-9)
    write_tilt_series_star(tmp_path / "b.star", geometry_to_relion(geometry, "TS_1"), stack="stack.mrc")
    again = relion_geometry(read_tilt_series_star(tmp_path / "b.star"))
    assert again.sections.tolist() == [2, 3, 4, 5, 6]
    assert indices(again, shape) == pytest.approx(relion_indices(shape), abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_three_programs_agree_through_us(tmp_path, shape):
    """One alignment written for all three and read back puts the beads in one place."""
    geometry = TiltGeometry.from_tilt_axis(TILTS, shifts=MOVES)
    turn = np.tile(np.eye(3), (5, 1, 1))
    turn[:, :2, :2] = np.array([[0.6, 0.8], [-0.8, 0.6]])
    geometry = geometry.with_image_transform(turn)
    imod = geometry_to_imod(geometry, PIXEL, shape)
    aretomo = geometry_to_aln(geometry, PIXEL, (5, *shape))
    relion = geometry_to_relion(geometry)
    for other in (
        imod_geometry(imod.tilt_degrees, imod.xf, PIXEL, shape, x_tilt_degrees=imod.x_tilt_degrees),
        aln_geometry(aretomo, PIXEL, shape),
        relion_geometry(relion),
    ):
        assert np.allclose(other.project(BEADS), geometry.project(BEADS))


@settings(max_examples=40, deadline=None)
@given(
    tilt=st.floats(-85, 85),
    axis=st.floats(-180, 180),
    x=st.floats(-100, 100),
    y=st.floats(-100, 100),
    rows=st.integers(1, 99),
    columns=st.integers(1, 99),
)
def test_any_axis_survives_imod_and_relion(tilt, axis, x, y, rows, columns):
    geometry = TiltGeometry.from_tilt_axis([tilt], axis, shifts=[(x, y)])
    imod = geometry_to_imod(geometry, PIXEL, (rows, columns))
    back = imod_geometry(
        imod.tilt_degrees, imod.xf, PIXEL, (rows, columns), x_tilt_degrees=imod.x_tilt_degrees
    )
    assert np.allclose(back.matrices[:, :2], geometry.matrices[:, :2], atol=1e-8)
    relion = relion_geometry(geometry_to_relion(geometry))
    assert np.allclose(relion.matrices, geometry.matrices, atol=1e-8)


def test_what_a_format_cannot_hold_is_refused():
    tilted_both_ways = imod_geometry([10.0], None, PIXEL, (8, 8), x_tilt_degrees=[5.0])
    with pytest.raises(InputError, match="about x"):
        geometry_to_aln(tilted_both_ways, PIXEL, (1, 8, 8))
    magnified = imod_geometry([10.0], [[1.1, 0, 0, 1.1, 0, 0]], PIXEL, (8, 8))
    with pytest.raises(InputError, match="magnified"):
        geometry_to_relion(magnified)


def test_an_aln_without_raw_size_cannot_be_written(tmp_path):
    one = np.ones(1)
    alignment = AreTomoAlignment(None, np.zeros(1, dtype=np.int64), one, one, np.zeros((1, 2)), one)
    with pytest.raises(InputError, match="size of the raw stack"):
        write_aln(tmp_path / "a.aln", alignment)
