import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyviews.metrics.correlation import ncc, ncc_views


def random_pair(seed=0, shape=(4, 9, 7)):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=shape)
    return a.astype(np.float32), (a + rng.normal(size=shape)).astype(np.float32)


def test_is_pearson_correlation():
    a, b = random_pair()
    assert ncc(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-7)


@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-100, 100))
def test_ignores_gain_and_offset(scale, offset):
    a, b = random_pair()
    a, b = a.astype(np.float64), b.astype(np.float64)
    assert ncc(scale * a + offset, b) == pytest.approx(ncc(a, b), abs=1e-7)
    assert ncc(-scale * a, b) == pytest.approx(-ncc(a, b), abs=1e-7)


def test_mask_counts_only_what_it_covers():
    a, b = random_pair()
    mask = np.zeros(a.shape, dtype=bool)
    mask[:, 2:5, 1:6] = True
    expected = np.corrcoef(a[mask], b[mask])[0, 1]
    a[~mask] = 1e3
    assert ncc(a, b, mask) == pytest.approx(expected, abs=1e-6)


def test_constant_or_masked_out_is_zero():
    a, b = random_pair()
    assert ncc(np.full_like(a, 0.1), b) == 0
    assert ncc(a, b, np.zeros(a.shape)) == 0


def test_views_one_by_one():
    a, b = random_pair()
    expected = [ncc(a[i], b[i]) for i in range(len(a))]
    np.testing.assert_array_equal(ncc_views(a, b), expected)


def test_shapes_must_agree():
    a, b = random_pair()
    with pytest.raises(ValueError, match="same shape"):
        ncc(a, b[:, :-1])
