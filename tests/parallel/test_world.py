import pytest
import torch

from manyviews.errors import ManyviewsError
from manyviews.parallel.world import SingleWorld, Traffic, World


def test_single_world_is_a_world_of_one():
    world: World = SingleWorld()
    exchange: World = world
    tensor = torch.arange(6.0).reshape(3, 2)
    assert (exchange.rank, exchange.size) == (0, 1)
    assert world.sum(tensor) is tensor
    assert world.sum_scatter(tensor, [3]) is tensor
    assert world.all_gather(tensor, [3]) is tensor
    assert world.all_to_all([tensor], [(3, 2)])[0] is tensor
    assert world.shift(tensor, 0) is tensor
    assert world.shift(tensor, 1) is world.shift(tensor, -1) is None
    assert world.gather("text") == ["text"]
    assert world.broadcast("text") == "text"
    assert world.split(7).size == 1
    world.barrier()
    assert world.traffic == Traffic()


def test_single_world_refuses_what_needs_others():
    world = SingleWorld()
    with pytest.raises(ValueError, match="rank 1"):
        world.broadcast(1, root=1)
    with pytest.raises(ManyviewsError, match="message"):
        world.abort("message")
