"""The misfit of images in known poses: derivatives, diagonals, threads, and the optimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_pose_example import dense_hessian, known_poses

from manyviews.errors import InputError
from manyviews.particles.fixed_poses.diagonals import estimated_diagonal, fixed_diagonal
from manyviews.particles.fixed_poses.objective import KnownPoses, centred_images
from manyviews.particles.fixed_poses.optimum import least_squares_optimum, limited_memory_bfgs


def some_vector(problem: KnownPoses, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=problem.ball.size))


def full_plane_value(problem: KnownPoses, x: torch.Tensor) -> float:
    """The paper's sum, over both halves of every image plane, read from the whole transform in Python."""
    ball, data = problem.ball, problem.data
    grid = ball.to_grid(x).numpy()
    half = grid.shape[0] // 2
    full = np.zeros((2 * half + 1,) * 3, complex)
    full[:, :, half:] = grid[:, :, : half + 1]
    full[:, :, :half] = np.conj(grid[::-1, ::-1, half:0:-1])
    total = 0.0
    for i in range(problem.images):
        for p, (kx, ky) in enumerate(data.points):
            for sign in (1, -1) if (kx or ky) else (1,):
                q = sign * ball.padding * (kx * problem.rotations[i, 0] + ky * problem.rotations[i, 1])
                low = np.floor(q + half).astype(int)
                part = q + half - low
                seen = 0j
                for corner in np.ndindex(2, 2, 2):
                    weight = np.prod(np.where(corner, part, 1 - part))
                    z, y, x_ = (low + corner)[::-1]
                    seen += weight * (full[z, y, x_] if weight else 0)
                value = data.values[i, p] if sign == 1 else np.conj(data.values[i, p])
                variance = data.noise_variance[data.group[i], data.shells()[p]]
                total += 0.5 * abs(data.ctf[i, p] * seen - value) ** 2 / variance
    whole = np.sum(np.abs(full) ** 2)
    return total / problem.images + 0.5 * problem.damping * whole


@pytest.mark.parametrize("padding", [1, 2])
def test_the_value_is_that_over_the_whole_complex_plane(padding):
    problem = known_poses(4, padding=padding)
    x = some_vector(problem)
    expected = full_plane_value(problem, x)
    assert problem.value(x, problem.everything()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("padding", [1, 2])
def test_gradient_and_hessian_are_derivatives(padding):
    problem = known_poses(padding=padding)
    batch = np.array([0, 3, 4, 9])
    x, v = some_vector(problem), some_vector(problem, 2)
    value, gradient = problem.value_and_gradient(x, batch)
    assert value == pytest.approx(problem.value(x, batch), rel=1e-12)
    product = problem.hessian_product(x, v, batch)
    # a quadratic is its own Taylor series
    moved = problem.value(x + v, batch)
    expected = value + float(gradient @ v) + 0.5 * float(v @ product)
    assert moved == pytest.approx(expected, rel=1e-7)
    assert problem.curvature(v, batch) == pytest.approx(float(v @ product), rel=1e-7)
    change = problem.value_and_gradient(x + v, batch)[1] - gradient
    torch.testing.assert_close(change, product, rtol=1e-6, atol=1e-6)


def test_the_mean_of_batches_is_the_whole():
    problem = known_poses(12)
    x = some_vector(problem)
    parts = [problem.value_and_gradient(x, np.arange(first, first + 4)) for first in (0, 4, 8)]
    value, gradient = problem.value_and_gradient(x, problem.everything())
    assert value == pytest.approx(np.mean([part[0] for part in parts]), rel=1e-7)
    torch.testing.assert_close(gradient, sum(part[1] for part in parts) / 3, rtol=1e-6, atol=1e-6)


def test_images_a_few_at_a_time_add_up(monkeypatch):
    problem = known_poses(12)
    x = some_vector(problem)
    value, gradient = problem.value_and_gradient(x, problem.everything())
    monkeypatch.setattr("manyviews.particles.fixed_poses.objective._POINTS_AT_ONCE", 50)
    again = problem.value_and_gradient(x, problem.everything())
    assert again[0] == pytest.approx(value, rel=1e-7)
    torch.testing.assert_close(again[1], gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("padding", [1, 2])
def test_the_exact_diagonal_is_that_of_the_dense_matrix(padding):
    problem = known_poses(padding=padding)
    dense = dense_hessian(problem)
    np.testing.assert_allclose(dense, dense.T, atol=1e-6)
    like = torch.zeros(problem.ball.size, dtype=torch.float64)
    for name in ("exact", "em"):
        np.testing.assert_allclose(fixed_diagonal(problem, name, like), np.diag(dense), rtol=1e-5)


@pytest.mark.parametrize("padding", [1, 2])
def test_row_sums_are_nowhere_below_the_matrix(padding):
    problem = known_poses(padding=padding)
    rows = fixed_diagonal(problem, "row-sums", torch.zeros(problem.ball.size, dtype=torch.float64)).numpy()
    dense = dense_hessian(problem)
    assert np.linalg.eigvalsh(np.diag(rows) - dense).min() > -1e-6 * rows.max()
    # and not far above it: half of this is below
    assert np.linalg.eigvalsh(np.diag(0.5 * rows) - dense).min() < 0


def test_a_unit_step_by_row_sums_never_goes_up():
    problem = known_poses(damping=1e-6)
    everything, x = problem.everything(), some_vector(problem)
    rows = fixed_diagonal(problem, "row-sums", x)
    values = []
    for _ in range(20):
        value, gradient = problem.value_and_gradient(x, everything)
        values.append(value)
        x = x - gradient / rows
    assert np.all(np.diff(values) < 0)


def test_probes_come_to_the_exact_diagonal():
    problem = known_poses(40, radius=2)
    like = torch.zeros(problem.ball.size, dtype=torch.float64)
    found = estimated_diagonal(problem, 400, like)
    exact = fixed_diagonal(problem, "exact", like)
    assert float(((found - exact).abs() / exact).median()) < 0.05
    one = estimated_diagonal(problem, 1, like)
    assert float(((one - exact).abs() / exact).median()) > 0.05


def test_no_diagonal_and_one_that_is_not_fixed():
    problem = known_poses()
    like = torch.zeros(problem.ball.size, dtype=torch.float64)
    assert fixed_diagonal(problem, "none", like) is None
    with pytest.raises(ValueError, match="probes"):
        fixed_diagonal(problem, "hutchinson", like)


def test_the_optimum_is_where_the_gradient_vanishes():
    problem = known_poses(30, damping=1e-3)
    like = torch.zeros(problem.ball.size, dtype=torch.float64)
    optimum = least_squares_optimum(problem, fixed_diagonal(problem, "exact", like), tolerance=1e-9)
    assert optimum.relative_residual < 1e-6
    # 1 / variance is kept in single precision
    dense = dense_hessian(problem)
    slope = problem.value_and_gradient(like, problem.everything())[1].numpy()
    np.testing.assert_allclose(optimum.x, -np.linalg.solve(dense, slope), atol=1e-4)
    x = some_vector(problem)
    expected = problem.value(x, problem.everything()) - optimum.value
    assert optimum.excess(problem, x) == pytest.approx(expected, rel=1e-6)
    found = limited_memory_bfgs(problem, like, iterations=200)
    assert optimum.excess(problem, found) < 1e-4 * optimum.excess(problem, like)


def test_single_precision_follows_double():
    exact, single = known_poses(), known_poses(dtype=np.complex64)
    x = some_vector(exact)
    value, gradient = exact.value_and_gradient(x, exact.everything())
    other, rough = single.value_and_gradient(x.float(), exact.everything())
    assert rough.dtype == torch.float32
    assert other == pytest.approx(value, rel=1e-6)
    torch.testing.assert_close(rough.double(), gradient, rtol=1e-4, atol=1e-5)


def test_poses_and_images_must_be_as_many():
    problem = known_poses()
    with pytest.raises(InputError, match="12 images and 11 poses"):
        KnownPoses(problem.data, problem.rotations[:-1])


def test_centring_moves_phases_only():
    data = known_poses().data
    moved = centred_images(data, np.full((len(data), 2), 3.0))
    np.testing.assert_allclose(np.abs(moved.values), np.abs(data.values), rtol=1e-5)
    back = centred_images(moved, np.full((len(data), 2), -3.0))
    np.testing.assert_allclose(back.values, data.values, rtol=1e-5)
    assert not np.allclose(moved.values, data.values)
