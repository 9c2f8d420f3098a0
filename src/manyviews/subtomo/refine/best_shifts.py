"""The shift step of methods that take turns between rotation and shift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from manyviews.subtomo.candidates.joint_search import Candidates
from manyviews.subtomo.candidates.translational_matching import best_shifts
from manyviews.subtomo.refine.objective import PoseObjective, Poses


def at_best_shifts(objective: PoseObjective, poses: Poses, shift_range: float) -> Poses:
    """Each pose at its best shift."""
    order = np.arange(len(poses))
    # each pose counts as a particle of its own, so that they keep their order
    data = objective.subtomograms.select(poses.particle)
    alone = Candidates(replace(poses, particle=order), np.zeros(len(poses)))
    found = best_shifts(data, objective.reference, alone, shift_range)
    return replace(poses, shifts=found.poses.shifts)
