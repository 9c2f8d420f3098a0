"""Whether a map that was given fits the particles better when inverted, or as its mirror image.

Some particles are laid on the map and on the other one; which fits better is a matter of paired scores. A
wedge does not hide the hand: the mirror image of what was measured is another volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from manyviews.jobs.run import Job
from manyviews.subtomo.alignment import AlignmentProblem, low_passed
from manyviews.subtomo.averaging import solvent_flattened
from manyviews.subtomo.pose_search import find_poses
from manyviews.subtomo.volumes import FourierSubtomograms

Float64 = NDArray[np.float64]

_FOR_CONTRAST, _FOR_HAND = 20, 50  # particles
_CHANCE = 1e-3  # that a difference is one
_FEW, _CLEAR = 10, 0.1  # particles too few for that, and a difference of scores that is none


@dataclass(frozen=True)
class Comparison:
    """Constrained correlations ``(n,)`` of the same particles with a map and with another one."""

    given: Float64
    other: Float64

    @property
    def other_fits(self) -> bool:
        """Whether the other map fits better, and hardly by chance."""
        return _is_larger(self.other, self.given)

    @property
    def given_fits(self) -> bool:
        """Whether the map fits better, and hardly by chance."""
        return _is_larger(self.given, self.other)

    def in_words(self) -> str:
        """The mean scores, and of how many particles."""
        better = int(np.count_nonzero(self.given > self.other))
        return (
            f"mean score {self.given.mean():.4f} against {self.other.mean():.4f}, better for {better} of "
            f"{len(self.given)} particles"
        )


def check_reference(job: Job, problem: AlignmentProblem, *, hands: bool) -> dict[str, object]:
    """Warn where the map that a run begins with does not go with the particles; key figures for the summary.

    All ranks make this call; without such a map there is nothing to check.
    """
    if problem.start is None:
        return {}
    job.warn(*filter(None, [contrast_warning(problem)]))
    if not hands:
        return {}
    found = compare_hands(problem)
    words, told, warning = hand_told(found)
    job.warn(*filter(None, [warning]))
    if told:
        job.say(told)
    return {
        "hand_of_the_particles": words,
        "score_with_the_reference": round(float(found.given.mean()), 4),
        "score_with_its_mirror_image": round(float(found.other.mean()), 4),
    }


def contrast_warning(problem: AlignmentProblem) -> str:
    """A sentence where particles fit the inverted starting map better; empty where they do not.

    Compared as far as the start goes. All ranks make this call, which needs a start.
    """
    assert problem.start is not None
    volume = low_passed(problem.start, problem.start_radius)
    found = _compared(problem, volume, -volume, problem.start_radius, _FOR_CONTRAST)
    if not found.other_fits:
        return ""
    scores = f"{found.other.mean():.3f} against {found.given.mean():.3f}"
    return (
        f"the particles look inverted: they fit the inverted map better than the map (mean score {scores}, "
        f"{len(found.given)} particles looked at); multiply them by -1 (subtomo extract --invert), or the map"
    )


def compare_hands(problem: AlignmentProblem) -> Comparison:
    """Particles with the map and with its mirror image, at all frequencies; all ranks make this call."""
    assert problem.start is not None
    radius = problem.subtomograms.radius
    return _compared(problem, problem.start, mirror_image(problem.start), radius, _FOR_HAND)


def hand_told(found: Comparison) -> tuple[str, str, str]:
    """The hand in a few words; a sentence to say; and a warning, empty where there is none."""
    if found.other_fits:
        return "mirror image of the reference", "", (
            "the particles fit the mirror image of the reference better than the reference "
            f"({found.in_words()}); check the hand of the map and of the tomograms; the run goes on with the "
            "map as it was given"
        )  # fmt: skip
    if found.given_fits:
        return "as the reference", f"the reference fits better than its mirror image: {found.in_words()}", ""
    return "not told by the particles", (
        f"the reference and its mirror image fit alike: {found.in_words()}"
    ), ""  # fmt: skip


def mirror_image(volume: torch.Tensor) -> torch.Tensor:
    """``map(-x)`` of ``(n, n, n)``: the origin and the axes of any symmetry stay where they are."""
    turned = torch.flip(volume, (0, 1, 2))
    # index n // 2 is the origin; of an even box, index 0 is its own mirror image
    return turned if len(volume) % 2 else torch.roll(turned, (1, 1, 1), (0, 1, 2))


def _compared(
    problem: AlignmentProblem, volume: torch.Tensor, other: torch.Tensor, radius: int, most: int
) -> Comparison:
    """Scores of up to ``most`` particles of all processes with both maps."""
    count, world = problem.count, problem.world
    looked_at = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    mine = np.flatnonzero(np.isin(problem.own, looked_at))
    data = problem.subtomograms.crop(radius).select(mine)
    scores = [_scores(problem, data, solvent_flattened(one, problem.mask)) for one in (volume, other)]
    counts = world.gather(len(mine))
    # by particle, so that the sum is the same for any number of ranks
    order = np.argsort(world.all_gather(torch.from_numpy(problem.own[mine]), counts).numpy())
    gathered = [world.all_gather(torch.from_numpy(one), counts).numpy()[order] for one in scores]
    return Comparison(*gathered)


def _scores(problem: AlignmentProblem, data: FourierSubtomograms, volume: torch.Tensor) -> Float64:
    if not len(data):
        return np.zeros(0)
    found = find_poses(data, volume, problem.search)
    return np.asarray(found.fit.correlation[found.best()], dtype=np.float64)


def _is_larger(one: Float64, other: Float64) -> bool:
    """By the signed ranks of differences, which a few wrong poses do not upset; few must all be clear."""
    difference = one - other
    if len(difference) < _FEW:
        return bool((difference > _CLEAR).all())
    if not difference.any():
        return False
    return float(stats.wilcoxon(difference, alternative="greater").pvalue) < _CHANCE
