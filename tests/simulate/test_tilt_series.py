import numpy as np
import pytest

from manyviews.geometry.views import TiltGeometry
from manyviews.simulate.phantoms import Gaussians
from manyviews.simulate.tilt_series import (
    GreyLevels,
    drifting_grey_levels,
    misalignment,
    tilt_series_images,
)


def test_drift_stays_within_its_amount_and_differs_between_series():
    levels = [drifting_grey_levels(41, 0.1, 5.0, seed=3, series=i) for i in range(50)]
    gains = np.array([level.gain for level in levels])
    offsets = np.array([level.offset for level in levels])
    assert np.abs(gains - 1).max() <= 0.1
    assert np.abs(offsets).max() <= 0.5
    np.testing.assert_allclose(np.diff(gains, 2, axis=1), 0, atol=1e-12)  # linear along the series
    assert gains.std() > 0.02
    none = drifting_grey_levels(5, 0.0, 5.0, seed=3, series=0)
    np.testing.assert_array_equal(none.gain, 1)
    np.testing.assert_array_equal(none.offset, 0)


def test_misalignment_has_the_asked_spread_and_one_turn_a_series():
    rows = np.array([misalignment(31, 2.0, 3.0, seed=1, series=i) for i in range(60)])
    assert rows[:, :, 4:].std() == pytest.approx(2.0, rel=0.05)
    turns = np.rad2deg(np.arctan2(rows[:, :, 2], rows[:, :, 0]))
    assert np.ptp(turns, axis=1).max() == 0
    assert turns[:, 0].std() == pytest.approx(3.0, rel=0.3)
    np.testing.assert_array_equal(rows[7], misalignment(31, 2.0, 3.0, seed=1, series=7))


def test_noise_comes_before_gain_and_does_not_depend_on_other_views():
    phantom = Gaussians.isotropic([1.0], [[0.0, 0.0, 0.0]], 8.0)
    geometry = TiltGeometry.from_tilt_axis([0.0, 30.0])
    plain = GreyLevels(np.ones(2), np.zeros(2))
    changed = GreyLevels(np.array([2.0, 2.0]), np.array([0.5, 0.5]))

    def images(levels, views):
        settings = {"noise_std": 1.0, "seed": 0, "series": 0}
        return np.array(
            list(
                tilt_series_images(
                    phantom, geometry.select(views), (24, 24), 4.0, grey_levels=levels, **settings
                )
            )
        )

    both = images(plain, [0, 1])
    np.testing.assert_array_equal(images(plain, [0])[0], both[0])
    np.testing.assert_allclose(images(changed, [0, 1]), 2 * both + 0.5, atol=1e-5)
