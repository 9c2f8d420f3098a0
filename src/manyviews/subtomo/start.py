"""How every job over subtomograms begins in its folder."""

from __future__ import annotations

import contextlib

from manyviews.jobs.run import Job, start_job
from manyviews.options import MachineOptions, RunOptions
from manyviews.parallel.world import World
from manyviews.subtomo.inputs import Subtomograms, fingerprints, wedge_record
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.plan import Plan
from manyviews.subtomo.report import PICTURES, sections
from manyviews.subtomo.results import RESULTS


def start_in_folder(
    name: str,
    run: RunOptions,
    machine: MachineOptions,
    *,
    particles: SubtomogramOptions,
    given: Subtomograms,
    plan: Plan,
    world: World,
    began: float,
) -> contextlib.AbstractContextManager[Job]:
    """`manyviews.jobs.run.start_job` with the record, the inputs and the results that these jobs share."""
    return start_job(
        name,
        run,
        machine,
        record={**plan.record(), **wedge_record(particles)},
        inputs=fingerprints(particles, given, plan),
        results=RESULTS,
        pictures=PICTURES,
        sections=sections,
        seed=plan.options.seed,
        world=world,
        began=began,
    )
