"""What an alignment leaves in its folder, beside the report, while it runs and at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.alignment.map_alignment import aligned_fsc
from manyviews.geometry.poses import matrices_to_euler
from manyviews.io.mrc import write_mrc
from manyviews.io.particle_stacks import root_of_names
from manyviews.io.relion_subtomogram_writer import write_relion_subtomograms
from manyviews.io.volume_files import read_volume
from manyviews.jobs.relion import postprocess_command
from manyviews.jobs.run import Job
from manyviews.metrics.directional_fsc import directional_fsc, write_cones
from manyviews.metrics.masked_fsc import FscCurves, masked_fsc
from manyviews.operators.fourier_sums import HALVES, FourierSums
from manyviews.report.words import in_figures
from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, MASK_FILE, VOLUME_FILE
from manyviews.solvers.driver import StopReason
from manyviews.subtomo.alignment import Alignment, AlignmentProblem, AlignmentState, agreed_radius
from manyviews.subtomo.chosen import Chosen, write_left_out
from manyviews.subtomo.coverage import measured_share, weights_on_box, write_coverage
from manyviews.subtomo.fitted import write_fitted_subtomograms
from manyviews.subtomo.inputs import Subtomograms
from manyviews.subtomo.iteration_files import (
    ITERATIONS_FILE,
    SLICES_FILE,
    Iteration,
    read_iterations,
    write_iterations,
    write_slices,
)
from manyviews.subtomo.plan import Plan
from manyviews.subtomo.rejection import sums_of_the_best
from manyviews.subtomo.report import DIRECTIONAL_FILE, FILES, FSC_FILE, REFERENCE_FILE
from manyviews.subtomo.score_files import (
    REJECTION_FILE,
    SCORES_FILE,
    Scores,
    write_rejection,
    write_scores,
)
from manyviews.subtomo.wedge_told import seen_wedges
from manyviews.subtomo.wedge_views import write_wedges

Float64 = NDArray[np.float64]

PARTICLES_FILE = "particles.star"
RESULTS = (VOLUME_FILE, HALF1_FILE, HALF2_FILE, MASK_FILE, PARTICLES_FILE, *FILES)
_AGREED = 0.143
_LEAKING = 3  # shells behind its end that a map which both halves share reaches into, by edge and mask


class Watcher:
    """Writes down every iteration, and the present map for the report."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self.job = job
        self.plan = plan

    def wedges(self, given: Subtomograms, chosen: Chosen) -> None:
        """The wedges as told and as the particles show them, with a warning where they differ."""
        self.job.begin()
        told: list[str] = []
        if self.job.speaks:
            seen = seen_wedges(given, chosen.places)
            told = [one.warning for one in seen if one.warning]
            if seen:
                write_wedges(self.job.folder, [one.view for one in seen], self.plan.pixel_size)
        self.job.warn(*self.job.world.broadcast(told))

    def preview(self, state: AlignmentState) -> None:
        """The present map."""
        if self.job.speaks:
            write_volume(self.job.folder / VOLUME_FILE, state.iterate, self.plan)

    def note(self, state: AlignmentState) -> None:
        """A line and three planes of an iteration."""
        if state.half_turned_degrees > 0:
            self.job.say(
                f"iteration {state.iteration}: the second half lay {state.half_turned_degrees:.3g} degrees "
                "from the first, and was turned onto it"
            )
        if not self.job.speaks:
            return
        plan, folder = self.plan, self.job.folder
        known = state.iteration > 1
        one = Iteration(
            state.iteration,
            fsc143_angstrom=plan.resolution(agreed_radius(state.correlation)),
            median_angle_change_degrees=state.angle_change if known else math.nan,
            median_shift_change_angstrom=state.shift_change * plan.pixel_size if known else math.nan,
            mean_score=float(state.score.mean()),
            frequency_limit=state.searched_radius / (plan.box * plan.pixel_size),
        )
        path = folder / ITERATIONS_FILE
        before = [old for old in read_iterations(path) if old.iteration < state.iteration]
        write_iterations(path, [*before, one])
        write_slices(folder / SLICES_FILE, state.iteration, state.iterate.numpy(), plan.pixel_size)


def write_volume(path: Path, volume: torch.Tensor, plan: Plan) -> None:
    """A map of a run, replacing an earlier one."""
    write_mrc(path, volume.numpy(), plan.pixel_size, overwrite=True, labels=("manyviews subtomo align",))


def write_results(
    job: Job,
    plan: Plan,
    given: Subtomograms,
    chosen: Chosen,
    problem: AlignmentProblem,
    state: AlignmentState,
    reason: StopReason | None = None,
) -> dict[str, object]:
    """Write maps, poses and curves; key figures by name. All ranks make this call, the first writes.

    ``reason`` says why an alignment stopped; None: the poses were known.
    """

    def halves_of(sums: FourierSums) -> list[torch.Tensor]:
        return [sums.half_volume(half, plan.box) for half in range(HALVES)]

    def resolution_of(sums: FourierSums) -> float:
        if not job.speaks:
            return math.nan
        return _curves(halves_of(sums), problem, plan).corrected.resolution(_AGREED)

    sums, rejection = sums_of_the_best(problem, state, resolution_of)
    write_fitted_subtomograms(
        job, problem.subtomograms, chosen.own, chosen.places, state.rotations.numpy(), state.shifts.numpy(),
        state.iterate, plan.diameter,
    )  # fmt: skip
    if not job.speaks:
        return {}
    folder = job.folder
    write_volume(folder / VOLUME_FILE, state.iterate, plan)
    halves = halves_of(sums)
    for name, half in zip((HALF1_FILE, HALF2_FILE), halves, strict=True):
        write_volume(folder / name, half, plan)
    write_volume(folder / MASK_FILE, problem.mask, plan)
    curves = _write_curves(folder, plan, halves, problem, sums)
    resolution = curves.corrected.resolution(_AGREED)
    job.warn(*filter(None, (curves.warning(), shared_map_warning(plan, resolution))))
    _write_particles(
        folder, plan, given, chosen, state, apart=refined_apart(plan, aligned=reason is not None)
    )
    job.warn(*_far_from_volumes(given, folder))
    kept = Alignment(problem).kept(state)
    write_scores(folder / SCORES_FILE, Scores(chosen.halves, state.score.numpy(), kept))
    if len(rejection.fraction_kept) > 1:
        write_rejection(folder / REJECTION_FILE, rejection)
    write_left_out(job, chosen)
    _write_coverage(folder, plan, given, chosen, state)
    summary = _summary(plan, chosen, problem, state, reason, resolution)
    if plan.options.compare is not None:
        summary |= _compare(folder, plan, state.iterate, plan.options.compare)
    job.say(f"RELION finishes the half maps: {postprocess_command(folder, plan.pixel_size)}")
    return summary


def _summary(
    plan: Plan,
    chosen: Chosen,
    problem: AlignmentProblem,
    state: AlignmentState,
    reason: StopReason | None,
    resolution: float,
) -> dict[str, object]:
    kind = "halves_aligned_to_one_map" if problem.merged else "halves"
    summary: dict[str, object] = {
        "particles": len(chosen.places),
        "particles_set_aside": len(chosen.faulty),
        "map_voxels": plan.box,
        "pixel_size_angstrom": plan.pixel_size,
        "diameter_angstrom": round(plan.diameter, 2),
        "symmetry": plan.options.symmetry,
        f"resolution_fsc0143_of_the_{kind}_angstrom": in_figures(resolution),
        "mean_score": round(float(state.score.mean()), 4),
    }
    if reason is not None:
        summary = {
            "method": plan.options.method,
            **summary,
            "iterations": state.iteration,
            "stopped": reason.value,
            "median_last_turn_degrees": round(state.angle_change, 3),
        }
    if problem.joined_radius > 0 and not problem.merged:
        shared = plan.resolution(problem.joined_radius)
        summary["halves_share_what_is_coarser_than_angstrom"] = round(shared, 2)
    return summary


def shared_map_warning(plan: Plan, resolution: float) -> str:
    """A sentence where halves agree hardly further than the map that both had; else empty.

    Volumes of pure noise, turned until they look like one map, agree as far as it goes and, by the edges of
    its filter and of the mask, up to three shells further (measured: docs/subtomogram-benchmarks.md).
    """
    shared = plan.shared_radius
    if shared is None or math.isinf(resolution):
        return ""
    if resolution < plan.resolution(shared + _LEAKING):
        return ""
    return (
        f"the halves agree to {resolution:.3g} angstrom, hardly further than the map both were aligned to "
        f"went, {plan.resolution(shared):.3g}: pure noise does so too, so this is no evidence of a structure"
    )


def _curves(halves: Sequence[torch.Tensor], problem: AlignmentProblem, plan: Plan) -> FscCurves:
    first, second = (half.numpy() for half in halves)
    size, seed = plan.pixel_size, plan.options.seed
    return masked_fsc(first, second, size, problem.mask.numpy(), seed=seed, shared=plan.shared_radius)


def _write_curves(
    folder: Path, plan: Plan, halves: list[torch.Tensor], problem: AlignmentProblem, sums: FourierSums
) -> FscCurves:
    curves = _curves(halves, problem, plan)
    curves.write_csv(folder / FSC_FILE, overwrite=True)
    seen = [weights_on_box(part.numpy(), sums.padding, plan.box) for part in sums.denominator]
    first, second = (half.numpy() for half in halves)
    # what one half has not measured says nothing
    weights = np.minimum(*seen)
    cones = directional_fsc(first, second, plan.pixel_size, mask=problem.mask.numpy(), weights=weights)
    write_cones(folder / DIRECTIONAL_FILE, cones)
    return curves


def _write_particles(
    folder: Path, plan: Plan, given: Subtomograms, chosen: Chosen, state: AlignmentState, *, apart: bool
) -> None:
    table = given.table.select(chosen.places)
    posed = replace(
        table,
        angles=matrices_to_euler(state.rotations.numpy()),
        shifts=state.shifts.numpy() * plan.pixel_size,
        half=chosen.halves if apart else None,
        score=state.score.numpy(),
    )
    write_relion_subtomograms(folder / PARTICLES_FILE, posed, overwrite=True)


def refined_apart(plan: Plan, *, aligned: bool) -> bool:
    """Whether no half of the particles had a part in the poses of the other: RELION takes a table's for such.

    Not where both were aligned to one map, nor where averaged particles were dealt into halves anew.
    """
    return not plan.options.merged if aligned else plan.options.halves == "table"


def _far_from_volumes(given: Subtomograms, folder: Path) -> Iterator[str]:
    """A warning where the volumes cannot be found from the table that a run leaves in its folder."""
    root = root_of_names(given.table.volume_names[:1], given.table.volumes[:1], folder)
    if root is not None:
        yield (
            f"the run folder lies outside of the project: what reads its {PARTICLES_FILE} finds the volumes "
            f"with --data-root {root}, and RELION when it is started there"
        )


def _write_coverage(
    folder: Path, plan: Plan, given: Subtomograms, chosen: Chosen, state: AlignmentState
) -> None:
    """How many particles are seen from where, and which part of them measured each frequency."""
    rotations = state.rotations.numpy()
    index = given.transfers.index[chosen.places]
    measured = measured_share(given.transfers, index, rotations)
    write_coverage(folder / "coverage.csv", rotations, measured)


def _compare(folder: Path, plan: Plan, volume: torch.Tensor, reference: Path) -> dict[str, object]:
    truth, _ = read_volume(reference)
    curve, alignment = aligned_fsc(volume.numpy(), truth, plan.pixel_size, radius=plan.diameter / 2)
    curve.write_csv(folder / REFERENCE_FILE, overwrite=True)
    return {
        "resolution_fsc05_with_the_reference_angstrom": in_figures(curve.resolution(0.5)),
        "hand": "other than the reference" if alignment.mirrored else "as the reference",
        "correlation_with_the_reference": round(alignment.correlation, 4),
    }
