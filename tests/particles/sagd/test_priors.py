"""Priors against finite differences and against what defines them."""

from __future__ import annotations

import pytest
import torch

from manyviews.particles.sagd.priors import (
    AutoregressivePrior,
    ExponentialPrior,
    PriorName,
    UniformPrior,
    make_prior,
)


@pytest.fixture
def volume() -> torch.Tensor:
    return torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("prior", [UniformPrior(), ExponentialPrior(1.7), AutoregressivePrior(0.3)])
def test_gradients_are_those_of_the_values(prior, volume):
    direction = torch.randn(volume.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    step = 1e-5
    difference = prior.value(volume + step * direction) - prior.value(volume - step * direction)
    slope = float(torch.sum(prior.gradient(volume) * direction))
    assert difference / (2 * step) == pytest.approx(slope, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("place", [(2, 2, 3), (0, 0, 0), (3, 0, 5)])
def test_a_voxel_given_its_neighbours_is_normal_about_their_mean(place, volume):
    """The conditional mean is the maximum along the voxel, the conditional variance the inverse curvature."""
    prior = AutoregressivePrior(0.3)
    z, y, x = (slice(max(0, i - 1), i + 2) for i in place)
    mean = (volume[z, y, x].sum() - volume[place]) / 26
    at_mean = volume.clone()
    at_mean[place] = mean
    assert abs(float(prior.gradient(at_mean)[place])) < 1e-9
    beside = at_mean.clone()
    beside[place] += 0.3
    assert prior.value(at_mean) - prior.value(beside) == pytest.approx(0.5)


def test_the_autoregressive_prior_is_proper(volume):
    identity = torch.eye(27, dtype=torch.float64).reshape(27, 3, 3, 3)
    precision = torch.stack([-AutoregressivePrior(1.0).gradient(row).reshape(-1) for row in identity])
    torch.testing.assert_close(precision, precision.T)
    assert float(torch.linalg.eigvalsh(precision)[0]) > 0


def test_scales_come_from_the_mean_density():
    assert make_prior(PriorName.EXPONENTIAL, 2.0, 0.05) == ExponentialPrior(pytest.approx(4.0))
    assert make_prior(PriorName.AUTOREGRESSIVE, 2.0, 0.05) == AutoregressivePrior(pytest.approx(0.25))
    assert make_prior(PriorName.UNIFORM, 2.0, 0.05) == UniformPrior()
