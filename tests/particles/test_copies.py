"""Particles that are there twice are found, and halves keep them together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyviews.io.particle_table import OpticsGroup, table_of_stack
from manyviews.metrics.halves import together
from manyviews.particles.copies import KINDS, find_copies, places_in_halves

COUNT, DIAMETER = 40, 150.0
OPTICS = OpticsGroup("a", 300.0, 2.7, 0.1, 4.0)
EVERYONE = np.arange(COUNT)


@pytest.fixture
def signs(rng):
    return rng.normal(size=(COUNT, 8))


def table(**columns):
    return replace(table_of_stack(Path("a.mrcs"), OPTICS, np.zeros((COUNT, 2))), **columns)


def micrographs(x, y, names=None, **columns):
    extra = {
        "rlnMicrographName": ["m.mrc"] * COUNT if names is None else names,
        "rlnCoordinateX": [f"{value:.6f}" for value in x],
        "rlnCoordinateY": [f"{value:.6f}" for value in y],
    }
    return table(extra=extra, **columns)


def found(some, signs):
    copies = find_copies(some, DIAMETER, EVERYONE, signs)
    return {int(row): (int(copies.of[row]), KINDS[copies.kind[row]]) for row in copies.rows}


def test_different_particles_are_no_copies(signs, rng):
    assert found(table(), signs) == {}
    assert found(micrographs(*rng.uniform(0, 4000, (2, COUNT))), signs) == {}


def test_rows_of_the_same_image_are_copies(signs):
    section = EVERYONE.copy()
    section[[20, 39]] = 4
    assert found(table(section=section), signs) == {
        20: (4, "the same image of the same stack"),
        39: (4, "the same image of the same stack"),
    }


def test_the_same_section_of_another_stack_is_another_image(signs):
    some = table(
        stacks=(Path("a.mrcs"), Path("b.mrcs")),
        stack_names=(),
        stack_index=EVERYONE % 2,
        section=EVERYONE // 2,
    )
    assert found(some, signs) == {}


def test_the_same_pixels_are_copies_though_rounded(signs):
    signs[30] = signs[7] + 0.005
    signs[31] = signs[7]
    assert {row: of for row, (of, _) in found(table(), signs).items()} == {30: 7, 31: 7}
    signs[30] = signs[7] + 0.5
    assert {row: of for row, (of, _) in found(table(), signs).items()} == {31: 7}


def test_many_equal_images_take_no_time():
    copies = find_copies(table(), DIAMETER, EVERYONE, np.ones((COUNT, 8)))
    assert not copies.of.any()


def test_neighbours_in_a_micrograph_are_copies_within_a_fifth_of_the_particle(signs):
    x, y = 100.0 * EVERYONE, np.zeros(COUNT)
    x[[10, 20]] = x[[3, 4]] + [7, 8]  # pixels of 4 angstrom: 28 and 32 of 30
    assert found(micrographs(x, y), signs) == {10: (3, "the same place of a micrograph")}
    elsewhere = ["n.mrc" if row == 10 else "m.mrc" for row in EVERYONE]
    assert found(micrographs(x, y, elsewhere), signs) == {}
    finer = (replace(OPTICS, extra=(("rlnMicrographPixelSize", "2.0"),)),)
    assert set(found(micrographs(x, y, optics=finer), signs)) == {10, 20}


def test_shifts_count(signs):
    x, y = 100.0 * EVERYONE, np.zeros(COUNT)
    x[10] = x[3] + 10
    shifts = np.zeros((COUNT, 2))
    shifts[10, 0] = 40.0  # of pixels of 4 angstrom: the particle lies where the other one does
    assert set(found(micrographs(x, y, shifts=shifts), signs)) == {10}
    assert set(found(micrographs(x, y, shifts=-shifts), signs)) == set()


def test_coordinates_that_are_all_the_same_are_not_believed(signs):
    some = micrographs(np.zeros(COUNT), np.zeros(COUNT))
    copies = find_copies(some, DIAMETER, EVERYONE, signs)
    assert not len(copies.rows)
    assert "40 particles lie on one another" in copies.warnings[0]


def test_coordinates_that_are_no_numbers_are_passed_over(signs):
    some = micrographs(100.0 * EVERYONE, np.zeros(COUNT))
    some.extra["rlnCoordinateX"][3:5] = ["none", "nan"]
    assert found(some, signs) == {}


@pytest.mark.parametrize(
    ("of", "numbers"),
    [
        (list(range(7)), list(range(7))),
        ([0, 1, 2, 0, 1, 2], [0, 1, 2, 4, 3, 6]),
        ([0, 0, 2, 2], [0, 2, 1, 3]),
        ([0, 1, 1, 3, 4], [0, 1, 5, 3, 4]),
    ],
)
def test_numbers_keep_copies_in_one_half(of, numbers):
    assert places_in_halves(np.array(of), np.arange(len(of))).tolist() == numbers


def test_halves_are_kept_where_copies_are_in_one():
    half = np.array([1, 0, 1, 1, 0, 0, 1])
    of = np.array([0, 1, 0, 3, 3, 5, 6])  # 3 and 4 are in both; half 0 has two, half 1 three
    assert together(half, of).tolist() == [1, 0, 1, 0, 0, 0, 1]
    assert together(half, np.arange(7)).tolist() == half.tolist()


def test_rows_that_are_left_out_leave_the_others_their_numbers():
    rows = np.array([0, 1, 3, 4, 6])
    np.testing.assert_array_equal(places_in_halves(np.arange(5), rows), rows)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(0, 3))
def test_halves_are_as_even_as_groups_allow(groups, gap):
    _, of, group = np.unique(groups, return_index=True, return_inverse=True)
    of = of[group]
    rows = np.arange(len(of)) * (1 + gap)
    numbers = places_in_halves(of, rows)
    assert len(set(numbers.tolist())) == len(of)
    assert numbers.min() >= 0
    assert all(len(set((numbers[of == first] % 2).tolist())) == 1 for first in of)
    if gap == 0:
        odd = int((numbers % 2).sum())
        largest = max(np.bincount(of).max(), 1)
        singles = int((np.bincount(of) == 1).sum())
        assert abs(len(of) - 2 * odd) <= largest + singles
