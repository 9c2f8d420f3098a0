"""The average of all particles that count, and what leaving out the worst of them would do to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyviews.operators.fourier_sums import FourierSums
from manyviews.subtomo.alignment import AlignmentProblem, AlignmentState
from manyviews.subtomo.averaging import add_up
from manyviews.subtomo.halves import best_of_halves
from manyviews.subtomo.refine.objective import Poses
from manyviews.subtomo.score_files import Rejection

Float64 = NDArray[np.float64]

_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_LEAST = 20  # particles: of fewer, a part says nothing


def sums_of_the_best(
    problem: AlignmentProblem, state: AlignmentState, resolution_of: Callable[[FourierSums], float]
) -> tuple[FourierSums, Rejection]:
    """Sums at the best poses of all particles that count, and the resolution by the share of best ones.

    Every particle is added once: each share to the one before. All ranks make this call; ``resolution_of``
    says what the halves of some sums agree to, in angstrom.
    """
    counting = 1 - problem.rejected
    shares = (counting,) if problem.count < _LEAST else sorted({*_SHARES, counting})
    everyone = np.ones(problem.count) if problem.weights is None else problem.weights
    score = state.score.numpy()
    before = np.zeros(problem.count, dtype=bool)
    whole: FourierSums | None = None
    rows = []
    for share in shares:
        kept = best_of_halves(problem.halves, score, share)
        added = _sums(problem, state, everyone * (kept & ~before))
        whole = added if whole is None else _plus(whole, added)
        if share == counting:
            final = whole
        rows.append((share, resolution_of(whole), np.nanmin(score[kept], initial=np.inf)))
        before = kept
    return final, Rejection(*np.array(rows, dtype=np.float64).T)


def _sums(problem: AlignmentProblem, state: AlignmentState, weights: Float64) -> FourierSums:
    """Up to the highest frequency."""
    own = problem.own
    poses = Poses(state.rotations.numpy()[own], state.shifts.numpy()[own], np.arange(len(own)))
    return add_up(
        problem.subtomograms,
        poses,
        weights[own],
        problem.halves[own],
        lanes=problem.lanes,
        symmetry=problem.search.symmetry,
        world=problem.world,
    )


def _plus(one: FourierSums, other: FourierSums) -> FourierSums:
    return replace(
        one,
        numerator=one.numerator + other.numerator,
        denominator=one.denominator + other.denominator,
    )
