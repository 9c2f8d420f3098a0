"""Of particles that lie on one another the best is kept, by distances in space within a tomogram."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyviews.subtomo.duplicates import copies_of, find_duplicates

ONE = np.zeros(3, np.int64)
ROW = np.array([[0.0, 0, 0], [8, 0, 0], [16, 0, 0]])


def test_the_best_is_kept_and_the_first_of_equals():
    found = find_duplicates(ROW[:2], ONE[:2], 10.0, np.array([0.1, 0.9]))
    assert found.of.tolist() == [1, 1]
    assert found.kept.tolist() == [False, True]
    assert found.distances.tolist() == [8, 0]
    assert find_duplicates(ROW[:2], ONE[:2], 10.0).of.tolist() == [0, 0]
    assert find_duplicates(ROW[:2], ONE[:2], 10.0, np.array([np.nan, -5.0])).of.tolist() == [1, 1]


def test_a_chain_keeps_both_ends_unless_the_middle_is_best():
    assert find_duplicates(ROW, ONE, 10.0, np.array([3.0, 1, 2])).kept.tolist() == [True, False, True]
    assert find_duplicates(ROW, ONE, 10.0, np.array([1.0, 3, 2])).of.tolist() == [1, 1, 1]


def test_all_three_axes_count_and_the_distance_is_between_centres():
    """Neither is z left out, nor is the distance taken for a diameter."""
    along_z = ROW[:, ::-1]
    assert find_duplicates(along_z, ONE, 7.9).kept.all()
    assert find_duplicates(along_z, ONE, 8.0).kept.tolist() == [True, False, True]


def test_another_tomogram_is_another_place():
    positions = np.zeros((3, 3))
    assert find_duplicates(positions, np.array([0, 1, 2]), 10.0).kept.all()
    assert find_duplicates(positions, np.array([4, 1, 4]), 10.0).of.tolist() == [0, 1, 0]


@given(st.integers(2, 60), st.integers(0, 1000), st.floats(1, 30))
def test_kept_ones_are_apart_and_the_others_near_a_better_one(count, seed, distance):
    rng = np.random.default_rng(seed)
    positions, tomogram = rng.uniform(0, 50, (count, 3)), rng.integers(0, 2, count)
    score = rng.normal(size=count)
    found = find_duplicates(positions, tomogram, distance, score)
    apart = np.linalg.norm(positions[:, None] - positions, axis=2)
    apart[tomogram[:, None] != tomogram] = np.inf
    kept = np.flatnonzero(found.kept)
    np.fill_diagonal(apart, np.inf)
    assert (apart[np.ix_(kept, kept)] > distance).all()
    for row in np.flatnonzero(~found.kept):
        assert found.kept[found.of[row]]
        assert apart[row, found.of[row]] == pytest.approx(found.distances[row])
        assert found.distances[row] <= distance
        assert score[found.of[row]] >= score[row]


def test_what_is_left_out_is_told_and_listed(tmp_path):
    found = find_duplicates(ROW, ONE, 10.0, np.array([1.0, 3, 2]))
    assert found.warning() == (
        "2 particles lie within 10 angstrom of a better one of the same tomogram, centre to centre, and are "
        "left out"
    )
    found.write(tmp_path / "duplicates.csv")
    assert (tmp_path / "duplicates.csv").read_text().splitlines() == [
        "particle,duplicate_of,distance_angstrom", "1,2,8.000", "3,2,8.000",
    ]  # fmt: skip
    assert find_duplicates(ROW, ONE, 1.0).warning() == ""


def test_copies_hang_together_within_a_tomogram():
    assert copies_of(ROW, ONE, 10.0).tolist() == [0, 0, 0]
    assert copies_of(ROW, np.array([0, 0, 1]), 10.0).tolist() == [0, 0, 2]
    assert copies_of(ROW, ONE, 0.0).tolist() == [0, 1, 2]
