"""The stages of a run: from projections to a volume and flows, level by level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.jobs.run import Job
from manyviews.nano.admm.printed import Printed, PrintedState, first_printed, joint_state
from manyviews.nano.flow.engines import FlowEngine, make_engine
from manyviews.nano.flow.gauge import remove_shift_gauge
from manyviews.nano.flow.grid import Grid
from manyviews.nano.flow.mass import KeepingMass, inverse_flow
from manyviews.nano.flow.windows import FINEST_WINDOW, annealed_window, level_schedules
from manyviews.nano.plan import Plan
from manyviews.nano.room import MEMORY, Allocate, Room, blocks, in_memory
from manyviews.nano.scan.binning import binned
from manyviews.nano.solve.joint import Joint, JointState, Motion, Regularity, Seconds, first_state
from manyviews.nano.solve.levels import (
    Level,
    finer_flow,
    finer_gauge,
    finer_images,
    finer_volume,
)
from manyviews.nano.solve.problem import LevelProblem
from manyviews.nano.solve.regularity import regularity_of
from manyviews.nano.solve.start import NearAndFar, Start, begin_shifts, pair_shifts, shift_flow
from manyviews.runs.checkpoint import KEPT
from manyviews.solvers.driver import Solver, StopReason
from manyviews.solvers.state import SolverState

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
S = TypeVar("S", bound=SolverState)
T = TypeVar("T")

_SHIFT_ITERATIONS = 8  # of whole views, before flows are looked for
_BEFORE_ITERATIONS = 4
GRID_DAMPING = 0.1  # there are many steps, each with a better volume
GRID_HOLDING = 0.1  # to neighbours in time, whole shifts excepted
KEPT_IN_FILES = 1
"""Checkpoints of a stage whose arrays lie in files."""


@dataclass(frozen=True)
class Told:
    """What a watcher is told after each iteration of the whole set of views."""

    level: Level
    problem: LevelProblem
    state: JointState
    seconds: Seconds
    rho_tomography: float = float("nan")
    rho_gradient: float = float("nan")


Note = Callable[[Told], None]


@dataclass(frozen=True)
class Solved:
    """The finest level, its last state, why it stopped, and where the shifts began.

    ``misfit (view,)`` are sums of squares of what does not fit without motion, where they are known already.
    """

    problem: LevelProblem
    state: JointState
    reason: StopReason
    start: Start | None
    misfit: Float64 | None = None


@dataclass(frozen=True)
class Views:
    """Projections of all views of a set, their angles, the centre; ``name`` stands before its stages.

    ``room`` is where all that is made of them lives; ``pitch_degrees (view,)``, where they are tilted towards
    the beam.
    """

    projections: Float32
    theta_degrees: Float64
    center: float
    name: str = ""
    room: Room = MEMORY
    pitch_degrees: Float64 | None = None

    def of(self, places: NDArray[np.int64], name: str) -> Views:
        """Some of them."""
        made = self.room.allocate((len(places), *self.projections.shape[1:]))
        for part in blocks(len(places), made[0].size):
            made[part] = self.projections[places[part]]
        pitch = None if self.pitch_degrees is None else self.pitch_degrees[places]
        return Views(made, self.theta_degrees[places], self.center, name, self.room, pitch)

    def binned(self, factor: int) -> Float32:
        """Projections of so many times fewer pixels a side."""
        if factor == 1:
            return self.projections
        count, rows, columns = self.projections.shape
        made = self.room.allocate((count, rows // factor, columns // factor))
        for part in blocks(count, rows * columns):
            made[part] = binned(self.projections[part], factor)
        return made


def solve_views(
    job: Job, plan: Plan, views: Views, note: Note | None = None, show: Callable[[Told], None] | None = None
) -> Solved:
    """All levels of a set of views; ``note`` is told every iteration, ``show`` one now and then."""
    if plan.printed:
        return _printed(job, plan, views, note, show)
    if not plan.moving:
        return _still(job, plan, views, note, show)
    return _moving(job, plan, views, note, show)


def solve_unaligned(job: Job, plan: Plan, views: Views) -> Solved:
    """The same projections without alignment, to compare with."""
    level = replace(plan.levels(views.center)[-1], iterations=_BEFORE_ITERATIONS)
    problem = _problem(job, plan, views, level)
    stage = _Stages(job, plan, views, None, None)
    state = first_state(problem, None, variation=plan.variation)
    state, reason = stage.run(level, problem, state, None, stage="unaligned")
    return Solved(problem, state, reason, None)


@dataclass(frozen=True)
class _Stages:
    job: Job
    plan: Plan
    views: Views
    note: Note | None
    show: Callable[[Told], None] | None

    def name(self, stage: str) -> str:
        return f"{self.views.name}-{stage}" if self.views.name else stage

    def run(
        self, level: Level, problem: LevelProblem, start: JointState, motion: Motion | None, *,
        stage: str, iterations: int | None = None,
    ) -> tuple[JointState, StopReason]:  # fmt: skip
        """One stage of our solver."""
        options = self.plan.options
        variation = options.tv if self.plan.variation and start.duals else None
        pixels = self.views.binned(level.binning)
        regularity = regularity_of(pixels, problem, variation=variation, damping=options.damping)
        del pixels
        solver = Joint(
            problem, start, motion, regularity, options.inner_iterations, options.robust, spends=True
        )

        def told(state: JointState) -> Told:
            return Told(level, problem, state, solver.seconds)

        return self.job.solve(
            _noted(solver, told, self.note if stage == level.name else None),
            iterations or level.iterations,
            stage=self.name(stage),
            preview=None if self.show is None else lambda state: self.show(told(state)),  # type: ignore[misc]
            placement=problem.placement,
            space=problem.space,
            kept=KEPT_IN_FILES if self.views.room.in_files else KEPT,
        )


def _problem(job: Job, plan: Plan, views: Views, level: Level) -> LevelProblem:
    return LevelProblem.of(
        views.binned(level.binning), views.theta_degrees, level.center, job.world, mass=plan.mass,
        room=views.room, pitch_degrees=views.pitch_degrees,
    )  # fmt: skip


def _still(
    job: Job, plan: Plan, views: Views, note: Note | None, show: Callable[[Told], None] | None
) -> Solved:
    """Without motion, or with that of the pre-alignment."""
    level = plan.levels(views.center)[-1]
    problem = _problem(job, plan, views, level)
    start, flow = None, None
    if plan.options.method != "cg" and plan.options.prealign:
        shifts = pair_shifts(views.projections, views.theta_degrees, views.center)
        if shifts is None:
            job.warn(
                "no two views look from the same or from opposite sides, so none is aligned beforehand: "
                "--method shifts aligns them to their reconstruction"
            )
        else:
            start = Start(remove_shift_gauge(shifts, views.theta_degrees)[0], "opposite and return views")
            flow = torch.from_numpy(shift_flow(start.shifts, problem))
    state = first_state(problem, flow, variation=plan.variation)
    state, reason = _Stages(job, plan, views, note, show).run(level, problem, state, None, stage=level.name)
    return Solved(problem, state, reason, start)


def _moving(
    job: Job, plan: Plan, views: Views, note: Note | None, show: Callable[[Told], None] | None
) -> Solved:
    """Whole views first, at the coarsest level, then flows, finer and finer."""
    levels = plan.levels(views.center)
    stages = _Stages(job, plan, views, note, show)
    total, done = sum(plan.iterations), 0
    begun, state, reason = None, None, StopReason.ITERATIONS
    for level in levels:
        problem = _problem(job, plan, views, level)
        if state is None:
            begun, state = _first(stages, plan, views, level, problem)
        else:
            state = _finer(state, problem)
        motion = _motion(plan, level, problem, done, total)
        state, reason = stages.run(level, problem, state, motion, stage=level.name)
        done += level.iterations
    assert state is not None
    return Solved(problem, state, reason, begun)


def _first(
    stages: _Stages, plan: Plan, views: Views, level: Level, problem: LevelProblem
) -> tuple[Start, JointState]:
    """Shifts to begin with, and for methods with flows those that reprojection makes of them."""
    still = Start(np.zeros((len(views.theta_degrees), 2)), "none")
    pixels = views.binned(level.binning)
    # whole views that shift keep grey levels and mass alike
    shifting = replace(problem, mass=False)
    begun = begin_shifts(pixels, shifting) if plan.options.prealign else still
    flow = torch.from_numpy(shift_flow(begun.shifts, problem))
    state = first_state(problem, flow, variation=plan.variation)
    if plan.options.method == "shifts" or not plan.options.prealign:
        return begun, as_model(state, problem)
    whole = NearAndFar(allocate=problem.allocate)
    motion = Motion(whole, lambda iteration: float(level.shape[2]), dilation=False)
    state, _ = stages.run(level, shifting, state, motion, stage="whole-views", iterations=_SHIFT_ITERATIONS)
    return begun, replace(as_model(state, problem), iteration=0)


def as_model(state: JointState, problem: LevelProblem) -> JointState:
    """A state of whole shifts, by which images are read, as the problem has it: mass goes the other way."""
    if not problem.mass or not state.flow.numel():
        return state
    found = problem.allocate(tuple(state.flow.shape))
    for part in blocks(len(found), 2 * found[0].size):
        found[part] = inverse_flow(state.flow[part].numpy())
    return replace(state, flow=torch.from_numpy(found))


def _motion(plan: Plan, level: Level, problem: LevelProblem, done: int, total: int) -> Motion:
    """The engine of a level and its windows, which shrink from level to level."""
    options = plan.options
    if options.method == "shifts":
        whole = keeping(NearAndFar(options.rotation, problem.allocate), plan.mass, problem.allocate)
        return Motion(whole, lambda iteration: float(level.shape[2]), dilation=False)

    def window(iteration: int) -> float:
        part = (done + iteration) / max(total - 1, 1)
        finest = max(FINEST_WINDOW, 2.0 * FINEST_WINDOW / level.binning)
        return max(finest, annealed_window(plan.window, 2.0 * FINEST_WINDOW, part) / level.binning)

    engine = _grid(problem) if options.flow == "grid" else make_engine(options.flow)
    return Motion(keeping(engine, plan.mass, problem.allocate), window)


def keeping(engine: FlowEngine, mass: bool, allocate: Allocate = in_memory) -> FlowEngine:
    """An engine for the model that is used; all of them look for where grey levels must be read."""
    return KeepingMass(engine, allocate) if mass else engine


def _grid(problem: LevelProblem) -> Grid:
    """Splines that know the views of all ranks, which are neighbours in time."""
    ranks = problem.ranks

    def of_all_views(knots: Float32) -> tuple[Float32, slice]:
        return ranks.gather_views(torch.from_numpy(knots)).numpy(), ranks.own_views

    return Grid(
        damping=GRID_DAMPING, holding=GRID_HOLDING, of_all_views=of_all_views, allocate=problem.allocate
    )


def _finer(state: JointState, problem: LevelProblem) -> JointState:
    """A state on the next level, counted anew."""
    ranks = problem.ranks
    shape = ranks.rows, ranks.columns
    coarse = state.iterate, state.duals
    return replace(
        state,
        iteration=0,
        iterate=_own_finer(coarse[0], problem, 0.5),
        duals=_own_finer_slopes(coarse[1], problem),
        flow=finer_flow(state.flow, *shape, allocate=problem.allocate) if state.flow.numel() else state.flow,
        gauge=finer_gauge(state.gauge, ranks.rows),
    )


def _own_finer(slab: torch.Tensor, problem: LevelProblem, scale: float) -> torch.Tensor:
    """Own slices of a volume on twice as many voxels, from own slices of the coarse one."""
    world, ranks = problem.ranks.world, problem.ranks
    counts = world.gather(len(slab))
    whole = world.all_gather(slab.contiguous(), counts)
    fine = finer_volume(whole, ranks.rows, ranks.columns, scale, allocate=problem.allocate)
    return fine[ranks.own_rows].contiguous()


def _own_finer_slopes(slopes: tuple[torch.Tensor, ...], problem: LevelProblem) -> tuple[torch.Tensor, ...]:
    """The same of slopes along z, y, x: none leads out of the volume."""
    found = tuple(_own_finer(one, problem, 0.25) for one in slopes)
    if found:
        if problem.ranks.own_rows.stop == problem.ranks.rows:
            found[0][-1] = 0.0
        found[1][:, -1] = 0.0
        found[2][:, :, -1] = 0.0
    return found


def _printed(
    job: Job, plan: Plan, views: Views, note: Note | None, show: Callable[[Told], None] | None
) -> Solved:
    """The paper's splitting, level by level."""
    schedules = level_schedules(plan.window / 2 ** (len(plan.iterations) - 1), plan.iterations)
    state: PrintedState | None = None
    before = 1.0
    reason = StopReason.ITERATIONS
    for level, windows in zip(plan.levels(views.center), schedules, strict=True):
        problem = _problem(job, plan, views, level)
        pixels = torch.from_numpy(views.binned(level.binning))
        solver = Printed(
            problem, first_printed(problem, pixels, variation=plan.variation), windows,
            _printed_weight(plan, views, level, problem), plan.options.inner_iterations,
        )  # fmt: skip
        if state is not None:
            solver = replace(solver, start=_finer_printed(state, problem, solver.scale / before))
        state, reason = _solve_printed(job, solver, level, views.name, note, show)
        before = solver.scale
    assert state is not None
    return Solved(problem, joint_state(state), reason, None)


def _printed_weight(plan: Plan, views: Views, level: Level, problem: LevelProblem) -> float:
    """alpha for a projector of norm one, which the paper adjusts by hand; twice: its misfit has no half."""
    if not plan.variation:
        return 0.0
    pixels = views.binned(level.binning)
    regularity: Regularity = regularity_of(pixels, problem, variation=plan.options.tv, damping=0.0)
    return 2.0 * regularity.variation / float(np.sqrt(problem.tomography.norm))


def _solve_printed(
    job: Job, solver: Printed, level: Level, name: str, note: Note | None,
    show: Callable[[Told], None] | None,
) -> tuple[PrintedState, StopReason]:  # fmt: skip
    def told(state: PrintedState) -> Told:
        return Told(level, solver.problem, joint_state(state), solver.seconds,
                    state.rho_tomography, state.rho_gradient)  # fmt: skip

    return job.solve(
        _noted(solver, told, note),
        level.iterations,
        stage=f"{name}-{level.name}" if name else level.name,
        preview=None if show is None else lambda state: show(told(state)),
        placement=solver.problem.placement,
        space=solver.problem.space,
    )


def _finer_printed(state: PrintedState, problem: LevelProblem, scale: float) -> PrintedState:
    """Penalties begin anew; gradients are of the volume times the norm of R, which grew by ``scale``."""
    ranks = problem.ranks
    shape = ranks.rows, ranks.columns
    first = PrintedState(
        0, _own_finer(state.iterate, problem, 0.5),
        tuple(_own_finer(one, problem, 0.25 * scale) for one in state.gradient),
        tuple(_own_finer(one, problem, 1.0) for one in state.gradient_dual),
        finer_images(state.images, *shape), finer_images(state.dual, *shape),
        finer_flow(state.flow, *shape), state.misfit,
    )  # fmt: skip
    return first


class Noted(Generic[S, T]):
    """A solver whose steps are told."""

    def __init__(self, solver: Solver[S], told: Callable[[S], T], note: Callable[[T], None]) -> None:
        self.init = solver.init
        self._step, self._told, self._note = solver.step, told, note

    def step(self, state: S) -> S:
        """One iteration."""
        found = self._step(state)
        self._note(self._told(found))
        return found


def _noted(solver: Solver[S], told: Callable[[S], Told], note: Note | None) -> Solver[S]:
    return solver if note is None else Noted(solver, told, note)
