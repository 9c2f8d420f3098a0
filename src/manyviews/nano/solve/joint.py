"""Our solver: flows that lower the misfit and steps of a quasi-Newton method for the volume, in turns.

    F(u, f) = 1/2 sum_v w_v |D_f R u - d|^2 + 1/2 mu |grad u|^2 + alpha |grad u|_1

The volume is fitted to the data themselves, along the flow and its exact transpose; there is no split and no
multiplier for it. With a flow that is smooth ``D_f' D_f`` is nearly one, so the quick convolution ``R' R``
serves as the Hessian of a step, whose length along the way is the exact one: F falls. Total variation is
split off (alternating directions, Boyd et al. 2011).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.view_steps_cpu import keep_better, rest_of_views
from manyviews.kernels.warp_fit_cpu import misfits
from manyviews.nano.admm.tomography import Penalties, preconditioned_way
from manyviews.nano.flow.engines import FlowEngine
from manyviews.nano.flow.gauge import Gauge, find_gauge, flow_rows
from manyviews.nano.flow.robust import view_weights
from manyviews.nano.room import give_up
from manyviews.nano.solve.problem import LevelProblem, squares
from manyviews.operators.slopes import products_of_slopes, pull, shorten
from manyviews.solvers.state import AgentSlabs, Slab

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class JointState:
    """Between two iterations.

    Attributes
    ----------
    iterate
        The volume, own slices.
    duals
        Of total variation, along z, y, x; empty without.
    flow
        ``(view, 2, z, x)`` of all views; empty where nothing moves.
    gauge
        ``(4, z)`` what was taken out of the flows so far: along x, y and z in pixels, and dilation.
    weights, misfit
        ``(view,)`` of the views; sums of squares.
    objective, relative_misfit
        F before, in the square of the data's norm; norm of all of the misfit in that of the data.
    window
        That flows were found with, pixels.
    """

    iteration: int
    iterate: Slab
    duals: AgentSlabs
    flow: torch.Tensor
    gauge: torch.Tensor
    weights: torch.Tensor
    misfit: torch.Tensor
    objective: float = math.nan
    relative_misfit: float = math.nan
    window: float = math.nan

    def iterate_is_known(self, problem: LevelProblem) -> bool:
        """Whether the volume is more than the empty one of the beginning."""
        low, high = problem.space.extremes(self.iterate)
        return math.isfinite(low) and max(abs(low), abs(high)) > 0

    def measures(self) -> dict[str, float]:
        """The objective and the misfit."""
        return {"objective": self.objective, "misfit": self.relative_misfit}


@dataclass
class Seconds:
    """What the last iteration took by part."""

    flow: float = math.nan
    warp: float = math.nan
    tomography: float = math.nan


@dataclass(frozen=True)
class Regularity:
    """``damping`` mu and ``variation`` alpha of F; ``penalty`` is of the split of total variation."""

    damping: float = 0.0
    variation: float = 0.0
    penalty: float = 0.0

    @property
    def gradient(self) -> float:
        """Weight of the quadratic term."""
        return self.penalty if self.variation > 0 else self.damping


@dataclass(frozen=True)
class Motion:
    """How flows are looked for: engine, window of each iteration, and whether they may dilate the object."""

    engine: FlowEngine
    window: Callable[[int], float]
    dilation: bool = True


@dataclass(frozen=True)
class Joint:
    """The solver of one level; ``start`` is its first state, ``motion`` None keeps the flow as it is.

    A step that ``spends`` leaves nothing of the volumes and flows of the state that it is given, nor of
    ``start``, whose room it needs.
    """

    problem: LevelProblem
    start: JointState
    motion: Motion | None
    regularity: Regularity
    steps: int = 4
    robust: str = "huber"
    seconds: Seconds = field(default_factory=Seconds)
    spends: bool = False

    def init(self) -> JointState:
        """What it begins with."""
        return self.start

    def step(self, state: JointState) -> JointState:
        """Flows, weights, then the volume."""
        problem, began = self.problem, time.perf_counter()
        if state is not self.start:  # a run that goes on begins with another
            self._spend(self.start, state)
        model = problem.project(state.iterate)
        projected = time.perf_counter()
        flow, gauge, window = self._moved(state, model)
        if flow is not state.flow:
            self._give_up(state.flow)
        moved = time.perf_counter()
        own = own_flow(problem, flow)
        rest, misfit, square = self._rest(model, own)
        weights = self._weights(state, misfit)
        of_views = weights.numpy()[problem.ranks.own_views]
        pulled = problem.deform_back(rest, of_views, own)
        warped = time.perf_counter()
        volume, duals, regular = self._volume(state, pulled, of_views, own)
        ended = time.perf_counter()
        self.seconds.flow, self.seconds.warp = moved - projected, warped - moved
        self.seconds.tomography = ended - warped + projected - began
        size = max(problem.size, 1e-300)
        value = 0.5 * problem.total(float(of_views @ square)) + regular
        return JointState(
            state.iteration + 1,
            volume,
            duals,
            flow,
            gauge,
            weights,
            misfit,
            value / size,
            math.sqrt(float(misfit.sum()) / size),
            window,
        )

    def _moved(self, state: JointState, model: Float32) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Flow of all views, the gauge so far, the window; an empty volume tells of no motion."""
        problem, motion = self.problem, self.motion
        if motion is None or not state.iterate_is_known(problem):
            return state.flow, state.gauge, math.nan
        window = motion.window(state.iteration)
        ranks = problem.ranks
        own = state.flow[ranks.own_views].numpy()
        found = motion.engine.find(problem.data, model, own, window)
        if np.may_share_memory(found, own):
            kept, found = found, problem.allocate(found.shape)
            found[:] = kept
        keep_better(problem.data, model, own, found, push=problem.mass)
        rows = ranks.gather_views(torch.from_numpy(flow_rows(found, problem.center))).numpy()
        gauge = find_gauge(
            rows, problem.theta_degrees, ranks.columns, center=problem.center, dilation=motion.dilation,
            weights=state.weights.numpy(),
        )  # fmt: skip
        gauge.take_from(found, problem.theta_degrees[ranks.own_views])
        flow = ranks.gather_views(torch.from_numpy(found))
        return flow, state.gauge + gauge_table(gauge), window

    def _rest(self, model: Float32, own: Float32 | None) -> tuple[Float32, torch.Tensor, Float64]:
        """What does not fit, in place of the model; its square by view, of all views; of own, where seen."""
        problem = self.problem
        if own is None:
            model -= problem.data
            every = seen = squares(model)
        else:
            every, seen = rest_of_views(problem.data, model, own, push=problem.mass)
        return model, problem.ranks.gather_views(torch.from_numpy(every)), seen

    def _weights(self, state: JointState, misfit: torch.Tensor) -> torch.Tensor:
        """Of every view; the first volume is nothing yet, so all views are alike."""
        if state.iteration == 0 and not self.start.iterate_is_known(self.problem):
            return state.weights
        found = view_weights(misfit.numpy(), self.problem.view_sizes, kind=self.robust)
        return torch.from_numpy(found.weights)

    def _volume(
        self, state: JointState, pulled: Float32, weights: Float64, own: Float32 | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], float]:
        """A lower volume, multipliers, and what regularity adds to F before.

        ``pulled`` is the gradient by undeformed projections of own views.
        """
        problem, u, space = self.problem, state.iterate, self.problem.space
        tomography, rho = problem.tomography, Penalties(1.0, self.regularity.gradient)
        variation, duals = 0.0, state.duals
        rows = problem.ranks.to_rows(torch.from_numpy(pulled))
        if self.regularity.variation > 0:
            reach = self.regularity.variation / self.regularity.penalty
            duals, lengths = shorten(u, state.duals, reach, space.allocate, tomography.slabs)
            variation = self.regularity.variation * problem.total(lengths)
            slopes = pull(duals, state.duals, space.allocate, tomography.slabs)
            self._give_up(*state.duals)
            remaining = tomography.descent(rows, slopes, rho)
        else:
            remaining = tomography.half_gradient(u, rows, None, rho).neg_()
        way = preconditioned_way(tomography, remaining, rho, self.steps, quick=True)
        del remaining
        image = problem.project(way.found, out=pulled)
        bend = problem.total(float(weights @ problem.deformed_squares(image, own)))
        if rho.gradient > 0:
            before, _, along = products_of_slopes(u, way.found, tomography.slabs)
            bend += rho.gradient * problem.total(along)
            if not self.regularity.variation > 0:
                variation = 0.5 * rho.gradient * problem.total(before)
        length = way.product / bend if bend > 0 and way.product > 0 else 0.0
        volume = way.found.mul_(length).add_(u)
        self._give_up(u)
        return volume, duals, variation

    def _spend(self, old: JointState, new: JointState) -> None:
        """What a state has and another has not."""
        kept = {id(one) for one in (new.iterate, new.flow, *new.duals)}
        self._give_up(*(one for one in (old.iterate, old.flow, *old.duals) if id(one) not in kept))

    def _give_up(self, *tensors: torch.Tensor) -> None:
        if self.spends:
            give_up(*tensors)


def own_flow(problem: LevelProblem, flow: torch.Tensor) -> Float32 | None:
    """The flow of own views; None where nothing moves."""
    return flow[problem.ranks.own_views].numpy() if flow.numel() else None


def view_misfits(
    problem: LevelProblem, model: Float32, own: Float32 | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of squares ``(view,)`` of what does not fit, and of the data, of all views."""
    if own is None:
        apart = squares(model, problem.data)
    else:
        apart = misfits(problem.data, model, own, mass=problem.mass)
    return problem.ranks.gather_views(torch.from_numpy(apart)), torch.from_numpy(problem.view_sizes)


def gauge_table(gauge: Gauge) -> torch.Tensor:
    """``(4, z)``."""
    return torch.from_numpy(np.stack([gauge.cosine, gauge.sine, gauge.vertical, gauge.dilation]))


def first_state(problem: LevelProblem, flow: torch.Tensor | None, *, variation: bool) -> JointState:
    """An empty volume; ``flow (view, 2, z, x)`` None: nothing moves, and nothing will."""
    ranks = problem.ranks
    zeros = problem.space.zeros
    return JointState(
        0,
        zeros(),
        tuple(zeros() for _ in range(3)) if variation else (),
        torch.empty(0, dtype=torch.float32) if flow is None else flow,
        torch.zeros((4, ranks.rows), dtype=torch.float64),
        torch.ones(ranks.views, dtype=torch.float64),
        torch.zeros(ranks.views, dtype=torch.float64),
    )
