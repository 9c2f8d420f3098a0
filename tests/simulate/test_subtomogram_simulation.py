"""Simulated subtomograms against exact projections, the transfer that others use, and the noise asked for."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.geometry.poses import euler_to_matrices
from manyviews.operators.contrast_transfer import Optics
from manyviews.simulate.particles import GaussianProjector, VolumeProjector, molecular_complex
from manyviews.simulate.subtomograms import (
    NoiseLevels,
    SubtomogramSeries,
    draw_subtomogram_poses,
)
from manyviews.subtomo.wedge.transfer import frequency_radius, lattice, transfer

BOX, PIXEL = 32, 8.0
SPECIMEN = molecular_complex(BOX, PIXEL, 3)
DENSITY = SPECIMEN.density((BOX,) * 3, PIXEL)
OPTICS = Optics.make(300.0, 2.0, 0.1, [[50_000.0, 50_000.0]])
POSE = euler_to_matrices([40.0, 70.0, 110.0])
SHIFT = np.array([12.0, -20.0, 7.0])


def series(scheme: TiltScheme, optics: Optics | None = None, *, exact: bool = False) -> SubtomogramSeries:
    projector = GaussianProjector(SPECIMEN, BOX, PIXEL) if exact else VolumeProjector(DENSITY)
    return SubtomogramSeries(projector, scheme, PIXEL, optics)


def expected(scheme: TiltScheme, optics: Optics | None = None) -> np.ndarray:
    """The particle by its formula, moved to its place, times the transfer."""
    moved = SPECIMEN.moved(POSE, -SHIFT).density((BOX,) * 3, PIXEL)
    c = transfer(BOX, PIXEL, scheme, ctf=optics, radius=(BOX - 1) // 2)
    product = np.fft.rfftn(np.fft.ifftshift(moved)) * c
    return np.fft.fftshift(np.fft.irfftn(product, s=(BOX,) * 3, axes=(0, 1, 2)))


@pytest.mark.parametrize(
    ("axis", "beam", "optics"),
    [("y", "z", None), ("y", "z", OPTICS), ("x", "z", None), (30.0, "z", None), ("z", "x", OPTICS)],
)
def test_a_subtomogram_is_the_transfer_times_the_particle_at_its_place(axis, beam, optics):
    """An asymmetric range, so that a wrong sign, hand, order of angles or shift is a third of the volume."""
    scheme = TiltScheme.of_tilts(np.arange(-40, 61, 2), axis, beam)
    found, wanted = series(scheme, optics).clean(POSE, SHIFT), expected(scheme, optics)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98
    assert np.linalg.norm(found - wanted) < 0.2 * np.linalg.norm(wanted)
    # a cycle and more from the edges of the wedge there is little blur
    narrower = TiltScheme.of_range(-15, 35, axis, beam).measured(*lattice(BOX))
    kx, ky, kz = lattice(BOX)
    along = kx * scheme.axis[0] + ky * scheme.axis[1] + kz * scheme.axis[2]
    radius = frequency_radius(BOX)
    inner = narrower & (radius**2 - along**2 > 4**2) & (radius < 9)
    both = [np.fft.rfftn(np.fft.ifftshift(one))[inner] for one in (found, wanted)]
    assert np.linalg.norm(both[0] - both[1]) < 0.05 * np.linalg.norm(np.fft.rfftn(wanted))
    for mirrored in (found[::-1], found[:, ::-1], found[:, :, ::-1]):
        assert np.corrcoef(np.roll(mirrored, 1).ravel(), wanted.ravel())[0, 1] < 0.9


def test_slices_of_the_transform_are_exact_projections():
    scheme = TiltScheme.of_tilts(np.arange(-40, 61, 10))
    found, exact = (series(scheme, OPTICS, exact=exact).clean(POSE, SHIFT) for exact in (False, True))
    assert np.linalg.norm(found - exact) < 0.01 * np.linalg.norm(exact)


@pytest.mark.parametrize("axis", ["y", 30.0])
@pytest.mark.parametrize("optics", [None, OPTICS])
def test_noise_of_both_kinds_has_the_variance_asked_for_everywhere(axis, optics):
    made = series(TiltScheme.of_tilts(np.arange(-60, 61, 3), axis), optics)
    levels = made.levels(4.0)
    parts = [NoiseLevels(levels.white, 0.0), NoiseLevels(0.0, levels.detector), levels]
    volumes = [np.array([made.noise(number, part, 5) for number in range(12)]) for part in parts]
    assert levels.white == levels.detector
    each = np.array(made.noise_variances()) * levels.white**2
    for some, variance in zip(volumes, (*each, 4.0), strict=True):
        assert some.var() == pytest.approx(variance, rel=0.04)
    np.testing.assert_allclose(volumes[0] + volumes[1], volumes[2], atol=1e-4)
    middle = slice(8, 24)
    assert volumes[2][:, middle, middle, middle].var() == pytest.approx(4.0, rel=0.1)


def test_noise_is_none_in_the_wedge_and_its_kinds_have_their_spectra():
    scheme = TiltScheme.of_tilts(np.arange(-60, 61, 2))
    made = series(scheme, OPTICS)
    radius = frequency_radius(BOX)
    power = [
        np.mean([np.abs(np.fft.rfftn(made.noise(n, part, 1))) ** 2 for n in range(16)], axis=0)
        for part in (NoiseLevels(1.0, 0.0), NoiseLevels(0.0, 1.0))
    ]
    kx, _, kz = lattice(BOX)
    missing = ~TiltScheme.of_range(-75, 75).measured(*lattice(BOX)) & (np.hypot(kx, kz) > 6)
    inside = TiltScheme.of_range(-50, 50).measured(*lattice(BOX)) & (radius < 15) & (np.hypot(kx, kz) > 6)
    assert power[0][missing].mean() < 0.02 * power[0][inside].mean()
    # r-weighting makes white noise grow with the distance from the tilt axis; the CTF shapes it
    ctf = transfer(BOX, PIXEL, TiltScheme.of_range(-60, 60), ctf=OPTICS)
    white = np.broadcast_to(np.hypot(kx, kz), radius.shape) * ctf**2
    detector = np.broadcast_to(np.hypot(kx, kz), radius.shape) * np.exp(-2 * (radius / (0.2 * BOX)) ** 2)
    for found, wanted in zip(power, (white, detector), strict=True):
        parts = np.array_split(np.argsort(wanted[inside]), 20)
        means = [[one[inside][part].mean() for part in parts] for one in (found, wanted)]
        assert np.corrcoef(*means)[0, 1] > 0.98


def test_noise_of_a_particle_depends_on_its_number_and_the_seed_alone():
    made = series(TiltScheme.of_tilts(np.arange(-60, 61, 20)))
    levels = made.levels(1.0)
    first = made.noise(3, levels, 7)
    np.testing.assert_array_equal(first, made.noise(3, levels, 7))
    for other in (made.noise(4, levels, 7), made.noise(3, levels, 8)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1
    both = made.noisy(POSE, SHIFT, 3, levels, 7)
    np.testing.assert_allclose(both, first + made.clean(POSE, SHIFT), atol=1e-4)


def test_poses_are_uniform_within_their_range_and_the_first_are_the_same_for_any_count():
    poses = draw_subtomogram_poses(2000, 15.0, 4)
    few = draw_subtomogram_poses(20, 15.0, 4)
    np.testing.assert_array_equal(poses.angles[:20], few.angles)
    np.testing.assert_array_equal(poses.shifts[:20], few.shifts)
    assert np.abs(poses.shifts).max() <= 15
    np.testing.assert_allclose(poses.shifts.std(axis=0), 15 / np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(euler_to_matrices(poses.angles).mean(axis=0), 0, atol=0.05)
    np.testing.assert_array_equal(poses.angles, np.round(poses.angles, 4))
