"""Volume and motion of one level as a solver that a job runs as a stage of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.nano.flow.robust import view_weights
from manyviews.nano.motion.problem import MovingProblem
from manyviews.nano.motion.reconstruct import (
    MotionOptions,
    MovingScan,
    MovingState,
    joint_steps,
    level_problem,
    volume_steps,
)
from manyviews.nano.solve.levels import finer_volume
from manyviews.parallel.world import World

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class SpaceState:
    """Between two iterations of a level; the same on all ranks.

    Attributes
    ----------
    iterate
        The volume ``(z, y, x)``.
    knots
        ``(m, 3, kz, ky, kx)`` of the motion, in pixels of the detector.
    intervals_knots
        The motion that the intervals of time of the level were chosen by.
    shifts
        ``(view, 2)`` of whole views, in pixels of the detector along x and z.
    split
        Slopes and dual ``(3, z, y, x)`` of the total variation; empty before it begins, and without.
    weights
        ``(view,)`` of the views, from 0 to 1.
    misfit
        ``|A(u, c) - d| / |d|`` at the level, all views alike.
    """

    iteration: int
    iterate: torch.Tensor
    knots: torch.Tensor
    intervals_knots: torch.Tensor
    shifts: torch.Tensor
    weights: torch.Tensor
    split: tuple[torch.Tensor, ...] = ()
    misfit: float = math.nan

    def measures(self) -> dict[str, float]:
        """The misfit."""
        return {"misfit": self.misfit}


@dataclass(frozen=True)
class SpaceLevel:
    """The solver of one level: volume and motion ``together``, or the volume along a motion that is known."""

    problem: MovingProblem
    start: SpaceState
    scan: MovingScan
    options: MotionOptions
    together: bool
    robust: str = "huber"

    @classmethod
    def of(
        cls, start: SpaceState, scan: MovingScan, options: MotionOptions, factor: int, *, together: bool,
        robust: str = "huber", world: World | None = None,
    ) -> SpaceLevel:  # fmt: skip
        """Where projections are binned by ``factor``; ``robust`` as of `view_weights`."""
        problem = level_problem(_moving(start, 0), scan, options, factor, world)
        return cls(problem, start, scan, replace(options, volume_steps=_MANY), together, robust)

    def init(self) -> SpaceState:
        """What it begins with."""
        return self.start

    def step(self, state: SpaceState) -> SpaceState:
        """One step of both, or a few of the volume; then views are weighed by what it leaves of them."""
        steps, done = (joint_steps, state.iteration) if self.together else (volume_steps, 0)
        roots = np.sqrt(state.weights.numpy()).astype(np.float32)
        data = self.problem.data
        problem = replace(
            self.problem, data=data * roots[:, None, None], moving=replace(self.problem.moving, factors=roots)
        )
        found, left = steps(_moving(state, done), problem, self.scan, self.options)
        misfit, size = (
            _squares(left) / np.maximum(roots.astype(np.float64) ** 2, _LEAST_WEIGHT),
            _squares(data),
        )
        weights = view_weights(misfit, size, kind=self.robust).weights
        split = () if found.split is None else tuple(torch.from_numpy(part) for part in found.split)
        relative = math.sqrt(float(misfit.sum()) / max(float(size.sum()), np.finfo(float).tiny))
        return SpaceState(
            state.iteration + 1, torch.from_numpy(found.volume), torch.from_numpy(found.knots),
            state.intervals_knots, torch.from_numpy(found.shifts), torch.from_numpy(weights), split, relative,
        )  # fmt: skip

    def model(self, state: SpaceState) -> Float32:
        """``(view, z, x)`` the projections of the specimen as it moves; all ranks make this call."""
        moving = self.problem.moving
        shifts = state.shifts.numpy() / moving.basis.voxel
        return replace(moving, shifts=shifts).forward(state.iterate.numpy(), state.knots.numpy())

    def at_rest(self, state: SpaceState) -> Float32:
        """``(view, z, x)`` the projections of the volume at rest."""
        found: Float32 = self.problem.still.radon.forward(state.iterate).numpy()
        return found


_MANY = 1 << 30  # steps of the volume; a stage ends where its job says
_LEAST_WEIGHT = 1e-6


def first_space(knots: tuple[int, ...], shape: tuple[int, int, int], shifts: Float64) -> SpaceState:
    """An empty volume at rest, with ``shifts (view, 2)`` of whole views."""
    still = torch.zeros(knots, dtype=torch.float64)
    alike = torch.ones(len(shifts), dtype=torch.float64)
    return SpaceState(0, torch.zeros(shape), still, still, torch.from_numpy(shifts.copy()), alike)


def finer_space(state: SpaceState, rows: int, columns: int, factor: float) -> SpaceState:
    """The same on voxels that are smaller by a factor, counted anew."""
    volume = finer_volume(state.iterate, rows, columns, 1.0, factor)
    return replace(state, iteration=0, iterate=volume, intervals_knots=state.knots, split=())


def _squares(images: Float32) -> Float64:
    """Sums ``(view,)``."""
    return np.asarray(np.sum(images.astype(np.float64) ** 2, axis=(1, 2)))


def _moving(state: SpaceState, steps: int) -> MovingState:
    split = np.stack([part.numpy() for part in state.split]) if state.split else None
    return MovingState(
        0, steps, state.iterate.numpy(), state.knots.numpy(), state.misfit, state.intervals_knots.numpy(),
        state.shifts.numpy(), split,
    )  # fmt: skip
