"""What the phases of a reconstruction will take, in seconds of the machine that the estimate is for."""

from __future__ import annotations

from manyviews.jobs.run import after
from manyviews.runs.course import Expected
from manyviews.tilt.cost.estimate import Estimate
from manyviews.tilt.cost.methods import SEARCHING, STARTING
from manyviews.tilt.pixels.fill import FILL_ITERATIONS, FILL_STAGE
from manyviews.tilt.plan import Plan
from manyviews.tilt.prior.choose import SEARCH_STAGE, WITHOUT_STAGE

LOOKING, BEGINNING, STAGE = "looking at images", "beginning", "reconstruct"


def expected_phases(plan: Plan, estimate: Estimate, *, filled: bool = False) -> dict[str, Expected]:
    """By name, in their order; ``filled``: pixels that do not count are filled first."""
    pace = estimate.pace
    found = {LOOKING: Expected(pace.looking)}
    if filled:
        found[FILL_STAGE] = Expected(FILL_ITERATIONS * pace.iteration)
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
