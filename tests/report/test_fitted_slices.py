"""Images beside the slices of a map that explain them: of noise-free data nothing is left."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import PCG64, Generator

from manyviews.geometry.poses import random_rotations
from manyviews.operators.fourier_points import extract, half_plane
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.operators.image_shift import shift_phases
from manyviews.parallel.world import SingleWorld
from manyviews.report.fitted_slices import SeenImages, finest_shown, fitted_panels, gathered_panels
from manyviews.simulate.phantoms import Gaussians

sys.path.append(str(Path(__file__).parents[1] / "subtomo"))

BOX, COUNT = 40, 5
PHANTOM = Gaussians.isotropic([1.0, 0.7, 0.9], [[0.0, 0, 0], [6, 1, -2], [-3, 5, 4]], [2.5, 2.0, 2.2])


def seen(*, noise=0.0, strength=1.0):
    """Particles of a phantom with contrast transfer, exact but for what lies beyond the box."""
    rng = Generator(PCG64(1))
    points = half_plane(BOX // 2 - 1, BOX)
    volume = torch.from_numpy(PHANTOM.density((BOX,) * 3, 1.0)).float()
    rotations, shifts = random_rotations(COUNT, rng), rng.uniform(-3, 3, (COUNT, 2))
    transfers = np.cos(rng.uniform(0, 0.02, (COUNT, 1)) * np.sum(points.astype(float) ** 2, axis=1))
    values = FourierVolume.of(volume, BOX // 2 - 1, padding=3).slices(rotations.astype(np.float32), points)
    values = strength * values.numpy() * transfers * shift_phases(shifts, points, BOX).numpy().conj()
    values = values + noise * extract(rng.normal(size=(COUNT, BOX, BOX)), points)
    return SeenImages(points, values, transfers, rotations, shifts, BOX), volume


def test_of_noise_free_images_nothing_is_left():
    images, volume = seen()
    panels, correlation = fitted_panels(images, volume, 5.0)
    assert panels.shape == (COUNT, 3, BOX, BOX)
    left = np.linalg.norm(panels[:, 1] - panels[:, 2]) / np.linalg.norm(panels[:, 1])
    assert left < 0.01
    assert correlation.min() > 0.9999


@pytest.mark.parametrize("change", ["shifts", "rotations", "transfers"])
def test_much_is_left_where_poses_or_contrast_transfer_are_wrong(change):
    images, volume = seen()
    wrong = {"shifts": -images.shifts, "rotations": images.rotations[::-1], "transfers": -images.transfers}
    panels, _ = fitted_panels(SeenImages(**{**vars(images), change: wrong[change]}), volume, 5.0)
    assert np.linalg.norm(panels[:, 1] - panels[:, 2]) > 0.3 * np.linalg.norm(panels[:, 1])


def test_a_weak_image_is_explained_by_a_weak_map():
    weak, _ = fitted_panels(*seen(strength=0.3), 5.0)
    whole, _ = fitted_panels(*seen(), 5.0)
    np.testing.assert_allclose(weak[:, 2], 0.3 * whole[:, 2], atol=1e-3 * np.abs(whole).max())


def test_low_passed_images_show_what_noise_hides():
    panels, correlation = fitted_panels(*seen(noise=3.0), 8.0)
    truth, _ = fitted_panels(*seen(), 8.0)

    def alike(first, second):
        return np.corrcoef((first - first.mean()).ravel(), (second - second.mean()).ravel())[0, 1]

    assert alike(panels[:, 1], truth[:, 1]) > 1.5 * alike(panels[:, 0], truth[:, 0])
    assert 0.3 < correlation.mean() < 0.999


def test_ranks_without_any_of_the_images_leave_them_out():
    images, volume = seen()
    some = SeenImages(
        images.points,
        images.values[1:3],
        images.transfers[1:3],
        images.rotations[1:3],
        images.shifts[1:3],
        BOX,
    )
    panels, correlation = gathered_panels(SingleWorld(), COUNT, np.array([1, 2]), some, volume, 5.0)
    whole, _ = fitted_panels(images, volume, 5.0)
    np.testing.assert_array_equal(panels[1:3], whole[1:3])
    assert not panels[[0, 3, 4]].any()
    assert not correlation[[0, 3, 4]].any()


def test_details_go_with_the_particle():
    assert finest_shown(10.0) == 4.0
    assert finest_shown(120.0) == 12.0


def test_of_noise_free_subtomograms_nothing_is_left():
    from alignment_example import coefficients, density, true_poses

    from manyviews.subtomo.fitted import seen_along_z

    poses = true_poses(4)
    data = coefficients(poses)
    images = seen_along_z(data, np.array([0, 2]), poses.rotations[[0, 2]], poses.shifts[[0, 2]])
    panels, correlation = fitted_panels(images, torch.from_numpy(density()).float(), 6.0)
    assert np.linalg.norm(panels[:, 1] - panels[:, 2]) < 0.02 * np.linalg.norm(panels[:, 1])
    assert correlation.min() > 0.999
