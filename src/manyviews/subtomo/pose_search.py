"""Poses of subtomograms with a map: candidates from a grid, made fine, the best kept with their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.poses import angular_distance
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.subtomo.candidates.joint_search import Candidates, PoseGrid, joint_search
from manyviews.subtomo.candidates.priors import OrientationPriors
from manyviews.subtomo.candidates.rotational_matching import rotational_matching
from manyviews.subtomo.refine.alternation import FourierAlternation
from manyviews.subtomo.refine.levenberg_marquardt import LevenbergMarquardt
from manyviews.subtomo.refine.newton_marching import FrequencyMarching
from manyviews.subtomo.refine.objective import Fit, PoseObjective, Poses, Refined, RefinementMethod
from manyviews.subtomo.refine.sag import StochasticAverageGradient
from manyviews.subtomo.refine.sag_slices import SliceAverageGradient
from manyviews.subtomo.volumes import FourierSubtomograms

Float64 = NDArray[np.float64]

# Radians between centre and rim of the particle at the frequencies of the grid search. With 9 a third of the
# ribosomes of docs/subtomogram-benchmarks.md are lost at a signal-to-noise ratio of 0.03, with 13 none.
_RIM_PHASE = 13.0
_COARSENESS = 1.4
_GYRATION = 0.39  # radius of gyration of a sphere over its diameter
_STEPS = 5  # at each level of frequencies
_LEAST_KEPT, _LAST_KEPT = 3, 2  # of the candidates, half-way and in the end
_BEYOND = 1.0  # voxels outside of the range of shifts that a refined pose may lie
_SAME_DEGREES, _SAME_VOXELS = 2.0, 0.5


@dataclass(frozen=True)
class SearchPlan:
    """How poses are looked for.

    ``diameter`` of the particle and ``shift_range`` in voxels; ``candidates`` for each particle; ``symmetry
    (n, 3, 3)``. ``search`` finds candidates, ``method`` makes them fine; ``seed`` is for methods that draw;
    the joint search multiplies its matrices on ``device``.
    """

    diameter: float
    shift_range: float
    candidates: int
    symmetry: Float64
    search: str = "joint"
    method: str = "levenberg-marquardt"
    seed: int = 0
    device: str = "cpu"

    def coarse_radius(self, radius: float, box: int) -> float:
        """Where the grid search stops, cycles per box: finer detail would ask for a finer grid."""
        return min(radius, max(4.0, _RIM_PHASE * box / (math.pi * self.diameter)))


@dataclass(frozen=True)
class FoundPoses:
    """Poses by particle, the best of each first, their ``fit``, and ``weights`` that sum to 1 a particle.

    ``searched`` poses were scored for a particle by the grid, and ``touched`` coefficients were read by the
    refinement on average.
    """

    poses: Poses
    fit: Fit
    weights: Float64
    searched: int
    touched: float

    @classmethod
    def nothing(cls) -> FoundPoses:
        """Of no particles."""
        return cls(Poses.nothing(), Fit.nothing(), np.zeros(0), 0, 0.0)

    def best(self) -> NDArray[np.int64]:
        """Which of the poses are the best of each particle."""
        _, first = np.unique(self.poses.particle, return_index=True)
        return first


def find_poses(
    subtomograms: FourierSubtomograms,
    volume: torch.Tensor,
    plan: SearchPlan,
    *,
    known: Poses | None = None,
    priors: OrientationPriors | None = None,
    grid: PoseGrid | None = None,
    padding: int = 2,
) -> FoundPoses:
    """The poses of subtomograms with a map ``(box, box, box)``, up to the frequency that they are given to.

    ``known`` poses are candidates too; ``grid`` and ``priors`` as of `joint_search`; left out: everywhere.
    ``padding`` of the map's transform is as of `FourierVolume`: with more it is read more exactly.
    """
    box, radius = subtomograms.box, float(subtomograms.radius)
    reference = FourierVolume.of(volume.float(), radius, padding)
    coarse = plan.coarse_radius(radius, box)
    grid = grid or search_grid(plan, radius, box)
    low = subtomograms.crop(coarse)
    if plan.search == "joint":
        found = joint_search(
            low, reference, grid, plan.candidates, symmetry=plan.symmetry, priors=priors, device=plan.device
        )
    else:
        found = rotational_matching(
            subtomograms, reference, plan.candidates, diameter=plan.diameter, shift_range=plan.shift_range,
            symmetry=plan.symmetry,
        )  # fmt: skip
    candidates = _with_known(found, known)
    if plan.method == "levenberg-marquardt":
        final, touched = _marched(subtomograms, reference, candidates, plan)
    else:
        final = refinement(plan).refine(PoseObjective(subtomograms, reference), candidates)
        touched = int(final.touched.sum())
    gain = _within(final.poses, final.fit.gain, plan.shift_range)
    order = _distinct(final.poses, gain, plan.symmetry)
    poses, fit = final.poses.select(order), final.fit.select(order)
    searched = len(grid.rotations) * len(grid.shifts)
    return FoundPoses(
        poses, fit, posterior_weights(poses, gain[order]), searched, touched / max(1, len(subtomograms))
    )


def _marched(
    subtomograms: FourierSubtomograms,
    reference: FourierVolume,
    candidates: Poses,
    plan: SearchPlan,
) -> tuple[Refined, int]:
    """All candidates at the frequencies of the search, ever fewer of them at ever more frequencies.

    Returns the last ones, and how many numbers were read.
    """
    poses, touched = candidates, 0
    for level, most in levels_of(plan, subtomograms.radius, subtomograms.box, len(candidates)):
        objective = PoseObjective(subtomograms.crop(level), reference)
        if most < len(candidates):
            poses = poses.select(_ranked(poses, objective.fit(poses).gain, most))
            touched += len(poses) * objective.point_count
        method = LevenbergMarquardt(steps=_STEPS, radius=_GYRATION * plan.diameter)
        found = method.refine(objective, poses)
        poses = found.poses
        touched += int(found.touched.sum())
    return found, touched


def levels_of(plan: SearchPlan, radius: float, box: int, candidates: int) -> list[tuple[float, int]]:
    """Frequencies, cycles per box, that candidates are made fine at one after the other, and how many are."""
    coarse = plan.coarse_radius(radius, box)
    kept = (candidates, max(_LEAST_KEPT, plan.candidates // 3), max(_LAST_KEPT, plan.candidates // 8))
    return list(zip((coarse, math.sqrt(coarse * radius), float(radius)), kept, strict=True))


def refinement(plan: SearchPlan) -> RefinementMethod:
    """The method that makes candidates fine, by its name; all but the default do so with every candidate."""
    radius = _GYRATION * plan.diameter
    methods: dict[str, RefinementMethod] = {
        "levenberg-marquardt": LevenbergMarquardt(steps=12, radius=radius),
        "sag": StochasticAverageGradient(radius=radius, seed=plan.seed),
        "sag-slices": SliceAverageGradient(plan.diameter, optimized=False, seed=plan.seed),
        "sag-slices-optimized": SliceAverageGradient(plan.diameter, optimized=True, seed=plan.seed),
        "alternation": FourierAlternation(plan.diameter, plan.shift_range),
        "newton-marching": FrequencyMarching(plan.shift_range, radius=radius),
    }
    return methods[plan.method]


def search_grid(plan: SearchPlan, radius: float, box: int) -> PoseGrid:
    """The grid that `find_poses` takes for data up to ``radius``."""
    coarse = plan.coarse_radius(radius, box)
    return PoseGrid.of(coarse, box, plan.diameter, plan.shift_range, plan.symmetry, coarseness=_COARSENESS)


def _within(poses: Poses, gain: Float64, shift_range: float) -> Float64:
    """The gain, less a lot where a step has led out of the range, so that such a pose is the last resort."""
    outside = np.linalg.norm(poses.shifts, axis=1) > shift_range + _BEYOND
    return np.asarray(np.where(outside, gain - np.abs(gain).max(initial=0.0) * 2, gain))


def posterior_weights(poses: Poses, gain: Float64) -> Float64:
    """``(M,)`` the share of each pose in the likelihood of its particle; they sum to 1 for each particle."""
    _, place = np.unique(poses.particle, return_inverse=True)
    best = np.full(place.max(initial=-1) + 1, -np.inf)
    np.maximum.at(best, place, gain)
    likelihood = np.exp(gain - best[place])
    return np.asarray(likelihood / np.bincount(place, likelihood)[place])


def _with_known(found: Candidates, known: Poses | None) -> Poses:
    return found.poses if known is None else Poses.joined([found.poses, known])


def _ranked(poses: Poses, gain: Float64, most: int) -> NDArray[np.int64]:
    """The best ``most`` poses of each particle, in order of particle and gain."""
    order = np.lexsort((-gain, poses.particle))
    particle = poses.particle[order]
    first = np.searchsorted(particle, particle)
    return np.asarray(order[np.arange(len(order)) - first < most])


def _distinct(poses: Poses, gain: Float64, symmetry: Float64) -> NDArray[np.int64]:
    """Poses in order of particle and gain, less those that are the same as a better one."""
    order = np.lexsort((-gain, poses.particle))
    kept: list[int] = []
    own: list[int] = []
    for number in order:
        if own and poses.particle[own[0]] != poses.particle[number]:
            own = []
        if own and _is_known(poses, number, own, symmetry):
            continue
        own.append(number)
        kept.append(number)
    return np.array(kept, dtype=np.int64)


def _is_known(poses: Poses, number: int, others: list[int], symmetry: Float64) -> bool:
    near = np.linalg.norm(poses.shifts[others] - poses.shifts[number], axis=1) < _SAME_VOXELS
    equals = poses.rotations[number] @ symmetry
    angles = np.min(angular_distance(poses.rotations[others][:, None], equals[None]), axis=1)
    return bool(np.any(near & (angles < _SAME_DEGREES)))
