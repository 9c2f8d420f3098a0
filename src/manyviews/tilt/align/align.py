"""The alignment job: from raw stacks to the geometry of every view, top to bottom."""

from __future__ import annotations

import hashlib
import time

import numpy as np

from manyviews.jobs.run import Job, JobResult, start_job
from manyviews.options import RunOptions
from manyviews.parallel.world import World
from manyviews.runs.fingerprint import files_fingerprint
from manyviews.tilt.align.options import AlignOptions
from manyviews.tilt.align.plan import AlignPlan, resolve_align_plan
from manyviews.tilt.align.report import PICTURES, sections
from manyviews.tilt.align.results import Check, result_names, write_results
from manyviews.tilt.align.stages import Aligned, Stages
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.resolve import ResolvedSeries, resolve_series

_FOLDS = 5
_SHOWN = 12


def align(
    series_options: SeriesOptions, options: AlignOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Find the geometry of every view from the images alone.

    Parameters
    ----------
    series_options, options
        What from, and how. The geometry that is given is where the search starts.
    run
        Where to; the same call on the same folder goes on where an earlier one stopped.
    world
        One process; more would do the same work.

    Raises
    ------
    InputError
        If anything the user gave cannot be used, neighbours do not overlap, stacks show different specimens,
        or an axis cannot be found.
    ManyviewsError
        If the iteration diverges or the run is interrupted.
    """
    began = time.monotonic()
    series = resolve_series(series_options)
    plan = resolve_align_plan(options, series)
    with start_job(
        "tilt align",
        run,
        options,
        record=plan.record(),
        inputs=_fingerprints(series),
        results=result_names(series),
        pictures=PICTURES,
        sections=sections,
        world=world,
        began=began,
    ) as job:
        if job.finished:
            return job.result()
        job.warn(*series.warnings)
        stages = Stages(job, plan, series)
        aligned = stages.run()
        check = checked(stages, plan, aligned)
        _tell_bad_views(job, aligned)
        summary = write_results(job, series, stages.given, aligned, check, stacks=plan.aligned_stacks)
        return job.finish(summary)


def checked(stages: Stages, plan: AlignPlan, aligned: Aligned) -> Check:
    """Every view against the volume of the others, on a coarse level, as given and as aligned."""
    level_plan = plan.check_level(min(stages.series.image_shape))
    images = stages.images(level_plan.bin)
    level = stages.level(level_plan, images, aligned.geometry)
    given, found = images.geometry(stages.given), images.geometry(aligned.geometry)
    before, _ = level.left_out(given, aligned.weights, _FOLDS)
    after, residual = level.left_out(found, aligned.weights, _FOLDS)
    return Check(
        before=before,
        after=after,
        residual=residual * level_plan.bin,
        volume_before=level.volume(given, aligned.weights),
        volume_after=level.volume(found, aligned.weights),
        bin=level_plan.bin,
    )


def _tell_bad_views(job: Job, aligned: Aligned) -> None:
    geometry = aligned.geometry
    for number in np.unique(geometry.series):
        bad = geometry.sections[(geometry.series == number) & (aligned.weights == 0)] + 1
        if len(bad):
            shown = ", ".join(map(str, bad[:_SHOWN]))
            more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
            job.warn(
                f"stack {number + 1}: section{'s' if len(bad) > 1 else ''} {shown}{more} cannot be explained "
                "by the other views and will be left out"
            )


def _fingerprints(series: ResolvedSeries) -> dict[str, str]:
    """What identifies the input: the stacks, and the geometry that is started from."""
    prints = {
        f"{number + 1}: {stack.path.name}": files_fingerprint(stack.files)
        for number, stack in enumerate(series.stacks)
    }
    digest = hashlib.sha256()
    for values in (series.geometry.matrices, series.geometry.series, series.geometry.sections):
        digest.update(np.ascontiguousarray(values).tobytes())
    return {**prints, "geometry": digest.hexdigest(), "pixel size": repr(series.pixel_size)}
