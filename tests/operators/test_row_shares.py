"""Every row belongs to one rank, and what is gathered comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.operators import row_shares
from manyviews.operators.row_shares import RowShares, gather_rows, scatter_rows
from manyviews.parallel.world import shares
from thread_world import run_ranks

CASES = [(12, 5, 1), (12, 5, 3), (7, 3, 5), (1, 1, 4), (9, 20, 2)]


@pytest.mark.parametrize(("rows", "block", "ranks"), CASES)
def test_every_row_belongs_to_one_rank(rows, block, ranks):
    dealt = RowShares(rows, block, ranks)
    owned = [dealt.own(rank) for rank in range(ranks)]
    assert sorted(np.concatenate(owned)) == list(range(rows))
    assert [dealt.count(rank) for rank in range(ranks)] == [len(own) for own in owned]
    assert max(len(own) for own in owned) == dealt.count(0)
    for rank, own in enumerate(owned):
        for part, stored in zip(dealt.blocks, dealt.stored(rank), strict=True):
            here = dealt.shares(part)[rank]
            assert own[stored].tolist() == list(range(here.start, here.stop))


@pytest.mark.parametrize(("rows", "block", "ranks"), CASES)
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_rows_are_gathered_and_come_back(rows, block, ranks, dtype, rng):
    depth = 5
    whole = (rng.normal(size=(depth, rows, 3)) + 1j * rng.normal(size=(depth, rows, 3))).astype(dtype)
    dealt = RowShares(rows, block, ranks)

    def work(world):
        exchange = world if ranks > 1 else None
        slabs = shares(depth, ranks)
        planes = torch.from_numpy(whole[slabs[world.rank]].copy())
        for part in dealt.blocks:
            found = gather_rows(planes, part, slabs, dealt, exchange)
            assert np.array_equal(found, whole[:, dealt.shares(part)[world.rank]])
            longer = torch.cat([2 * found, torch.zeros_like(found)])
            scatter_rows(longer, planes, part, slabs, dealt, exchange)
        return planes

    assert np.array_equal(np.concatenate(run_ranks(ranks, work)), 2 * whole)


def test_blocks_are_bounded_and_have_a_row_for_every_rank(monkeypatch):
    grid = (16, 30, 20)
    row_bytes = 8 * 16 * 11
    for rows, ranks, wanted in [(4, 1, 4), (4, 3, 4), (4, 6, 6), (0.5, 1, 1), (100, 2, 30), (1, 40, 30)]:
        monkeypatch.setattr(row_shares, "BLOCK_BYTES", int(rows * row_bytes))
        assert RowShares.of(grid, ranks) == RowShares(30, wanted, ranks)
