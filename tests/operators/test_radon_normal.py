"""One convolution is projecting and back-projecting, but for what falls off the detector."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from manyviews.errors import InputError
from manyviews.operators.radon import Radon
from manyviews.operators.radon_normal import RadonNormal, nearest_cyclic
from manyviews.random import Stream, generator

SIZE = 48
THETA = np.arange(60) * 3.0 * 1.3


def noise(rows=3, size=SIZE):
    return torch.from_numpy(generator(0, Stream.TEST, rows).standard_normal((rows, size, size)))


def off(found, expected):
    return float((found - expected).norm() / expected.norm())


def disk(size, margin):
    position = np.arange(size) - size // 2
    return torch.from_numpy(np.hypot(position, position[:, None]) < size / 2 - margin).double()


def test_a_detector_that_misses_nothing():
    radon = Radon(THETA, 3, 48, 23.3, size=20, epsilon=3e-5)
    assert radon.polar.line == 48  # all columns of the cyclic detector
    u = noise(3, 20)
    assert off(RadonNormal.of(radon).forward(u), radon.normal(u)) < 1e-4


def test_white_noise_within_the_view():
    """Its projections end in no pixel: a hundredth is off the detector."""
    radon = Radon(THETA, 3, SIZE, 23.5, epsilon=3e-5)
    inside = disk(SIZE, 1)
    u = noise() * inside
    assert off(inside * RadonNormal.of(radon).forward(u), inside * radon.normal(u)) < 1e-2


def test_smooth_slices_within_the_view_agree_to_a_thousandth():
    radon = Radon(THETA, 3, SIZE, 23.5)
    inside = disk(SIZE, 1)
    u = torch.from_numpy(gaussian_filter(noise().numpy(), (0, 2, 2))) * disk(SIZE, 4)
    assert off(inside * RadonNormal.of(radon).forward(u), inside * radon.normal(u)) < 1e-3


def test_weights_of_views():
    radon = Radon(THETA, 2, SIZE, 23.5)
    weights = generator(0, Stream.TEST, 9).uniform(0.0, 2.0, len(THETA))
    weights[7] = 0.0
    u = torch.from_numpy(gaussian_filter(noise(2).numpy(), (0, 2, 2))) * disk(SIZE, 4)
    expected = radon.adjoint(torch.from_numpy(weights)[:, None, None] * radon.forward(u))
    inside = disk(SIZE, 1)
    assert off(inside * RadonNormal.of(radon, weights).forward(u), inside * expected) < 1e-3


def test_it_is_never_less_than_what_the_detector_sees():
    """An axis at the side: half of the specimen is off the detector in each view."""
    radon = Radon(THETA[:9], 1, 12, 2.0, size=10, epsilon=3e-5)
    normal = RadonNormal.of(radon)
    units = torch.eye(100, dtype=torch.float64).reshape(100, 1, 10, 10)
    seen, whole = (
        torch.stack([apply(unit).reshape(-1) for unit in units]).numpy()
        for apply in (radon.normal, normal.forward)
    )
    least = np.linalg.eigvalsh(whole - seen).min()
    assert least > -1e-3 * np.linalg.norm(whole, 2)


def test_threads_pairs_and_results_in_place():
    radon = Radon(THETA, 5, 17, 8.0)
    u = noise(5, 17).float()
    alone = RadonNormal.of(radon).forward(u)
    normal = RadonNormal(5, 17, RadonNormal.of(radon).kernel, threads=3)
    assert torch.equal(normal.forward(u), alone)
    copied = u.clone()
    assert normal.forward(copied, out=copied) is copied
    assert torch.equal(copied, alone)


@pytest.mark.parametrize("weights", [np.ones(59), -np.ones(60), np.full(60, np.nan)])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(InputError, match="a weight for each of 60 views, none negative"):
        RadonNormal.of(Radon(THETA, 1, 8, 3.5), weights)


def test_of_kernels_that_go_round_the_nearest_one_is_taken():
    """What it is off by is orthogonal to all kernels that go round; with two sides that is nothing."""
    normal = RadonNormal.of(Radon(THETA, 1, 8, 3.5))
    units = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)

    def matrix(kernel):
        operator = RadonNormal(1, 8, kernel)
        return np.stack([operator.forward(unit).numpy().reshape(-1) for unit in units])

    whole, near = matrix(normal.kernel), matrix(nearest_cyclic(normal.kernel, 8, 12))
    other = matrix(np.random.default_rng(0).standard_normal((12, 12)))
    assert np.linalg.norm(near - whole) < 0.1 * np.linalg.norm(whole)
    assert abs(np.vdot(near - whole, other)) < 1e-12 * np.linalg.norm(whole) * np.linalg.norm(other)
    np.testing.assert_allclose(nearest_cyclic(normal.kernel, 8, 16), normal.kernel, atol=1e-12)
    assert np.linalg.eigvalsh(matrix(normal.nearest(1.5).kernel)).min() > -1e-12
