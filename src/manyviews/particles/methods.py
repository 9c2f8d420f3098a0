"""The ways to a structure: each makes its solver, runs it in the run folder and hands over what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from manyviews.errors import InputError
from manyviews.metrics.map_alignment import aligned_fsc, soft_sphere
from manyviews.particles.job import Job, Structure
from manyviews.particles.live import LiveReport
from manyviews.particles.maximisation import Shape
from manyviews.particles.options import AbinitioMethod
from manyviews.particles.pose_finder import PoseFinder
from manyviews.particles.pose_samples import NO_SAMPLES, PoseSamples
from manyviews.particles.priors import PriorName
from manyviews.particles.sagd import Sagd, SagdOptions
from manyviews.particles.stochastic_em import EmState, StochasticEm
from manyviews.runs.driver import drive
from manyviews.runs.placement import Placement
from manyviews.solvers.stochastic_average_gradient import SagState

_MASK_EDGE = 3.0  # voxels beyond the particle's diameter over which the mask falls
_STARTS_AGREE = 0.8


def run_em(job: Job) -> Structure:
    """Stochastic expectation maximisation: the default."""
    settings, world = job.settings, job.run.world
    options = settings.options
    voxels = settings.diameter / settings.pixel_size
    mask = torch.from_numpy(soft_sphere(settings.box, voxels / 2 + _MASK_EDGE))
    solver = StochasticEm(
        job.images,
        job.numbers,
        settings.plan,
        Shape(settings.box, mask, positive=not options.allow_negative),
        shift_sigma=settings.shift_sigma / settings.pixel_size,
        seed=options.seed,
        symmetry=job.symmetry,
        independent=options.independent_halves,
        world=world,
        say=job.say,
    )
    state, reason = drive(
        solver,
        solver.init(),
        iterations=settings.plan.iterations,
        run=job.run,
        progress=job.progress,
        interrupt=job.interrupt,
        checkpoint_seconds=job.checkpoint_seconds,
        placement=Placement(world, settings.box, slice(0, settings.box), (), 0, f"{world.size}x1"),
        on_state=LiveReport[EmState](job, lambda state: state.volume),
    )
    figures: dict[str, object] = {"stopped because": str(reason), **_compare_starts(job, state)}
    return Structure(state.volume, state.samples, state.correlation, options.independent_halves, figures)


def _compare_starts(job: Job, state: EmState) -> dict[str, object]:
    """How far the other starts agree with the best: the lowest common resolution, and a warning."""
    if len(state.verdicts) < 2 or job.run.world.rank > 0:
        return {}
    best = int(np.argmax(state.verdicts))
    reached = job.settings.plan.last_start_radius
    limit = job.settings.box * job.settings.pixel_size / reached
    found = []
    for number, volume in enumerate(state.finished):
        if number != best:
            curve, _ = aligned_fsc(
                volume.numpy(), state.finished[best].numpy(), job.settings.pixel_size,
                radius=job.settings.diameter / 2,
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
    settings, world = job.settings, job.run.world
    options = settings.options
    if world.size > 1:
        raise InputError("sagd runs in one process", fix="leave out mpiexec, or use --method stochastic-em")
    if options.symmetry.upper() != "C1":
        raise InputError("sagd knows no symmetry", fix="use --method stochastic-em")
    finest = settings.radius / (settings.box * settings.pixel_size)
    sagd = Sagd(
        job.images,
        SagdOptions(
            seed=options.seed,
            batch_size=options.batch,
            shift_sigma=settings.shift_sigma,
            last_frequency=min(SagdOptions.last_frequency, finest),
            prior=PriorName(options.prior),
            prior_strength=options.prior_strength,
        ),
    )
    state, reason = drive(
        sagd,
        sagd.init(),
        iterations=options.iterations,
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
    settings = job.settings
    finder = PoseFinder(
        volume,
        radius,
        settings.plan,
        settings.box,
        settings.shift_sigma / settings.pixel_size,
        np.eye(3, dtype=np.float32),
    )
    everyone = np.arange(len(job.images))
    offsets = np.random.default_rng([settings.options.seed, 0xF17A]).random(len(everyone))
    return finder.find(job.images, everyone, NO_SAMPLES, offsets).samples


METHODS: Mapping[AbinitioMethod, Callable[[Job], Structure]] = {"stochastic-em": run_em, "sagd": run_sagd}
