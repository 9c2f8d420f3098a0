"""What a run with a motion in space writes, while it runs and at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.jobs.run import Job
from manyviews.nano.copies import write_copies
from manyviews.nano.flow.robust import find_jumps, view_weights
from manyviews.nano.halves import compare_halves, write_halves, write_mask
from manyviews.nano.motion.basis import time_functions
from manyviews.nano.motion.displacement import ViewMotion, displacement_at, view_motion
from manyviews.nano.motion.solver import SpaceLevel, SpaceState
from manyviews.nano.plan import Plan
from manyviews.nano.reconstruct_results import (
    EXAMPLES,
    ViewTable,
    Watcher,
    about,
    misfit_of,
    shown_pairs,
    write_fitted_views,
    write_images,
    write_volume,
)
from manyviews.nano.results import (
    SHIFTS_FILE,
    VIEWS_FILE,
    Examples,
    Iteration,
    SpaceMotion,
    Views,
    write_examples,
    write_motion,
    write_shifts,
    write_views,
)
from manyviews.nano.scan.prepare import Prepared
from manyviews.nano.space import SpaceSolved, SpaceTold
from manyviews.nano.stages import Solved
from manyviews.operators.radon import Radon
from manyviews.report.fitted_images import chosen_images
from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, VOLUME_FILE

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_NOTHING = 0.02  # of the strongest, below which no specimen is on a ray


class SpaceWatcher:
    """Writes down every iteration of a motion in space, and the present volume, motion and examples."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.job, self.prepared = watcher.job, watcher.prepared

    def note(self, told: SpaceTold) -> None:
        """A line for an iteration."""
        if not self.job.speaks:
            return
        state, level = told.state, told.level
        moved = _motion_of(told.solver, state)
        rms = float(np.sqrt(np.mean(moved.rms**2))) / level.binning
        self.watcher.write(
            Iteration(level.number, state.iteration, level.binning, misfit=state.misfit, flow_rms_pixels=rms)
        )

    def show(self, told: SpaceTold) -> None:
        """The present volume, the motion, and some views."""
        model, still = told.solver.model(told.state), told.solver.at_rest(told.state)
        if not self.job.speaks:
            return
        volume = told.state.iterate.numpy()
        write_volume(self.job, VOLUME_FILE, volume, self.prepared, told.level.binning)
        write_motion(self.job.folder, motion_table(told.solver, told.state))
        write_examples(self.job.folder, example_views(told.solver, told.state, model, still))


def motion_table(solver: SpaceLevel, state: SpaceState) -> SpaceMotion:
    """What is stored of a motion."""
    theta = np.asarray(solver.scan.theta_degrees, np.float64)
    functions = time_functions(len(theta), solver.options.degree)
    return SpaceMotion(state.knots.numpy(), theta, functions, state.shifts.numpy())


def _motion_of(solver: SpaceLevel, state: SpaceState) -> ViewMotion:
    functions = time_functions(len(solver.scan.theta_degrees), solver.options.degree)
    return view_motion(state.knots.numpy(), functions, state.iterate.numpy())


def example_views(solver: SpaceLevel, state: SpaceState, model: Float32, still: Float32) -> Examples:
    """A few views over the scan, the ends included; their flow is the mean displacement along rays."""
    theta = np.asarray(solver.scan.theta_degrees, np.float64)
    chosen = np.unique(np.linspace(0, len(theta) - 1, EXAMPLES).round().astype(np.int64))
    functions = time_functions(len(theta), solver.options.degree)[chosen]
    data = solver.problem.data[chosen]
    aligned = data - model[chosen] + still[chosen]
    flow = _mean_flow(solver, state, functions, chosen)
    return Examples(chosen, theta[chosen], data, aligned, model[chosen], flow)


def _mean_flow(
    solver: SpaceLevel, state: SpaceState, functions: Float64, chosen: NDArray[np.int64]
) -> Float32:
    """``(k, 2, z, x)`` in pixels of the level, each voxel as much as it weighs; zero where nothing is."""
    volume = np.abs(state.iterate.numpy())
    radon, voxel = solver.problem.still.radon, solver.problem.moving.basis.voxel
    found = np.zeros((len(chosen), 2, *solver.problem.data.shape[1:]), np.float32)
    knots, shifts = state.knots.numpy(), state.shifts.numpy()
    for row, (view, at) in enumerate(zip(chosen.tolist(), functions, strict=True)):
        z, y, x = displacement_at(knots, at, volume.shape) / np.float32(voxel)
        theta = math.radians(float(radon.theta_degrees[view]))
        across = np.float32(math.cos(theta)) * x + np.float32(math.sin(theta)) * y
        rows, columns = radon.range[1:]
        one = Radon([radon.theta_degrees[view]], rows, columns, radon.center, size=radon.domain[1], threads=1)
        weight = one.forward(torch.from_numpy(volume)).numpy()[0]
        there = weight > _NOTHING * weight.max()
        for part, along in enumerate((across, z)):
            image = one.forward(torch.from_numpy(volume * along)).numpy()[0]
            found[row, part][there] = image[there] / weight[there] + shifts[view, part] / voxel
    return found


def write_space_results(
    job: Job, plan: Plan, prepared: Prepared, solved: SpaceSolved, unaligned: Solved,
    halves: Sequence[SpaceSolved],
) -> tuple[dict[str, object], ViewTable]:  # fmt: skip
    """Write all files; key figures by name, and the views. All ranks make this call, the first writes."""
    solver, state = solved.solver, solved.state
    model, still, before = solver.model(state), solver.at_rest(state), misfit_of(unaligned)
    data, volume = solver.problem.data, state.iterate.numpy()
    misfit, size = (np.sum(part.astype(np.float64) ** 2, axis=(1, 2)) for part in (data - model, data))
    moved = _motion_of(solver, state)
    table = _view_table(prepared, moved, state, misfit, size, before)
    figures = _figures(plan, prepared, solved, moved, table, misfit, size, before)
    if not job.speaks:
        return {}, table
    folder = job.folder
    write_volume(job, VOLUME_FILE, volume, prepared)
    write_motion(folder, motion_table(solver, state))
    write_images(job, prepared, data - model + still)
    write_views(folder / VIEWS_FILE, table.views)
    write_shifts(folder / SHIFTS_FILE, prepared.theta_degrees, table.shifts * prepared.binning)
    write_examples(folder, example_views(solver, state, model, still))
    some = chosen_images(len(data))
    write_fitted_views(job, prepared, some, shown_pairs(data[some], model[some]))
    parts = [half.state.iterate.numpy() for half in halves]
    if parts:
        for name, part in zip((HALF1_FILE, HALF2_FILE), parts, strict=True):
            write_volume(job, name, part, prepared)
        size_nm = prepared.pixel_size_nm
        write_mask(folder, parts[0].shape, size_nm)
        figures |= write_halves(folder, compare_halves(parts[0], parts[1], size_nm), size_nm)
    write_copies(job, plan, volume, prepared.pixel_size_nm)
    return figures, table


def _view_table(
    prepared: Prepared, moved: ViewMotion, state: SpaceState, misfit: Float64, size: Float64, before: Float64
) -> ViewTable:
    """Shifts are those of the specimen's middle, as each view sees it, and of the whole view besides."""
    weighted, shifts, weights = view_weights(misfit, size), state.shifts.numpy(), state.weights.numpy()
    count = len(misfit)
    whole = np.maximum(size, np.finfo(float).tiny)
    bad, jump = np.zeros(count), np.zeros(count)
    bad[weighted.bad] = 1
    jump[find_jumps(shifts)] = 1
    seen = moved.seen(prepared.theta_degrees) + shifts
    views = Views(
        prepared.theta_degrees, np.sqrt(before / whole), np.sqrt(misfit / whole), moved.rms,
        weights,
        bad, jump,
    )  # fmt: skip
    return ViewTable(views, weighted, seen)


def _figures(
    plan: Plan, prepared: Prepared, solved: SpaceSolved, moved: ViewMotion, table: ViewTable,
    misfit: Float64, size: Float64, before: Float64,
) -> dict[str, object]:  # fmt: skip
    whole = max(float(size.sum()), np.finfo(float).tiny)
    return {
        **about(plan, prepared),
        "misfit_unaligned": round(math.sqrt(float(before.sum()) / whole), 5),
        "misfit": round(math.sqrt(float(misfit.sum()) / whole), 5),
        "displacement_rms_pixels": round(float(np.sqrt(np.mean(moved.rms**2))), 4),
        "largest_displacement_pixels": round(float(moved.longest.max()), 3),
        "shifts_of_views_rms_pixels": round(float(np.sqrt(np.mean(solved.state.shifts.numpy() ** 2) * 2)), 4),
        "shifts_begun_with": solved.start.by,
        "views_that_do_not_fit": int(table.views.bad.sum()),
        "jumps": int(table.views.jump.sum()),
        "iterations": list(plan.iterations),
        "binnings": list(plan.binnings),
        "stopped_because": str(solved.reason),
    }
