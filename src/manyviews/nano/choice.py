"""Flows of projections or motion in space: both are tried with large pixels, and the misfit says which.

A flow that is the same from all sides, as optics make, is no motion of a specimen; a motion that depends on
depth is no flow. Each leaves much of the other unexplained. The level is the coarsest at which a motion in
space is fitted, with some 16 to 31 columns; volumes are damped alike. If motion in space wins, what was
found goes on from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from manyviews.errors import InputError
from manyviews.jobs.run import Job
from manyviews.nano.estimate import room_for_choice
from manyviews.nano.flow.grid import Grid
from manyviews.nano.flow.windows import annealed_window
from manyviews.nano.plan import Plan
from manyviews.nano.reconstruct_options import Method
from manyviews.nano.results import CHOICE_FILE, Choice, write_choice
from manyviews.nano.scan.binning import binned
from manyviews.nano.solve.joint import Joint, JointState, Motion, first_state, own_flow, view_misfits
from manyviews.nano.solve.noise import noise_of
from manyviews.nano.solve.problem import LevelProblem
from manyviews.nano.solve.start import shift_flow
from manyviews.nano.space import Note, SpaceBegun, align_whole, smooth_enough, solve_level
from manyviews.nano.stages import GRID_DAMPING, GRID_HOLDING, Views, as_model, keeping
from manyviews.runs.checkpoint import has_checkpoints

FLOWS: Method = "oftv"
SPACE: Method = "spacetv"
CLEARLY = 0.92  # of the other's misfit
_ITERATIONS, _STEPS = 12, 4
_SPACE_STAGES, _FLOW_STAGES = ("space-views", "space-1"), ("whole-views", "level-1")
_SPACING = 4.0  # of the grid's knots, pixels of the level, at least
_LAST_WINDOW = 0.5  # of the columns: knots a quarter of the detector apart, in space half of it


@dataclass(frozen=True)
class Chosen:
    """The plan of the method that was taken, what it goes on from, and why; None: nothing was compared."""

    plan: Plan
    begun: SpaceBegun | None
    choice: Choice | None


def affordable(job: Job, plan: Plan, data_bytes: int) -> Plan:
    """The plan, or that with flows where memory has no room for the other.

    How much is free may differ when a run is gone on with, which then stays with what it began.
    """
    if not plan.choosing:
        return plan
    tried, moved = (
        job.world.broadcast(any(has_checkpoints(job.folder, stage) for stage in stages))
        for stages in (_SPACE_STAGES, _FLOW_STAGES)
    )
    told = "" if tried or moved else room_for_choice(plan, job.world, data_bytes)
    if told:
        job.warn(told)
    return plan.chosen(FLOWS) if told or (moved and not tried) else plan


def choose(job: Job, plan: Plan, views: Views, note: Note | None = None) -> Chosen:
    """Try both on all views of a scan; what comes of it is told, and written for the report.

    Pitched views are left to flows: motion in space knows no pitch.
    """
    if views.pitch_degrees is not None:
        job.say(f"motion in space is not tried, as it knows no pitch of views: going on with {FLOWS}")
        return Chosen(plan.chosen(FLOWS), None, None)
    try:
        space = plan.chosen(SPACE)
    except InputError as error:
        job.say(f"motion in space is not tried ({error.what}): going on with {FLOWS}")
        return Chosen(plan.chosen(FLOWS), None, None)
    whole = align_whole(job, space, views)
    level = space.levels(views.center)[0]
    fitted = solve_level(job, space, views, whole, level, None, note)
    flows = _flow_misfit(job, plan, whole.problem, whole.state, binned(views.projections, level.binning))
    choice = decide(flows, fitted.state.misfit, noise_misfit(views, level.binning), level.shape[2])
    job.say(choice_words(choice))
    if job.speaks:
        write_choice(job.folder / CHOICE_FILE, choice)
    if choice.method == SPACE:
        return Chosen(space, SpaceBegun(whole, fitted), choice)
    return Chosen(plan.chosen(FLOWS), None, choice)


def decide(flows: float, space: float, noise: float, columns: int) -> Choice:
    """The method with the clearly smaller misfit; where neither is, flows, which take less time."""
    return Choice(SPACE if space < CLEARLY * flows else FLOWS, flows, space, noise, columns)


def choice_words(choice: Choice) -> str:
    """Who won, and by how much."""
    flows, space = choice.misfit_flows, choice.misfit_space
    names = ("motion in space", "flows of projections")
    better, worse = names if choice.method == SPACE else names[::-1]
    low, high = (space, flows) if choice.method == SPACE else (flows, space)
    figures = (
        f"of projections with {choice.columns} columns {better} left {low:.4f} unexplained, {worse} "
        f"{high:.4f}, white noise alone would leave about {choice.misfit_noise:.4f}"
    )
    if low < CLEARLY * high:
        return f"{figures}: going on with {choice.method}"
    return f"{figures}: neither is clearly better, so going on with {choice.method}, which takes less time"


def choice_figures(choice: Choice | None) -> dict[str, object]:
    """For the summary."""
    if choice is None:
        return {}
    return {
        "tried_with_columns": choice.columns,
        "misfit_of_flows_tried": round(choice.misfit_flows, 5),
        "misfit_of_motion_in_space_tried": round(choice.misfit_space, 5),
        "misfit_of_noise_alone": round(choice.misfit_noise, 5),
    }


def noise_misfit(views: Views, binning: int) -> float:
    """What noise alone would leave of binned projections: that of pixels, which averages out."""
    pixels = binned(views.projections, binning).astype(np.float64)
    size = float(np.linalg.norm(pixels))
    sigma = noise_of(np.asarray(views.projections)) / binning
    return sigma * math.sqrt(pixels.size) / size if size > 0 else math.nan


def _flow_misfit(
    job: Job, plan: Plan, problem: LevelProblem, whole: JointState, pixels: np.ndarray
) -> float:  # fmt: skip
    """What flows leave, from the shifts of whole views on."""
    problem = replace(problem, mass=plan.mass)
    flow = whole.flow
    if not flow.numel():
        flow = torch.from_numpy(shift_flow(np.zeros((problem.ranks.views, 2)), problem))
    start = as_model(first_state(problem, flow, variation=False), problem)
    columns = float(problem.ranks.columns)

    def window(iteration: int) -> float:
        return annealed_window(columns, _LAST_WINDOW * columns, iteration / (_ITERATIONS - 1))

    ranks = problem.ranks
    grid = Grid(
        finest_spacing=_SPACING, damping=GRID_DAMPING, holding=GRID_HOLDING,
        of_all_views=lambda knots: (ranks.gather_views(torch.from_numpy(knots)).numpy(), ranks.own_views),
    )  # fmt: skip
    motion = Motion(keeping(grid, plan.mass), window)
    solver = Joint(problem, start, motion, smooth_enough(pixels, problem), _STEPS, "none")
    state, _ = job.solve(
        solver, _ITERATIONS, stage="flows-tried", placement=problem.placement, space=problem.space
    )
    model = problem.project(state.iterate)
    misfit, size = view_misfits(problem, model, own_flow(problem, state.flow))
    return math.sqrt(float(misfit.sum()) / max(float(size.sum()), 1e-30))
