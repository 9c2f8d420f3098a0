import math

import numpy as np
import pytest

from manyviews.metrics.error import relative_error, scaled_error

TRUTH = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)


def test_relative_error():
    assert relative_error(TRUTH, TRUTH) == 0
    assert relative_error(1.1 * TRUTH, TRUTH) == pytest.approx(0.1, rel=1e-5)
    assert relative_error(np.zeros_like(TRUTH), TRUTH) == 1
    assert math.isinf(relative_error(TRUTH, np.zeros_like(TRUTH)))


def test_scaled_error_forgives_the_scale_only():
    error, scale = scaled_error(4 * TRUTH, TRUTH)
    assert (error, scale) == (pytest.approx(0, abs=1e-3), pytest.approx(0.25))
    noisy = TRUTH + np.float32(0.3) * np.random.default_rng(2).normal(size=TRUTH.shape).astype(np.float32)
    error, scale = scaled_error(noisy, TRUTH)
    assert error == pytest.approx(relative_error(scale * noisy, TRUTH), rel=1e-4)
    assert error < relative_error(noisy, TRUTH)
    assert scaled_error(np.zeros_like(TRUTH), TRUTH) == (1.0, 0.0)
