import numpy as np
import pytest

from manyviews.alignment.map_alignment import align_map, aligned_fsc, move_map, soft_sphere
from manyviews.alignment.map_search import Placement, _Comparison, _half_ball, _Spectrum, _target
from manyviews.geometry.poses import (
    angular_distance,
    random_directions,
    random_rotations,
    rotations_from_vectors,
    uniform_rotations,
)
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.metrics.fsc import fsc
from manyviews.simulate.phantoms import Gaussians

BOX, PIXEL = 32, 4.0


def particle(seed, sigma=1.6, radius=8.0, count=40):
    """An irregular heap of Gaussians; lengths in voxels."""
    rng = np.random.default_rng(seed)
    places = random_directions(count, rng) * radius * rng.uniform(0, 1, (count, 1)) ** (1 / 3)
    return Gaussians.isotropic(rng.uniform(0.5, 1.5, count), places * [1, 0.8, 0.6], sigma)


def density(phantom):
    return phantom.density((BOX,) * 3, 1.0, threads=1)


def displaced(phantom, rotation, shift, mirrored):
    """The phantom from which ``h R^T (X - t)`` leads back to the original."""
    hand = -1 if mirrored else 1
    return Gaussians(
        phantom.amplitude,
        hand * (phantom.centre - shift) @ rotation,
        rotation.T @ phantom.covariance @ rotation,
    )


@pytest.mark.parametrize("seed", range(2))
def test_a_turned_shifted_mirrored_copy_is_found(seed):
    rng = np.random.default_rng(100 + seed)
    original, rotation, shift, mirrored = (
        particle(seed, 1.1),
        random_rotations(1, rng)[0],
        rng.uniform(-2, 2, 3),
        bool(seed % 2),
    )
    copy = density(displaced(original, rotation, shift, mirrored))
    curve, found = aligned_fsc(7 * copy + 3, density(original), PIXEL)
    assert found.mirrored == mirrored
    assert angular_distance(found.rotation, rotation) < 0.3
    np.testing.assert_allclose(found.shift, shift * PIXEL, atol=0.1)
    assert found.correlation > 0.999
    assert curve.correlation[: int(0.8 * BOX / 2) + 1].min() > 0.99


def test_maps_that_share_only_their_coarse_shape_are_aligned():
    """Beyond 6 shells, noise of the same power; below, a third of noise."""
    rng = np.random.default_rng(0)
    original, rotation = particle(0), random_rotations(1, rng)[0]
    shift = rng.uniform(-2, 2, 3)
    copy = density(displaced(original, rotation, shift, mirrored=True))
    spectrum, noise = np.fft.fftn(copy), np.fft.fftn(rng.normal(size=copy.shape))
    k = np.sqrt(sum(g**2 for g in np.meshgrid(*[np.fft.fftfreq(BOX) * BOX] * 3, indexing="ij")))
    shell = np.rint(k).astype(int)
    power = np.bincount(shell.ravel(), np.abs(spectrum.ravel()) ** 2)
    noise *= np.sqrt(power / np.bincount(shell.ravel(), np.abs(noise.ravel()) ** 2))[shell]
    spoilt = np.fft.ifftn(np.where(k <= 6, spectrum + noise / 3, noise)).real.astype(np.float32)
    curve, found = aligned_fsc(spoilt, density(original), PIXEL)
    assert found.mirrored
    assert angular_distance(found.rotation, rotation) < 4
    assert curve.resolution(0.5) < BOX * PIXEL / 5.5


def test_a_symmetric_map_comes_back_to_one_of_its_equals():
    group = symmetry_rotations("C3")
    whole = Gaussians.concatenate([particle(5).moved(element, np.zeros(3)) for element in group])
    rotation = random_rotations(1, np.random.default_rng(5))[0]
    copy = density(displaced(whole, rotation, np.zeros(3), mirrored=False))
    found = align_map(copy, density(whole), PIXEL, hands=False)
    assert min(angular_distance(found.rotation, element @ rotation) for element in group) < 0.5


def test_without_the_other_hand_only_turns_are_tried():
    original = particle(6)
    mirrored = density(displaced(original, np.eye(3), np.zeros(3), mirrored=True))
    found = align_map(mirrored, density(original), PIXEL, hands=False)
    assert not found.mirrored
    assert found.correlation < 0.95


def test_only_the_sphere_counts():
    original = particle(7, radius=5.0)
    rubbish = density(Gaussians.isotropic([30.0], [[12.0, 9.0, 0.0]], 1.5))
    found = align_map(density(original) + rubbish, density(original), PIXEL, radius=9.5 * PIXEL, hands=False)
    assert angular_distance(found.rotation, np.eye(3)) < 1
    assert found.correlation > 0.99


@pytest.mark.parametrize("mirrored", [False, True])
def test_moving_is_exact_for_what_the_grid_can_hold(mirrored):
    original = particle(8, 1.2)
    rotation, shift = random_rotations(1, np.random.default_rng(8))[0], np.array([0.3, -1.2, 0.7])
    moved = move_map(density(original), rotation, shift, mirrored=mirrored)
    hand = -1 if mirrored else 1
    expected = Gaussians(
        original.amplitude,
        hand * original.centre @ rotation.T + shift,
        rotation @ original.covariance @ rotation.T,
    )
    exact = density(expected)
    assert np.abs(moved - exact).max() < 0.01 * exact.max()
    assert fsc(moved, exact, 1.0).correlation[: int(0.8 * BOX / 2) + 1].min() > 0.995


@pytest.mark.parametrize("box", [31, 32])
def test_staying_where_it_is_changes_nothing(box):
    volume = np.random.default_rng(9).normal(size=(box,) * 3)
    band = np.fft.rfftn(volume)
    if box % 2 == 0:  # planes at the Nyquist frequency have no sign and are dropped
        band[box // 2], band[:, box // 2], band[:, :, box // 2] = 0, 0, 0
    volume = np.fft.irfftn(band, volume.shape, axes=(0, 1, 2)).astype(np.float32)
    moved = move_map(volume, np.eye(3), np.zeros(3))
    inside = (slice(4, -4),) * 3  # at its faces the map fades into nothing
    np.testing.assert_allclose(moved[inside], volume[inside], atol=1e-2)


@pytest.mark.parametrize("mirrored", [False, True])
def test_slopes_of_the_score_are_its_differences(mirrored):
    points = _half_ball(6)
    comparison = _Comparison.of(
        _Spectrum.of(density(particle(10)), 8),
        _target(density(particle(11)), points),
        points,
        BOX,
        np.arange(10.0),
    )
    start = uniform_rotations(7)[3]
    place = Placement(0.0, start, np.array([0.4, -0.3, 0.2]), mirrored)
    _, turn_slope, shift_slope = comparison.score(place)
    step = 2e-3
    for axis in range(3):
        unit = step * np.eye(3)[axis]
        ahead, behind = (
            comparison.score(Placement(0.0, rotations_from_vectors(s * unit) @ start, place.shift, mirrored))[
                0
            ]
            for s in (1, -1)
        )
        # trilinear reading has kinks, so the two agree roughly only
        assert (ahead - behind) / (2 * step) == pytest.approx(
            turn_slope[axis], abs=0.02 * np.abs(turn_slope).max()
        )
        ahead, behind = (
            comparison.score(Placement(0.0, start, place.shift + s * unit, mirrored))[0] for s in (1, -1)
        )
        assert (ahead - behind) / (2 * step) == pytest.approx(
            shift_slope[axis], abs=1e-3 * np.abs(shift_slope).max()
        )


def test_the_sphere_is_soft_and_inside():
    mask = soft_sphere(20, 8.0)
    assert mask[10, 10, 10] == 1
    assert mask[10, 10, 18] == 0
    assert 0 < mask[10, 10, 16] < 1


@pytest.mark.parametrize(
    ("moving", "reference", "message"),
    [
        (np.ones((8, 8, 8)), np.random.default_rng(0).normal(size=(8, 8, 8)), "constant"),
        (np.ones((8, 8, 9)), np.ones((8, 8, 9)), "cubes"),
        (np.ones((8, 8, 8)), np.ones((9, 9, 9)), "cubes"),
        (np.full((8, 8, 8), np.nan), np.ones((8, 8, 8)), "NaN"),
    ],
)
def test_what_cannot_be_aligned_is_refused(moving, reference, message):
    with pytest.raises(ValueError, match=message):
        align_map(moving, reference, PIXEL)
