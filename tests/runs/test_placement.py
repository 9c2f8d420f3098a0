from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fake_world import in_layout
from manyviews.parallel.layout import Layout
from manyviews.parallel.world import SingleWorld
from manyviews.runs.placement import Placement
from manyviews.solvers.state import Slab


def placement(slab=(2, 5), depth=7, agents=(1, 2), agent_count=4):
    slabs, of_agents = frozenset({"volume", "states"}), frozenset({"states", "answers"})
    return Placement(SingleWorld(), depth, slice(*slab), agents, agent_count, "1x1", slabs, of_agents)


def test_places_of_a_grid():
    found = in_layout(Layout(2, 2), lambda place: Placement.at(place, 7, 3))
    assert [(one.slab, list(one.agents), one.layout) for one in found] == [
        (slice(0, 4), [0], "2x2"),
        (slice(4, 7), [0], "2x2"),
        (slice(0, 4), [1, 2], "2x2"),
        (slice(4, 7), [1, 2], "2x2"),
    ]


def test_shapes():
    place = placement()
    for name in ("volume", "states.0"):
        assert place.whole_shape(name, (3, 8, 9)) == (7, 8, 9)
        assert place.own_parts(name, (7, 8, 9)) == (2, 5)
        with pytest.raises(ValueError, match="no slab of 3 slices"):
            place.whole_shape(name, (4, 8, 9))
        with pytest.raises(ValueError, match="no volume of 7 slices"):
            place.own_parts(name, (6, 8, 9))
    for shape in ((), (4,), (3, 4), (3, 8, 9), (3, 4, 5, 6)):  # the same on all ranks, three axes or not
        assert place.whole_shape("rotations", shape) == shape
        assert place.own_parts("rotations", shape) == (0, 1)


def test_a_process_alone_holds_all_slices():
    @dataclass
    class State:
        iterate: Slab
        rotations: torch.Tensor

    place = Placement.alone().holding(State)
    assert place.whole_shape("iterate", (4, 8, 9)) == (4, 8, 9)
    assert place.own_parts("iterate", (4, 8, 9)) == (0, 4)
    assert place.own_parts("iterate", (0, 8, 9)) == (0, 0)
    assert place.own_parts("rotations", (4, 3, 3)) == (0, 1)


def test_names_there_and_back():
    array = np.zeros(2)
    own = {
        "states.length": 2,
        "states.0": array,
        "states.1": array,
        "answers.length": 0,
        "pair.length": 2,
        "pair.0": 1.0,
        "pair.1": None,
        "volume": array,
    }
    there = placement().to_global(own)
    assert there["states.length"] == 4
    assert {"states.1", "states.2"} == {
        name for name in there if name.startswith("states.") and name[-1] < "a"
    }
    assert (there["answers.length"], there["pair.length"], there["pair.0"]) == (0, 2, 1.0)
    arrays = ["volume", *(f"states.{number}" for number in range(4))]
    scalars = {name: value for name, value in there.items() if not isinstance(value, np.ndarray)}
    names, back = placement().to_local(arrays, scalars)
    assert names == {"volume": "volume", "states.1": "states.0", "states.2": "states.1"}
    assert back == {name: value for name, value in own.items() if not isinstance(value, np.ndarray)}


def test_a_rank_without_agents():
    scalars = {"states.length": 1, "step": 2}
    names, own = placement(agents=(), agent_count=1).to_local(["states.0", "volume"], scalars)
    assert names == {"volume": "volume"}
    assert own == {"states.length": 0, "step": 2}


def test_a_tuple_that_is_not_one_for_each_agent_is_refused():
    with pytest.raises(ValueError, match="states has 1 items and this rank 2 agents"):
        placement().to_global({"states.length": 1, "states.0": np.zeros(2)})
    with pytest.raises(ValueError, match="states has 3 items for 4 agents"):
        placement().to_local(["states.0", "states.1", "states.2"], {"states.length": 3})
    other = {"parts.length": 1, "parts.0": np.zeros(2)}  # not of agents: the same on all ranks
    assert placement().to_global(other) == other


@pytest.mark.parametrize("length", [-1, 10**30, 3.0, "4", None, [4]])
def test_hostile_lengths_are_no_tuples(length):
    scalars = {"states.length": length}
    names, own = placement().to_local(["states.0", "states.1", "states.2", "states.3"], scalars)
    assert len(names) == 4
    assert own == scalars
