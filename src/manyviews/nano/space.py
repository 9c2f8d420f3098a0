"""The stages of a motion in space: whole views, then volume and motion, coarse to fine, then the volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.jobs.run import Job
from manyviews.nano.motion.basis import MotionBasis, time_functions
from manyviews.nano.motion.reconstruct import MotionOptions, MovingScan
from manyviews.nano.motion.solver import SpaceLevel, SpaceState, finer_space, first_space
from manyviews.nano.plan import Plan
from manyviews.nano.scan.binning import binned
from manyviews.nano.solve.joint import Joint, JointState, Motion, Regularity, first_state
from manyviews.nano.solve.levels import Level
from manyviews.nano.solve.problem import LevelProblem
from manyviews.nano.solve.regularity import regularity_of
from manyviews.nano.solve.start import NearAndFar, Start, begin_shifts, shift_flow
from manyviews.nano.stages import Noted, Views
from manyviews.runs.placement import Placement
from manyviews.solvers.driver import StopReason

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

WHOLE_ITERATIONS = 8
LEAST_SMOOTHNESS = 1e-3  # rho2 of the volume, for R of norm one, while the motion is fitted
_WHOLE_STEPS = 4


@dataclass(frozen=True)
class SpaceTold:
    """What a watcher is told after each iteration of the whole set of views."""

    level: Level
    solver: SpaceLevel
    state: SpaceState


@dataclass(frozen=True)
class WholeViews:
    """Shifts of whole views: where they begin, the state that reprojection made of them, and its problem."""

    start: Start
    problem: LevelProblem
    state: JointState
    level: Level

    @property
    def shifts(self) -> Float64:
        """``(view, 2)`` in pixels of the finest level."""
        if not self.state.flow.numel():
            return np.zeros((self.problem.ranks.views, 2))
        means = self.state.flow.numpy().mean(axis=(2, 3), dtype=np.float64)
        return np.asarray(means * self.level.binning)


@dataclass(frozen=True)
class SpaceSolved:
    """The last solver and its state, why it stopped, and where the shifts began."""

    solver: SpaceLevel
    state: SpaceState
    reason: StopReason
    start: Start

    @property
    def functions(self) -> Float64:
        """``(view, m)`` the functions of time."""
        return time_functions(len(self.solver.scan.theta_degrees), self.solver.options.degree)


@dataclass(frozen=True)
class SpaceBegun:
    """What has been done already: whole views, and the first level."""

    whole: WholeViews
    first: SpaceSolved


Note = Callable[[SpaceTold], None]


def solve_space(
    job: Job, plan: Plan, views: Views, note: Note | None = None, show: Note | None = None,
    begun: SpaceBegun | None = None,
) -> SpaceSolved:  # fmt: skip
    """All levels of a set of views; ``note`` is told every iteration, ``show`` one now and then."""
    whole = align_whole(job, plan, views) if begun is None else begun.whole
    solved = None if begun is None else begun.first
    for level in plan.levels(views.center)[0 if begun is None else 1 :]:
        solved = solve_level(job, plan, views, whole, level, solved, note, show)
    assert solved is not None
    return solved


def align_whole(job: Job, plan: Plan, views: Views) -> WholeViews:
    """Shifts of whole views by reprojection, at the coarsest level."""
    level = plan.levels(views.center)[0]
    pixels = binned(views.projections, level.binning)
    problem = LevelProblem.of(pixels, views.theta_degrees, level.center, job.world)
    if not plan.options.prealign:
        still = Start(np.zeros((len(views.theta_degrees), 2)), "none")
        return WholeViews(still, problem, first_state(problem, None, variation=False), level)
    start = begin_shifts(pixels, problem)
    state = first_state(problem, torch.from_numpy(shift_flow(start.shifts, problem)), variation=False)
    motion = Motion(NearAndFar(), lambda iteration: float(level.shape[2]), dilation=False)
    solver = Joint(problem, state, motion, smooth_enough(pixels, problem), _WHOLE_STEPS, plan.options.robust)
    state, _ = job.solve(
        solver, WHOLE_ITERATIONS, stage=_stage(views, "space-views"), placement=problem.placement,
        space=problem.space,
    )  # fmt: skip
    return WholeViews(start, problem, state, level)


def smooth_enough(pixels: Float32, problem: LevelProblem, damping: float = 1.0) -> Regularity:
    """Damping by the noise, and enough of it that a volume is told while it still moves."""
    found = regularity_of(pixels, problem, variation=None, damping=damping)
    return replace(found, damping=max(found.damping, LEAST_SMOOTHNESS * problem.tomography.norm))


def solve_level(
    job: Job, plan: Plan, views: Views, whole: WholeViews, level: Level, before: SpaceSolved | None,
    note: Note | None = None, show: Note | None = None,
) -> SpaceSolved:  # fmt: skip
    """One level, from the state of that before; None: the first, from shifts of whole views."""
    together = level.number < len(plan.binnings)
    scan = MovingScan(views.projections, views.theta_degrees, views.center)
    options = _options(job, plan, views, level, together=together)
    solver = SpaceLevel.of(
        _begin(plan, level, whole, before, options), scan, options, level.binning, together=together,
        robust=plan.options.robust, world=job.world,
    )  # fmt: skip

    def told(state: SpaceState) -> SpaceTold:
        return SpaceTold(level, solver, state)

    state, reason = job.solve(
        solver if note is None else Noted(solver, told, note),
        level.iterations,
        stage=_stage(views, f"space-{level.number}"),
        preview=None if show is None else lambda state: show(told(state)),
        placement=Placement.same(job.world),
    )
    return SpaceSolved(solver, state, reason, whole.start)


def _begin(
    plan: Plan, level: Level, whole: WholeViews, before: SpaceSolved | None, options: MotionOptions
) -> SpaceState:
    _, rows, columns = level.shape
    shape = (rows, columns, columns)
    if before is not None:
        ratio = plan.binnings[level.number - 2] / level.binning
        return finer_space(before.state, rows, columns, ratio)
    basis = MotionBasis.of(shape, plan.shape[1:], options.cells, level.binning)
    return first_space((options.degree, 3, *basis.knots), shape, whole.shifts)


def _options(job: Job, plan: Plan, views: Views, level: Level, *, together: bool) -> MotionOptions:
    """Damping, and at the finest level total variation, as the noise wants them; R has norm one here."""
    pixels = binned(views.projections, level.binning)
    problem = LevelProblem.of(pixels, views.theta_degrees, level.center, job.world)
    norm, variation = problem.tomography.norm, 0.0
    if together:
        smoothness = smooth_enough(pixels, problem).damping / norm
    elif plan.variation:
        found = regularity_of(pixels, problem, variation=plan.options.tv, damping=0.0)
        smoothness, variation = found.penalty / norm, found.variation / found.penalty
    else:
        smoothness = (
            regularity_of(pixels, problem, variation=None, damping=plan.options.damping).damping / norm
        )
    return MotionOptions(
        mass=plan.mass, jitter=True, smoothness=smoothness, variation=variation, threads=plan.options.threads
    )  # fmt: skip


def _stage(views: Views, name: str) -> str:
    return f"{views.name}-{name}" if views.name else name
