"""Alignment and averaging in turn: the solver of `manyviews subtomo align`.

Every iteration finds the poses of all particles with the map of their own half so far, averages each half,
and looks as far as the two halves agree and a little further (the band of Chen et al., J. Struct. Biol. 182
(2013) 235).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.poses import angular_distance, random_rotations
from manyviews.metrics.fsc import agreed_radius as fsc_agreed_radius
from manyviews.metrics.masked_fsc import masked_fsc
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.operators.fourier_sums import HALVES, FourierSums, filter_shells
from manyviews.parallel.world import SingleWorld, World
from manyviews.random import Stream, generator
from manyviews.subtomo.averaging import add_up, particle_mask, solvent_flattened, solvent_free
from manyviews.subtomo.candidates.priors import OrientationPriors
from manyviews.subtomo.halves import best_of_halves
from manyviews.subtomo.pose_search import FoundPoses, SearchPlan, find_poses
from manyviews.subtomo.refine.objective import Fit, PoseObjective, Poses
from manyviews.subtomo.registration import HalfPlacement, half_placement, placed
from manyviews.subtomo.volumes import FourierSubtomograms

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_BAND = 1.1
_AT_ONCE = 512  # particles
_FILTER_EDGE = 2.0  # shells over which a starting map is cut off
SETTLED_DEGREES = 1.0
_UNKNOWN = 180.0  # degrees: a pose that was not known before


@dataclass(frozen=True)
class AlignmentState:
    """Between two iterations.

    Attributes
    ----------
    iteration
        Iterations done.
    iterate
        Present map of both halves, ``(box, box, box)``.
    halves
        Maps that the poses of each half are looked for with.
    rotations, shifts
        ``(N, 3, 3)`` and ``(N, 3)`` in voxels, the best pose of each particle.
    score, gain, spread
        ``(N,)`` constrained correlation, gain in log likelihood, and share of the posterior of the best pose.
    radius, searched_radius
        Highest frequency that poses will be looked for with next, and were in the last iteration, cycles per
        box.
    correlation, before
        Of the halves by shell, and in the iteration before.
    angle_change, shift_change
        Medians over the particles since the iteration before, degrees and voxels.
    touched
        Coefficients read to refine a particle, on average.
    half_turned_degrees
        How far the second half was turned to lie on the first; 0 where it lay well.
    """

    iteration: int
    iterate: torch.Tensor
    halves: tuple[torch.Tensor, ...]
    rotations: torch.Tensor
    shifts: torch.Tensor
    score: torch.Tensor
    gain: torch.Tensor
    spread: torch.Tensor
    radius: int
    searched_radius: int
    correlation: list[float]
    before: list[float]
    angle_change: float
    shift_change: float
    touched: float
    half_turned_degrees: float = 0.0

    def measures(self) -> dict[str, float]:
        """Frequencies used and agreed on, mean score, and how far poses moved."""
        return {
            "radius": float(self.radius),
            "agreed_radius": float(agreed_radius(self.correlation)),
            "score": float(self.score.mean()),
            "angle_change_degrees": self.angle_change,
            "shift_change_voxels": self.shift_change,
            "half_turned_degrees": self.half_turned_degrees,
        }


@dataclass(frozen=True)
class AlignmentProblem:
    """The particles of this process and how they are aligned.

    Attributes
    ----------
    subtomograms
        Those of this process, up to the highest frequency that may be used.
    own, lanes
        ``(n,)`` their places among all ``count``, ascending, and the lanes that they are added up in.
    halves
        ``(count,)`` 1 or 2.
    search
        How poses are looked for.
    start
        Map to begin with, ``(box, box, box)``; None: the average in random poses.
    start_radius
        It counts up to here, cycles per box.
    joined_radius
        Up to here the halves share their frequencies; 0: they never do.
    given_mask
        Of the particle, ``(box, box, box)``; None: a soft sphere of its diameter.
    shared_radius
        The last shell that halves agree in anyhow, as they are aligned to one map; None: there is none.
    merged
        Whether poses are looked for with the map of both halves together, as in the paper.
    rejected
        Share of the particles of each half, those with the lowest scores, that is left out of its average.
    weights
        ``(count,)`` how much each particle counts in the averages; None: 1 each.
    priors
        What is known of the orientations of this process's particles before; None: nothing.
    known
        ``(n, 3, 3)`` rotations and ``(n, 3)`` shifts in voxels of the particles here to begin with; None:
        random ones. They are candidates of the first iteration, and where there is no ``start`` their average
        is.
    seed, start_number, world
        Of random poses, and which of several draws of them is begun with; the processes.
    """

    subtomograms: FourierSubtomograms
    own: Int64
    lanes: Int64
    halves: Int64
    search: SearchPlan
    start: torch.Tensor | None
    start_radius: int
    joined_radius: int
    given_mask: torch.Tensor | None = None
    shared_radius: int | None = None
    merged: bool = False
    rejected: float = 0.0
    weights: Float64 | None = None
    priors: OrientationPriors | None = None
    known: tuple[Float64, Float64] | None = None
    seed: int = 0
    start_number: int = 0
    world: World = field(default_factory=SingleWorld)

    @property
    def count(self) -> int:
        """Particles of all processes."""
        return len(self.halves)

    @property
    def mask(self) -> torch.Tensor:
        """Of the particle."""
        if self.given_mask is not None:
            return self.given_mask
        return particle_mask(self.subtomograms.box, self.search.diameter)


class Alignment:
    """Solver; every step is one iteration over all particles."""

    def __init__(self, problem: AlignmentProblem) -> None:
        self.problem = problem

    def init(self) -> AlignmentState:
        """The starting map for both halves; without one, the average in random poses."""
        problem = self.problem
        rng = generator(problem.seed, Stream.SUBTOMOGRAM_START, problem.start_number)
        rotations = random_rotations(problem.count, rng)
        start = problem.start
        if start is None:
            own = self._first(rotations[problem.own])
            sums = add_up(
                problem.subtomograms.crop(problem.start_radius),
                own,
                np.ones(len(own)),
                problem.halves[problem.own],
                lanes=problem.lanes,
                symmetry=problem.search.symmetry,
                world=problem.world,
            )
            start = sums.volume(np.full(sums.radius + 1, 0.5), problem.subtomograms.box)
        start = solvent_flattened(low_passed(start, problem.start_radius), problem.mask)
        return self._unscored(start, rotations)

    def _unscored(self, start: torch.Tensor, rotations: Float64) -> AlignmentState:
        """The state before anything was found: a map for both halves, and rotations ``(N, 3, 3)``."""
        nothing = torch.zeros(len(rotations), dtype=torch.float64)
        return AlignmentState(
            iteration=0,
            iterate=start,
            halves=(start,) * HALVES,
            rotations=torch.from_numpy(rotations),
            shifts=torch.zeros(len(rotations), 3, dtype=torch.float64),
            score=nothing,
            gain=nothing,
            spread=nothing,
            radius=self.problem.start_radius,
            searched_radius=self.problem.start_radius,
            correlation=[],
            before=[],
            angle_change=_UNKNOWN,
            shift_change=math.inf,
            touched=0.0,
        )

    def step(self, state: AlignmentState) -> AlignmentState:
        """Poses with the maps so far, and new maps."""
        found = self._poses(state)
        posed = self._remembered(state, found)
        weights = found.weights * self._own_weights(posed)[found.poses.particle]
        sums = self._sums(posed.radius, found.poses, weights)
        placement = self._half_placement(sums)
        if placement is not None:
            posed, poses = self._placed(placement, posed, found.poses)
            sums = self._sums(posed.radius, poses, weights)
        turned = 0.0 if placement is None else placement.degrees
        renewed = self._with_maps(posed, sums)
        return replace(
            renewed, before=state.correlation, searched_radius=state.radius, half_turned_degrees=turned
        )

    def averaged(self) -> AlignmentState:
        """The averages of the particles in the poses that are known, as if an iteration had found them.

        Where some are to be left out, all are averaged first: their scores say which.
        """
        problem = self.problem
        box, most = problem.subtomograms.box, problem.subtomograms.radius
        poses = self._first(np.broadcast_to(np.eye(3), (len(problem.own), 3, 3)))
        rotations = np.broadcast_to(np.eye(3), (problem.count, 3, 3)).copy()
        start = replace(self._unscored(torch.zeros((box,) * 3), rotations), radius=most)
        everyone = np.ones(problem.count) if problem.weights is None else problem.weights
        first = self._averaged(start, poses, everyone[problem.own])
        fits = [self._score(first, poses, half) for half in range(HALVES)]
        second = problem.halves[problem.own] == HALVES
        fit = fits[0].replaced(np.flatnonzero(second), fits[1].select(second))
        scored = self._remembered(first, FoundPoses(poses, fit, np.ones(len(poses)), 0, 0.0))
        if problem.rejected == 0:
            return scored
        again = self._averaged(replace(scored, radius=most), poses, self._own_weights(scored))
        return replace(again, iteration=scored.iteration)

    def _score(self, state: AlignmentState, poses: Poses, half: int) -> Fit:
        """How well all particles here agree with the map of a half, in poses that are known."""
        data = self.problem.subtomograms.crop(max(1, agreed_radius(state.correlation)))
        return PoseObjective(data, self._read(state.halves[half])).fit(poses)

    def _read(self, volume: torch.Tensor) -> FourierVolume:
        return FourierVolume.of(volume.float(), self.problem.subtomograms.radius)

    def _averaged(self, posed: AlignmentState, poses: Poses, weights: Float64) -> AlignmentState:
        """With new maps of the particles here in some poses, which count as ``weights (M,)`` say."""
        return self._with_maps(posed, self._sums(posed.radius, poses, weights))

    def _sums(self, radius: int, poses: Poses, weights: Float64) -> FourierSums:
        """Of all particles, a little further than to the frequency that poses were looked for up to."""
        problem = self.problem
        data = problem.subtomograms.crop(averaged_radius(radius, problem.subtomograms.radius))
        return add_up(
            data,
            poses,
            weights,
            problem.halves[problem.own],
            lanes=problem.lanes,
            symmetry=problem.search.symmetry,
            world=problem.world,
        )

    def _half_placement(self, sums: FourierSums) -> HalfPlacement | None:
        """How the second half is to be laid on the first: only where they came from nothing, apart."""
        problem = self.problem
        if problem.merged or problem.joined_radius == 0:
            return None
        box, diameter = problem.subtomograms.box, problem.search.diameter
        return half_placement(sums, box, diameter, problem.joined_radius, problem.search.symmetry)

    def _placed(
        self, placement: HalfPlacement, state: AlignmentState, poses: Poses
    ) -> tuple[AlignmentState, Poses]:
        """All poses of the second half moved: those of the state, and candidates of the particles here."""
        halves = self.problem.halves
        rotations, shifts = placed(placement, halves == HALVES, state.rotations, state.shifts)
        second = np.flatnonzero(halves[self.problem.own][poses.particle] == HALVES)
        own = placement.moved(poses.rotations[second], poses.shifts[second])
        moved = poses.replaced(second, Poses(*own, poses.particle[second]))
        return replace(state, rotations=rotations, shifts=shifts), moved

    def _with_maps(self, posed: AlignmentState, sums: FourierSums) -> AlignmentState:
        """With the maps that sums give, how far the halves agree, and how far is looked next."""
        problem = self.problem
        correlation = self._half_correlation(sums)
        iterate, halves = self._maps(sums, correlation)
        return replace(
            posed,
            iteration=posed.iteration + 1,
            iterate=iterate,
            halves=halves,
            radius=next_radius(
                agreed_radius(list(correlation)), problem.start_radius, problem.subtomograms.radius
            ),
            correlation=[float(value) for value in correlation],
        )

    def kept(self, state: AlignmentState) -> NDArray[np.bool_]:
        """``(N,)`` which particles count in the averages: those with the best scores of each half."""
        problem = self.problem
        return best_of_halves(problem.halves, state.score.numpy(), 1 - problem.rejected)

    def counted(self, state: AlignmentState) -> Float64:
        """``(N,)`` how much each particle counts in the averages."""
        weights = self.problem.weights
        return self.kept(state) * (np.ones(self.problem.count) if weights is None else weights)

    def _own_weights(self, state: AlignmentState) -> Float64:
        """`counted` of the particles of this process."""
        return self.counted(state)[self.problem.own]

    def _poses(self, state: AlignmentState) -> FoundPoses:
        """Of the particles of this process, each with the map of its half."""
        problem = self.problem
        own = problem.halves[problem.own]
        data = problem.subtomograms.crop(state.radius)
        parts = []
        for half, volume in enumerate(state.halves):
            whole = np.flatnonzero(own == half + 1)
            for first in range(0, len(whole), _AT_ONCE):
                members = whole[first : first + _AT_ONCE]  # their coefficients are copied
                priors = None if problem.priors is None else problem.priors.select(members)
                known = self._known(state, members)
                found = find_poses(data.select(members), volume, problem.search, known=known, priors=priors)
                poses = replace(found.poses, particle=members[found.poses.particle])
                parts.append(replace(found, poses=poses))
        return _joined(parts)

    def _first(self, random: Float64) -> Poses:
        """The poses that this process's particles begin with: those that are known, or random ones."""
        count = np.arange(len(self.problem.own))
        if self.problem.known is None:
            return Poses(random, np.zeros((len(count), 3)), count)
        return Poses(*self.problem.known, count)

    def _known(self, state: AlignmentState, members: Int64) -> Poses | None:
        """Poses of some particles from before; None where nothing is known yet."""
        if state.iteration > 0:
            return _known(state, self.problem.own[members])
        if self.problem.known is None:
            return None
        rotations, shifts = self.problem.known
        return Poses(rotations[members], shifts[members], np.arange(len(members)))

    def _half_correlation(self, sums: FourierSums) -> Float64:
        """Less what the mask adds: without that, noise would agree ever further beyond a shared map."""
        box, mask = self.problem.subtomograms.box, self.problem.mask
        first, second = (solvent_free(sums.half_volume(half, box), mask).numpy() for half in range(HALVES))
        curves = masked_fsc(
            first, second, 1.0, mask.numpy(), seed=self.problem.seed, shared=self.problem.shared_radius
        )
        return curves.corrected.correlation[: sums.radius + 1]

    def _maps(self, sums: FourierSums, correlation: Float64) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """The map of both halves, and those to look for poses with."""
        problem = self.problem
        box, mask = problem.subtomograms.box, problem.mask
        whole = solvent_flattened(sums.volume(correlation, box), mask)
        if problem.merged:
            return whole, (whole,) * HALVES
        if problem.joined_radius > 0:
            apart = sums.linked_halves(correlation, box, problem.joined_radius)
        else:
            apart = tuple(sums.damped_half(half, correlation, box) for half in range(HALVES))
        return whole, tuple(self._masked(one) for one in apart)

    def _masked(self, half: torch.Tensor) -> torch.Tensor:
        """The map of a half within the mask, with nothing of what both halves share beyond its end.

        The mask carries what is the same in both halves two or three shells further, and there noise would
        be turned until it looks like that, in both halves alike. So both parts are masked by themselves.
        """
        mask, shared = self.problem.mask, self.problem.shared_radius
        if shared is None:
            return solvent_flattened(half, mask)
        within = (np.arange(len(half) // 2 + 1) <= shared).astype(np.float64)
        low = filter_shells(half, within)
        kept = filter_shells(solvent_flattened(low, mask), within)
        return kept + filter_shells((half - low) * mask, 1 - within)

    def _remembered(self, state: AlignmentState, found: FoundPoses) -> AlignmentState:
        """The state with the new poses of all processes, and how far they moved."""
        problem, world = self.problem, self.problem.world
        best = found.best()
        poses, fit = found.poses.select(best), found.fit.select(best)
        mine = (poses.rotations, poses.shifts, fit.correlation, fit.gain, found.weights[best])
        counts = world.gather(len(problem.own))
        place = world.all_gather(torch.from_numpy(problem.own), counts)
        fresh = []
        for values in mine:
            gathered = world.all_gather(torch.from_numpy(np.ascontiguousarray(values)), counts)
            whole = torch.empty_like(gathered)
            whole[place] = gathered
            fresh.append(whole)
        rotations, shifts, score, gain, spread = fresh
        touched = float(world.sum(torch.tensor([found.touched * len(best)], dtype=torch.float64))[0])
        angle, shift = _changes(state, rotations, shifts, problem.search.symmetry)
        return replace(
            state,
            rotations=rotations,
            shifts=shifts,
            score=score,
            gain=gain,
            spread=spread,
            angle_change=angle,
            shift_change=shift,
            touched=touched / problem.count,
        )


def has_settled(state: AlignmentState) -> bool:
    """Whether the median turn is below a degree, and the halves agree no further than before."""
    if not state.before or state.angle_change >= SETTLED_DEGREES:
        return False
    return agreed_radius(state.correlation) <= agreed_radius(state.before)


def low_passed(volume: torch.Tensor, radius: float) -> torch.Tensor:
    """A map ``(box, box, box)`` cut off softly beyond ``radius`` cycles per box."""
    shell = np.arange(len(volume) // 2 + 1)
    return filter_shells(volume, np.clip((radius + _FILTER_EDGE - shell) / _FILTER_EDGE, 0, 1))


def averaged_radius(radius: int, most: int) -> int:
    """Far enough beyond the frequencies in use to see whether the halves agree there."""
    return min(most, math.ceil(1.5 * radius) + 4)


def next_radius(agreed: int, start: int, most: int) -> int:
    """Where poses are looked for up to next, a little beyond what the halves agree on, cycles per box."""
    return min(most, max(start, math.ceil(_BAND * agreed) + 1))


def trial_radius(start: int, most: int) -> int:
    """Where all random beginnings are compared, cycles per box."""
    return min(most, 2 * start)


def agreed_radius(correlation: list[float]) -> int:
    """The last shell in which the halves agree; in the first ones the level of the solvent decides."""
    return fsc_agreed_radius(correlation, asked_from=2)


def _known(state: AlignmentState, places: Int64) -> Poses:
    return Poses(state.rotations.numpy()[places], state.shifts.numpy()[places], np.arange(len(places)))


def _joined(parts: list[FoundPoses]) -> FoundPoses:
    """Poses of both halves in order of particle; none where a process has no particles."""
    if not parts:
        return FoundPoses.nothing()
    poses = Poses.joined([part.poses for part in parts])
    fit = Fit.joined([part.fit for part in parts])
    weights = np.concatenate([part.weights for part in parts])
    order = np.argsort(poses.particle, kind="stable")
    sizes = [len(np.unique(part.poses.particle)) for part in parts]
    touched = float(np.average([part.touched for part in parts], weights=sizes))
    return FoundPoses(poses.select(order), fit.select(order), weights[order], parts[0].searched, touched)


def _changes(
    state: AlignmentState, rotations: torch.Tensor, shifts: torch.Tensor, symmetry: Float64
) -> tuple[float, float]:
    """Medians of how far poses moved, degrees and voxels, equal poses counting as one."""
    new = rotations.numpy()
    old = state.rotations.numpy()
    angles = np.min([angular_distance(new @ turn, old) for turn in symmetry], axis=0)
    moved = np.linalg.norm(shifts.numpy() - state.shifts.numpy(), axis=1)
    return float(np.median(angles)), float(np.median(moved))
