"""Flows on grids of splines: what splines say, and a Gauss-Newton step against the equations written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from manyviews.kernels.flow_grid_cpu import expand_grids, grid_steps, make_basis, project_grids
from manyviews.kernels.warp_cpu import pull_back

ROWS, COLUMNS, SPACING = 26, 34, 9.0
FULL = (make_basis(np.arange(ROWS), ROWS, SPACING), make_basis(np.arange(COLUMNS), COLUMNS, SPACING))
KNOTS = (2, FULL[0].knots, FULL[1].knots)


def matrix():
    """``(pixels, knots)`` of one component of the flow."""
    unit = np.eye(KNOTS[1] * KNOTS[2], dtype=np.float32).reshape(-1, 1, *KNOTS[1:])
    return expand_grids(np.repeat(unit, 2, axis=1), FULL)[:, 0].reshape(len(unit), -1).T.astype(float)


def images(rng, count):
    return np.stack(
        [gaussian_filter(rng.standard_normal((ROWS, COLUMNS)), 1.5) for _ in range(count)]
    ).astype(np.float32)


def test_splines_say_lines_exactly():
    """Knots in equal steps are a line through them, in pixels from the middle of the image."""
    steps = np.arange(KNOTS[2]) - 0.5 * (KNOTS[2] - 1)
    knots = np.broadcast_to((SPACING * steps).astype(np.float32), (1, *KNOTS)).copy()
    flow = expand_grids(knots, FULL)
    expected = np.arange(COLUMNS) - 0.5 * (COLUMNS - 1)
    np.testing.assert_allclose(flow[0, 1], np.broadcast_to(expected, (ROWS, COLUMNS)), atol=1e-4)


def test_projecting_what_was_expanded_gives_the_knots(rng):
    knots = rng.standard_normal((3, *KNOTS)).astype(np.float32)
    flow = expand_grids(knots, FULL)
    np.testing.assert_allclose(expand_grids(project_grids(flow, FULL), FULL), flow, atol=2e-3)


def test_a_step_solves_the_normal_equations(rng):
    """Blocks of one pixel: ``(B' g g' B + K) c = B' g r``, to the hundredth at which the steps end."""
    model, data = images(rng, 2)[:, None]
    zero = np.zeros((1, *KNOTS), np.float32)
    found = grid_steps(data, model, zero, zero, FULL, FULL, 1, (1e-2, 0.0, 1e-4), steps=400)[0].reshape(-1)
    basis = matrix()
    slope_z, slope_x = (
        np.gradient(np.pad(model[0].astype(float), 1, mode="edge"), axis=axis)[1:-1, 1:-1].reshape(-1, 1)
        for axis in (0, 1)
    )
    jacobian = np.hstack([slope_x * basis, slope_z * basis])
    force = jacobian.T @ (data[0] - model[0]).reshape(-1)
    unit = 0.5 * float(np.sum(slope_x**2 + slope_z**2)) / (KNOTS[1] * KNOTS[2])

    def differences(length):
        return np.diff(np.eye(length), 2, axis=0)

    rows, columns = np.eye(KNOTS[1]), np.eye(KNOTS[2])
    terms = [
        np.kron(differences(KNOTS[1]), columns),
        np.kron(rows, differences(KNOTS[2])),
        np.sqrt(2) * np.kron(np.diff(rows, axis=0), np.diff(columns, axis=0)),
    ]
    stiff = sum(1e-2 * unit * term.T @ term for term in terms) + 1e-4 * unit * np.eye(len(basis.T))
    left = jacobian.T @ jacobian + np.kron(np.eye(2), stiff)
    assert np.linalg.norm(left @ found - force) < 0.011 * np.linalg.norm(force)


def test_steps_find_a_smooth_flow(rng):
    truth = expand_grids(0.8 * rng.standard_normal((2, *KNOTS)).astype(np.float32), FULL)
    model = 10 * images(rng, 2)
    data = pull_back(model, truth)
    knots = np.zeros((2, *KNOTS), np.float32)
    for _ in range(6):
        knots = grid_steps(data, model, knots, knots, FULL, FULL, 1, (1e-4, 0.0, 1e-4))
    error = (expand_grids(knots, FULL) - truth)[:, :, 4:-4, 4:-4]
    assert np.sqrt(np.mean(error**2)) < 0.05 < np.sqrt(np.mean(truth**2))


def test_knots_are_held_to_the_middle_and_images_without_slopes_change_nothing(rng):
    model, data = images(rng, 2)[:, None]
    knots, middle = rng.standard_normal((2, 1, *KNOTS)).astype(np.float32)
    held = grid_steps(data, model, knots, middle, FULL, FULL, 1, (0.0, 1e6, 1e-4))
    np.testing.assert_allclose(held, middle, atol=1e-3)
    flat = np.ones_like(model)
    np.testing.assert_array_equal(
        grid_steps(data, flat, knots, middle, FULL, FULL, 1, (1e-3, 0.0, 1e-4)), knots
    )


@pytest.mark.parametrize("length", [1, 2, 5])
def test_short_axes_have_splines_too(length):
    basis = make_basis(np.arange(length), length, 16.0)
    np.testing.assert_allclose(basis.weights.sum(axis=0), 1, rtol=1e-6)
    assert basis.knots == 4


@pytest.mark.parametrize("spacing", [16.0, 64.0, 128.0])
@pytest.mark.parametrize("length", [1, 2, 3, 8])
def test_a_shift_of_few_rows_is_the_same_number_at_all_knots(length, spacing):
    """Rows that are few as against the distance of knots do not tell four knots apart."""
    bases = make_basis(np.arange(length), length, spacing), make_basis(np.arange(256), 256, spacing)
    flow = np.empty((1, 2, length, 256), np.float32)
    flow[:, 0], flow[:, 1] = 5.0, -2.0
    knots = project_grids(flow, bases)
    np.testing.assert_allclose(expand_grids(knots, bases), flow, atol=5e-3)
    np.testing.assert_allclose(knots.mean(axis=(2, 3)), [[5.0, -2.0]], atol=0.05)


def test_splines_that_are_read_nowhere_are_refused():
    with pytest.raises(ValueError, match="at no place"):
        make_basis(np.arange(0), 0, 16.0)
