"""Consensus: Algorithm 1 of Wang et al. 2020 (J. Comput. Biol. 27), with true proximal maps.

Minimises ``sum_i f_i(x)`` where each f_i is known by its proximal map (an *agent* in the paper), eq. (4):

    F_i(z) = argmin_v  f_i(v) + |v - z|^2 / (2 sigma^2) .

Symbols of the paper and their names here: state ``w_i`` of agent i (`states`), their mean ``w`` (`volume`),
what an agent is handed ``z_i = 2 w - w_i`` (`handed`), its answer ``v_i = F_i(z_i)`` (`answers`), Mann factor
``rho`` (`mann`). One iteration is ``w_i <- rho (2 v_i - z_i) + (1 - rho) w_i``. At its fixed point all
answers agree on the minimiser of sum f_i (Buzzard et al. 2018, SIAM J. Imaging Sci. 11:2001); a few
warm-started steps towards each F_i suffice (Sridhar et al. 2020, IEEE TCI 6:1153).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from manyviews.parallel.world import World
from manyviews.solvers.space import Space
from manyviews.solvers.state import AgentSlabs, Slab


class Consensus:
    """Bring terms to agree.

    Parameters
    ----------
    maps
        Proximal maps of data terms and priors, those of this group of processes.
    space
        Where the volumes ``(z, y, x)`` live. The first one is zero.
    mann
        Mann averaging factor, between 0 and 1.
    objective
        Value of the whole objective at a volume, for the record.
    passes_per_iteration
        Passes over the data that one outer iteration amounts to.
    warm_start
        Start every map from its last answer; without it the answers need no memory, and the start is what
        the map is handed.
    together
        How the maps of several groups of processes come together; None: they are all here.
    """

    def __init__(
        self,
        maps: Sequence[ProximalMap],
        space: Space,
        *,
        mann: float,
        objective: Callable[[torch.Tensor], float],
        passes_per_iteration: float,
        warm_start: bool = True,
        together: Together | None = None,
    ) -> None:
        self.maps = maps
        self.mann = mann
        self.objective = objective
        self.passes_per_iteration = passes_per_iteration
        self.warm_start = warm_start
        self.space = space
        self.together = together or Together(len(maps))

    def init(self) -> ConsensusState:
        """All of them at the start."""
        start = self.space.zeros()
        copies = tuple(self.space.copy(start) for _ in self.maps)
        answers = copies if self.warm_start else ()
        return ConsensusState(0, start, copies, answers, self.objective(start), 0.0, 0.0)

    def step(self, state: ConsensusState) -> ConsensusState:
        """One outer iteration."""
        space = self.space
        states: list[torch.Tensor] = []
        answers: list[torch.Tensor] = []
        spread = 0.0
        for number, (term, own) in enumerate(zip(self.maps, state.states, strict=True)):
            handed = space.add(state.iterate, own, -0.5).mul_(2.0)
            answer = term.prox(handed, state.answers[number] if self.warm_start else handed)
            spread += space.distance(answer, state.iterate) ** 2
            # w_i <- rho (2 v_i - z_i) + (1 - rho) w_i
            moved = handed.mul_(-self.mann).add_(answer, alpha=2.0 * self.mann)
            states.append(moved.add_(own, alpha=1.0 - self.mann))
            if self.warm_start:
                answers.append(answer)
        volume = self.together.mean(states, space)
        size = space.norm(volume)
        spread = self.together.total(spread) / self.together.agents
        return ConsensusState(
            iteration=state.iteration + 1,
            iterate=volume,
            states=tuple(states),
            answers=tuple(answers),
            objective=self.objective(volume),
            disagreement=spread**0.5 / size if size > 0.0 else 0.0,
            data_passes=state.data_passes + self.passes_per_iteration,
        )


class ProximalMap(Protocol):
    """One term of the objective, by its proximal map."""

    def prox(self, v: torch.Tensor, warm_start: torch.Tensor) -> torch.Tensor:
        """``F_i(v)``, perhaps improved from a guess; a new tensor."""


@dataclass(frozen=True)
class ConsensusState:
    """Between outer iterations; see the module docstring."""

    iteration: int
    iterate: Slab
    states: AgentSlabs
    answers: AgentSlabs
    objective: float
    disagreement: float
    data_passes: float

    def measures(self) -> dict[str, float]:
        """Objective, disagreement of the agents relative to the volume, and passes over the data so far."""
        return {
            "objective": self.objective,
            "disagreement": self.disagreement,
            "data_passes": self.data_passes,
        }


@dataclass(frozen=True)
class Together:
    """How many agents there are: here, and in other ``groups`` of processes, None if there are none."""

    agents: int
    groups: World | None = None

    def mean(self, volumes: Sequence[torch.Tensor], space: Space) -> torch.Tensor:
        """Mean of all agents' volumes, of which ``volumes`` are those here; summed in order."""
        total = space.copy(volumes[0]) if volumes else space.zeros()
        for volume in volumes[1:]:
            total.add_(volume)
        if self.groups is not None:
            total = self.groups.sum(total)
        return total.div_(self.agents)

    def total(self, value: float) -> float:
        """Sum of a number over all groups."""
        if self.groups is None:
            return value
        return float(self.groups.sum(torch.tensor([value], dtype=torch.float64))[0])
