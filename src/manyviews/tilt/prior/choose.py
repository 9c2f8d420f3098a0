"""The part of a tilt job that chooses the prior, before all views are used."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from manyviews.jobs.run import Job
from manyviews.runs.placement import Placement
from manyviews.solvers.alternating_directions import AlternatingState, Terms
from manyviews.solvers.driver import Solver
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


def choose_prior(job: Job, problem: TiltProblem, images: PreparedImages, plan: Plan) -> Chosen:
    """Keep views apart, try priors on the others, and take what predicts them best."""
    plain_plan = _without_prior(plan)
    plain = plain_plan, damped(problem, plain_plan, images)
    freedom = _freedom(plan)
    views = held_out_views(problem.projector.geometry)
    if not len(views):
        job.warn("too few views to keep some of them apart: no prior was looked for")
        return Chosen(*plain) if freedom.strength else Chosen(plan, problem)
    for text in _given(plan):
        job.say(text)
    held = HeldOut.of(problem, images, views)
    usual = plan.total_variation or usual_strength(images, len(held.training.weights))
    found = _search(job, held, usual, freedom, plain[1])
    choice = _choice(found, freedom, usual, held, len(problem.weights))
    job.say(choice.words)
    if job.speaks:
        choice.write(job.folder / PRIOR_FILE)
    if not choice.taken:
        return Chosen(*plain, choice=choice)
    plan = replace(plan, total_variation=choice.total_variation, non_negative=choice.non_negative)
    terms = Terms(plan.total_variation, plan.non_negative)
    solver = make_admm(problem, terms, correct_after=min(_CORRECT_AFTER, plan.iterations))
    return Chosen(plan, problem, solver, lambda: solver.begin(found), choice)


def usual_strength(images: PreparedImages, views: int) -> float:
    """Noise of a pixel times the root of the number of views: what its back-projection is like in a voxel."""
    spread = float(np.median(images.levels.spread * images.gain))
    return max(images.noise_deviation, _LEAST_NOISE * spread) * math.sqrt(views)


def _without_prior(plan: Plan) -> Plan:
    return replace(
        plan,
        method="cg",
        iterations=min(plan.iterations, _ITERATIONS_OF_CG),
        damping_by_frequency=plan.damping is None,
    )


def _freedom(plan: Plan) -> Freedom:
    """What the user has left open."""
    return Freedom(
        strength=not plan.total_variation > 0, bound=not plan.non_negative, non_negative=plan.non_negative
    )


def _given(plan: Plan) -> list[str]:
    """What the user has not left open, in words."""
    return [
        *([f"--total-variation {plan.total_variation:g} holds"] if plan.total_variation > 0 else []),
        *(["--non-negative holds"] if plan.non_negative else []),
    ]


def _search(job: Job, held: HeldOut, usual: float, freedom: Freedom, plain: TiltProblem) -> SearchState:
    """Conjugate gradients, damped as ``plain`` is, on the views that are used, then trials."""
    training = held.training
    placement = Placement.at(training.place, training.volume_shape[0])
    kernel = training.kernel(circulant=True, periodic=any(plain.roughness))
    problem = training.least_squares(kernel)
    like_plain = replace(training, damping=plain.damping, roughness=plain.roughness)
    without = make_cg(like_plain, _REFRESH, known=(kernel, problem))
    begun, _ = job.solve(without, _ITERATIONS, stage=WITHOUT_STAGE, placement=placement, space=training.space)
    solver = make_admm(training, Terms(usual), correct_after=0, known=(kernel, problem))
    search = PriorSearch(solver, usual, freedom, held.errors, begun.iterate)
    del begun, without
    found, _ = job.solve(
        search,
        MOST_ITERATIONS,
        stage=SEARCH_STAGE,
        settled=lambda state: state.finished,
        placement=placement,
        space=training.space,
    )
    return found


def _choice(found: SearchState, freedom: Freedom, usual: float, held: HeldOut, views: int) -> Choice:
    """The best prior, its strength that of all views."""
    tried, errors = found.trials, found.trial_errors
    best = best_of(freedom, tried, errors)
    without = np.asarray(found.errors[0].numpy(), dtype=np.float64)
    more = math.sqrt(views / len(held.training.weights)) if freedom.strength else 1.0
    return Choice(
        taken=not (freedom.strength and freedom.bound)
        or float(errors[best.trial].mean()) < float(without.mean()),
        total_variation=usual * 2.0**best.exponent * more,
        non_negative=takes_bound(freedom, errors),
        best=best.trial,
        tried=tried,
        strengths=tuple(usual * 2.0**trial.exponent for trial in tried),
        errors=errors,
        without=without,
        noise_share=held.noise_share,
        bound_chosen=freedom.bound,
    )
