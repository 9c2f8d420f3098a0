"""Run on several ranks: every call of `MpiWorld` against plain numpy. Prints ``checked`` on rank 0."""

from __future__ import annotations

import hashlib
import math
import re
import sys
import warnings

import numpy as np
import pytest
import torch

from manyviews.parallel import launch, mpi
from manyviews.parallel.layout import Layout, take_place
from manyviews.parallel.world import World, shares

DTYPES = (torch.float32, torch.float64, torch.complex64, torch.int64)


def tensor_of(rank: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """What a rank holds; every rank can tell it of every other."""
    rng = np.random.default_rng([rank, *shape])
    return torch.as_tensor(100 * rng.standard_normal(shape)).to(dtype)


def in_order(tensors: list[torch.Tensor]) -> np.ndarray:
    """The sum in the order of the ranks, as numpy takes it."""
    total = tensors[0].numpy().copy()
    for tensor in tensors[1:]:
        total += tensor.numpy()
    return total


def counts_of(world: World, count: int) -> list[int]:
    return [share.stop - share.start for share in shares(count, world.size)]


def check_sums(world: World) -> None:
    for dtype in DTYPES:
        for shape in ((), (0,), (1,), (3, 5), (7, 1501)):
            everyone = [tensor_of(rank, shape, dtype) for rank in range(world.size)]
            own = everyone[world.rank].clone()
            total = world.sum(own)
            assert total.shape == shape
            assert total.dtype == dtype
            np.testing.assert_array_equal(total.numpy(), in_order(everyone))
            assert torch.equal(own, everyone[world.rank])
            digests = world.gather(hashlib.sha256(total.numpy().tobytes()).hexdigest())
            assert len(set(digests)) == 1


def check_scattered_sums(world: World) -> None:
    lopsided = [0] * (world.size - 1) + [11]
    for dtype in DTYPES:
        for counts in (counts_of(world, 11), lopsided, [0] * world.size):
            everyone = [tensor_of(rank, (sum(counts), 2, 151), dtype) for rank in range(world.size)]
            part = world.sum_scatter(everyone[world.rank], counts)
            first = sum(counts[: world.rank])
            np.testing.assert_array_equal(
                part.numpy(), in_order(everyone)[first : first + counts[world.rank]]
            )
            whole = world.all_gather(part, counts)
            assert whole.shape == (sum(counts), 2, 151)
            np.testing.assert_array_equal(whole.numpy(), in_order(everyone))


def check_all_to_all(world: World) -> None:
    def part(source: int, target: int) -> torch.Tensor:
        return tensor_of(10 * source + target, (source + 1, 2 * target, 3), torch.float32)

    def skewed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.transpose(0, 2).contiguous().transpose(0, 2)

    parts = [skewed(part(world.rank, target)) for target in range(world.size)]
    shapes = [(source + 1, 2 * world.rank, 3) for source in range(world.size)]
    found = world.all_to_all(parts, shapes)
    for source, tensor in enumerate(found):
        assert torch.equal(tensor, part(source, world.rank))


def check_shifts(world: World) -> None:
    for by in (-world.size, -2, -1, 0, 1, 2, world.size + 1):
        found = world.shift(tensor_of(world.rank, (4, 3), torch.float64), by)
        source = world.rank - by
        if 0 <= source < world.size:
            assert found is not None
            assert torch.equal(found, tensor_of(source, (4, 3), torch.float64))
        else:
            assert found is None


def check_values(world: World) -> None:
    kinds = [1, 0.1, math.inf, None, True, "größer", [1, [2.5]], {"a": {"b": []}}]
    for kind in kinds:
        assert world.gather([world.rank, kind]) == [[rank, kind] for rank in range(world.size)]
        for root in range(world.size):
            assert world.broadcast([world.rank, kind], root) == [root, kind]
    assert all(math.isnan(value) for value in world.gather(math.nan))
    assert world.gather("x" * world.rank) == ["x" * rank for rank in range(world.size)]
    assert world.broadcast({"only": "rank 0"} if world.rank == 0 else None) == {"only": "rank 0"}


def check_split(world: World) -> None:
    before = world.traffic.messages
    half = world.split(world.rank % 2)
    assert half.traffic is world.traffic
    members = list(range(world.rank % 2, world.size, 2))
    assert (half.rank, half.size) == (members.index(world.rank), len(members))
    assert half.gather(world.rank) == members
    total = half.sum(tensor_of(world.rank, (5,), torch.float64))
    np.testing.assert_array_equal(
        total.numpy(), in_order([tensor_of(rank, (5,), torch.float64) for rank in members])
    )
    assert (world.traffic.messages > before) == (len(members) > 1)


def check_traffic(world: World) -> None:
    n = world.size
    tensor = torch.ones(60, 4)  # 960 bytes, divided evenly by every number of ranks here
    cases = (
        (lambda: world.sum(tensor), 2 * 960 * (n - 1) // n, 2 * (n - 1)),
        (lambda: world.sum_scatter(tensor, [60 // n] * n), 960 * (n - 1) // n, n - 1),
        (lambda: world.all_gather(tensor[: 60 // n], [60 // n] * n), 960 * (n - 1) // n, n - 1),
        (lambda: world.all_to_all([tensor] * n, [(60, 4)] * n), 960 * (n - 1), n - 1),
        (lambda: world.shift(tensor, 1), 960 * (world.rank < n - 1), int(world.rank < n - 1)),
        (world.barrier, 0, 0),
    )
    for call, sent, messages in cases:
        before = world.traffic.sent_bytes, world.traffic.messages
        call()
        assert (world.traffic.sent_bytes - before[0], world.traffic.messages - before[1]) == (sent, messages)
    assert (world.traffic.seconds > 0) == (n > 1)


def check_refusals(world: World) -> None:
    tensor = torch.ones(6, 2)
    for call, words in (
        (lambda: world.sum_scatter(tensor, [6] * world.size), "do not divide 6 entries"),
        (lambda: world.all_gather(tensor, [5] * world.size), "brings 6 entries, not 5"),
        (lambda: world.all_gather(tensor, [6]), f"among {world.size} ranks"),
        (lambda: world.all_to_all([tensor], [(6, 2)]), f"for {world.size} ranks"),
        (lambda: world.all_to_all([tensor] * world.size, [(2, 6)] * world.size), "expected (2, 6)"),
        (lambda: world.broadcast(1, root=world.size), f"no rank {world.size}"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            call()


def check_machine(world: World) -> None:
    assert launch.local_rank(world) == world.rank
    assert launch.local_threads(world) == 1
    assert launch.start_world() is world


def check_everything(world: World) -> None:
    check_sums(world)
    check_scattered_sums(world)
    check_all_to_all(world)
    check_shifts(world)
    check_values(world)
    world.barrier()


def check_layouts(world: World) -> None:
    for layout in (Layout(1, world.size), Layout(world.size, 1), Layout(1, max(1, world.size - 1))):
        place = take_place(world, layout)
        assert (place is None) == (world.rank >= layout.ranks)
        if place is not None:
            assert place.across.gather(place.group) == list(range(layout.groups))
            slabs = place.within.gather([place.slab(9).start, place.slab(9).stop])
            assert slabs == [[share.start, share.stop] for share in shares(9, layout.slabs)]


def main() -> None:
    world = launch.start_world()
    assert (world.rank, world.size) == (launch.launched().rank, launch.launched().size)
    check_everything(world)
    check_machine(world)
    check_layouts(world)
    if world.size > 1:
        check_split(world)
        check_traffic(world)
        check_refusals(world)
        # Now tensors fill the scratch space and messages many times over, as gigabytes do.
        mpi._SMALL_BYTES, mpi._SCRATCH_BYTES, mpi._MESSAGE_BYTES = 0, 4096, 1000
        check_everything(world)
    sys.stdout.write(f"checked {world.size}" if world.rank == 0 else "")


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
