import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.operators.dose import critical_dose, fading


def test_the_published_formula():
    assert critical_dose(0.1, 300.0) == pytest.approx(0.24499 * 0.1**-1.6649 + 2.8141)
    assert critical_dose(0.1, 200.0) == pytest.approx(0.8 * critical_dose(0.1, 300.0))
    assert critical_dose(0.0, 300.0) == np.inf


def test_what_is_left():
    frequency = np.array([0.0, 0.05, 0.1, 0.3])
    left = fading(frequency, 20.0, 300.0)
    assert left[0] == 1.0
    assert np.all(np.diff(left) < 0)
    assert left[2] == pytest.approx(np.exp(-20.0 / (2 * critical_dose(0.1, 300.0))))
    np.testing.assert_allclose(fading(frequency, 0.0, 300.0), 1.0)


def test_other_voltages_are_refused():
    with pytest.raises(InputError, match="300 and 200 kV, not for 120 kV"):
        critical_dose(0.1, 120.0)
