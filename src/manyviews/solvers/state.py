"""What a state is: a dataclass that says which of its fields are the answer, and which are slabs of volumes.

Checkpoints, resume and live pictures need no more than that, so they know nothing of an algorithm.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Protocol, TypeAlias, get_type_hints

import torch

_SLAB, _OF_AGENTS = "slab", "a slab of each agent"
# An array (z, y, x), of which a process may hold some slices only.
Slab: TypeAlias = Annotated[torch.Tensor, _SLAB]
# Such an array for each agent that this process works on.
AgentSlabs: TypeAlias = Annotated[tuple[torch.Tensor, ...], _SLAB, _OF_AGENTS]


class SolverState(Protocol):
    """Everything a solver knows between two iterations: a dataclass of tensors and numbers.

    Fields of the types `Slab` and `AgentSlabs` are this process's part of a whole; all others are the same in
    every process.
    """

    @property
    def iteration(self) -> int:
        """Iterations done; 0 at the start."""

    @property
    def iterate(self) -> torch.Tensor:
        """The present answer."""

    def measures(self) -> dict[str, float]:
        """Figures of this iteration by name, e.g. ``objective`` and ``data_passes``."""


def slab_fields(state: type) -> frozenset[str]:
    """Names of the fields that hold slabs, for this process or for each of its agents."""
    return _declared(state, _SLAB)


def agent_fields(state: type) -> frozenset[str]:
    """Names of the fields that hold something for each agent of this process."""
    return _declared(state, _OF_AGENTS)


def _declared(state: type, mark: str) -> frozenset[str]:
    hints = get_type_hints(state, include_extras=True)
    names = (field.name for field in fields(state))
    return frozenset(name for name in names if mark in getattr(hints[name], "__metadata__", ()))
