"""What the phases of a run over a scan will take, in seconds of one core, from the rates of its estimate."""

from __future__ import annotations

import torch

from manyviews.errors import InputError
from manyviews.jobs.run import after
from manyviews.nano import estimate
from manyviews.nano.plan import Plan
from manyviews.runs.course import Expected

READING, REFINING, FILTERING = "reading", "views", "filtering"
_UNALIGNED_ITERATIONS, _WHOLE_VIEWS_ITERATIONS = 4, 8


def expected_phases(plan: Plan) -> dict[str, Expected]:
    """By name, in their order; where a method will be chosen, that of flows, see `chosen_phases`."""
    views, rows, columns = plan.shape
    pixels = views * rows * columns
    threads = torch.get_num_threads()  # one of them reads, or filters, while the others wait
    found = {READING: 1e-9 * estimate.READ * pixels * threads}
    if plan.options.method == "fbp":
        return _expected({**found, FILTERING: 1e-9 * estimate.SETUP * pixels * threads})
    still = estimate.still_seconds(plan, pixels, rows * columns**2)
    found["unaligned"] = _UNALIGNED_ITERATIONS * still
    found[REFINING] = estimate.refining_seconds(plan)
    if not plan.choosing:
        return _expected({**found, **_solving(plan)})
    try:
        space = plan.chosen("spacetv")
    except InputError:
        return _expected({**found, **_solving(plan.chosen("oftv"))})
    whole, first, flows = _tried(space)
    tried = {"space-views": whole, "space-1": first, "flows-tried": flows}
    return _expected({**found, **tried, **_solving(plan.chosen("oftv"))})


def chosen_phases(plan: Plan, taken: Plan) -> dict[str, Expected]:
    """What is left to do once it was chosen among methods: the phases of that, none of the other."""
    if not plan.choosing:
        return {}
    none = dict.fromkeys(_solving(plan.chosen("oftv")), Expected())
    return {**none, **_expected(_solving(taken, tried=True))}


def solving_phases(plan: Plan) -> dict[str, Expected]:
    """Of the stages of a method alone."""
    return _expected(_levels(plan))


def _solving(plan: Plan, *, tried: bool = False) -> dict[str, float]:
    """Of the stages of a method, and of what it leaves."""
    found = _levels(plan, tried=tried)
    *_, last = found
    return {**found, after(last): estimate.results_seconds(plan)}


def _levels(plan: Plan, *, tried: bool = False) -> dict[str, float]:
    """``tried``: what a choice between methods has done already is not done again."""
    found = _space_levels(plan, tried=tried) if plan.space else _flow_levels(plan)
    if plan.options.halves:
        found |= {f"half{half}-{name}": 0.5 * found[name] for half in (1, 2) for name in tuple(found)}
    return found


def _flow_levels(plan: Plan) -> dict[str, float]:
    """Levels of the solvers of flows, and of those without motion."""
    views, rows, columns = plan.shape
    pixels, voxels = views * rows * columns, rows * columns**2
    each = estimate.iteration_seconds(plan, pixels, voxels)
    beside, setup = _beside(plan), 1e-9 * estimate.SETUP * pixels
    found: dict[str, float] = {}
    for level in plan.levels(0.0):
        smaller = level.binning**3 if len(plan.iterations) > 1 else 1
        if not found and plan.moving and not plan.printed and plan.options.prealign:
            found["whole-views"] = estimate.BEGUN * (each / smaller + beside)
        found[level.name] = level.iterations * (each / smaller + beside) + setup / smaller
    return found


def _space_levels(plan: Plan, *, tried: bool) -> dict[str, float]:
    whole, *_ = _tried(plan)
    found = {"space-views": whole}
    found |= {f"space-{one.number}": estimate.level_seconds(plan, one.number) for one in plan.levels(0.0)}
    return {
        name: seconds
        for name, seconds in found.items()
        if not tried or name not in ("space-views", "space-1")
    }


def _tried(space: Plan) -> tuple[float, float, float]:
    """Whole views, the first level in space, and flows at that level."""
    each = estimate.tried_seconds(space) + _beside(space)
    return estimate.BEGUN * each, estimate.level_seconds(space, 1), estimate.TRIED_ITERATIONS * each


def _beside(plan: Plan) -> float:
    """Of an iteration: what one thread does while the others wait is all of theirs too."""
    return estimate.beside_seconds(plan) * torch.get_num_threads()


def _expected(seconds: dict[str, float]) -> dict[str, Expected]:
    return {name: Expected(one) for name, one in seconds.items()}
