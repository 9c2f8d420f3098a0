"""Whether angles and pitch of views are looked for, and with how large pixels: known before a run starts."""

from __future__ import annotations

from manyviews.nano.plan import Plan

_MOST_COLUMNS, _FEWEST_ROWS, _MOST_VIEWS = 47, 4, 512


def is_refining(plan: Plan) -> bool:
    """Whether they are looked for."""
    options, (views, rows, _) = plan.options, plan.shape
    asked = options.refine_angles and options.prealign and plan.aligning
    return asked and views <= _MOST_VIEWS and rows // refining_factor(plan) >= _FEWEST_ROWS


def may_be_pitched(plan: Plan) -> bool:
    """Whether pitch may be found; motion in space goes without."""
    return is_refining(plan) and not plan.space


def refining_factor(plan: Plan) -> int:
    """The least power of two by which pixels are binned to be few enough."""
    factor = 1
    while plan.shape[2] // factor > _MOST_COLUMNS:
        factor *= 2
    return factor
