"""Which views are kept apart, and what is left of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.slab_projector import SlabProjector
from manyviews.parallel.layout import Layout, take_place
from manyviews.tilt.prior.held_out import HeldOut, held_out_views
from manyviews.tilt.solve.problem import TiltProblem
from thread_world import run_ranks

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (6, 12, 14)


def geometry(*counts):
    series = []
    for number, count in enumerate(counts):
        tilts = np.random.default_rng(number).permutation(np.linspace(-60, 60, count))
        series.append(TiltGeometry.from_tilt_axis(tilts, 45.0 * number, series=number))
    return TiltGeometry.concatenate(series)


@pytest.mark.parametrize("counts", [(11,), (16,), (31,), (61, 61), (121, 9, 31)])
def test_views_between_others_are_kept_apart(counts):
    views = geometry(*counts)
    held = held_out_views(views)
    assert len(held) == len(set(held.tolist()))
    assert (np.diff(held) > 0).all()
    for number, count in enumerate(counts):
        own = held[views.series[held] == number]
        assert count / 10 <= len(own) <= count / 2.9
        tilts = np.sort(views.tilt_degrees[views.series == number])
        assert not {tilts[0], tilts[-1]} & set(views.tilt_degrees[own].tolist())
        places = np.sort(np.searchsorted(tilts, views.tilt_degrees[own]))
        assert (np.diff(places) > 1).all()  # neighbours of each are used


def test_few_views_are_all_used():
    assert not len(held_out_views(geometry(5)))
    assert not len(held_out_views(geometry(1, 1, 1)))


def problem(views, place=None, truth=None):
    exchange = None if place is None else place.within
    truth = torch.ones(SHAPE) if truth is None else truth
    images = SlabProjector(views, SHAPE, SHAPE[1:]).forward(truth)
    projector = SlabProjector(views, SHAPE, SHAPE[1:], exchange=exchange)
    options = {} if place is None else {"place": place}
    return TiltProblem(
        projector, lambda chosen: images[torch.from_numpy(chosen)], np.ones(len(views)), **options
    )


def levels(views, spread=2.0):
    every = np.full(len(views), spread)
    return SimpleNamespace(
        levels=SimpleNamespace(spread=every), gain=np.ones(len(views), np.float32), noise_deviation=0.5
    )


def test_what_is_left_of_views_is_a_share_of_their_variance():
    views = geometry(16)
    truth = torch.zeros(SHAPE)
    truth[2:4, 3:8, 4:9] = 1.0
    whole = problem(views, truth=truth)
    held = HeldOut.of(whole, levels(views), held_out_views(views))
    assert len(held.training.weights) + len(held.held.weights) == len(views)
    assert held.noise_share == pytest.approx(0.25 / 4.0)
    np.testing.assert_allclose(held.errors(truth).numpy(), 0.0, atol=1e-10)
    images = whole.read(held_out_views(views)).double()
    expected = images.square().mean(dim=(1, 2)) / 4.0
    torch.testing.assert_close(held.errors(torch.zeros(SHAPE)), expected)


def test_all_ranks_know_the_same():
    views = geometry(16, 9)
    volume = torch.from_numpy(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    alone = HeldOut.of(problem(views), levels(views), held_out_views(views)).errors(volume)

    def of_rank(world, layout):
        place = take_place(world, layout)
        held = HeldOut.of(problem(views, place), levels(views), held_out_views(views))
        return held.errors(volume[place.slab(SHAPE[0])].contiguous())

    for text in ("1x2", "2x1", "1x3"):
        layout = Layout.parse(text)
        for found in run_ranks(layout.ranks, lambda world, layout=layout: of_rank(world, layout)):
            torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-9)
