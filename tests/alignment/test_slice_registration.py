"""Volumes laid over each other as a whole and slice by slice."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.alignment.slice_registration import (
    find_shift,
    find_slice_shifts,
    moved,
    moved_slices,
    registered_fsc,
    soft_cylinder,
)
from manyviews.random import Stream, generator
from manyviews.simulate.scan_specimens import scan_specimen

SHAPE = (24, 32, 32)


@pytest.fixture(scope="module")
def volume():
    return scan_specimen("tissue", SHAPE[:2], 3.0, 2).density(SHAPE, 1.0)


def bent(depth=SHAPE[0]):
    """Slow shifts along x and y whose mean is zero, up to two pixels."""
    z = np.linspace(-1, 1, depth)
    return np.stack([2 * np.sin(np.pi * z), 1.5 * z], axis=1)


def test_a_volume_moves_by_what_it_is_told(volume):
    inner = (slice(6, -6),) * 3
    found, wanted = moved(volume, np.array([2.0, -1.0, 3.0])), np.roll(volume, (3, -1, 2), (0, 1, 2))
    np.testing.assert_allclose(found[inner], wanted[inner], atol=1e-4)
    there = moved_slices(volume, bent())
    np.testing.assert_allclose(moved_slices(there, -bent())[:, 6:-6, 6:-6], volume[:, 6:-6, 6:-6], atol=0.02)


def test_a_shift_is_found_to_a_hundredth_of_a_pixel(volume):
    shift = np.array([1.3, -2.6, 0.7])
    found = find_shift(volume, moved(volume, shift), soft_cylinder(SHAPE))
    np.testing.assert_allclose(found, shift, atol=0.06)
    again = find_shift(moved(volume, found), moved(volume, shift), soft_cylinder(SHAPE))
    np.testing.assert_allclose(found + again, shift, atol=0.01)


def test_shifts_of_slices_are_found(volume):
    found = find_slice_shifts(volume, moved_slices(volume, bent()), soft_cylinder(SHAPE), 0.0)
    np.testing.assert_allclose(found[5:-5], bent()[5:-5], atol=0.2)


def test_slices_that_shear_correlate_after_they_are_registered(volume):
    shift = np.array([-1.4, 0.8, 1.2])
    other = moved(moved_slices(volume, bent()), shift)
    found = registered_fsc(volume, other, 20.0)
    # what lies on what: minus the shear, minus the shift
    np.testing.assert_allclose(
        found.slice_shifts[6:-6] + found.shift[:2], -bent()[6:-6] - shift[:2], atol=0.3
    )
    assert found.shift[2] == pytest.approx(-1.2, abs=0.15)
    middle = slice(5, 12)
    unmoved, rigid, slices = (
        curve.correlation[middle].mean() for curve in (found.unmoved, found.rigid, found.slicewise)
    )
    assert unmoved < rigid < 0.9
    assert slices > 0.97


def test_noise_is_not_laid_over_noise():
    one, other = generator(3, Stream.TEST).standard_normal((2, *SHAPE)).astype(np.float32)
    found = registered_fsc(one, other, 20.0)
    assert abs(found.slicewise.correlation[8:].mean()) < 0.06
    assert found.slicewise.resolution(found.slicewise.half_bit()) > 4 * 20.0


def test_equal_volumes_stay_where_they_are_and_empty_ones_too(volume):
    same = registered_fsc(volume, volume, 20.0)
    np.testing.assert_allclose(same.shift, 0, atol=1e-3)
    np.testing.assert_allclose(same.slice_shifts, 0, atol=1e-3)
    np.testing.assert_allclose(same.slicewise.correlation[1:], 1, atol=1e-5)
    empty = np.zeros(SHAPE, np.float32)
    np.testing.assert_array_equal(registered_fsc(empty, volume, 20.0).slice_shifts, 0)


def test_other_shapes_are_no_pair(volume):
    with pytest.raises(ValueError, match="same shape"):
        registered_fsc(volume, volume[:-1], 20.0)
