"""Small volumes added up in space, and the damped map of one half, against what they must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from added_solids import add_solids
from manyviews.geometry.poses import euler_to_matrices
from manyviews.operators.fourier_points import extract_solid, half_ball
from manyviews.operators.fourier_slice import grid_half, grid_to_volume
from manyviews.operators.fourier_sums import FourierSums
from manyviews.simulate.phantoms import Gaussians

BOX, RADIUS = 20, 7
SPOTS = Gaussians.isotropic([1.0, 0.7, 0.5], [[2.0, 1, -3], [-4, 2, 1], [0, -3, 2.5]], [1.6, 1.4, 1.8])
POINTS = half_ball(RADIUS, BOX)


def coefficients(phantom):
    return extract_solid(phantom.density((BOX,) * 3, 1.0), POINTS)[None]


def low_passed(volume):
    """What the ball of points holds of a volume."""
    spectrum = np.fft.fftn(volume)
    k = np.fft.fftfreq(BOX, 1 / BOX)
    length = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    return np.fft.ifftn(spectrum * ((length <= RADIUS) & (length > 0))).real


def test_a_turned_volume_is_turned_back_into_the_map():
    """s(X) = map(A^T X): every half its own, the other stays empty."""
    turns = euler_to_matrices([[0.0, 0, 0], [40, 65, -20], [-100, 130, 70], [10, 20, 170]])
    sums = FourierSums.zeros(RADIUS)
    for turn in turns:
        add_solids(sums, 1, turn[None], POINTS, coefficients(SPOTS.moved(turn, np.zeros(3))),
                        np.ones((1, len(POINTS)), np.float32))  # fmt: skip
    assert not sums.numerator[0].any()
    assert not sums.denominator[0].any()
    found = sums.mirrored().half_volume(1, BOX).numpy()
    expected = low_passed(SPOTS.density((BOX,) * 3, 1.0))
    np.testing.assert_allclose(found - found.mean(), expected, atol=0.05 * expected.max())
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.997


def test_weights_count_in_the_quotient():
    """Twice the weight of a volume is the volume twice."""
    other = Gaussians.isotropic([1.0], [[3.0, 0, 0]], [2.0])
    first, second = coefficients(SPOTS), coefficients(other)
    ones = np.ones((1, len(POINTS)), np.float32)
    weighted, repeated = FourierSums.zeros(RADIUS), FourierSums.zeros(RADIUS)
    still = np.eye(3)[None]
    add_solids(weighted, 0, still, POINTS, 2 * first, 2 * ones)
    add_solids(weighted, 0, still, POINTS, second, ones)
    for one in (first, first, second):
        add_solids(repeated, 0, still, POINTS, one, ones)
    torch.testing.assert_close(weighted.numerator, repeated.numerator)
    torch.testing.assert_close(weighted.denominator, repeated.denominator)
    found = weighted.mirrored().half_volume(0, BOX).numpy()
    both = low_passed((2 * SPOTS.density((BOX,) * 3, 1.0) + other.density((BOX,) * 3, 1.0)) / 3)
    assert np.corrcoef(found.ravel(), both.ravel())[0, 1] > 0.997


@pytest.mark.parametrize("agreed", [0.2, 0.5, 0.9])
def test_a_half_is_damped_to_what_the_halves_agree_on(rng, agreed):
    """With the same weight everywhere the damped quotient is f times the plain one."""
    half = grid_half(RADIUS, 2)
    shape = (2, 2 * half + 1, 2 * half + 1, half + 2)
    values = torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape)).to(torch.complex64)
    sums = FourierSums(3.0 * values, torch.full(shape, 3.0), RADIUS)
    correlation = np.full(RADIUS + 1, agreed)
    for number in range(2):
        plain = grid_to_volume(values[number], BOX, RADIUS)
        damped = sums.damped_half(number, correlation, BOX)
        torch.testing.assert_close(damped, agreed * plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max()))


def test_a_half_without_weight_of_its_own_is_damped_as_both_are(rng):
    """The damping is that of the mean weight of both halves: it does not follow from one half alone."""
    half = grid_half(RADIUS, 2)
    shape = (2, 2 * half + 1, 2 * half + 1, half + 2)
    values = torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape)).to(torch.complex64)
    denominator = torch.stack([torch.full(shape[1:], 1.0), torch.full(shape[1:], 3.0)])
    sums = FourierSums(denominator * values, denominator, RADIUS)
    first, second = (sums.damped_half(number, np.full(RADIUS + 1, 0.5), BOX) for number in range(2))
    # the mean weight is 2, and so is the damping: 1 / (1 + 2) and 3 / (3 + 2)
    torch.testing.assert_close(first, grid_to_volume(values[0], BOX, RADIUS) / 3, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(second, grid_to_volume(values[1], BOX, RADIUS) * 0.6, rtol=1e-3, atol=1e-5)
