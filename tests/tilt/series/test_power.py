"""Power of images by frequency."""

import numpy as np
import pytest

from manyviews.tilt.series.power import SHELLS, Power, power_by_shell


@pytest.mark.parametrize("shape", [(40, 57), (48, 48)])
def test_white_noise_has_its_variance_in_every_shell(shape, rng):
    many = np.mean(
        [power_by_shell(rng.normal(5.0, 2.0, shape).astype(np.float32)) for _ in range(300)], axis=0
    )
    found = Power.of(shape, many, 4.0)
    assert found.power[3:] == pytest.approx(np.full(len(found.power) - 3, 4.0), rel=0.1)
    assert found.power[0] < 3.5
    assert found.power[-5:] == pytest.approx(np.full(5, 4.0), rel=0.05)
    assert found.frequencies.sum() == shape[0] * shape[1] - 1
    assert np.all(np.diff(found.roughness) > 0.0)
    assert found.roughness[-1] < 8.0


def test_a_wave_has_its_power_in_its_own_shell():
    y, x = np.mgrid[:64, :64]
    image = np.cos(2 * np.pi * (10 * x + 6 * y) / 64).astype(np.float32)
    found = Power.of((64, 64), power_by_shell(image), 0.0)
    own = 4.0 - 2.0 * np.cos(2 * np.pi * 10 / 64) - 2.0 * np.cos(2 * np.pi * 6 / 64)
    share = found.power * found.frequencies
    near = np.abs(np.log(found.roughness / own)) < 0.5
    assert share[near].sum() > 0.99 * share.sum()
    assert share.sum() / 64**2 == pytest.approx(0.5, rel=0.05)


def test_the_level_is_no_signal():
    assert power_by_shell(np.full((20, 24), 7.0, np.float32)) == pytest.approx(np.zeros(SHELLS), abs=1e-9)


def test_small_images_have_none():
    assert not power_by_shell(np.ones((7, 30), np.float32)).any()
    assert Power.of((7, 30), np.zeros(SHELLS), 1.0) is None
