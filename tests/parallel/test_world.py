import pytest
import torch

from manyviews.errors import ManyviewsError
from manyviews.parallel.world import SingleWorld, World


def test_single_world_is_a_world_of_one():
    world: World = SingleWorld()
    tensor = torch.arange(3.0)
    assert (world.rank, world.size) == (0, 1)
    assert world.sum(tensor) is tensor
    assert world.mean(tensor) is tensor
    assert world.broadcast("text") == "text"
    world.barrier()
    with pytest.raises(ValueError, match="rank 1"):
        world.broadcast(tensor, root=1)
    with pytest.raises(ManyviewsError, match="message"):
        world.abort("message")
