"""Which part of a solver's state this rank holds, so that checkpoints can hold the whole of it.

The arrays of a checkpoint are global: volumes with all their slices, tuples with the items of all agents. So
a run that was saved by some ranks can go on with others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from manyviews.parallel.layout import Place
from manyviews.parallel.world import SingleWorld, World
from manyviews.runs.state import LENGTH, StateValue, StateValues
from manyviews.solvers.state import agent_fields, slab_fields

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Placement:
    """This rank's part of a state.

    Attributes
    ----------
    world
        All ranks that hold parts of it.
    depth, slab
        Slices of a whole volume, and those that this rank holds of every slab ``(z, y, x)``.
    agents, agent_count
        Numbers of the agents whose arrays this rank holds: item j of a tuple belongs to agent ``agents[j]``;
        and how many all ranks have.
    layout
        How the ranks stand, for people, e.g. ``4x2``.
    slabs, of_agents
        Fields of the state that hold slabs, and those that hold something for each agent; see `holding`. All
        others are the same on all ranks. None: nobody has said; a process alone reads all there is.
    """

    world: World
    depth: int
    slab: slice
    agents: Sequence[int]
    agent_count: int
    layout: str = "1x1"
    slabs: frozenset[str] | None = None
    of_agents: frozenset[str] = frozenset()

    @classmethod
    def at(cls, place: Place, depth: int, agent_count: int = 1) -> Placement:
        """The part of a rank at ``place``."""
        return cls(
            world=place.world,
            depth=depth,
            slab=place.slab(depth),
            agents=place.own(agent_count),
            agent_count=agent_count,
            layout=str(place.layout),
        )

    @classmethod
    def alone(cls) -> Placement:
        """The part of a process that holds everything, whatever that is."""
        return cls(SingleWorld(), 0, slice(0, 0), (), 0)

    @classmethod
    def same(cls, world: World) -> Placement:
        """All ranks hold the same."""
        return cls(world, 0, slice(0, 0), (), 0, f"{world.size}x1")

    def holding(self, state: type) -> Placement:
        """The part of a state of this type, as its fields declare it."""
        return replace(self, slabs=slab_fields(state), of_agents=agent_fields(state))

    def is_slab(self, name: str) -> bool:
        """Whether an array of this name (a field, or an item ``field.0`` of it) is a slab."""
        return self.slabs is not None and name.partition(".")[0] in self.slabs

    @property
    def _has_all_slices(self) -> bool:
        return (self.slab.start, self.slab.stop) == (0, self.depth)

    @property
    def _has_all_agents(self) -> bool:
        return len(self.agents) == self.agent_count

    def whole_shape(self, name: str, own: Shape) -> Shape:
        """Shape of a whole array of which this rank holds ``own``; `ValueError` if that should be a slab."""
        if not self.is_slab(name) or self._has_all_slices:
            return own
        length = self.slab.stop - self.slab.start
        if len(own) != 3 or own[0] != length:
            raise ValueError(f"{name} of shape {own} is no slab of {length} slices")
        return (self.depth, *own[1:])

    def own_parts(self, name: str, whole: Shape) -> tuple[int, int]:
        """First and end of this rank's parts, slices of a slab or the one of any other array, of ``whole``.

        `ValueError` if it should be a volume of this many slices and is none.
        """
        if not self.is_slab(name):
            return 0, 1
        if self._has_all_slices:
            return 0, whole[0]
        if len(whole) != 3 or whole[0] != self.depth:
            raise ValueError(f"{name} of shape {whole} is no volume of {self.depth} slices")
        return self.slab.start, self.slab.stop

    def to_global(self, values: StateValues) -> dict[str, StateValue]:
        """The values of this rank under the names that they have in the whole state.

        `ValueError` if a tuple of arrays has not one item for each of this rank's agents.
        """
        renamed = dict(values)
        if self._has_all_agents:
            return renamed
        for field, length in self._tuples(_arrays(values), values):
            if length != len(self.agents):
                raise ValueError(f"{field} has {length} items and this rank {len(self.agents)} agents")
            items = [renamed.pop(f"{field}.{number}") for number in range(length)]
            renamed |= {f"{field}.{agent}": item for agent, item in zip(self.agents, items, strict=True)}
            renamed[f"{field}.{LENGTH}"] = self.agent_count
        return renamed

    def to_local(
        self, arrays: Sequence[str], scalars: Mapping[str, StateValue]
    ) -> tuple[dict[str, str], dict[str, StateValue]]:
        """What this rank reads of a whole state, from the names of all its arrays, and the rest of it.

        Returns this rank's own name of each array by the global one, and the scalars with the lengths that
        tuples have here.
        """
        names = {name: name for name in arrays}
        own = dict(scalars)
        if self._has_all_agents:
            return names, own
        for field, length in self._tuples(arrays, scalars):
            if length != self.agent_count:
                raise ValueError(f"{field} has {length} items for {self.agent_count} agents")
            for number in range(length):
                del names[f"{field}.{number}"]
            names |= {f"{field}.{agent}": f"{field}.{number}" for number, agent in enumerate(self.agents)}
            own[f"{field}.{LENGTH}"] = len(self.agents)
        return names, own

    def _tuples(self, arrays: Sequence[str], scalars: Mapping[str, Any]) -> list[tuple[str, int]]:
        """Field and length of every tuple that holds an array for each agent and is not empty."""
        known = set(arrays)
        found = []
        for field in sorted(self.of_agents):
            length = scalars.get(f"{field}.{LENGTH}")
            # as many arrays as that are there, or the length is a damaged file's
            if type(length) is not int or not 0 < length <= len(known):
                continue
            if all(f"{field}.{number}" in known for number in range(length)):
                found.append((field, length))
        return found


def _arrays(values: StateValues) -> list[str]:
    return [name for name, value in values.items() if isinstance(value, np.ndarray)]
