"""Which part of a solver's state this rank holds, so that checkpoints can hold the whole of it.

The arrays of a checkpoint are global: volumes with all their slices, tuples with the items of all agents. So
a run that was saved by some ranks can go on with others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from manyviews.parallel.layout import Place
from manyviews.parallel.world import SingleWorld, World
from manyviews.runs.state import LENGTH, StateValue, StateValues

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Placement:
    """This rank's part of a state.

    Attributes
    ----------
    world
        All ranks that hold parts of it.
    depth
        Slices of a whole volume.
    slab
        The slices that this rank holds of every array with three axes ``(z, y, x)``; other arrays are the
        same on all ranks.
    agents
        Numbers of the agents whose volumes this rank holds: item j of a tuple of arrays belongs to agent
        ``agents[j]``.
    agent_count
        Agents of all ranks.
    layout
        How the ranks stand, for people, e.g. ``4x2``.
    """

    world: World
    depth: int
    slab: slice
    agents: Sequence[int]
    agent_count: int
    layout: str = "1x1"

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

    @property
    def _has_all_slices(self) -> bool:
        return (self.slab.start, self.slab.stop) == (0, self.depth)

    @property
    def _has_all_agents(self) -> bool:
        return len(self.agents) == self.agent_count

    def whole_shape(self, own: Shape) -> Shape:
        """Shape of a whole array of which this rank holds one of shape ``own``.

        Raises
        ------
        ValueError
            If it has three axes and is no slab.
        """
        if len(own) != 3 or self._has_all_slices:
            return own
        length = self.slab.stop - self.slab.start
        if own[0] != length:
            raise ValueError(f"an array of shape {own} is no slab of {length} slices")
        return (self.depth, *own[1:])

    def own_parts(self, whole: Shape) -> tuple[int, int]:
        """First and end of this rank's parts (`part_count`) of an array of shape ``whole``.

        Raises
        ------
        ValueError
            If it has three axes and is no volume of this many slices.
        """
        if len(whole) != 3 or self._has_all_slices:
            return 0, part_count(whole)
        if whole[0] != self.depth:
            raise ValueError(f"an array of shape {whole} is no volume of {self.depth} slices")
        return self.slab.start, self.slab.stop

    def to_global(self, values: StateValues) -> dict[str, StateValue]:
        """The values of this rank under the names that they have in the whole state.

        Raises
        ------
        ValueError
            If a tuple of arrays has not one item for each of this rank's agents.
        """
        renamed = dict(values)
        if self._has_all_agents:
            return renamed
        for field, length in _tuples(_arrays(values), values):
            if length != len(self.agents):
                raise ValueError(f"{field} has {length} items and this rank {len(self.agents)} agents")
            items = [renamed.pop(f"{field}.{number}") for number in range(length)]
            renamed |= {f"{field}.{agent}": item for agent, item in zip(self.agents, items, strict=True)}
            renamed[f"{field}.{LENGTH}"] = self.agent_count
        return renamed

    def to_local(
        self, arrays: Sequence[str], scalars: Mapping[str, StateValue]
    ) -> tuple[dict[str, str], dict[str, StateValue]]:
        """What this rank reads of a whole state.

        Parameters
        ----------
        arrays
            Names of all its arrays.
        scalars
            The rest of it.

        Returns
        -------
        tuple
            This rank's arrays, its own name of each by the global one, and the scalars with the lengths that
            tuples have here.
        """
        names = {name: name for name in arrays}
        own = dict(scalars)
        if self._has_all_agents:
            return names, own
        for field, length in _tuples(arrays, scalars):
            if length != self.agent_count:
                continue  # no tuple with an item for each agent: the same on all ranks
            for number in range(length):
                del names[f"{field}.{number}"]
            names |= {f"{field}.{agent}": f"{field}.{number}" for number, agent in enumerate(self.agents)}
            own[f"{field}.{LENGTH}"] = len(self.agents)
        return names, own


def part_count(shape: Shape) -> int:
    """Parts of an array that are written, read and verified by themselves: slices of volumes, else one."""
    return shape[0] if len(shape) == 3 else 1


def _arrays(values: StateValues) -> list[str]:
    return [name for name, value in values.items() if isinstance(value, np.ndarray)]


def _tuples(arrays: Sequence[str], scalars: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Field and length of every tuple of arrays that is not empty and not within another."""
    known = set(arrays)
    found = []
    for name, length in scalars.items():
        field, dot, last = name.rpartition(".")
        if not dot or "." in field or last != LENGTH or not isinstance(length, int):
            continue
        # as many arrays as that are there, or the length is a damaged file's
        if 0 < length <= len(known) and all(f"{field}.{number}" in known for number in range(length)):
            found.append((field, length))
    return found
