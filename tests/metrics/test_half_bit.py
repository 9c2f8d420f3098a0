"""The lines that correlations of halves are read against."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.metrics.fsc import FscCurve, fsc
from manyviews.metrics.half_bit import effective_samples, half_bit, one_bit
from manyviews.random import Stream, generator


def test_lines_begin_at_one_and_end_where_the_information_is():
    for line, ratio in ((half_bit, (np.sqrt(2) - 1) / 2), (one_bit, 0.5)):
        assert line(np.array([1.0]))[0] == pytest.approx(1, abs=1e-4)
        assert line(np.array([1e14]))[0] == pytest.approx(ratio / (1 + ratio), abs=1e-4)
        assert (np.diff(line(np.array([1.0, 10, 100, 1e4]))) < 0).all()


def test_a_line_is_the_sum_of_signal_and_what_agrees_by_chance():
    count, ratio = 37.0, 0.5
    signal = ratio + 2 * np.sqrt(ratio) / np.sqrt(count)
    wanted = (signal + 1 / np.sqrt(count)) / (signal + 1)
    assert one_bit(np.array([count]))[0] == pytest.approx(wanted, abs=1e-4)


def test_what_fills_a_part_of_the_box_has_fewer_samples():
    np.testing.assert_allclose(effective_samples(np.array([0.0, 8, 800]), 0.25), [1, 2, 200])
    with pytest.raises(ValueError, match="share"):
        effective_samples(np.ones(3), 0.0)


def test_a_curve_keeps_its_samples_in_a_file(tmp_path):
    one = generator(0, Stream.TEST).standard_normal((12, 12, 12)).astype(np.float32)
    curve = fsc(one, one, 2.0)
    curve.write_csv(tmp_path / "fsc.csv", samples=True)
    back = FscCurve.read_csv(tmp_path / "fsc.csv")
    np.testing.assert_allclose(back.samples, np.rint(curve.samples))
    np.testing.assert_allclose(back.one_bit(), one_bit(np.rint(curve.samples)))
    curve.write_csv(tmp_path / "plain.csv")
    assert np.isnan(FscCurve.read_csv(tmp_path / "plain.csv").samples).all()
