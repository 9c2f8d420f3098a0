"""Points in space read, added to and fitted, against sums written out and against finite differences."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from manyviews.kernels import points_cpu
from manyviews.kernels.points_cpu import BLOCK, PARAMETERS, SUMS, gather_points, pose_sums, splat_lanes
from manyviews.kernels.slices_cpu import gather_slices
from manyviews.operators.fourier_points import half_ball

BOX, RADIUS, PADDING, PARTICLES = 16, 5, 2, 3
H = PADDING * RADIUS + 1
SHAPE = (2 * H + 1, 2 * H + 1, H + 2)
POINTS = half_ball(RADIUS, BOX)
KINDS = [(np.complex64, 1e-5), (np.complex128, 1e-12)]
# the first is more than thirty degrees from none; all are far from the middle
TURNS = Rotation.from_rotvec([[0.5, -0.4, 0.3], [-1.0, 2.0, 0.4], [0.1, 0.0, -3.0]]).as_matrix()
SHIFTS = np.array([[3.1, -2.0, 1.4], [0.0, 4.0, 0.5], [-2.5, 1.5, -2.5]])


def noise(rng, kind, *shape):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(kind)


def real_kind(kind):
    return np.empty(0, kind).real.dtype


@pytest.mark.parametrize(("kind", "tolerance"), KINDS)
def test_adding_is_the_adjoint_of_reading(rng, kind, tolerance):
    grid, values = noise(rng, kind, *SHAPE), noise(rng, kind, 7, len(POINTS))
    turns = Rotation.random(7, random_state=1).as_matrix()
    sums, weights = np.zeros(SHAPE, kind), np.zeros(SHAPE, real_kind(kind))
    given = rng.random(values.shape).astype(real_kind(kind))
    everything = np.array([0, len(turns)])
    splat_lanes(sums[None], weights[None], everything, turns, POINTS, values, given, PADDING)
    read = gather_points(grid, turns, POINTS, PADDING)
    assert read.dtype == kind
    one = np.sum((read.conj() * values).real, dtype=np.float64)
    other = np.sum((grid.conj() * sums).real, dtype=np.float64)
    assert one == pytest.approx(other, rel=tolerance, abs=tolerance * float(np.linalg.norm(values)))
    # weights are added as the real part of values would be
    real = np.sum(gather_points(grid.real.astype(kind), turns, POINTS, PADDING).real * given)
    assert real == pytest.approx(np.sum(grid.real * weights), rel=10 * tolerance)


def test_points_of_a_plane_are_a_slice(rng):
    grid = noise(rng, np.complex128, *SHAPE)
    flat = POINTS[POINTS[:, 2] == 0]
    expected = gather_slices(grid, TURNS, flat[:, :2], PADDING)
    np.testing.assert_allclose(gather_points(grid, TURNS, flat, PADDING), expected, atol=1e-12)


def test_reading_turns_the_point_into_the_map():
    """At ``A^T k``; on the other half the conjugate; nothing beyond the grid."""
    z, y, x = np.meshgrid(np.arange(-H, H + 1), np.arange(-H, H + 1), np.arange(H + 2), indexing="ij")
    grid = (x + 10 * y + 100 * z).astype(np.complex128) * (2 + 1j)  # linear: read exactly
    places = np.array([[2, -1, 3], [1, 0, 0], [9, 9, 9]])
    for turn, read in zip(TURNS, gather_points(grid, TURNS, places, PADDING), strict=True):
        at = PADDING * turn.T @ places.T
        sign = np.where(at[0] >= 0, 1, -1)
        expected = sign * (at.T @ [1, 10, 100]) * (2 + 1j * sign)
        np.testing.assert_allclose(read[:2], expected[:2], rtol=1e-6)
        assert read[2] == 0


def test_adding_does_not_depend_on_threads(rng):
    values = noise(rng, np.complex64, 40, len(POINTS))
    turns = Rotation.random(40, random_state=2).as_matrix()
    made = []
    before = numba.get_num_threads()
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        sums, weights = np.zeros((4, *SHAPE), np.complex64), np.zeros((4, *SHAPE), np.float32)
        given = np.ones(values.shape, np.float32)
        splat_lanes(sums, weights, np.array([0, 10, 25, 25, 40]), turns, POINTS, values, given, PADDING)
        made.append((sums, weights))
    numba.set_num_threads(before)
    for one, two in zip(*made, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4 * np.abs(one).max())


def fit_problem(rng, kind):
    return {
        "grid": noise(rng, kind, *SHAPE),
        "rotations": TURNS,
        "shifts": SHIFTS,
        "images": np.array([2, 0, 1]),
        "masks": np.array([0, 1, 1]),
        "values": noise(rng, kind, PARTICLES, len(POINTS)),
        "transfers": (rng.normal(size=(2, len(POINTS))) * (rng.random((2, len(POINTS))) > 0.3)).astype(
            real_kind(kind)
        ),
        "points": POINTS,
        "chosen": np.broadcast_to(np.arange(len(POINTS), dtype=np.int32), (3, len(POINTS))),
        "padding": PADDING,
        "box": BOX,
    }


def model(p, m, step=None):
    """``(P,)`` of pose m in double precision, after a step: a rotation vector, then a shift."""
    step = np.zeros(PARAMETERS) if step is None else step
    turn = Rotation.from_rotvec(step[:3]).as_matrix() @ p["rotations"][m]
    own = p["chosen"][m]
    points = p["points"][own].astype(np.float64)
    read = gather_points(p["grid"].astype(np.complex128), turn[None], points, PADDING)[0]
    phase = np.exp(2j * np.pi / BOX * points @ (p["shifts"][m] + step[3:]))
    return p["transfers"][p["masks"][m]][own].astype(np.float64) * read * phase


def slopes(p, m):
    """``(6, P)`` by central differences; the map is linear between grid points, so small steps are exact."""
    found = []
    for axis in range(PARAMETERS):
        step = np.zeros(PARAMETERS)
        step[axis] = 1e-6
        found.append((model(p, m, step) - model(p, m, -step)) / 2e-6)
    return np.array(found)


@pytest.mark.parametrize(("kind", "tolerance"), [(np.complex64, 2e-4), (np.complex128, 1e-6)])
def test_sums_are_those_of_the_model_and_its_differences(rng, kind, tolerance):
    p = fit_problem(rng, kind)
    assert np.rad2deg(Rotation.from_matrix(TURNS).magnitude()).min() > 30
    assert len(POINTS) > BLOCK  # more than one block
    found = pose_sums(**p)
    assert found.shape == (3, SUMS)
    for m in range(3):
        y, now, parts = p["values"][p["images"][m]].astype(np.complex128), model(p, m), slopes(p, m)
        curvature = (parts.conj() @ parts.T).real
        expected = np.concatenate(
            [
                [np.sum(np.abs(y) ** 2), np.sum(y.conj() * now).real, np.sum(np.abs(now) ** 2)],
                (parts @ y.conj()).real,
                (parts @ now.conj()).real,
                curvature[np.triu_indices(PARAMETERS)],
            ]
        )
        scale = np.sqrt(expected[0] * np.diag(curvature).max())
        np.testing.assert_allclose(found[m, :3], expected[:3], atol=tolerance * expected[0])
        np.testing.assert_allclose(found[m, 3:15], expected[3:15], atol=tolerance * scale)
        np.testing.assert_allclose(found[m, 15:], expected[15:], atol=tolerance * np.diag(curvature).max())


def test_sums_over_parts_add_up(rng):
    p = fit_problem(rng, np.complex128)
    order = rng.permutation(len(POINTS)).astype(np.int32)
    parts = [np.broadcast_to(part, (3, len(part))) for part in np.array_split(order, 5)]
    added = sum(pose_sums(**{**p, "chosen": np.ascontiguousarray(part)}) for part in parts)
    np.testing.assert_allclose(added, pose_sums(**p), rtol=1e-9, atol=1e-9)


def test_rows_that_are_the_beginnings_of_longer_ones_are_read_in_place(rng):
    """One compiled kernel serves both, and poses that share a selection."""
    p = fit_problem(rng, np.complex128)
    expected = pose_sums(**p)
    before = len(points_cpu._sums.signatures)
    longer = {
        name: np.concatenate([p[name], np.full((len(p[name]), 7), 99, p[name].dtype)], axis=1)[:, :-7]
        for name in ("values", "transfers")
    }
    assert not longer["values"].flags.c_contiguous
    np.testing.assert_array_equal(pose_sums(**{**p, **longer}), expected)
    every = {"chosen": np.ascontiguousarray(p["chosen"])}
    np.testing.assert_array_equal(pose_sums(**{**p, **longer, **every}), expected)
    assert len(points_cpu._sums.signatures) == before
