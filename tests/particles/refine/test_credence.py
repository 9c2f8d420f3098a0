"""Which images are believed: junk is told from particles, and particles are kept, also without any junk."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.particles.refine.credence import Credence, credence
from manyviews.particles.refine.evidence import Evidence

COUNT = 1000


def evidence_of(gain, predicted, excess):
    return Evidence(gain / 2, np.zeros_like(gain), predicted, excess)


def noise(rng, count, strength):
    """What images of noise gain, the less the stronger the map is in them."""
    predicted = strength * rng.uniform(0.5, 1.5, count)
    return evidence_of(
        5 - 0.2 * predicted + 4 * rng.standard_normal(count), predicted, rng.standard_normal(count)
    )


def particles(rng, count, strength):
    """Gains spread with the view and with the noise, as log likelihoods do."""
    predicted = strength * rng.uniform(0.5, 1.5, count)
    power = predicted * np.clip(1 + 0.25 * rng.standard_normal(count), 0.3, None)
    return evidence_of(
        power + np.sqrt(2 * power) * rng.standard_normal(count), predicted, rng.standard_normal(count)
    )


def joined(*parts):
    return Evidence(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


@pytest.mark.parametrize("strength", [50.0, 200.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_noise_is_told_from_particles_which_are_kept(strength, share):
    rng = np.random.default_rng(1)
    junk = round(share * COUNT)
    found = joined(particles(rng, COUNT - junk, strength), noise(rng, junk, strength))
    result = credence(found, noise(rng, 64, strength))
    assert result.distinct
    kept, junked = result.both[: COUNT - junk] > 0.5, result.both[COUNT - junk :] < 0.5
    assert kept.mean() > (0.99 if share == 0 or strength > 100 else 0.96)
    assert junk == 0 or junked.mean() > 0.95


def test_what_leaves_power_is_of_something_else():
    rng = np.random.default_rng(2)
    found = particles(rng, COUNT, 100.0)
    found.excess[:200] += 6.0
    result = credence(found, noise(rng, 64, 100.0))
    assert (result.alone[:200] < 0.5).mean() > 0.95
    assert (result.alone[200:] > 0.5).mean() > 0.99


def test_less_than_noise_is_no_particle():
    """An image that is the opposite of the map gains far less than noise, and is not believed for that."""
    rng = np.random.default_rng(3)
    found = particles(rng, COUNT, 100.0)
    found.cross[:20] = -150.0
    assert credence(found, noise(rng, 64, 100.0)).both[:20].max() < 0.1


def test_where_nothing_is_told_from_noise_all_are_believed():
    rng = np.random.default_rng(4)
    result = credence(noise(rng, COUNT, 20.0), noise(rng, 64, 20.0))
    assert not result.distinct
    np.testing.assert_array_equal(result.both, 1.0)


def test_few_images_are_believed():
    rng = np.random.default_rng(5)
    few = credence(noise(rng, 20, 50.0), noise(rng, 64, 50.0))
    none = credence(noise(rng, COUNT, 50.0), noise(rng, 0, 50.0))
    for result in (few, none):
        np.testing.assert_array_equal(result.both, Credence.full(len(result.both)).both)
