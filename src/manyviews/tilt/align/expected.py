"""What the phases of an alignment will take, in pixels of images that go through one step.

Steps go with the pixels of all images. What else there is was measured in steps of the level where it is
done: two series of 61 images, 256 pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence

from manyviews.jobs.run import after
from manyviews.runs.course import Expected
from manyviews.tilt.align.plan import AlignPlan, LevelPlan

ALONE = 2
"""Levels that each of several series is fitted in by itself."""

_EACH_STEP = 150_000.0  # pixels that a step takes beside those of its images
_FIRST_STEPS, _SCAN_STEPS, _ROTATION_STEPS, _CHECK_STEPS = 12.0, 5.0, 7.5, 3.5


def expected_phases(plan: AlignPlan, views: Sequence[int], pixels: int) -> dict[str, Expected]:
    """By name, in their order; ``views`` of each series, ``pixels`` of an image that is not binned."""
    coarse = next(one for one in plan.levels if one.bin == plan.coarse_bin)

    def step(level: LevelPlan, count: int) -> float:
        return _EACH_STEP + count * pixels / level.bin**2

    def stages(name: str, levels: Sequence[LevelPlan], count: int, *, scan: bool) -> dict[str, float]:
        found: dict[str, float] = {}
        for level in levels:
            found[f"{name}bin-{level.bin}"] = level.steps * step(level, count)
            between = _SCAN_STEPS if scan and level is coarse and not plan.keep_axis else 0.0
            found[after(f"{name}bin-{level.bin}")] = between * step(level, count)
        return found

    if len(views) == 1:
        found = stages("", plan.levels, views[0], scan=True)
    else:
        found = {}
        for number, count in enumerate(views, 1):
            if found:  # the first coarse poses of this series, after the one before
                last = list(found)[-1]
                found[last] += _FIRST_STEPS * step(coarse, count)
            found |= stages(f"stack-{number}-", plan.levels[:ALONE], count, scan=True)
        last_alone = min(ALONE, len(plan.levels)) - 1
        found |= stages("all-", plan.levels[last_alone:], sum(views), scan=False)
    ending = _CHECK_STEPS + (0.0 if plan.rotation == "never" else _ROTATION_STEPS)
    found[list(found)[-1]] += ending * step(coarse, sum(views))
    return {name: Expected(work) for name, work in found.items()}
