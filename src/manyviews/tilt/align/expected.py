"""What the phases of an alignment will take, in seconds of one core.

A step goes with the pixels of all images of its level. What else there is was measured in steps of the level
where it is done: two series of 61 images, 256 pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence

from manyviews.jobs.run import after
from manyviews.runs.course import Expected
from manyviews.tilt.align.plan import AlignPlan, LevelPlan

ALONE = 2
"""Levels that each of several series is fitted in by itself."""

_PIXEL = 9.2e-7  # seconds: of an image that goes through a step
_EACH_STEP = 12_000.0  # pixels that a step takes beside those of its images
_BEGIN_STEPS, _FIRST_STEPS, _SCAN_STEPS, _ROTATION_STEPS, _CHECK_STEPS = 0.7, 10.0, 8.5, 12.5, 6.5


def placing(stack: int) -> str:
    """Name of the phase in which a series gets its first poses."""
    return f"placing stack {stack + 1}"


def expected_phases(plan: AlignPlan, views: Sequence[int], shape: tuple[int, int]) -> dict[str, Expected]:
    """By name, in their order; ``views`` of each series, ``shape (y, x)`` of an image that is not binned."""
    coarse = next(one for one in plan.levels if one.bin == plan.coarse_bin)
    found: dict[str, float] = {}

    def step(level: LevelPlan, count: int) -> float:
        return _PIXEL * (_EACH_STEP + count * shape[0] * shape[1] / level.bin**2)

    def stages(name: str, levels: Sequence[LevelPlan], count: int, *, scan: bool) -> None:
        for number, level in enumerate(levels):
            scanned = scan and level is coarse and not plan.keep_axis
            between = _SCAN_STEPS * step(level, count) if scanned else 0.0
            if number + 1 < len(levels):
                between += _BEGIN_STEPS * step(levels[number + 1], count)
            found[f"{name}bin-{level.bin}"] = level.steps * step(level, count)
            found[after(f"{name}bin-{level.bin}")] = between

    alone = plan.levels if len(views) == 1 else plan.levels[:ALONE]
    for number, count in enumerate(views):
        found[placing(number)] = _FIRST_STEPS * step(coarse, count)
        stages("" if len(views) == 1 else f"stack-{number + 1}-", alone, count, scan=True)
    if len(views) > 1:
        stages("all-", plan.levels[len(alone) - 1 :], sum(views), scan=False)
    if plan.rotation != "never":
        found[list(found)[-1]] += _ROTATION_STEPS * step(coarse, sum(views))
    found[list(found)[-1]] += _CHECK_STEPS * step(plan.check_level(min(shape)), sum(views))
    return {name: Expected(seconds) for name, seconds in found.items()}
