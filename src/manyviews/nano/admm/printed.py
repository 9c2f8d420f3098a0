"""The paper's splitting as printed: Nikitin et al., IEEE Trans. Comput. Imaging 7 (2021) 272, section 2.

    min |D_f psi_1 - d|^2 + alpha |psi_2|_1    with  R u = psi_1,  grad u = psi_2

In turns: flow from psi_1 to the data by Farneback's algorithm, psi_1, psi_2, u, multipliers, penalties, the
window. What the paper leaves open is as in the authors' program: penalties begin with 0.5 at each level and
are doubled or halved where squared residuals differ tenfold; R has norm one; a flow is kept where the misfit
does not grow; four iterations of each sub-problem; the mean of the data is taken out nowhere.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.nano.admm.alignment import align_step
from manyviews.nano.admm.tomography import Penalties, printed_steps
from manyviews.nano.flow.accept import accept_flow
from manyviews.nano.flow.farneback import Farneback
from manyviews.nano.flow.windows import WindowSchedule
from manyviews.nano.solve.joint import JointState, Seconds, view_misfits
from manyviews.nano.solve.problem import LevelProblem
from manyviews.operators.differences import differences
from manyviews.solvers.proximal_maps import shortened
from manyviews.solvers.state import AgentSlabs, Slab

Float32 = NDArray[np.float32]

_RHO = 0.5
_APART, _FACTOR = 10.0, 2.0


@dataclass(frozen=True)
class PrintedState:
    """Between two iterations.

    ``iterate`` u, ``gradient`` psi_2 and ``gradient_dual`` lambda_2 are own slices (empty without total
    variation); ``images`` psi_1, ``dual`` lambda_1 ``(view, z, x)`` and ``flow (view, 2, z, x)`` are of all
    views. ``rho_tomography`` and ``rho_gradient`` are the penalties.
    """

    iteration: int
    iterate: Slab
    gradient: AgentSlabs
    gradient_dual: AgentSlabs
    images: torch.Tensor
    dual: torch.Tensor
    flow: torch.Tensor
    misfit: torch.Tensor
    rho_tomography: float = _RHO
    rho_gradient: float = _RHO
    lagrangian: float = math.nan
    relative_misfit: float = math.nan
    window: float = math.nan

    def measures(self) -> dict[str, float]:
        """The augmented Lagrangian, the misfit and the penalties."""
        return {
            "objective": self.lagrangian,
            "misfit": self.relative_misfit,
            "rho_tomography": self.rho_tomography,
            "rho_gradient": self.rho_gradient,
        }


@dataclass(frozen=True)
class Printed:
    """The solver of one level.

    ``variation`` is alpha, 0: none; ``start`` its first state. Inside, u is that of a projector of norm one:
    ``scale`` times the volume.
    """

    problem: LevelProblem
    start: PrintedState
    windows: WindowSchedule
    variation: float = 0.0
    steps: int = 4
    seconds: Seconds = field(default_factory=Seconds)

    def init(self) -> PrintedState:
        """What it begins with."""
        return self.start

    @property
    def scale(self) -> float:
        """The norm of R."""
        return math.sqrt(self.problem.tomography.norm)

    def step(self, state: PrintedState) -> PrintedState:
        """One iteration of the splitting."""
        problem, ranks, began = self.problem, self.problem.ranks, time.perf_counter()
        own = ranks.own_views
        images, dual = state.images[own].numpy(), state.dual[own].numpy()
        rho1 = state.rho_tomography
        window = self.windows.window(state.iteration)
        flow = self._flow(images, state.flow[own].numpy(), window)
        moved = time.perf_counter()
        before = problem.project(state.iterate)
        wanted = np.asarray(before + dual / np.float32(rho1), dtype=np.float32)
        images = align_step(problem.data, flow, wanted, images, rho1, steps=self.steps, mass=problem.mass)
        aligned = time.perf_counter()
        gradient = self._shrunk(state)
        volume = self._tomography(state, images, dual, gradient)
        model = problem.project(volume)
        ended = time.perf_counter()
        found = self._finish(state, images, dual, before, model, gradient, volume, flow, window)
        self.seconds.flow, self.seconds.warp = moved - began, aligned - moved
        self.seconds.tomography = ended - aligned
        return found

    def _flow(self, images: Float32, flow: Float32, window: float) -> Float32:
        problem = self.problem
        if not problem.total(float(np.abs(images).sum())) > 0:
            return flow
        new = Farneback().find(problem.data, images, flow, window)
        return accept_flow(problem.data, images, flow, new, mass=problem.mass).flow

    def _shrunk(self, state: PrintedState) -> tuple[torch.Tensor, ...]:
        """psi_2: the gradient, made shorter by alpha / rho_2."""
        if not self.variation > 0:
            return ()
        slopes = differences(state.iterate * self.scale, self.problem.tomography.slabs)
        both = slopes + torch.stack(state.gradient_dual) / state.rho_gradient
        return tuple(part.contiguous() for part in shortened(both, self.variation / state.rho_gradient))

    def _tomography(
        self, state: PrintedState, images: Float32, dual: Float32, gradient: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """u, by the paper's directions and line search; the norm of R goes into the penalties."""
        ranks, rho1, rho2 = self.problem.ranks, state.rho_tomography, state.rho_gradient
        wanted = ranks.to_rows(torch.from_numpy(images - dual / np.float32(rho1)))
        residual = self.problem.tomography.radon.forward(state.iterate).sub_(wanted)
        weight, goal = 0.0, None
        if gradient:
            weight = rho2 * self.scale**2
            goal = (torch.stack(gradient) - torch.stack(state.gradient_dual) / rho2) / self.scale
        return printed_steps(
            self.problem.tomography, state.iterate, residual, goal, Penalties(rho1, weight), self.steps
        )

    def _finish(
        self, state: PrintedState, images: Float32, dual: Float32, before: Float32, model: Float32,
        gradient: tuple[torch.Tensor, ...], volume: torch.Tensor, flow: Float32, window: float,
    ) -> PrintedState:  # fmt: skip
        """Multipliers, penalties and the Lagrangian."""
        problem, ranks, space = self.problem, self.problem.ranks, self.problem.space
        rho1, rho2 = state.rho_tomography, state.rho_gradient
        apart = model - images
        split = problem.total(_square(apart))
        misfit, size = view_misfits(problem, images, flow)
        lagrangian = float(misfit.sum()) + 2 * problem.total(float(np.sum(dual * apart, dtype=np.float64)))
        lagrangian += rho1 * split
        moved = problem.total(_square(rho1 * (model - before)))
        new_rho1 = _balanced(rho1, split, moved)
        new_dual = dual + np.float32(rho1) * apart
        gradient_dual, new_rho2 = state.gradient_dual, rho2
        if gradient:
            slopes = differences(volume * self.scale, problem.tomography.slabs)
            earlier = differences(state.iterate * self.scale, problem.tomography.slabs)
            apart2 = slopes - torch.stack(gradient)
            length = torch.sqrt(sum((part**2 for part in gradient), torch.zeros_like(volume)))
            split2 = sum(space.inner(part, part) for part in apart2)
            lagrangian += self.variation * problem.total(float(length.double().sum())) + rho2 * split2
            lagrangian += 2 * sum(
                space.inner(one, part) for one, part in zip(state.gradient_dual, apart2, strict=True)
            )
            moved2 = sum(space.inner(part, part) for part in rho2 * (slopes - earlier))
            gradient_dual = tuple(
                (one + rho2 * part).contiguous()
                for one, part in zip(state.gradient_dual, apart2, strict=True)
            )
            new_rho2 = _balanced(rho2, split2, moved2)
        final, _ = view_misfits(problem, model, flow)
        whole = max(float(size.sum()), 1e-300)
        return PrintedState(
            state.iteration + 1, volume, gradient, gradient_dual,
            ranks.gather_views(torch.from_numpy(images)), ranks.gather_views(torch.from_numpy(new_dual)),
            ranks.gather_views(torch.from_numpy(flow)), final, new_rho1, new_rho2, lagrangian / whole,
            math.sqrt(float(final.sum()) / whole), window,
        )  # fmt: skip


def first_printed(problem: LevelProblem, images: torch.Tensor, *, variation: bool) -> PrintedState:
    """An empty volume, psi_1 the data ``images (view, z, x)`` as they are;"""
    ranks, zeros = problem.ranks, problem.space.zeros
    slabs = tuple(zeros() for _ in range(3)) if variation else ()
    still = torch.zeros((ranks.views, 2, ranks.rows, ranks.columns), dtype=torch.float32)
    return PrintedState(
        0, zeros(), slabs, tuple(part.clone() for part in slabs), images.clone(),
        torch.zeros_like(images), still, torch.zeros(ranks.views, dtype=torch.float64),
    )  # fmt: skip


def joint_state(state: PrintedState) -> JointState:
    """What the results are made of."""
    views, rows = state.flow.shape[0], state.flow.shape[2]
    return JointState(
        state.iteration, state.iterate, (), state.flow, torch.zeros((4, rows), dtype=torch.float64),
        torch.ones(views, dtype=torch.float64), state.misfit, state.lagrangian, state.relative_misfit,
        state.window,
    )  # fmt: skip


def _balanced(rho: float, split: float, moved: float) -> float:
    if split > _APART * moved:
        return rho * _FACTOR
    return rho / _FACTOR if moved > _APART * split else rho


def _square(images: Float32) -> float:
    return float(sum(np.sum(image.astype(np.float64) ** 2) for image in images))
