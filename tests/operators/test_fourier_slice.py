"""Slices of Gaussians, whose transforms are known, and grids to volumes and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from manyviews.kernels.slices_cpu import splat_slices
from manyviews.operators.fourier_points import extract, half_plane, insert
from manyviews.operators.fourier_slice import (
    FourierVolume,
    grid_adjoint,
    grid_half,
    grid_to_volume,
    mirror_plane,
    sphere,
    squared_frequency,
    volume_to_grid,
)
from manyviews.simulate.phantoms import Gaussians

CENTRES = np.array([[3.0, -2.0, 1.5], [-4.0, 1.0, 2.0], [0.5, 4.0, -3.5]])
AMPLITUDES = np.array([1.0, 0.7, 1.4])
SIGMAS = np.array([1.6, 1.8, 1.7])


def gaussian_volume(box):
    made = Gaussians.isotropic(AMPLITUDES, CENTRES, SIGMAS).density((box, box, box), 1.0)
    return torch.from_numpy(np.asarray(made, dtype=np.float32))


def gaussian_slices(rotations, points, box):
    """The transform of the sum of Gaussians at points of the slices."""
    q = np.einsum("pk,mkx->mpx", points, rotations[:, :2]) / box
    mass = AMPLITUDES * (2 * np.pi) ** 1.5 * SIGMAS**3
    decay = np.exp(-2 * np.pi**2 * np.sum(q**2, -1)[..., None] * SIGMAS**2)
    return np.sum(mass * decay * np.exp(-2j * np.pi * (q @ CENTRES.T)), axis=-1)


@pytest.mark.parametrize("box", [31, 32])
def test_slices_of_gaussians(box):
    points = half_plane(box // 2, box)
    rotations = Rotation.random(6, random_state=1).as_matrix()
    slices = FourierVolume.of(gaussian_volume(box), box // 2).slices(rotations, points).numpy()
    expected = gaussian_slices(rotations, points, box)
    error = np.linalg.norm(slices - expected) / np.linalg.norm(expected)
    assert error < 0.02
    finer = FourierVolume.of(gaussian_volume(box), box // 2, padding=4).slices(rotations, points).numpy()
    finer_error = np.linalg.norm(finer - expected) / np.linalg.norm(expected)
    assert finer_error < error / 3


@pytest.mark.parametrize(("box", "radius", "padding"), [(9, 3, 2), (10, 5, 2), (12, 4, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_gradient_is_the_adjoint_of_slices(box, radius, padding, dtype, tolerance):
    points = half_plane(radius, box)
    rotations = Rotation.random(5, random_state=box).as_matrix()
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        volume = torch.randn((box,) * 3, dtype=dtype, generator=generator)
        values = torch.randn((5, len(points), 2), dtype=dtype, generator=generator)
        seen = FourierVolume.of(volume, radius, padding)
        back = seen.empty()
        back.add(rotations, points, torch.view_as_complex(values))
        slices = torch.view_as_real(seen.slices(rotations, points))
        assert (slices.shape, slices.dtype) == (values.shape, dtype)
        left = torch.sum(slices.double() * values.double())
        right = torch.sum(volume.double() * back.gradient().double())
        assert abs(left - right) <= tolerance * slices.norm() * values.norm()


def test_a_projection_is_the_sum_of_voxels_along_the_view():
    """Seen straight on, slices lie on grid points, where interpolation is furthest from its mean."""
    box = 24
    volume = gaussian_volume(box)
    points = half_plane(box // 2, box)
    expected = extract(volume.sum(0).numpy()[None], points)
    errors = []
    for padding in (2, 6):
        seen = FourierVolume.of(volume, box // 2, padding).slices(np.eye(3)[None], points)
        difference = seen.numpy() - expected
        errors.append(np.linalg.norm(difference) / np.linalg.norm(expected))
    assert errors[0] < 0.06
    assert errors[1] < 0.006


def test_a_view_in_relions_angles():
    """A bead at (x, y, z) is seen at the first two components of A (x, y, z), whatever the angles."""
    box, bead = 32, np.array([5.0, -3.0, 4.0])
    rotation = Rotation.from_euler("ZYZ", [20.0, 65.0, -110.0], degrees=True).inv().as_matrix()
    made = Gaussians.isotropic(np.ones(1), bead[None], np.full(1, 1.5)).density((box,) * 3, 1.0)
    points = half_plane(box // 2, box)
    volume = FourierVolume.of(torch.from_numpy(np.asarray(made, np.float32)), box // 2)
    image = insert(volume.slices(rotation[None], points).numpy(), points, box)[0]
    y, x = np.mgrid[:box, :box] - box // 2
    image = np.where(np.hypot(x - (rotation @ bead)[0], y - (rotation @ bead)[1]) < 5, image, 0)
    centre = [np.sum(image * x) / image.sum(), np.sum(image * y) / image.sum()]
    np.testing.assert_allclose(centre, (rotation @ bead)[:2], atol=0.05)


@pytest.mark.parametrize(("box", "radius", "padding"), [(8, 4, 2), (9, 4, 2), (9, 2, 1), (8, 3, 3)])
def test_the_grid_is_the_transform_of_the_corrected_volume(rng, box, radius, padding):
    volume = rng.normal(size=(box, box, box))
    h = grid_half(radius, padding)
    along = np.arange(box) - box // 2
    q = np.arange(-h, h + 2)
    factor = np.exp(-2j * np.pi * np.outer(q, along) / (padding * box)) / np.sinc(along / padding / box) ** 2
    full, half = factor[:-1], factor[h:]
    expected = np.einsum("zyx,az,by,cx->abc", volume, full, full, half)
    grid = volume_to_grid(torch.from_numpy(volume), radius, padding)
    np.testing.assert_allclose(grid.numpy(), expected, atol=1e-10)
    other = torch.complex(*(torch.from_numpy(rng.normal(size=grid.shape)) for _ in range(2)))
    left = torch.sum(torch.view_as_real(grid) * torch.view_as_real(other))
    right = torch.sum(torch.from_numpy(volume) * grid_adjoint(other, box, radius, padding))
    torch.testing.assert_close(left, right)


def test_a_blurred_grid_is_inverted():
    box, padding = 24, 2
    volume = gaussian_volume(box).double()
    along = np.arange(box) - box // 2
    kernel = np.sinc(along / (padding * box)) ** 2
    blurred = volume * torch.from_numpy(kernel[:, None, None] * kernel[:, None] * kernel)
    # once for the correction that volume_to_grid makes, once for the blur that is inverted
    twice = blurred * torch.from_numpy(kernel[:, None, None] * kernel[:, None] * kernel)
    back = grid_to_volume(volume_to_grid(twice, box // 2, padding), box, box // 2, padding)
    torch.testing.assert_close(back, volume, atol=1e-3, rtol=0)


def test_mirror_plane_makes_the_plane_hermitian():
    grid = np.zeros((11, 11, 7), np.complex128)
    points = half_plane(2, 4)
    rotations = Rotation.random(5, random_state=3).as_matrix()
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, len(points))) + 1j * rng.normal(size=(5, len(points)))
    splat_slices(grid, rotations, points, values, 2)
    # the same points, given by their mirror images
    other = np.zeros_like(grid)
    splat_slices(other, rotations, -points, values.conj(), 2)
    for added in (grid, other):
        mirror_plane(torch.from_numpy(added))
    np.testing.assert_allclose(grid, other, atol=1e-12)
    np.testing.assert_allclose(grid[:, :, 0], np.flip(grid[:, :, 0]).conj(), atol=1e-12)


def test_frequencies_of_the_grid():
    squared = squared_frequency(3)
    assert squared.shape == (7, 7, 5)
    assert squared[3, 3, 0] == 0
    assert squared[0, 5, 4] == 9 + 4 + 16
    assert int(sphere(3, 1, 2).sum()) == int((squared <= 4).sum())


def test_a_grid_for_another_radius_is_refused():
    with pytest.raises(ValueError, match="not one for radius"):
        grid_adjoint(torch.zeros((7, 7, 5), dtype=torch.complex64), 8, 3)
