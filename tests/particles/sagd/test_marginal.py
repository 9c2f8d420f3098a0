"""The exhaustive sum over poses against the sum written out, and its gradient against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from marginal_example import BOX, blob_volume, noisy_images, random_lattice
from scipy.special import logsumexp

from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.sagd import marginal as module
from manyviews.particles.sagd.lattice import PoseLattice
from manyviews.particles.sagd.marginal import marginal, relative_error

LATTICE = random_lattice(7, 5, 3)


def written_out(images: FourierImages, volume: torch.Tensor, lattice: PoseLattice) -> np.ndarray:
    """``log w + log p`` of every point, ``(N, D, K, L)``, from the formula of the likelihood."""
    directions, in_plane, shifts = lattice.shape
    rotations = lattice.rotations(np.arange(directions), np.arange(in_plane))
    slices = FourierVolume.of(volume, images.radius).slices(rotations, images.points).numpy()
    weight = images.precision()
    table = np.empty((len(images), directions, in_plane, shifts))
    for j, k, shift in np.ndindex(directions, in_plane, shifts):
        phase = np.exp(2j * np.pi * images.points @ lattice.shifts[shift] / images.box)
        seen = images.ctf * phase * slices[j * in_plane + k]
        log_p = -np.sum(weight * np.abs(images.values - seen) ** 2, axis=1)
        log_w = lattice.log_direction[j] + lattice.log_in_plane[k] + lattice.log_shift[shift]
        table[:, j, k, shift] = log_p + log_w
    return table


@pytest.fixture(autouse=True)
def _quick(one_thread):
    pass


@pytest.mark.parametrize(("kind", "tolerance"), [(np.complex128, 1e-6), (np.complex64, 1e-4)])
def test_log_probability_and_posteriors_are_those_of_the_sum_written_out(kind, tolerance):
    images, volume = noisy_images(LATTICE, 4, dtype=kind), blob_volume(seed=1)
    found = marginal(images, volume.to(torch.float64 if kind is np.complex128 else torch.float32), LATTICE)
    table = written_out(images, volume, LATTICE)
    np.testing.assert_allclose(found.log_probability, logsumexp(table, axis=(1, 2, 3)), rtol=tolerance)
    posterior = np.exp(table - logsumexp(table, axis=(1, 2, 3), keepdims=True))
    for name, axes in (("direction", (2, 3)), ("in_plane", (1, 3)), ("shift", (1, 2))):
        np.testing.assert_allclose(getattr(found, name), posterior.sum(axes), atol=20 * tolerance)


def test_the_gradient_is_the_slope_of_the_log_probability():
    images, volume = noisy_images(LATTICE, 3), blob_volume(seed=1)
    found = marginal(images, volume, LATTICE)
    assert found.gradient is not None
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(volume.shape, generator=generator, dtype=torch.float64)
        step = 1e-5
        ends = [
            marginal(images, volume + sign * step * direction, LATTICE, gradient=False).log_probability.sum()
            for sign in (1, -1)
        ]
        slope = float(torch.sum(found.gradient * direction))
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-6)


def test_every_voxel_has_its_own_slope():
    images, volume = noisy_images(LATTICE, 2, seed=5), blob_volume(seed=2)
    gradient = marginal(images, volume, LATTICE).gradient
    assert gradient is not None
    for place in ((0, 0, 0), (6, 6, 6), (5, 7, 4), (BOX - 1, 3, 8)):
        step = torch.zeros_like(volume)
        step[place] = 1e-4
        ends = [
            marginal(images, volume + sign * step, LATTICE, gradient=False).log_probability.sum()
            for sign in (1, -1)
        ]
        assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(float(gradient[place]), rel=1e-5, abs=1e-9)


def test_blocks_and_tiles_do_not_change_the_result(monkeypatch):
    images, volume = noisy_images(LATTICE, 5), blob_volume(seed=1)
    whole = marginal(images, volume, LATTICE)
    monkeypatch.setattr(module, "TILE_BYTES", 1)
    monkeypatch.setattr(module, "LEAST_TILE", 4)
    parts = marginal(images, volume, LATTICE, memory_bytes=2 * 8 * LATTICE.size)
    np.testing.assert_allclose(parts.log_probability, whole.log_probability, rtol=1e-12)
    torch.testing.assert_close(parts.gradient, whole.gradient, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(parts.direction, whole.direction, atol=1e-12)
    np.testing.assert_allclose(parts.shift, whole.shift, atol=1e-12)


def test_very_unlikely_images_have_a_finite_log_probability():
    """Weights span far more than float32 can hold."""
    images = noisy_images(LATTICE, 3, noise=0.01, dtype=np.complex64)
    found = marginal(images, 30 * blob_volume(seed=1, dtype=torch.float32), LATTICE)
    assert np.isfinite(found.log_probability).all()
    assert found.log_probability.max() < -1e5
    np.testing.assert_allclose(found.direction.sum(1), 1.0, rtol=1e-3)


def test_a_coarser_volume_of_the_same_field_of_view_gives_the_same_slices_up_to_interpolation():
    """Voxels that are merged keep their sum; frequencies count cycles per field of view."""
    from manyviews.particles.images.fourier_resample import regrid_volume

    smooth = regrid_volume(blob_volume(24, seed=3), 18)
    fine = regrid_volume(smooth, 24)
    images = noisy_images(LATTICE, 2, box=24)
    coarse_p = marginal(images, smooth, LATTICE, gradient=False).log_probability
    fine_p = marginal(images, fine, LATTICE, gradient=False).log_probability
    np.testing.assert_allclose(coarse_p, fine_p, rtol=2e-3)


def test_relative_error_is_the_mean_over_images():
    assert relative_error(np.array([-11.0, -100.0]), np.array([-10.0, -100.0])) == pytest.approx(0.05)
