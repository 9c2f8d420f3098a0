"""The centre by opposite views and by search: on scans of every kind, and where there is none to be found."""

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.nano.scan.center import find_center, search_range
from manyviews.nano.scan.center_pairs import center_by_pairs, level_background, lowest_point, mirror_cost
from manyviews.nano.scan.center_search import center_by_search, largest_gap_degrees
from manyviews.nano.scan.opposite import opposite_pairs, return_pairs
from manyviews.random import Stream, generator
from scan_example import CENTER, COLUMNS, ROWS, projections

HALF = np.linspace(0.0, 180.0, 61)
OPEN = np.arange(0.0, 180.0, 3.0)  # no view is opposite to another
FULL = np.arange(0.0, 360.0, 4.5)
# two turns, the second between the angles of the first, as interlaced scans have it
INTERLACED = np.concatenate([np.arange(0, 360, 9.0), 360 + 4.5 + np.arange(0, 360, 9.0)])


def read_from(images):
    return lambda views, rows: images[views, rows]


def noisy(theta, level=0.02, **how):
    images = projections(theta, **how)
    return (images + level * generator(0, Stream.TEST).standard_normal(images.shape)).astype(np.float32)


@pytest.mark.parametrize("theta", [HALF, OPEN, FULL, INTERLACED], ids=["half", "open", "full", "interlaced"])
@pytest.mark.parametrize("center", [CENTER, 21.75])
def test_both_ways_find_the_axis(theta, center):
    images = noisy(theta, center=center)
    search = search_range(COLUMNS, None)
    pairs = center_by_pairs(read_from(images), images.shape, theta, search)
    sharpest = center_by_search(read_from(images), images.shape, theta, search)
    assert pairs.center == pytest.approx(center, abs=0.1)
    assert sharpest.center == pytest.approx(center, abs=0.25)
    assert not pairs.on_border
    assert not sharpest.on_border
    found = find_center(read_from(images), images.shape, theta)
    assert (found.center, found.by, found.warnings) == (pairs.center, "opposite views", ())


def test_near_pairs_are_followed_to_opposite():
    """Of views 3 degrees from opposite the best mirror is off by a third of a pixel; the line through them
    is not.
    """
    across = CENTER + 12 * np.sin(np.deg2rad(OPEN))[:, None, None]  # one ball, off the axis
    column, row = np.arange(COLUMNS), np.arange(ROWS)[:, None]
    images = np.exp(-((column - across) ** 2 + (row - 5) ** 2) / 18.0).astype(np.float32)
    near, off = opposite_pairs(OPEN, 3.1)
    assert near.tolist() == [[0, 59]]
    assert off.tolist() == [-3.0]
    cost = mirror_cost(level_background(images[0]), level_background(images[59]))
    inside = (cost[0] > 12) & (cost[0] < 36)
    assert lowest_point(cost[0][inside], cost[1][inside])[0] - CENTER == pytest.approx(0.314, abs=0.03)
    pairs = center_by_pairs(read_from(images), images.shape, OPEN, search_range(COLUMNS, None))
    assert pairs.center == pytest.approx(CENTER, abs=0.02)
    assert pairs.degrees_off == pytest.approx(3.0)


def test_one_view_that_jumped_does_not_move_the_centre():
    images = noisy(FULL)
    images[5] = np.roll(images[5], 6, axis=1)
    found = find_center(read_from(images), images.shape, FULL)
    assert found.center == pytest.approx(CENTER, abs=0.1)


def test_a_slope_of_the_beam_does_not_move_the_centre():
    images = noisy(HALF) + np.linspace(0.0, 0.5, COLUMNS, dtype=np.float32)
    found = find_center(read_from(images), images.shape, HALF)
    assert found.center == pytest.approx(CENTER, abs=0.15)


def test_binned_projections_tell_of_the_detector():
    images = noisy(HALF).reshape(len(HALF), ROWS // 2, 2, COLUMNS // 2, 2).mean((2, 4))
    found = find_center(read_from(images), images.shape, HALF, factor=2)
    assert (found.center + 0.5) * 2 - 0.5 == pytest.approx(CENTER, abs=0.2)
    assert f"opposite views: {(found.center + 0.5) * 2 - 0.5:.2f}" in found.notes[0]


def test_an_axis_beyond_the_search_is_said_to_be_on_the_border():
    images = noisy(HALF, center=33.0)
    found = find_center(read_from(images), images.shape, HALF, search_width=10.0)
    said = [text for text in found.warnings if "on the border of the search (18.50 to 28.50)" in text]
    assert "opposite views" in said[0]
    assert found.pairs.on_border
    assert found.pairs.center == pytest.approx(33.0, abs=0.1)
    assert found.by != "opposite views"


def test_few_directions_give_no_centre_and_say_why():
    theta = np.linspace(-70.0, 70.0, 71)
    found = find_center(read_from(noisy(theta)), (71, ROWS, COLUMNS), theta)
    assert (found.pairs, found.sharpest, found.by) == (None, None, "middle of the detector")
    assert "no two views are opposite, and 40 degrees of directions are missing" in found.warnings[0]


def test_two_ways_that_differ_are_told():
    """The specimen jumps after the first view, which is one of the only pair."""
    images = noisy(HALF)
    images[0] = np.roll(images[0], 6, axis=1)
    found = find_center(read_from(images), images.shape, HALF)
    assert found.center == pytest.approx(CENTER + 3, abs=0.1)
    assert found.sharpest.center == pytest.approx(CENTER, abs=0.3)
    assert any("by sharpest slices" in text and "the first is taken" in text for text in found.warnings)


def test_pairs_and_gaps():
    pairs, off = opposite_pairs(INTERLACED)
    assert len(pairs) == 40
    assert np.allclose((INTERLACED[pairs[:, 1]] - INTERLACED[pairs[:, 0]]) % 360, 180)
    assert not off.any()
    again, _ = return_pairs(np.array([0.0, 90.0, 180.0, 360.0, 450.0]))
    assert again.tolist() == [[0, 3], [1, 4]]
    assert opposite_pairs(np.array([359.999, 180.0, 90.0]))[0].tolist() == [[0, 1]]
    assert largest_gap_degrees(HALF) == pytest.approx(3.0)
    assert largest_gap_degrees(np.linspace(-60, 60, 61)) == pytest.approx(60.0)


def test_the_search_fits_on_the_detector():
    assert search_range(101, None) == (24.75, 75.25)
    assert search_range(101, 20.0) == (40.0, 60.0)
    with pytest.raises(InputError, match="wider than the detector"):
        search_range(101, 120.0)


def test_where_a_cost_is_least():
    places = np.arange(0.0, 5.0, 0.5)
    assert lowest_point(places, (places - 2.2) ** 2) == (pytest.approx(2.2), False)
    assert lowest_point(places, places) == (0.0, True)
    assert lowest_point(places, -places) == (4.5, True)
