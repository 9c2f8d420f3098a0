"""The torch kernels read and add what the Numba kernels do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from manyviews.kernels import slices_cpu, slices_torch
from manyviews.operators.fourier_points import half_plane

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def problem(seed=0, radius=6, count=30):
    rng = np.random.default_rng(seed)
    h = 2 * radius + 1
    points = half_plane(radius, 2 * radius)

    def noise(*shape):
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    rotations = Rotation.random(count, random_state=seed).as_matrix().astype(np.float32)
    # one that looks beyond the grid
    rotations[0] *= 1.3
    weights = rng.random((count, len(points))).astype(np.float32)
    return noise(2 * h + 1, 2 * h + 1, h + 2), rotations, points, noise(count, len(points)), weights


@pytest.fixture(params=[2**20, 300])
def _chunks(request, monkeypatch):
    monkeypatch.setattr(slices_torch, "_POINTS_AT_ONCE", request.param)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("device", DEVICES)
def test_gather_is_the_same(device):
    grid, rotations, points, _, _ = problem()
    tensors = (torch.from_numpy(part).to(device) for part in (grid, rotations, points))
    read = slices_torch.gather_slices(*tensors, 2)
    expected = slices_cpu.gather_slices(grid, rotations, points, 2)
    np.testing.assert_allclose(read.cpu().numpy(), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("device", DEVICES)
def test_sums_are_the_same(device):
    grid, rotations, points, values, weights = problem(1)
    denominator = np.zeros(grid.shape, np.float32)
    on_device = [torch.from_numpy(part.copy()).to(device) for part in (grid, denominator)]
    slices_torch.splat_weighted(
        *on_device, *(torch.from_numpy(part).to(device) for part in (rotations, points, values, weights)), 2
    )
    slices_cpu.splat_weighted(grid, denominator, rotations, points, values, weights, 2)
    for ours, expected in zip(on_device, (grid, denominator), strict=True):
        np.testing.assert_allclose(ours.cpu().numpy(), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("squared", [False, True])
def test_weights_alone_are_the_same(device, squared):
    grid, rotations, points, _, weights = problem(2)
    expected = np.zeros(grid.shape, np.float32)
    ours = torch.from_numpy(expected.copy()).to(device)
    given = (torch.from_numpy(part).to(device) for part in (rotations, points, weights))
    slices_torch.splat_weights(ours, *given, 2, squared=squared)
    slices_cpu.splat_weights(expected, rotations, points, weights, 2, squared=squared)
    np.testing.assert_allclose(ours.cpu().numpy(), expected, atol=1e-5 * expected.max())
