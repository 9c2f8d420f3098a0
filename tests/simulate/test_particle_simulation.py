import numpy as np
import pytest

from manyviews.geometry.poses import euler_to_matrices, view_directions
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.fourier_points import extract
from manyviews.simulate.particles import (
    GaussianProjector,
    Poses,
    VolumeProjector,
    draw_defocus,
    draw_poses,
    image_points,
    molecular_complex,
    particle_images,
    particle_noise,
)

PIXEL = 3.0


def ctf_in_relions_sign(points, box, voltage, aberration, contrast, defocus, angle, b_factor):
    """Written down again, in double precision."""
    kx, ky = points.T / (box * PIXEL)
    squared = kx**2 + ky**2
    along = np.arctan2(ky, kx) - np.deg2rad(angle)
    effective = 0.5 * (defocus[0] + defocus[1] + (defocus[0] - defocus[1]) * np.cos(2 * along))
    volts = voltage * 1e3
    length = 12.2643247 / np.sqrt(volts * (1 + 0.978466e-6 * volts))
    chi = -np.pi * length * effective * squared + np.pi / 2 * aberration * 1e7 * length**3 * squared**2
    return -np.sin(chi - np.arctan(contrast / np.sqrt(1 - contrast**2))) * np.exp(-b_factor * squared / 4)


@pytest.mark.parametrize("box", [32, 33])
def test_an_image_is_the_analytic_transform_at_its_pose(box):
    specimen = molecular_complex(box, PIXEL, seed=1)
    poses = draw_poses(6, shift_sigma=4.0, seed=2)
    defocus, angle = draw_defocus(6, 8000, 20000, 900, seed=2)
    images = particle_images(
        GaussianProjector(specimen, box, PIXEL),
        poses,
        Optics.make(300.0, 2.7, 0.07, defocus, angle, 0.0, 80.0),
        PIXEL,
    )
    points = image_points(box)
    found = extract(images, points)
    frequency = points / (box * PIXEL)
    variance = specimen.covariance[:, 0, 0]
    for n in range(6):
        centre = specimen.centre @ euler_to_matrices(poses.angles[n])[:2].T - poses.shifts[n]
        turns = frequency @ centre.T
        fall = np.exp(-2 * np.pi**2 * (frequency**2).sum(axis=1)[:, None] * variance)
        expected = (np.exp(-2j * np.pi * turns) * fall) @ (specimen.mass() / PIXEL**3)
        expected *= ctf_in_relions_sign(points, box, 300, 2.7, 0.07, defocus[n], angle[n], 80.0)
        # what folds over at the Nyquist frequency is all that differs
        assert np.abs(found[n] - expected).max() < 2e-4 * np.abs(expected).max()


def test_slices_of_a_map_are_its_exact_projections_nearly():
    box = 40
    specimen = molecular_complex(box, PIXEL, seed=3)
    poses = draw_poses(8, shift_sigma=3.0, seed=3)
    exact = particle_images(GaussianProjector(specimen, box, PIXEL), poses, None, PIXEL)
    volume = specimen.density((box,) * 3, PIXEL)
    slices = particle_images(VolumeProjector(volume), poses, None, PIXEL)
    assert np.linalg.norm(slices - exact) < 0.005 * np.linalg.norm(exact)


def test_the_complex_fits_is_irregular_and_reproducible():
    specimen = molecular_complex(64, PIXEL, seed=0)
    again, other = molecular_complex(64, PIXEL, seed=0), molecular_complex(64, PIXEL, seed=1)
    np.testing.assert_array_equal(specimen.centre, again.centre)
    assert not np.allclose(specimen.centre, other.centre)
    np.testing.assert_allclose(specimen.mass() @ specimen.centre / specimen.mass().sum(), 0, atol=3)
    assert np.linalg.norm(specimen.centre, axis=1).max() < 0.35 * 64 * PIXEL
    spread = np.linalg.eigvalsh(np.cov(specimen.centre.T))
    assert spread[1] / spread[0] > 1.02
    assert specimen.amplitude.min() > 0


def test_poses_are_what_files_can_hold_and_views_are_where_asked_for():
    poses = draw_poses(4000, shift_sigma=5.0, seed=0)
    np.testing.assert_array_equal(poses.angles, np.round(poses.angles, 4))
    np.testing.assert_allclose(view_directions(euler_to_matrices(poses.angles)).mean(axis=0), 0, atol=0.04)
    assert poses.shifts.std() == pytest.approx(5, rel=0.03)
    belt = draw_poses(4000, views="belt", belt_width=10.0, seed=0)
    directions = view_directions(euler_to_matrices(belt.angles))
    latitude = np.rad2deg(np.arcsin(directions[:, 2]))
    assert np.abs(latitude).mean() == pytest.approx(10 * np.sqrt(2 / np.pi), rel=0.05)
    np.testing.assert_allclose(directions[:, :2].mean(axis=0), 0, atol=0.05)
    np.testing.assert_array_equal(belt.shifts, 0)


def test_shifts_do_not_move_when_views_change():
    np.testing.assert_array_equal(
        draw_poses(50, shift_sigma=2.0, seed=4).shifts,
        draw_poses(50, shift_sigma=2.0, seed=4, views="belt").shifts,
    )


def test_defocus_is_in_its_range():
    defocus, angle = draw_defocus(2000, 9000, 21000, 800, seed=0)
    mean, difference = defocus.mean(axis=1), defocus[:, 0] - defocus[:, 1]
    assert 8999 < mean.min() < 9100
    assert 20900 < mean.max() < 21001
    assert difference.min() >= 0
    assert 780 < difference.max() <= 800.02
    assert np.abs(angle).max() <= 90


@pytest.mark.parametrize("colour", [0.0, 20.0])
def test_noise_has_variance_one_and_the_spectrum_asked_for(colour):
    box = 48
    noise = particle_noise(0, 400, box, PIXEL, colour, seed=7)
    assert noise.var() == pytest.approx(1, rel=0.01)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(axis=0)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(box, PIXEL)] * 2))
    expected = 1 + colour * np.exp(-30 * frequency)
    expected *= box**2 / expected.mean()
    shell = np.rint(frequency * box * PIXEL).astype(int).ravel()
    ratio = np.bincount(shell, (power / expected).ravel()) / np.bincount(shell)
    np.testing.assert_allclose(ratio[1 : box // 2], 1, atol=0.08)


def test_noise_of_an_image_does_not_depend_on_its_block():
    whole = particle_noise(0, 9, 16, PIXEL, 3.0, seed=1)
    np.testing.assert_array_equal(whole[5:], particle_noise(5, 4, 16, PIXEL, 3.0, seed=1))
    assert not np.allclose(whole[0], whole[1])


def test_a_shift_moves_the_particle_the_other_way():
    specimen = molecular_complex(32, PIXEL, seed=5)
    projector = GaussianProjector(specimen, 32, PIXEL)
    angles = np.zeros((2, 3))
    shifts = np.array([[0.0, 0.0], [2 * PIXEL, -3 * PIXEL]])
    still, moved = particle_images(projector, Poses(angles, shifts), None, PIXEL)
    np.testing.assert_allclose(moved, np.roll(still, (3, -2), axis=(0, 1)), atol=1e-3 * still.max())
