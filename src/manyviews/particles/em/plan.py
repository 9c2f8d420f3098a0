"""What stochastic expectation maximisation does in which iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

_FIRST_WAVES = 4.0  # cycles across the particle that a start begins with ...
_LAST_WAVES = 6.4  # ... and ends with
_START_ITERATIONS = 65
_FIRST_SHARE, _LAST_SHARE = 0.3, 0.2
_LOOK_EVERYWHERE = (0, 3)
_GROWTH = 1.25
STARTS, _MOST_STARTS = 3, 8  # where nobody says how many


@dataclass(frozen=True)
class Task:
    """One iteration, number ``index`` from 0 of the random start ``start`` from 0, or of the refinement.

    Its kind is "start": a mini-batch of a start; "score": score what a start came to; "refine": a large
    batch, at frequencies that grow, where ``start`` is the number of starts.
    """

    kind: str
    start: int
    index: int


@dataclass(frozen=True)
class EmPlan:
    """The iterations of a run.

    Attributes
    ----------
    particles
        Images in all.
    starts, refinements
        Random starts, and iterations of the refinement.
    batch, refine_batch
        Images of a mini-batch of a start, and of the first refining batch.
    filled
        Diameter of the particle over the side of the box.
    most_radius
        Highest frequency that may be reached, in Fourier pixels.
    final_passes
        Iterations at the end that see all images.
    least_starts
        After so many starts it is enough if another agrees with the best; 0: all are made.
    """

    particles: int
    starts: int
    refinements: int
    batch: int
    filled: float
    most_radius: int
    refine_batch: int = 4000
    final_passes: int = 3
    least_starts: int = 0

    @property
    def start_iterations(self) -> int:
        """Iterations of one start, scoring it included."""
        return _START_ITERATIONS + 1

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return self.starts * self.start_iterations + self.refinements

    def with_more_starts(self) -> EmPlan:
        """With as many starts as are made at most where no other agrees with the best of the first ones."""
        return replace(self, starts=max(self.starts, _MOST_STARTS), least_starts=self.starts)

    def task(self, done: int) -> Task:
        """The iteration after ``done`` ones."""
        start, index = divmod(done, self.start_iterations)
        if start >= self.starts:
            return Task("refine", self.starts, done - self.starts * self.start_iterations)
        return Task("start" if index < _START_ITERATIONS else "score", start, index)

    @property
    def first_radius(self) -> int:
        """Frequencies that a start begins with, Fourier pixels."""
        return min(self.most_radius, max(3, round(_FIRST_WAVES / self.filled)))

    @property
    def last_start_radius(self) -> int:
        """Frequencies that a start ends with."""
        return min(self.most_radius, max(self.first_radius, round(_LAST_WAVES / self.filled)))

    def start_radius(self, index: int) -> int:
        """Frequencies of an iteration of a start: from the first to the last in equal times."""
        levels = self.last_start_radius - self.first_radius + 1
        return self.first_radius + min(levels - 1, index * levels // _START_ITERATIONS)

    def share(self, index: int) -> float:
        """Weight of a start's mini-batch against all that came before."""
        if index == 0:
            return 1.0
        return _FIRST_SHARE + (_LAST_SHARE - _FIRST_SHARE) * index / _START_ITERATIONS

    def refine_size(self, index: int, radius: int) -> int:
        """Images of a refining batch: with the square of the radius, all of them at the end."""
        if index >= self.refinements - self.final_passes:
            return self.particles
        wanted = math.ceil(self.refine_batch * (radius / self.last_start_radius) ** 2)
        return self.particles if wanted > 0.7 * self.particles else wanted

    def looks_everywhere(self, index: int) -> bool:
        """Whether a refining batch is searched from scratch, or from the poses found before."""
        return index in _LOOK_EVERYWHERE

    def next_radius(self, radius: int, agreed: int) -> int:
        """Frequencies of the next refining batch when the halves agree up to ``agreed``."""
        return max(self.last_start_radius, min(self.most_radius, math.ceil(_GROWTH * radius), agreed + 3))
