"""What a refinement tells of its doubts: about the map, about single images, and the tables of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.io.tables import write_table
from manyviews.particles.refine.plan import RefinementPlan
from manyviews.particles.refine.scales import ContrastGroups
from manyviews.particles.refine.state import HalvesState
from manyviews.particles.selection import Selection

DOUBTFUL_FILE, CONTRAST_FILE = "doubtful.csv", "contrast.csv"
REASONS = ("hardly more than noise", "leaves what the map does not explain")
# Of the particles' power: 0.94 to 1.01 at the right structure, 0.21 and 0.54 at wrong ones.
_WELL_EXPLAINED = 0.8
_DISBELIEVED = 0.5
_MANY = 0.01  # of the images: fewer are found where all are good, those whose pose is not
_LEAK = 3  # shells, into which masks and interpolation carry what the halves share
_SHOWN = 5


def disbelieved(state: HalvesState, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of the particles ``numbers (K,)`` count for less than half."""
    return np.flatnonzero(state.credence.numpy()[numbers] < _DISBELIEVED)


def reasons(state: HalvesState, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(K,)`` why particles are not believed, of `REASONS`."""
    particle = state.evidence.numpy()[numbers, 3]
    return np.asarray(particle >= _DISBELIEVED, np.int64)


def told_of_map(plan: RefinementPlan, state: HalvesState) -> Iterator[str]:
    """Warnings of what may be wrong with all of it."""
    share = power_explained(plan, state)
    if share < _WELL_EXPLAINED:
        yield (
            f"the map explains {100 * share:.0f} % of the particles' power as far as the halves agree, "
            "where a right one explains nearly all: the start may be of another structure, or "
            "many images of none; do not believe the map before another start has led to it"
        )
    if state.furthest <= min(plan.start_radius + _LEAK, plan.radius - 1):
        yield (
            "the halves agree no further than the start's frequencies, which they share, and three shells "
            "beyond, into which a mask carries them"
        )
    judged, distinct = state.noise_gain.numpy()[:, 1] > 0, state.noise_gain.numpy()[:, 2] > 0
    if judged.any() and not distinct[judged].all():
        yield (
            "the images gain hardly more from the map than images of noise do: it may be one of noise, seen "
            "in noise; no image was set aside, because none can be told from noise"
        )


def told_of_images(state: HalvesState, chosen: Selection) -> tuple[str, bool]:
    """How many images are not believed, and whether that is to be a warning; an empty text if all are."""
    rows = disbelieved(state, chosen.numbers)
    if not len(rows):
        return "", False
    kinds = np.bincount(reasons(state, chosen.numbers[rows]), minlength=2)
    first = ", ".join(str(chosen.order[row] + 1) for row in rows[:_SHOWN])
    text = (
        f"{len(rows)} of {len(chosen.numbers)} particles count for little, since the map does not explain "
        f"them ({first}{' ...' if len(rows) > _SHOWN else ''}): {kinds[0]} gain hardly more than noise does, "
        f"{kinds[1]} leave power that it should explain; {DOUBTFUL_FILE} lists them"
    )
    return text, len(rows) > _MANY * len(chosen.numbers)


def power_explained(plan: RefinementPlan, state: HalvesState) -> float:
    """Share of the particles' power that the map explains: that of the middle shell among those that tell.

    They go from half the start's frequencies, below which what is not noise is not all particle, to where the
    halves agree: another structure explains what is coarse, and the less the finer it is.
    """
    last = max(plan.start_radius, state.furthest)
    return float(np.median(state.explained[plan.start_radius // 2 : last + 1]))


def summary(plan: RefinementPlan, state: HalvesState, chosen: Selection) -> dict[str, object]:
    """Key figures by name."""
    at_start = float(np.mean(state.explained[2 : plan.start_radius + 1]))
    found: dict[str, object] = {
        "power_explained": round(power_explained(plan, state), 3),
        "power_explained_at_the_start_resolution": round(at_start, 3),
    }
    if plan.options.flat_solvent:
        found["noise_left_in_the_sphere"] = round(state.solvent, 3)
    rows = disbelieved(state, chosen.numbers)
    if len(rows):
        found["particles_not_believed"] = len(rows)
    if len(state.scales) > 1:
        found["spread_of_contrast_between_groups"] = round(float(state.scales.std()), 3)
    return found


def write_doubts(
    folder: Path, state: HalvesState, chosen: Selection, groups: ContrastGroups
) -> dict[str, list[str]]:
    """List the images that are not believed, and the groups' contrast where there are some.

    Returns the columns that the table of the particles gets, in the order of the run.
    """
    numbers = chosen.numbers
    credence, evidence = state.credence.numpy(), state.evidence.numpy()
    rows = disbelieved(state, numbers)
    why = reasons(state, numbers[rows])
    lines = [
        (
            row + 1,
            chosen.whole.image_name(row),
            f"{credence[number]:.4f}",
            *(f"{value:.2f}" for value in evidence[number, :3]),
            REASONS[reason],
        )
        for row, number, reason in sorted(zip(chosen.order[rows], numbers[rows], why, strict=True))
    ]
    header = ("particle", "image", "credence", "gain", "predicted_gain", "excess", "reason")
    if lines:
        write_table(folder / DOUBTFUL_FILE, header, lines)
    if groups.count > 1:
        sizes = np.bincount(groups.group[numbers], minlength=groups.count)
        scales = state.scales.numpy()
        rows_of_groups = [
            (name, size, f"{scale:.4f}")
            for name, size, scale in zip(groups.names, sizes, scales, strict=True)
        ]
        write_table(folder / CONTRAST_FILE, ("group", "particles", "contrast"), rows_of_groups)
    return {
        "manyviewsCredence": [f"{value:.4f}" for value in credence[numbers]],
        "manyviewsGain": [f"{value:.2f}" for value in evidence[numbers, 0]],
    }
