import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.tilt.solve.subsets import make_subsets

orders = st.sampled_from(["adjacent", "interleaved"])


def series_of(sizes, seed=0):
    """Series of different tilts, views in the order in which they were taken (shuffled)."""
    rng = np.random.default_rng(seed)
    return TiltGeometry.concatenate(
        [
            TiltGeometry.from_tilt_axis(rng.permutation(np.linspace(-60, 60, size)), 30.0 * k, series=k)
            for k, size in enumerate(sizes)
        ]
    )


@st.composite
def divisions(draw):
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    count = draw(st.integers(1, sum(sizes)))
    return series_of(sizes, draw(st.integers(0, 9))), count, draw(st.integers(0, 4)), draw(orders)


def own_views(geometry, count, order):
    return [subset.views for subset in make_subsets(geometry, count, 0, order)]


@given(divisions())
def test_every_view_counts_once(division):
    geometry, count, overlap, order = division
    subsets = make_subsets(geometry, count, overlap, order)
    assert len(subsets) == count
    total = np.zeros(len(geometry))
    for subset in subsets:
        assert len(subset.views) == len(set(subset.views)) == len(subset.weights) > 0
        total[subset.views] += subset.weights
    assert total == pytest.approx(1.0)


@given(divisions())
def test_without_overlap_each_view_is_in_one_subset(division):
    geometry, count, _, order = division
    held = np.concatenate(own_views(geometry, count, order))
    assert sorted(held) == list(range(len(geometry)))


@given(divisions())
def test_borrowed_views_come_last(division):
    geometry, count, overlap, order = division
    plain = own_views(geometry, count, order)
    for own, subset in zip(plain, make_subsets(geometry, count, overlap, order), strict=True):
        assert np.array_equal(subset.views[: len(own)], own)


@given(divisions())
def test_axis_first(division):
    """With a subset a series or more, no subset mixes series, borrowed views included."""
    geometry, count, overlap, order = division
    series = len(np.unique(geometry.series))
    for subset in make_subsets(geometry, count, overlap, order):
        mixed = len(np.unique(geometry.series[subset.views])) > 1
        assert not mixed or count < series


@given(divisions())
def test_sizes_are_balanced_within_a_series(division):
    geometry, count, _, order = division
    sizes = {}
    for views in own_views(geometry, count, order):
        sizes.setdefault(tuple(np.unique(geometry.series[views])), []).append(len(views))
    assert all(max(some) - min(some) <= 1 for some in sizes.values())


@given(st.integers(2, 40), st.data())
def test_adjacent_subsets_are_runs_of_tilts(views, data):
    geometry = series_of([views])
    count = data.draw(st.integers(1, views))
    tilts = [geometry.tilt_degrees[own] for own in own_views(geometry, count, "adjacent")]
    assert np.all(np.diff(np.concatenate(tilts)) > 0)


@given(st.integers(2, 40), st.data())
def test_interleaved_subsets_are_every_nth_tilt(views, data):
    geometry = series_of([views])
    count = data.draw(st.integers(1, views))
    ranks = np.argsort(np.argsort(geometry.tilt_degrees))
    for first, own in enumerate(own_views(geometry, count, "interleaved")):
        assert list(ranks[own]) == list(range(first, views, count))


@given(st.integers(2, 6), st.integers(0, 3), orders)
def test_all_subsets_borrow_as_many_views(count, overlap, order):
    geometry = series_of([24, 24])
    subsets = make_subsets(geometry, 2 * count, overlap, order)
    plain = own_views(geometry, 2 * count, order)
    for own, subset in zip(plain, subsets, strict=True):
        assert len(subset.views) - len(own) == overlap


def test_adjacent_subsets_borrow_the_next_tilts_and_the_last_borrows_backwards():
    geometry = series_of([9])
    ranks = np.argsort(np.argsort(geometry.tilt_degrees))
    first, second, third = (ranks[s.views] for s in make_subsets(geometry, 3, 2, "adjacent"))
    assert list(first) == [0, 1, 2, 3, 4]
    assert list(second) == [3, 4, 5, 6, 7]
    assert list(third) == [6, 7, 8, 4, 5]


def test_weights_of_shared_views():
    geometry = series_of([9])
    ranks = np.argsort(np.argsort(geometry.tilt_degrees))
    multiplicity = {0: 1, 1: 1, 2: 1, 3: 2, 4: 3, 5: 2, 6: 2, 7: 2, 8: 1}
    for subset in make_subsets(geometry, 3, 2, "adjacent"):
        assert list(subset.weights) == [1 / multiplicity[rank] for rank in ranks[subset.views]]


def test_subsets_are_shared_out_in_proportion_to_views():
    geometry = series_of([30, 10])
    series = [int(geometry.series[own[0]]) for own in own_views(geometry, 8, "adjacent")]
    assert series.count(0) == 6
    assert series.count(1) == 2


def test_series_too_small_for_their_share():
    geometry = series_of([1, 1, 6])
    assert [len(own) for own in own_views(geometry, 8, "adjacent")] == [1] * 8


def test_fewer_subsets_than_series_keep_series_whole():
    geometry = series_of([5, 6, 7, 8])
    subsets = make_subsets(geometry, 2, 2, "adjacent")
    assert [set(geometry.series[subset.views]) for subset in subsets] == [{0, 1}, {2, 3}]
    assert [len(subset.views) for subset in subsets] == [11, 15]
    assert all(np.all(subset.weights == 1.0) for subset in subsets)


def test_one_subset_is_everything():
    geometry = series_of([5])
    (subset,) = make_subsets(geometry, 1, 3, "adjacent")
    assert sorted(subset.views) == [0, 1, 2, 3, 4]
    assert np.all(subset.weights == 1.0)


@pytest.mark.parametrize("count", [-1, 0, 10])
def test_impossible_counts_are_refused(count):
    with pytest.raises(
        InputError, match=rf"--subsets: 9 views cannot be divided into {count} subsets; .*1 to 9"
    ):
        make_subsets(series_of([9]), count, 0, "adjacent")
