"""Halves by table, micrograph or particle; copies are in one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.particle_table import OpticsGroup, table_of_stack
from manyviews.particles.copies import places_in_halves
from manyviews.particles.refine.halving import divide

COUNT = 40


def table(**given):
    group = OpticsGroup("one", 300.0, 2.7, 0.1, 5.0, 16)
    return replace(table_of_stack(Path("a.mrcs"), group, np.full((COUNT, 2), 15_000.0)), **given)


def test_the_table_is_believed_where_it_has_halves():
    half = np.array([1, 1, 2, 2] * 10)
    found, told = divide(table(half=half), None)
    np.testing.assert_array_equal(found, half - 1)
    assert "20 and 20" in told


def test_all_in_one_half_is_no_division():
    found, told = divide(table(half=np.ones(COUNT, int)), None)
    assert found.sum() == COUNT // 2
    assert "in one half" in told
    with pytest.raises(InputError, match="all particles in half 1"):
        divide(table(half=np.ones(COUNT, int)), "table")


def test_micrographs_stay_whole():
    names = [f"mic{number // 7}.mrc" for number in range(COUNT)]
    found, told = divide(table(extra={"rlnMicrographName": names}), "micrograph")
    for name in set(names):
        assert len({half for half, own in zip(found, names, strict=True) if own == name}) == 1
    assert 10 <= found.sum() <= 30
    assert "6 micrographs" in told


@pytest.mark.parametrize(
    ("by", "extra", "message"),
    [
        ("table", {}, "names no halves"),
        ("micrograph", {}, "names no micrographs"),
        ("micrograph", {"rlnMicrographName": ["a"] * COUNT}, "one micrograph"),
    ],
)
def test_what_lacks_is_told(by, extra, message):
    with pytest.raises(InputError, match=message):
        divide(table(extra=extra), by)


def test_numbers_have_the_parity_of_the_halves_and_are_nobodys_twice():
    rng = np.random.default_rng(2)
    for _ in range(50):
        rows = np.flatnonzero(rng.random(60) < 0.7)
        halves = rng.integers(0, 2, len(rows))
        of = np.arange(len(rows))
        of[5], of[9] = 2, 2
        numbers = places_in_halves(of, rows, halves)
        assert len(np.unique(numbers)) == len(rows)
        assert numbers[2] % 2 == numbers[5] % 2 == numbers[9] % 2
        rest = np.setdiff1d(np.arange(len(rows)), [2, 5, 9])
        np.testing.assert_array_equal(numbers[rest] % 2, halves[rest])
