"""The ways to a structure: each runs its solvers as stages of the job and hands over what they found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.jobs.device import own_device
from manyviews.jobs.run import Job
from manyviews.parallel.lanes import LANES
from manyviews.particles.cost import refinement_work, starts_work
from manyviews.particles.em.confirmation import agreeing_starts
from manyviews.particles.em.pose_assignment import PoseAssignment
from manyviews.particles.em.pose_search import PoseSearch
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.em.refinement import Refinement
from manyviews.particles.em.starts import RandomStarts, refinement_problem
from manyviews.particles.em.state import StartsState
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.options import AbinitioMethod
from manyviews.particles.pass_files import REFINEMENT, noting
from manyviews.particles.plan import Plan, sagd_options
from manyviews.particles.results import Reconstruction, preview
from manyviews.particles.sagd.sagd import Sagd
from manyviews.particles.start_files import write_starts
from manyviews.random import Stream, generator
from manyviews.solvers.stochastic_average_gradient import SagState

_TRIAL_ITERATIONS = 100  # of each of several starts of sagd, at low frequency


@dataclass(frozen=True)
class Particles:
    """What a method works with.

    ``numbers (K,)`` are those of all particles, ascending: even and odd ones are the halves, and some may be
    missing. ``images`` are the particles of this process, ``own`` their places among all; ``symmetry (n, 3,
    3)`` are the rotations of the point group. The halves are expected to agree to ``reach``, Fourier pixels.
    """

    plan: Plan
    images: FourierImages
    numbers: NDArray[np.int64]
    own: NDArray[np.int64]
    symmetry: NDArray[np.float64]
    reach: int


def check_ranks(plan: Plan, ranks: int) -> None:
    """Refuse more ranks than a method can use, before anything is read, with an `InputError`."""
    if plan.options.method == "sagd" and ranks > 1:
        raise InputError("sagd runs in one process", fix="leave out mpiexec, or use --method stochastic-em")
    check_lanes(ranks)


def check_lanes(ranks: int) -> None:
    """Refuse more ranks than there are lanes of particles, with an `InputError`."""
    if ranks > LANES:
        raise InputError(
            f"{ranks} ranks are more than can share the particles",
            fix=f"start {LANES} at most, each with more --threads",
        )


def run_em(job: Job, particles: Particles) -> Reconstruction:
    """Stochastic expectation maximisation, the default: random starts, then the refinement of the best."""
    plan, options = particles.plan, particles.plan.options
    problem = EmProblem(
        particles.images,
        particles.numbers[particles.own],
        plan.em.with_more_starts() if options.starts is None else plan.em,
        shift_sigma=plan.shift_sigma / plan.pixel_size,
        seed=options.seed,
        positive=not options.allow_negative,
        symmetry=particles.symmetry,
        independent=options.independent_halves,
        world=job.world,
        say=job.say,
        warn=job.warn,
        device=str(own_device(plan.device, job.world)),
    )
    show = preview(job, plan)
    starts, _ = job.solve(
        RandomStarts(problem),
        problem.plan.starts * plan.em.start_iterations,
        stage="starts",
        settled=(lambda state: state.enough) if options.starts is None else None,
        preview=lambda state: show(state.iterate),
        cost=starts_work(plan),
    )
    made = replace(plan.em, starts=len(starts.finished))
    if job.speaks:
        write_starts(job.folder, starts.finished, starts.start_scores, plan.box * plan.pixel_size)
    state, reason = job.solve(
        Refinement(refinement_problem(replace(problem, plan=made), starts), starts),
        made.iterations,
        stage="refinement",
        preview=lambda state: show(state.iterate),
        cost=refinement_work(replace(plan, em=made), particles.reach),
        note=noting(job, REFINEMENT, plan.box, plan.pixel_size),
    )
    if options.independent_halves and state.radius <= plan.em.last_start_radius:
        job.warn("the halves share all frequencies that were used; their FSC says nothing")
    return Reconstruction(
        state.iterate,
        state.samples.among(particles.numbers, plan.em.particles),
        state.correlation,
        {"stopped_because": str(reason), **_compare_starts(job, plan, starts)},
        halves=state.halves,
        mask=problem.constraint(len(state.iterate)).mask if state.halves else None,
    )


def _compare_starts(job: Job, plan: Plan, state: StartsState) -> dict[str, object]:
    """How far the other starts agree with the best: the lowest common resolution, and a warning."""
    if len(state.start_scores) < 2 or not job.speaks:
        return {}
    found = agreeing_starts(
        state.finished,
        state.start_scores,
        plan.box * plan.pixel_size,
        plan.diameter,
        plan.em.last_start_radius,
    )
    others = sum(found)
    if others < len(found):
        job.warn(
            f"{len(found) - others} of {len(found)} other random starts came to another structure; "
            "the best was kept, but try more with --starts, or another --seed, before you believe it"
        )
    return {
        "other_starts": len(found),
        "other_starts_that_agree_with_the_best": others,
        "log_likelihood_of_the_starts": [round(value, 2) for value in state.start_scores],
    }


def run_sagd(job: Job, particles: Particles) -> Reconstruction:
    """The paper's stochastic average gradients: trials where there are several starts, the map, its poses."""
    plan, images = particles.plan, particles.images
    chosen = sagd_options(plan)
    trials = [Sagd(images, replace(chosen, trial=number)) for number in range(plan.em.starts)]
    sagd, start = best_trial(job, trials)
    show = preview(job, plan)
    state, reason = job.solve(
        sagd,
        plan.iterations,
        stage="descent",
        start=None if start is None else lambda: start,
        preview=lambda state: show(sagd.final_volume(state)),
    )
    volume = sagd.final_volume(state)
    search = PoseSearch(
        volume,
        sagd.radius(state.iteration),
        plan.em,
        plan.box,
        plan.shift_sigma / plan.pixel_size,
        np.eye(3, dtype=np.float32),
        str(own_device(plan.device, job.world)),
    )
    offsets = generator(plan.options.seed, Stream.SAGD_POSES).random(len(images))
    assignment = PoseAssignment(images, search, volume, offsets)
    found, _ = job.solve(assignment, assignment.iterations, stage="poses")
    return Reconstruction(volume, found.samples, [], {"stopped_because": str(reason)})


def best_trial(job: Job, trials: list[Sagd]) -> tuple[Sagd, SagState | None]:
    """The most promising of several starts and its state, each run for a while at low frequencies.

    A start that got stuck is told by its objective, the sum over the last epoch, once frequencies are high
    enough: 5 % above the others at radius 7 and 8, and little below, in the one case that was seen.
    """
    if len(trials) == 1:
        return trials[0], None
    states = []
    for number, sagd in enumerate(trials, start=1):
        iterations = max(_TRIAL_ITERATIONS, len(sagd.batches))
        states.append(job.solve(sagd, iterations, stage=f"trial-{number}")[0])
    objectives = [sum(state.values) for state in states]
    job.say(f"objectives of the starts: {', '.join(f'{value:.6g}' for value in objectives)}")
    best = objectives.index(min(objectives))
    return trials[best], states[best]


Method = Callable[[Job, Particles], Reconstruction]
METHODS: Mapping[AbinitioMethod, Method] = {"stochastic-em": run_em, "sagd": run_sagd}
