"""Tiles cover the plane once, their windows hold all that they depend on, and the work space fits."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.operators import convolution, row_shares, view_kernel
from manyviews.operators.axis_groups import group_by_axis
from manyviews.operators.convolution import Convolution
from manyviews.operators.tiling import Tiling, choose_tiling, kernel_bytes, work_bytes
from manyviews.operators.view_kernel import make_kernel, padded_shape

SHAPE = (8, 200, 160)


def groups_for(*axes, tilts=(-60.0, 0.0, 60.0)):
    parts = [TiltGeometry.from_tilt_axis(np.array(tilts), axis) for axis in axes]
    return group_by_axis(TiltGeometry.concatenate(parts), SHAPE, SHAPE[1:], 1.0)


@pytest.mark.parametrize("tile", [(200, 160), (64, 160), (50, 33), (1, 160), (300, 7)])
@pytest.mark.parametrize("reach", [(6, 20), (0, 500)])
def test_tiles_cover_the_plane_once(tile, reach):
    found = Tiling.of(SHAPE, tile, reach)
    covered = np.zeros(SHAPE[1:], int)
    tiles = list(found.tiles())
    assert len(tiles) == found.count
    for one in tiles:
        covered[one.y, one.x] += 1
        for own, window, crop, size, count, halo, length in zip(
            (one.y, one.x), (one.window_y, one.window_x), (one.crop_y, one.crop_x), SHAPE[1:], found.counts,
            reach, found.grid[1:], strict=True,
        ):  # fmt: skip
            far = 0 if count == 1 else halo
            assert (window.start, window.stop) == (max(0, own.start - far), min(size, own.stop + far))
            assert (crop.start, crop.stop) == (own.start - window.start, own.stop - window.start)
            # what wraps around from the window is further from the tile than the kernel reaches
            span = max(own.stop - window.start, window.stop - own.start) - 1
            assert length - span > min(halo, size - 1)
    assert (covered == 1).all()


def test_one_tile_has_the_grid_of_the_padded_volume():
    groups = groups_for(0.0, 22.5)
    found = choose_tiling(groups, SHAPE, 1, 2**40)
    assert found == Tiling.whole(SHAPE, padded_shape(groups, SHAPE))
    assert found.count == 1


def small_blocks(monkeypatch, size):
    """Work in so many bytes, for volumes of tests."""
    for module in (row_shares, convolution, view_kernel):
        monkeypatch.setattr(module, "BLOCK_BYTES", size)
    monkeypatch.setattr(view_kernel, "_DRAWN_BYTES", size)
    for module in (convolution, view_kernel):
        monkeypatch.setattr(module, "CACHE_BYTES", size // 4)


@pytest.mark.parametrize("axes", [(0.0,), (90.0,), (22.5, -45.0)])
@pytest.mark.parametrize("slabs", [1, 3])
def test_the_tiling_fits(axes, slabs, monkeypatch):
    small_blocks(monkeypatch, 2**10)
    groups = groups_for(*axes)
    whole = work_bytes(choose_tiling(groups, SHAPE, slabs, 2**40), slabs, 3)
    counts = []
    for part in (1.0, 0.9, 0.6, 0.4):
        found = choose_tiling(groups, SHAPE, slabs, int(part * whole), 3)
        assert work_bytes(found, slabs, 3) <= part * whole
        counts.append(found.count)
    assert counts[0] == 1
    assert counts[1] > 1
    with pytest.raises(InputError, match=r"at least \d+ MiB of memory a rank") as caught:
        choose_tiling(groups, SHAPE, slabs, 10_000, 3)
    assert "use more ranks" in str(caught.value)


def test_tiles_are_whole_rows_where_the_kernel_is_short_in_y(monkeypatch):
    small_blocks(monkeypatch, 2**10)
    groups = groups_for(0.0)
    whole = work_bytes(choose_tiling(groups, SHAPE, 1, 2**40))
    assert choose_tiling(groups, SHAPE, 1, whole // 2).tile[1] == SHAPE[2]


def test_more_ranks_and_fewer_kernels_need_less():
    found = Tiling.of((64, 512, 512), (512, 512), (100, 200))
    needs = [work_bytes(found, slabs) for slabs in (1, 2, 4, 8)]
    assert needs == sorted(needs, reverse=True)
    assert needs[3] < 0.2 * needs[0]
    assert work_bytes(found, 2, 3) - work_bytes(found, 2, 2) == kernel_bytes(found, 2)
    assert kernel_bytes(found, 4) == pytest.approx(kernel_bytes(found) / 4, rel=0.05)


@pytest.mark.parametrize("tile", [SHAPE[1:], (48, 160), (60, 70)])
def test_the_work_space_is_what_is_allocated(tile, monkeypatch):
    """Of arrays: making a kernel and convolving with it take no more than foretold, and not much less."""
    small_blocks(monkeypatch, 2**18)
    groups = groups_for(0.0, 22.5)
    found = Tiling.of(SHAPE, tile, view_kernel.lateral_reach(groups, SHAPE[0]))
    x = torch.zeros(SHAPE)
    weights = np.ones(6)
    make_kernel(groups, weights, SHAPE, padded=found.grid)  # once, so that nothing is compiled later

    def peak(work):
        tracemalloc.start()
        result = work()
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result, size

    kernel, making = peak(lambda: make_kernel(groups, weights, SHAPE, padded=found.grid))
    operator = Convolution.from_kernel(kernel, SHAPE, tiling=found)
    _, convolving = peak(lambda: operator.forward(x))
    _, squaring = peak(lambda: operator.quadratic(x))
    foretold = work_bytes(found)
    greatest = max(making, *(kernel_bytes(found) + size for size in (convolving, squaring)))
    assert 0.8 * foretold < greatest < 1.05 * foretold + 2**18, (making, convolving, squaring, foretold)
