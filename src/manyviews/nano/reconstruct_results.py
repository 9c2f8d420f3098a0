"""What a reconstruction writes, while it runs and at the end; the formats are of `manyviews.nano.results`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.array_file import open_array, write_array
from manyviews.io.mrc import MrcWriter, write_mrc
from manyviews.jobs.run import Job
from manyviews.kernels.warp_cpu import pull_back, push_forward
from manyviews.metrics.correlation import ncc_views
from manyviews.nano.copies import COPIES, write_copies
from manyviews.nano.fbp import filtered_back_projection
from manyviews.nano.flow.mass import inverse_flow
from manyviews.nano.flow.robust import ViewWeights, find_jumps, view_weights
from manyviews.nano.halves import compare_halves, comparison_binning, write_halves, write_mask
from manyviews.nano.plan import Plan
from manyviews.nano.results import (
    ALIGNED_FILE,
    BEFORE_FILE,
    CENTER_FILE,
    FILES,
    FLOW_FILE,
    GAUGE_FILE,
    ITERATIONS_FILE,
    SHIFTS_FILE,
    VIEWS_FILE,
    Center,
    Examples,
    GaugeTable,
    Iteration,
    Views,
    read_iterations,
    write_center,
    write_examples,
    write_gauge,
    write_iterations,
    write_shifts,
    write_views,
)
from manyviews.nano.room import MEMORY, Room, blocks, give_up
from manyviews.nano.scan.prepare import Prepared
from manyviews.nano.solve.joint import Seconds, own_flow, view_misfits
from manyviews.nano.solve.problem import LevelProblem, squares
from manyviews.nano.stages import Solved, Told
from manyviews.report.fitted_images import FILES as FITTED_FILES
from manyviews.report.fitted_images import block_of, chosen_images, shown, write_fitted
from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, VOLUME_FILE

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

RESULTS = (*FILES, *COPIES, *FITTED_FILES)
EXAMPLES = 4
_ANGSTROM_PER_NM = 10.0
_NO_SECONDS = Seconds()


@dataclass(frozen=True, eq=False)
class ViewTable:
    """What came out view by view: the table, its weights, and shifts ``(view, 2)`` in pixels of the run."""

    views: Views
    weighted: ViewWeights
    shifts: Float64


class Watcher:
    """Writes down every iteration, and the present volume and examples for the report."""

    def __init__(self, job: Job, plan: Plan, prepared: Prepared) -> None:
        self.job, self.plan, self.prepared = job, plan, prepared
        job.begin()
        if job.speaks:
            write_center(job.folder / CENTER_FILE, center_of(prepared))

    def unaligned(self, solved: Solved) -> Solved:
        """Write the volume without alignment; of it only what does not fit is kept."""
        volume = whole_volume(solved.problem, solved.state.iterate)
        if self.job.speaks:
            write_volume(self.job, BEFORE_FILE, volume, self.prepared)
        del volume
        told = replace(solved, misfit=misfit_of(solved))
        give_up(solved.state.iterate, *solved.state.duals)
        return told

    def note(self, told: Told) -> None:
        """A line for an iteration."""
        if not self.job.speaks:
            return
        state, flow = told.state, told.state.flow
        rms = math.sqrt(2 * float(squares(flow.numpy()).sum()) / flow.numel()) if flow.numel() else math.nan
        one = Iteration(
            told.level.number, state.iteration, told.level.binning, state.window, state.relative_misfit,
            state.objective, told.rho_tomography, told.rho_gradient, rms, told.seconds.flow,
            told.seconds.warp, told.seconds.tomography,
        )  # fmt: skip
        self.write(one)

    def write(self, one: Iteration) -> None:
        """Into the table, in place of what was there for it and later ones."""
        path = self.job.folder / ITERATIONS_FILE
        place = (one.level, one.iteration)
        try:
            known = read_iterations(path)
        except InputError:  # damaged: what is shown must not end a run
            known = []
        before = [old for old in known if (old.level, old.iteration) < place]
        write_iterations(path, [*before, one])

    def show(self, told: Told) -> None:
        """The present volume, and some views."""
        volume = whole_volume(told.problem, told.state.iterate)
        model = told.problem.ranks.gather_views(torch.from_numpy(told.problem.project(told.state.iterate)))
        data = told.problem.ranks.gather_views(torch.from_numpy(told.problem.data))
        if self.job.speaks:
            write_volume(self.job, VOLUME_FILE, volume, self.prepared, told.level.binning)
            examples = example_views(told, data.numpy(), model.numpy(), self.plan.mass)
            write_examples(self.job.folder, examples)


def center_of(prepared: Prepared) -> Center:
    """Where the axis is, and by what."""
    by = "--center" if prepared.found is None else prepared.found.by
    return Center(prepared.center, prepared.center_unbinned, by)


def whole_volume(problem: LevelProblem, slab: torch.Tensor) -> Float32:
    """All slices of a volume, on all ranks."""
    found: Float32 = problem.ranks.gather_rows(slab).numpy()
    return found


def write_volume(job: Job, name: str, volume: Float32, prepared: Prepared, binning: int = 1) -> None:
    """A volume of a run, replacing an earlier one; without a pixel size, a pixel is written as 1 nm."""
    size = (prepared.pixel_size_nm or 1.0) * binning * _ANGSTROM_PER_NM
    write_mrc(job.folder / name, volume, size, overwrite=True, labels=(_label(prepared),))


def _label(prepared: Prepared) -> str:
    return f"manyviews nano reconstruct, axis at column {prepared.center:.3f}"


def example_views(told: Told, data: Float32, model: Float32, mass: bool) -> Examples:
    """A few views over the scan, the ends included."""
    theta = told.problem.theta_degrees
    chosen = np.unique(np.linspace(0, len(theta) - 1, EXAMPLES).round().astype(np.int64))
    some = np.ascontiguousarray(data[chosen])
    if told.state.flow.numel():
        flow = np.ascontiguousarray(told.state.flow.numpy()[chosen])
    else:
        flow = np.zeros((len(chosen), 2, *data.shape[1:]), np.float32)
    aligned = straightened(some, flow, mass=mass)
    return Examples(chosen, theta[chosen], some, aligned, model[chosen], flow)


def straightened(data: Float32, flow: Float32, *, mass: bool) -> Float32:
    """Projections ``(n, z, x)`` as they would be without motion: data read, or moved, along inverse flows."""
    found = np.empty_like(data)
    for part in blocks(len(data), 2 * data[0].size):
        back = inverse_flow(np.ascontiguousarray(flow[part]))
        found[part] = (push_forward if mass else pull_back)(np.ascontiguousarray(data[part]), back)
    return found


def write_results(
    job: Job, plan: Plan, prepared: Prepared, solved: Solved, unaligned: Solved, halves: Sequence[Solved],
    room: Room = MEMORY,
) -> tuple[dict[str, object], ViewTable]:  # fmt: skip
    """Write all files; key figures by name, and the views. All ranks make this call, the first writes."""
    problem, state = solved.problem, solved.state
    volume = whole_volume(problem, state.iterate)
    own = own_flow(problem, state.flow)
    model = problem.project(state.iterate)
    misfit, size = (part.numpy() for part in view_misfits(problem, model, own))
    before = misfit_of(unaligned)
    all_model = problem.ranks.gather_views(torch.from_numpy(model)).numpy()
    last = Told(plan.levels(prepared.center)[-1], problem, state, _NO_SECONDS)
    examples = example_views(last, prepared.projections, all_model, plan.mass)
    some = chosen_images(len(all_model))
    fitted = shown_pairs(_aligned(prepared.projections, state.flow, some, plan.mass), all_model[some])
    del model, all_model, own
    more = problem.raised(state.iterate)
    raised = None if more is None else problem.ranks.gather_views(torch.from_numpy(more)).numpy()
    parts = [whole_volume(half.problem, half.state.iterate) for half in halves]
    table = view_table(prepared, state.flow, misfit, size, before)
    figures = _figures(plan, prepared, solved, misfit, size, before, table)
    if not job.speaks:
        return {}, table
    folder, flow = job.folder, state.flow.numpy()
    if flow.size:
        write_array(folder / FLOW_FILE, flow, overwrite=True)
        write_gauge(folder / GAUGE_FILE, GaugeTable(*state.gauge.numpy()))
        if room.in_files:  # from here on the one on the disk is enough
            give_up(state.flow)
            flow = open_array(folder / FLOW_FILE, 4)
    write_volume(job, VOLUME_FILE, volume, prepared)
    write_images(job, prepared, straightened_images(prepared.projections, flow, plan.mass, raised))
    write_views(folder / VIEWS_FILE, table.views)
    write_shifts(folder / SHIFTS_FILE, prepared.theta_degrees, table.shifts * prepared.binning)
    write_examples(folder, examples)
    write_fitted_views(job, prepared, some, fitted)
    if parts:
        for name, part in zip((HALF1_FILE, HALF2_FILE), parts, strict=True):
            write_volume(job, name, part, prepared)
        size_nm = prepared.pixel_size_nm
        write_mask(folder, parts[0].shape, size_nm)
        binning = comparison_binning(volume.shape) if room.in_files else 1
        if binning > 1:
            job.warn(
                f"the halves were compared with voxels binned by {binning}, as memory is small: no "
                f"resolution finer than {2 * binning} pixels is seen"
            )
        found = compare_halves(parts[0], parts[1], size_nm, binning=binning)
        figures |= write_halves(folder, found, size_nm)
    write_copies(job, plan, volume, prepared.pixel_size_nm)
    return figures, table


def write_filtered(job: Job, plan: Plan, prepared: Prepared, room: Room = MEMORY) -> dict[str, object]:
    """Filtered back-projection, which has no iterations."""
    job.begin()
    problem = LevelProblem.of(
        prepared.projections, prepared.theta_degrees, prepared.center, job.world, mass=plan.mass,
        room=room,
    )  # fmt: skip
    own = torch.from_numpy(np.ascontiguousarray(prepared.projections[:, problem.ranks.own_rows]))
    filtered = filtered_back_projection(problem.tomography.radon, own, problem.allocate)
    volume = whole_volume(problem, filtered)
    if job.speaks:
        write_center(job.folder / CENTER_FILE, center_of(prepared))
        write_volume(job, VOLUME_FILE, volume, prepared)
        write_copies(job, plan, volume, prepared.pixel_size_nm)
    return about(plan, prepared)


def straightened_images(
    data: Float32, flow: Float32, mass: bool, raised: Float32 | None = None
) -> Iterator[Float32]:
    """Projections aligned by a flow, an empty one: as they are; some at a time.

    ``raised (view, z, x)`` is what projections of the volume would be more if no view were pitched.
    """
    for part in blocks(len(data), 2 * data[0].size):
        aligned = straightened(data[part], flow[part], mass=mass) if flow.size else data[part]
        yield from aligned if raised is None else aligned + raised[part]


def _aligned(data: Float32, flow: torch.Tensor, views: NDArray[np.int64], mass: bool) -> Float32:
    """Projections of some ``views`` aligned by their flow ``(view, 2, z, x)``, an empty one: as they are."""
    some = np.ascontiguousarray(data[views])
    return straightened(some, flow.numpy()[views], mass=mass) if flow.numel() else some


def shown_pairs(aligned: Float32, model: Float32) -> Float32:
    """Aligned projections and those of the volume, ``(k, z, x)``, as small as a page shows them."""
    small = [shown(torch.from_numpy(np.ascontiguousarray(part))) for part in (aligned, model)]
    return np.asarray(torch.stack(small, dim=1).numpy(), np.float32)


def write_fitted_views(job: Job, prepared: Prepared, views: NDArray[np.int64], pairs: Float32) -> None:
    """Write some views and what the volume explains of them, `shown_pairs`."""
    found = [float(one) for one in ncc_views(pairs[:, 0], pairs[:, 1])]
    theta = prepared.theta_degrees[views]
    words = [f"{view + 1}: {at:.4g}°, {one:.2f}" for view, at, one in zip(views, theta, found, strict=True)]
    block = block_of(prepared.projections.shape[1:])
    write_fitted(job.folder, pairs, words, (prepared.pixel_size_nm or 1.0) * block * _ANGSTROM_PER_NM)


def write_images(job: Job, prepared: Prepared, images: Iterable[Float32]) -> None:
    """Aligned projections ``(z, x)``, one after the other."""
    data = prepared.projections
    size = (prepared.pixel_size_nm or 1.0) * _ANGSTROM_PER_NM
    with MrcWriter(
        job.folder / ALIGNED_FILE, (data.shape[0], data.shape[1], data.shape[2]), size, overwrite=True,
        is_volume=False, labels=(_label(prepared),),
    ) as writer:  # fmt: skip
        for image in images:
            writer.write(image[np.newaxis])


def misfit_of(solved: Solved) -> Float64:
    """Sums of squares ``(view,)`` of what does not fit without motion."""
    if solved.misfit is not None:
        return solved.misfit
    model = solved.problem.project(solved.state.iterate)
    return view_misfits(solved.problem, model, None)[0].numpy()


def view_table(
    prepared: Prepared, flow: torch.Tensor, misfit: Float64, size: Float64, before: Float64
) -> ViewTable:
    """What is told of each view, weights by Huber whatever was used."""
    weighted = view_weights(misfit, size)
    count = len(misfit)
    shifts, rms = np.zeros((count, 2)), np.zeros(count)
    if flow.numel():
        vectors = flow.numpy()
        shifts = vectors.mean(axis=(2, 3), dtype=np.float64)
        rms = np.sqrt(2 * squares(vectors) / vectors[0].size)
    bad, jump = np.zeros(count), np.zeros(count)
    bad[weighted.bad] = 1
    jump[find_jumps(shifts)] = 1
    whole = np.maximum(size, np.finfo(float).tiny)
    views = Views(
        prepared.theta_degrees,
        np.sqrt(before / whole),
        np.sqrt(misfit / whole),
        rms,
        weighted.weights,
        bad,
        jump,
    )
    return ViewTable(views, weighted, shifts)


def _figures(
    plan: Plan, prepared: Prepared, solved: Solved, misfit: Float64, size: Float64, before: Float64,
    table: ViewTable,
) -> dict[str, object]:  # fmt: skip
    whole = max(float(size.sum()), np.finfo(float).tiny)
    moved: dict[str, object] = {}
    if solved.state.flow.numel():
        moved = {
            "flow_rms_pixels": round(float(np.sqrt(np.mean(table.views.flow_rms_pixels**2))), 4),
            "largest_shift_pixels": round(float(np.abs(table.shifts).max()), 3),
        }
    if solved.start is not None:
        moved["shifts_begun_with"] = solved.start.by
    return {
        **about(plan, prepared),
        "misfit_unaligned": round(math.sqrt(float(before.sum()) / whole), 5),
        "misfit": round(math.sqrt(float(misfit.sum()) / whole), 5),
        **moved,
        "views_that_do_not_fit": int(table.views.bad.sum()),
        "jumps": int(table.views.jump.sum()),
        "iterations": list(plan.iterations),
        "stopped_because": str(solved.reason),
    }


def about(plan: Plan, prepared: Prepared) -> dict[str, object]:
    """Key figures that any method has."""
    views, rows, columns = prepared.projections.shape
    size = {} if prepared.pixel_size_nm is None else {"pixel_size_nm": prepared.pixel_size_nm}
    return {
        "method": plan.options.method,
        "views": views,
        "volume_voxels": [columns, columns, rows],
        **size,
        "center": round(prepared.center, 3),
        "center_of_the_scan": round(prepared.center_unbinned, 3),
        "center_by": center_of(prepared).by,
    }
