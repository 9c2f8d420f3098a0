"""Halves keep together what shares more than the structure, and are even as far as that goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.subtomo.halves import (
    along_filament,
    halves_by_groups,
    halves_by_position,
    halves_of_table,
    shared_noise,
)

COUNT = 101
EACH = np.arange(COUNT)


def test_particles_are_dealt_evenly_by_chance_and_not_by_order():
    half = halves_by_groups("particle", EACH, EACH, 3).half
    assert sorted(np.bincount(half)[1:]) == [50, 51]
    assert 15 < np.count_nonzero(half[:50] == 1) < 35
    np.testing.assert_array_equal(half, halves_by_groups("particle", EACH, EACH, 3).half)
    assert not np.array_equal(half, halves_by_groups("particle", EACH, EACH, 4).half)


@given(st.integers(0, 500), st.integers(2, 12))
def test_groups_and_copies_stay_together(seed, groups):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, COUNT)
    group[:2] = 0, groups  # two at least
    half = halves_by_groups("filament", group, EACH, seed).half
    assert {len(set(half[group == one])) for one in np.unique(group)} == {1}
    assert abs(np.diff(np.bincount(half)[1:])[0]) <= np.bincount(group).max()
    of = EACH.copy()
    of[[30, 60, 90]] = 10
    half = halves_by_groups("particle", EACH, of, seed).half
    assert len(set(half[[10, 30, 60, 90]])) == 1
    assert abs(np.diff(np.bincount(half)[1:])[0]) <= 1


def test_a_copy_in_another_group_joins_the_groups():
    group = np.array([0, 0, 1, 1, 2, 2])
    of = np.array([0, 1, 1, 3, 4, 5])  # 2 is a copy of 1
    half = halves_by_groups("tomogram", group, of, 0).half
    assert len(set(half[:4])) == 1
    assert half[4] == half[5] != half[0]


def test_uneven_halves_are_told():
    group = np.where(np.arange(100) < 90, 0, 1)
    (told,) = halves_by_groups("tomogram", group, np.arange(100), 0).warnings
    assert "90" in told and "10" in told and "tomogram" in told  # noqa: PT018
    assert halves_by_groups("tomogram", np.arange(100) % 2, np.arange(100), 0).warnings == ()


def test_stretches_alternate_along_each_filament():
    filament = np.repeat([0, 1], 40)
    track = np.tile(np.arange(40) * 41.0, 2)
    half = halves_by_position(filament, track, 410.0, np.arange(80), 0).half
    for one in (half[:40], half[40:]):
        stretches = one.reshape(4, 10)
        assert (stretches == stretches[:, :1]).all()
        assert (np.diff(stretches[:, 0]) != 0).all()
    half = halves_by_position(filament, track, None, np.arange(80), 0).half
    assert (np.count_nonzero(np.diff(half[:40])), np.count_nonzero(np.diff(half[40:]))) == (1, 1)
    assert np.bincount(half)[1:].tolist() == [40, 40]
    # the order in the table does not matter
    order = np.random.default_rng(0).permutation(80)
    again = halves_by_position(filament[order], track[order], None, np.arange(80), 0).half
    np.testing.assert_array_equal(again, half[order])


def test_the_place_along_a_filament_is_found_from_its_particles():
    axis = np.array([1.0, -2.0, 2.0]) / 3
    along = np.random.default_rng(1).permutation(30) * 41.0
    positions = np.array([500.0, 80, 10]) + along[:, None] * axis
    track = along_filament(np.concatenate([positions, positions[:, ::-1]]), np.repeat([5, 7], 30))
    for one in (track[:30], track[30:]):
        assert abs(np.corrcoef(one, along)[0, 1]) == pytest.approx(1)
        assert np.ptp(one) == pytest.approx(np.ptp(along))


def test_halves_of_a_table_are_kept_but_for_copies():
    given = np.array([1, 1, 2, 2, 2, 1])
    of = np.arange(6)
    assert halves_of_table(given, of).half.tolist() == given.tolist()
    of[5] = 3
    found = halves_of_table(given, of)
    assert found.half[5] == found.half[3]
    assert "1 particles were moved" in found.warnings[0]


def test_boxes_that_overlap_across_the_halves_are_told():
    positions = np.column_stack([np.arange(100) * 41.0, np.zeros((100, 2))])
    tomogram, alternate = np.zeros(100, np.int64), np.arange(100) % 2 + 1
    told = shared_noise(positions, tomogram, alternate, 400.0)
    assert told.startswith("100 of 100 particles lie within 200 angstrom of one of the other half")
    assert shared_noise(positions, alternate, alternate, 400.0) == ""
    cut = np.where(np.arange(100) < 50, 1, 2)
    assert shared_noise(positions, tomogram, cut, 400.0).startswith("8 of 100")
    assert shared_noise(positions, tomogram, cut, 160.0) == ""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: halves_by_groups("filament", None, EACH, 0), "does not tell the filament"),
        (lambda: halves_by_groups("tomogram", 0 * EACH, EACH, 0), "all particles are of one tomogram"),
        (lambda: halves_by_groups("particle", EACH, 0 * EACH, 0), "one particle or its copies"),
        (lambda: halves_by_position(0 * EACH, 1.0 * EACH, 1e4, EACH, 0), "one stretch"),
        (lambda: halves_of_table(None, EACH), "does not tell the halves"),
        (lambda: halves_of_table(0 * EACH + 2, EACH), "are in half 2"),
    ],
)
def test_what_cannot_be_halved_is_refused(make, words):
    with pytest.raises(InputError, match=words) as caught:
        make()
    assert caught.value.fix
    assert caught.value.where.startswith("--halves")
