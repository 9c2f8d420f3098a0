"""What the phases of a reconstruction will take, in seconds of the machine that the estimate is for."""

from __future__ import annotations

from collections.abc import Callable

from manyviews.jobs.run import after
from manyviews.runs.course import Expected
from manyviews.runs.pace import Work
from manyviews.solvers.conjugate_gradient import is_due
from manyviews.solvers.state import SolverState
from manyviews.tilt.cost.estimate import Estimate
from manyviews.tilt.cost.methods import SEARCHING, STARTING, corrections
from manyviews.tilt.pixels.fill import FILL_ITERATIONS, FILL_STAGE
from manyviews.tilt.plan import Plan
from manyviews.tilt.prior.choose import SEARCH_STAGE, WITHOUT_STAGE

LOOKING, BEGINNING, STAGE = "looking at images", "beginning", "reconstruct"


def expected_phases(plan: Plan, estimate: Estimate) -> dict[str, Expected]:
    """By name, in their order; filling pixels takes nothing until it is known to be needed, see `filling`."""
    pace = estimate.pace
    found = {LOOKING: Expected(pace.looking), FILL_STAGE: Expected()}
    found[BEGINNING] = Expected(pace.beginning)
    if plan.method == "admm" and (plan.prior == "auto" or plan.damping_by_frequency):
        found[WITHOUT_STAGE] = Expected(STARTING * pace.iteration)
        found[after(WITHOUT_STAGE)] = Expected(pace.iteration)
    if plan.method == "admm" and plan.prior == "auto":
        found[SEARCH_STAGE] = Expected(SEARCHING * pace.iteration, steps=SEARCHING)
        found[after(SEARCH_STAGE)] = Expected(pace.beginning)
    found[STAGE] = Expected(plan.iterations * pace.iteration)
    found[after(STAGE)] = Expected(pace.projection)
    return found


def filling(estimate: Estimate) -> dict[str, Expected]:
    """Of pixels that do not count, for methods that know no weights: in its place among the phases."""
    return {FILL_STAGE: Expected(FILL_ITERATIONS * estimate.pace.filling)}


def iteration_work(plan: Plan, estimate: Estimate) -> Callable[[SolverState], Work] | None:
    """What an iteration took and those to come will, where every few are corrected; None: all are alike."""
    pace = estimate.pace
    whole = corrections(plan) if plan.method == "cg" else 0
    if not whole:
        return None
    quick = max(0.0, pace.iteration - pace.correction * whole / plan.iterations)

    def work(state: SolverState) -> Work:
        later = range(state.iteration + 1, plan.iterations + 1)
        left = len(later) * quick + sum(is_due(one, plan.refresh) for one in later) * pace.correction
        own = pace.correction if is_due(state.iteration, plan.refresh) else 0.0
        return Work(quick + own, left)

    return work
