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

from manyviews.kernels.warp_fit_cpu import misfits
from manyviews.nano.admm.tomography import Penalties, preconditioned_steps
from manyviews.nano.flow.accept import accept_flow
from manyviews.nano.flow.engines import FlowEngine
from manyviews.nano.flow.gauge import Gauge, remove_gauge
from manyviews.nano.flow.robust import view_weights
from manyviews.nano.solve.problem import LevelProblem, seen_pixels
from manyviews.operators.differences import differences
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
    """The solver of one level; ``start`` is its first state, ``motion`` None keeps the flow as it is."""

    problem: LevelProblem
    start: JointState
    motion: Motion | None
    regularity: Regularity
    steps: int = 4
    robust: str = "huber"
    seconds: Seconds = field(default_factory=Seconds)

    def init(self) -> JointState:
        """What it begins with."""
        return self.start

    def step(self, state: JointState) -> JointState:
        """Flows, weights, then the volume."""
        problem, began = self.problem, time.perf_counter()
        model = problem.project(state.iterate)
        projected = time.perf_counter()
        flow, gauge, window = self._moved(state, model)
        moved = time.perf_counter()
        own = own_flow(problem, flow)
        misfit, weights = self._weighted(state, model, own)
        rest = problem.deform(model, own) - problem.data
        pixels = pixel_weights(problem, weights, own)
        back = torch.from_numpy(problem.deform_back(rest * pixels, own))
        warped = time.perf_counter()
        volume, duals, objective = self._volume(state, problem.ranks.to_rows(back), rest, pixels, own)
        ended = time.perf_counter()
        self.seconds.flow, self.seconds.warp = moved - projected, warped - moved
        self.seconds.tomography = ended - warped + projected - began
        size = problem.total(float(np.sum(problem.data.astype(np.float64) ** 2)))
        size = size if size > 0 else 1.0
        relative = math.sqrt(float(misfit.sum()) / size)
        return JointState(
            state.iteration + 1,
            volume,
            duals,
            flow,
            gauge,
            weights,
            misfit,
            objective / size,
            relative,
            window,
        )

    def _moved(self, state: JointState, model: Float32) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Flow of all views, the gauge so far, the window; an empty volume tells of no motion."""
        problem, motion = self.problem, self.motion
        if motion is None or not problem.total(float(np.abs(model).sum())) > 0:
            return state.flow, state.gauge, math.nan
        window = motion.window(state.iteration)
        own = state.flow[problem.ranks.own_views].numpy()
        found = motion.engine.find(problem.data, model, own, window)
        kept = accept_flow(problem.data, model, own, found, mass=problem.mass).flow
        flow = problem.ranks.gather_views(torch.from_numpy(kept)).numpy()
        free, gauge = remove_gauge(
            flow, problem.theta_degrees, center=problem.center, dilation=motion.dilation,
            weights=state.weights.numpy(),
        )  # fmt: skip
        return torch.from_numpy(free), state.gauge + gauge_table(gauge), window

    def _weighted(
        self, state: JointState, model: Float32, own: Float32 | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Misfit and weight of every view; the first volume is nothing yet, so all views are alike."""
        problem = self.problem
        misfit, size = view_misfits(problem, model, own)
        if state.iteration == 0 and not self.start.iterate.any():
            return misfit, state.weights
        return misfit, torch.from_numpy(view_weights(misfit.numpy(), size.numpy(), kind=self.robust).weights)

    def _volume(
        self, state: JointState, back: torch.Tensor, rest: Float32, pixels: Float32, own: Float32 | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], float]:
        """A lower volume, multipliers, and F before."""
        problem, space, slabs = self.problem, self.problem.space, self.problem.tomography.slabs
        u, weight = state.iterate, self.regularity.gradient
        slopes = differences(u, slabs) if weight > 0 else None
        goal, duals, variation = self._variation(state, slopes)
        rho = Penalties(1.0, weight)
        way = preconditioned_steps(problem.tomography, u, back, goal, rho, self.steps).sub_(u)
        image = problem.deform(problem.project(way), own)
        slope, bend = problem.total(_dot(rest * pixels, image)), problem.total(_dot(image * pixels, image))
        value = 0.5 * problem.total(_dot(rest * pixels, rest)) + self.regularity.variation * variation
        if slopes is not None:
            along = differences(way, slabs)
            for part, own_slopes in enumerate(slopes):
                apart = own_slopes if goal is None else own_slopes - goal[part]
                slope += weight * space.inner(apart, along[part])
                bend += weight * space.inner(along[part], along[part])
                if goal is None:
                    value += 0.5 * weight * space.inner(own_slopes, own_slopes)
        length = -slope / bend if bend > 0 and slope < 0 else 0.0
        return space.add(u, way, alpha=length), duals, value

    def _variation(
        self, state: JointState, slopes: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, tuple[torch.Tensor, ...], float]:
        """What the gradient is to be like, the new multipliers, and the total variation."""
        regularity = self.regularity
        if not regularity.variation > 0 or slopes is None:
            return None, state.duals, 0.0
        length = torch.sqrt(torch.sum(slopes**2, dim=0))
        variation = self.problem.total(float(length.double().sum()))
        reach = regularity.variation / regularity.penalty
        both = slopes + torch.stack(state.duals)
        size = torch.sqrt(torch.sum(both**2, dim=0))
        duals = both * (reach / torch.clamp(size, min=reach))
        return both - 2 * duals, tuple(part.contiguous() for part in duals), variation


def own_flow(problem: LevelProblem, flow: torch.Tensor) -> Float32 | None:
    """The flow of own views; None where nothing moves."""
    return flow[problem.ranks.own_views].numpy() if flow.numel() else None


def view_misfits(
    problem: LevelProblem, model: Float32, own: Float32 | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of squares ``(view,)`` of what does not fit, and of the data, of all views."""
    if own is None:
        apart = np.sum((problem.data - model) ** 2, axis=(1, 2), dtype=np.float64)
    else:
        apart = misfits(problem.data, model, own, mass=problem.mass)
    size = np.sum(problem.data.astype(np.float64) ** 2, axis=(1, 2))
    both = problem.ranks.gather_views(torch.from_numpy(np.stack([apart, size], axis=1)))
    return both[:, 0].contiguous(), both[:, 1].contiguous()


def pixel_weights(problem: LevelProblem, weights: torch.Tensor, own: Float32 | None) -> Float32:
    """Of own views ``(own views, z, x)`` or ``(own views, 1, 1)``: what is read beyond an image is nought."""
    each = weights.numpy()[problem.ranks.own_views].astype(np.float32)[:, None, None]
    return each if own is None or problem.mass else each * seen_pixels(own)


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


def _dot(a: Float32, b: Float32) -> float:
    """In float64, view by view."""
    return float(sum(np.sum(x * y, dtype=np.float64) for x, y in zip(a, b, strict=True)))
