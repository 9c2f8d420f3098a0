"""What tests draw once is drawn again where the data are others."""

from dataclasses import dataclass

import numpy as np
import pytest

from drawn_once import figure_functions, key_of, once


@dataclass(frozen=True)
class Curve:
    values: np.ndarray
    name: str


def test_figures_are_drawn_of_new_data_only():
    asked = []

    def line_figure(curve, *, width=1.0):
        asked.append(width)
        return object()

    draw = once(line_figure, {})
    values = np.array([0.0, np.nan, 2.0])
    first = draw(Curve(values, "a"))
    assert draw(Curve(values.copy(), "a")) is first
    assert draw(Curve(values, "a"), width=float("nan")) is draw(Curve(values, "a"), width=float("nan"))
    assert asked == [1.0, pytest.approx(float("nan"), nan_ok=True)]
    for other in (Curve(values, "b"), Curve(values.astype("f4"), "a"), Curve(values + 1, "a")):
        assert draw(other) is not first
    values[0] = 1
    assert draw(Curve(values, "a")) is not first
    assert draw(iter([values])) is not draw(iter([values]))  # of what cannot be told


def test_numbers_and_words_are_told_apart():
    given = (1, 1.0, "1", True, None, [1], (1, 2), {"a": 1}, np.float32(1), np.array([1]))
    assert len({key_of(one) for one in given}) == len(given)


def test_figures_are_found_where_they_are_made_and_where_they_are_used():
    found = {(module.__name__, name) for module, name, _ in figure_functions()}
    assert {
        ("manyviews.report.plots", "resolution_figure"),
        ("manyviews.report.sphere", "share_figure"),
    } <= found
    assert not [name for _, name in found if name == "new_figure"]
