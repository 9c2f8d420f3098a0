"""The part of a tilt job that chooses the prior, before all views are used."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from manyviews.jobs.run import Job
from manyviews.operators.view_kernel import ViewKernel
from manyviews.runs.placement import Placement
from manyviews.solvers.alternating_directions import AlternatingDirections, AlternatingState, Terms
from manyviews.solvers.conjugate_gradient import ConjugateGradientState
from manyviews.solvers.driver import Solver
from manyviews.solvers.least_squares import LeastSquares
from manyviews.tilt.methods import make_admm, make_cg
from manyviews.tilt.plan import Plan
from manyviews.tilt.prior.choice import PRIOR_FILE, Choice
from manyviews.tilt.prior.held_out import HeldOut, held_out_views
from manyviews.tilt.prior.search import MOST_ITERATIONS, PriorSearch, SearchState
from manyviews.tilt.prior.trials import Freedom, best_of, takes_bound
from manyviews.tilt.series.normalise import PreparedImages
from manyviews.tilt.solve.damping import damped
from manyviews.tilt.solve.problem import TiltProblem

WITHOUT_STAGE, SEARCH_STAGE = "without-prior", "prior"
# Of conjugate gradients without a prior, which the trials begin with, and after how many the projectors
# correct them.
_ITERATIONS, _REFRESH = 10, 5
_ITERATIONS_OF_CG = 15
# The projectors correct the last stage where its volume is no more that of the last trial.
_CORRECT_AFTER = 8
# Held-out views lie between others and tell nothing of what no view sees, where total variation alone speaks.
# How much of it is right there depends on what the images hold, not on their noise: this many times their
# spread and number are added (docs/decisions/0014-tilt-priors.md).
_WHERE_NO_VIEW_SEES = 0.014
# Least noise that strengths are counted from, of the spread of the images.
_LEAST_NOISE = 1e-3


@dataclass(frozen=True)
class Chosen:
    """How to go on: plan and problem, a solver and its first state, and what was chosen."""

    plan: Plan
    problem: TiltProblem
    solver: Solver[AlternatingState] | None = None
    start: Callable[[], AlternatingState] | None = None
    choice: Choice | None = None


def start_prior(job: Job, problem: TiltProblem, images: PreparedImages, plan: Plan) -> Chosen:
    """What admm is to do, and where it begins."""
    begin = choose_prior if plan.prior == "auto" else begin_without_search
    return begin(job, problem, images, plan)


def choose_prior(job: Job, problem: TiltProblem, images: PreparedImages, plan: Plan) -> Chosen:
    """Keep views apart, try priors on the others, and take what predicts them best."""
    plain_plan = _without_prior(plan)
    plain = plain_plan, damped(problem, plain_plan, images)
    freedom = _freedom(plan, by_frequency=any(plain[1].roughness))
    views = held_out_views(problem.projector.geometry)
    if not len(views):
        job.warn("too few views to keep some of them apart: no prior was looked for")
        return Chosen(*plain) if freedom.strength else Chosen(plan, problem)
    for text in _given(plan):
        job.say(text)
    held = HeldOut.of(problem, images, views)
    usual = plan.total_variation or usual_strength(images, len(held.training.weights))

    def smooth(bound: bool) -> TiltProblem:
        return damped(held.training, _smooth(plan, bound), images)

    found = _search(job, held, usual, freedom, plain[1], smooth)
    unseen = _WHERE_NO_VIEW_SEES * _spread(images) * len(problem.weights)
    choice = _choice(found, freedom, usual, unseen, held, len(problem.weights))
    job.say(choice.words)
    if job.speaks:
        choice.write(job.folder / PRIOR_FILE)
    if not choice.taken:
        return Chosen(*plain, choice=choice)
    if choice.smooth:
        plan = _smooth(plan, choice.non_negative)
        problem = damped(problem, plan, images)
    else:
        plan = replace(plan, total_variation=choice.total_variation, non_negative=choice.non_negative)
    terms = Terms(plan.total_variation, plan.non_negative)
    if not any(plain[1].roughness):
        solver = make_admm(problem, terms, correct_after=min(_CORRECT_AFTER, plan.iterations))
        return Chosen(plan, problem, solver, lambda: solver.begin(found), choice)
    solver = make_admm(problem, terms, correct_after=0)
    return Chosen(plan, problem, solver, lambda: solver.corrected(solver.begin(found)), choice)


def begin_without_search(job: Job, problem: TiltProblem, images: PreparedImages, plan: Plan) -> Chosen:
    """The prior that was asked for, from a volume without one, where the projectors have corrected it."""
    plain = damped(problem, _without_prior(plan), images)
    if not any(plain.roughness):
        return Chosen(plan, problem)
    known = _known(problem)
    begun = _begun(job, problem, plain, known)
    volume, target = begun.iterate, begun.target
    del begun
    terms = Terms(plan.total_variation, plan.non_negative)
    solver = make_admm(problem, terms, correct_after=0, known=known)
    return Chosen(plan, problem, solver, lambda: solver.start_at(volume, target))


def usual_strength(images: PreparedImages, views: int) -> float:
    """Noise of a pixel times the root of the number of views: what its back-projection is like in a voxel."""
    return max(images.noise_deviation, _LEAST_NOISE * _spread(images)) * math.sqrt(views)


def _spread(images: PreparedImages) -> float:
    """Deviation within an image, in the middle of all."""
    return float(np.median(images.levels.spread * images.gain))


def _without_prior(plan: Plan) -> Plan:
    return replace(
        plan,
        method="cg",
        iterations=min(plan.iterations, _ITERATIONS_OF_CG),
    )


def _smooth(plan: Plan, bound: bool) -> Plan:
    return replace(plan, prior="smooth", total_variation=0.0, non_negative=bound)


def _freedom(plan: Plan, *, by_frequency: bool) -> Freedom:
    """What the user has left open; without power ``by_frequency`` there is no smooth prior."""
    open_strength = not plan.total_variation > 0
    return Freedom(
        strength=open_strength,
        bound=not plan.non_negative,
        non_negative=plan.non_negative,
        smooth=open_strength and by_frequency,
    )


def _given(plan: Plan) -> list[str]:
    """What the user has not left open, in words."""
    return [
        *([f"--total-variation {plan.total_variation:g} holds"] if plan.total_variation > 0 else []),
        *(["--non-negative holds"] if plan.non_negative else []),
    ]


def _search(
    job: Job,
    held: HeldOut,
    usual: float,
    freedom: Freedom,
    plain: TiltProblem,
    smooth: Callable[[bool], TiltProblem],
) -> SearchState:
    """Conjugate gradients, damped as ``plain`` is, on the views that are used, then trials."""
    training = held.training
    known = _known(training)
    begun = _begun(job, training, plain, known)
    solver = make_admm(training, Terms(usual), correct_after=0, known=known)

    def smooth_solver(bound: bool) -> AlternatingDirections:
        return make_admm(smooth(bound), Terms(0.0, bound), correct_after=0, known=known)

    search = PriorSearch(
        solver,
        usual,
        freedom,
        held.errors,
        begun.iterate,
        begun.target if any(plain.roughness) else None,
        smooth_solver if freedom.smooth else None,
    )
    del begun
    found, _ = job.solve(
        search,
        MOST_ITERATIONS,
        stage=SEARCH_STAGE,
        settled=lambda state: state.finished,
        placement=Placement.at(training.place, training.volume_shape[0]),
        space=training.space,
        kept=training.storage.checkpoints_kept,
    )
    return found


def _known(problem: TiltProblem) -> tuple[ViewKernel, LeastSquares]:
    """The kernel of the views, periodic too, and their least squares without any damping."""
    kernel = problem.kernel(periodic=True)
    plain = replace(problem, damping=0.0, roughness=())
    return kernel, plain.least_squares(replace(kernel, periodic=None))


def _begun(
    job: Job, problem: TiltProblem, plain: TiltProblem, known: tuple[ViewKernel, LeastSquares]
) -> ConjugateGradientState:
    """Conjugate gradients for the views of a problem, damped as ``plain`` is; corrected at their end."""
    solver = make_cg(
        replace(problem, damping=plain.damping, roughness=plain.roughness), _REFRESH, known=known
    )
    placement = Placement.at(problem.place, problem.volume_shape[0])
    found, _ = job.solve(
        solver,
        _ITERATIONS,
        stage=WITHOUT_STAGE,
        placement=placement,
        space=problem.space,
        kept=problem.storage.checkpoints_kept,
    )
    return found


def _choice(
    found: SearchState, freedom: Freedom, usual: float, unseen: float, held: HeldOut, views: int
) -> Choice:
    """The best prior, its strength that of all ``views`` and, where held-out ones chose it, ``unseen``."""
    tried, errors = found.trials, found.trial_errors
    without = np.asarray(found.errors[0].numpy(), dtype=np.float64)
    best = best_of(freedom, tried, errors, float(without.mean()))
    strength = usual
    if freedom.strength:
        strength = usual * 2.0**best.exponent * math.sqrt(views / len(held.training.weights)) + unseen
    return Choice(
        taken=not (freedom.strength and freedom.bound)
        or float(errors[best.trial].mean()) < float(without.mean()),
        smooth=best.smooth,
        total_variation=0.0 if best.smooth else strength,
        non_negative=takes_bound(freedom, errors),
        best=best.trial,
        tried=tried,
        strengths=tuple(0.0 if trial.smooth else usual * 2.0**trial.exponent for trial in tried),
        errors=errors,
        without=without,
        noise_share=held.noise_share,
        bound_chosen=freedom.bound,
    )
