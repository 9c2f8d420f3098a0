"""Halves of a scan: which views, and what is told of how far they agree."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.alignment.slice_registration import moved
from manyviews.metrics.fsc import FscCurve
from manyviews.nano.halves import (
    binned_volume,
    compare_halves,
    comparison_binning,
    half_views,
    write_halves,
)
from manyviews.random import Stream, generator
from manyviews.simulate.scan_specimens import scan_specimen

SHAPE = (24, 32, 32)


def test_views_take_turns():
    first, second = half_views(7)
    assert (first.tolist(), second.tolist()) == ([0, 2, 4, 6], [1, 3, 5])


def test_halves_are_compared_in_nanometres_or_pixels(tmp_path):
    truth = scan_specimen("tissue", SHAPE[:2], 3.0, 2).density(SHAPE, 1.0)
    noise = 0.3 * truth.std() * generator(0, Stream.TEST).standard_normal((2, *SHAPE)).astype(np.float32)
    found = compare_halves(truth + noise[0], moved(truth, np.array([1.0, -2.0, 0.5])) + noise[1], 20.0)
    told = write_halves(tmp_path, found, 20.0)
    np.testing.assert_allclose(told["halves_apart_pixels"], [-1.0, 2.0, -0.5], atol=0.1)
    curve = FscCurve.read_csv(tmp_path / "fsc.csv")
    assert told["resolution_half_bit_nm"] == pytest.approx(curve.resolution(curve.half_bit()) / 10, rel=1e-3)
    assert 40 < told["resolution_half_bit_slice_by_slice_nm"] < 70
    in_pixels = write_halves(tmp_path, compare_halves(*noise, None), None)
    assert set(in_pixels) - set(told) == {
        "resolution_half_bit_pixels", "resolution_half_bit_slice_by_slice_pixels",
    }  # fmt: skip
    # two halves of noise agree where their slices were laid over each other, or nowhere
    none = in_pixels["resolution_half_bit_pixels"]
    assert none == "none" or none > 6


def test_binned_halves_tell_the_same_in_pixels_of_the_whole():
    truth = scan_specimen("tissue", (48, 64), 3.0, 2).density((48, 64, 64), 1.0)
    noise = (
        0.3 * truth.std() * generator(0, Stream.TEST).standard_normal((2, *truth.shape)).astype(np.float32)
    )
    halves = truth + noise[0], moved(truth, np.array([2.0, -4.0, 1.0])) + noise[1]
    whole, binned = (compare_halves(*halves, 20.0, binning=factor) for factor in (1, 2))
    np.testing.assert_allclose(binned.shift, whole.shift, atol=0.1)
    pairs = [(one.rigid.resolution(0.5), one.unmoved.resolution(0.5)) for one in (whole, binned)]
    np.testing.assert_allclose(pairs[1], pairs[0], rtol=0.05)


def test_large_halves_are_binned_as_far_as_a_comparison_has_room():
    assert [comparison_binning((side,) * 3) for side in (64, 256, 512, 1024, 2048)] == [1, 1, 1, 2, 4]
    cube = np.arange(4 * 5 * 7, dtype=np.float32).reshape(4, 5, 7)
    found = binned_volume(cube, 2)
    assert found.shape == (2, 2, 3)
    assert found[1, 0, 2] == cube[2:4, 0:2, 4:6].mean()
