"""The ways to a structure: each makes its solver, runs it in the run folder and hands over what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from manyviews.alignment.map_alignment import aligned_fsc
from manyviews.errors import InputError
from manyviews.parallel.launch import local_rank
from manyviews.particles.em.maximisation import LANES
from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples
from manyviews.particles.em.pose_search import PoseSearch
from manyviews.particles.em.refinement import EmState, StochasticEm
from manyviews.particles.job import Job, Structure
from manyviews.particles.live import LiveReport
from manyviews.particles.options import AbinitioMethod
from manyviews.particles.plan import sagd_options
from manyviews.particles.sagd.sagd import Sagd, best_start
from manyviews.runs.driver import drive
from manyviews.runs.placement import Placement
from manyviews.solvers.stochastic_average_gradient import SagState

_STARTS_AGREE = 0.8
_TRIAL_ITERATIONS = 100  # of each of several starts of sagd, at low frequency


def run_em(job: Job) -> Structure:
    """Stochastic expectation maximisation: the default."""
    plan, world = job.plan, job.run.world
    options = plan.options
    if world.size > LANES:
        raise InputError(
            f"{world.size} ranks are more than stochastic-em can use",
            fix=f"start {LANES} at most, each with more --threads",
        )
    solver = StochasticEm(
        job.images,
        job.numbers,
        plan.em,
        positive=not options.allow_negative,
        shift_sigma=plan.shift_sigma / plan.pixel_size,
        seed=options.seed,
        symmetry=job.symmetry,
        independent=options.independent_halves,
        world=world,
        say=job.say,
        device=_own_device(job),
    )
    state, reason = drive(
        solver,
        solver.init(),
        iterations=plan.em.iterations,
        run=job.run,
        progress=job.progress,
        interrupt=job.interrupt,
        checkpoint_seconds=job.checkpoint_seconds,
        placement=Placement(world, plan.box, slice(0, plan.box), (), 0, f"{world.size}x1"),
        on_state=LiveReport[EmState](job, lambda state: state.volume),
    )
    if options.independent_halves and state.radius <= plan.em.last_start_radius:
        job.say("warning: the halves share all frequencies that were used; their FSC says nothing")
    figures: dict[str, object] = {"stopped because": str(reason), **_compare_starts(job, state)}
    return Structure(state.volume, state.samples, state.correlation, options.independent_halves, figures)


def _own_device(job: Job) -> str:
    """One GPU for each rank of a host."""
    if job.plan.device != "cuda":
        return job.plan.device
    return f"cuda:{local_rank(job.run.world) % torch.cuda.device_count()}"


def _compare_starts(job: Job, state: EmState) -> dict[str, object]:
    """How far the other starts agree with the best: the lowest common resolution, and a warning."""
    if len(state.verdicts) < 2 or job.run.world.rank > 0:
        return {}
    best = int(np.argmax(state.verdicts))
    reached = job.plan.em.last_start_radius
    side = job.plan.box * job.plan.pixel_size
    limit = side / reached
    found = []
    for number, volume in enumerate(state.finished):
        if number != best:
            curve, _ = aligned_fsc(
                volume.numpy(), state.finished[best].numpy(), side / len(volume),
                radius=job.plan.diameter / 2,
            )  # fmt: skip
            found.append(curve.resolution(0.5))
    others = sum(value <= limit / _STARTS_AGREE for value in found)
    if others < len(found):
        job.say(
            f"warning: {len(found) - others} of {len(found)} other random starts came to another structure; "
            "the best was kept, but try more with --starts, or another --seed, before you believe it"
        )
    return {
        "starts that agree with the best": f"{others} of {len(found)}",
        "log likelihood of the starts": [round(value, 2) for value in state.verdicts],
    }


def run_sagd(job: Job) -> Structure:
    """The paper's stochastic average gradients; poses are found at the end, with the map."""
    plan, world = job.plan, job.run.world
    options = plan.options
    if world.size > 1:
        raise InputError("sagd runs in one process", fix="leave out mpiexec, or use --method stochastic-em")
    if options.symmetry.upper() != "C1":
        raise InputError("sagd knows no symmetry", fix="use --method stochastic-em")
    chosen = sagd_options(plan)
    sagd, start = Sagd(job.images, chosen), None
    if options.starts > 1:
        job.say(f"sagd: trying {options.starts} random starts")
        seeds = [options.seed + 1000 * number for number in range(options.starts)]
        sagd, start, objectives = best_start(job.images, chosen, seeds, _TRIAL_ITERATIONS)
        job.say(f"objectives of the starts: {', '.join(f'{value:.6g}' for value in objectives)}")
    state, reason = drive(
        sagd,
        start or sagd.init(),
        iterations=plan.iterations,
        run=job.run,
        progress=job.progress,
        interrupt=job.interrupt,
        checkpoint_seconds=job.checkpoint_seconds,
        on_state=LiveReport[SagState](job, sagd.final_volume),
    )
    volume = sagd.final_volume(state)
    job.say("finding the poses of all particles")
    samples = find_poses(job, volume, sagd.radius(state.iteration))
    return Structure(volume, samples, [], False, {"stopped because": str(reason)})


def find_poses(job: Job, volume: torch.Tensor, radius: int) -> PoseSamples:
    """Poses of all images of this process with a map, looked for everywhere."""
    plan = job.plan
    finder = PoseSearch(
        volume,
        radius,
        plan.em,
        plan.box,
        plan.shift_sigma / plan.pixel_size,
        np.eye(3, dtype=np.float32),
        _own_device(job),
    )
    everyone = np.arange(len(job.images))
    offsets = np.random.default_rng([plan.options.seed, 0xF17A]).random(len(everyone))
    return finder.find(job.images, everyone, NO_SAMPLES, offsets).samples


METHODS: Mapping[AbinitioMethod, Callable[[Job], Structure]] = {"stochastic-em": run_em, "sagd": run_sagd}
