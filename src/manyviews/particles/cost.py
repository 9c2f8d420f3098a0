"""Seconds of one core that iterations over particles take, counted from poses, coefficients and voxels.

The rates were measured with two threads (1,500 images of 64 pixels, 5,000 of 96); another machine may be
twice as fast or slow. What is expected of iterations to come is for a `reach`, Fourier pixels, at which the
halves are expected to stop agreeing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.metrics.fsc import agreed_radius
from manyviews.operators.fourier_points import half_plane
from manyviews.particles.em.pose_grids import coarse_level, shifts_everywhere
from manyviews.particles.em.state import RefinementState, StartsState
from manyviews.particles.images.fourier_resample import working_box
from manyviews.particles.known_poses import ReconstructionPlan
from manyviews.particles.plan import Plan
from manyviews.particles.refine.plan import PATIENCE, RefinementPlan
from manyviews.particles.refine.state import HalvesState
from manyviews.runs.pace import Work

Planned = Plan | RefinementPlan

# Seconds of one core.
_SCORE = 3.3e-9  # of an image and a pose of a grid, and for each coefficient of it
_SCORE_POINT = 4.3e-11
_NEIGHBOUR_POINT = 5.5e-10  # of an image, a pose near a known one, and a coefficient
_SAMPLE_POINT = 1.3e-8  # added to the map: a coefficient of a pose
_VOXEL = 2e-7  # transforms and masks of the maps in an iteration, for each voxel of a box
_ITERATION = 0.02
FINISHING_VOXEL = 1.6e-6  # the mask of half maps, curves, local resolution, for each voxel

_COMPARED_START = 1.2  # laid over another one, in either hand
_KNOWN_VOXEL = 2.5e-6  # half maps, their curve and the map of known poses, for each voxel

_NEIGHBOURS_KNOWN, _NEIGHBOURS_ANYWHERE = 1000, 2000  # poses scored around candidates, as seen
_BEST = 0.75  # of the time for posteriors over a whole grid, that its best poses take
_SAMPLES = 20  # different poses of an image that are added


@dataclass(frozen=True)
class Step:
    """An iteration of so many images, at frequencies up to ``radius``, Fourier pixels; seconds of a core."""

    images: int
    radius: int
    seconds: float


# --- what iterations take ---


def start_seconds(plan: Plan, index: int) -> float:
    """Of an iteration of a random start, or of its scoring, which counts as one more."""
    em = plan.em
    radius = em.start_radius(min(index, em.start_iterations - 2))
    return _everywhere(plan, em.batch, radius) + _mapping(plan, em.batch, radius)


def refinement_steps(
    plan: Plan, reach: int, *, index: int = 0, radius: int | None = None, agreed: int | None = None
) -> Iterator[Step]:
    """Of the refinement of a start from iteration ``index`` on, the last of which went to ``radius`` and
    ``agreed`` so far; left out: from the first on.
    """
    em = plan.em
    radius = em.last_start_radius if radius is None else radius
    agreed = radius if agreed is None else agreed
    for number in range(index, em.refinements):
        radius = em.next_radius(radius, agreed)
        agreed = min(radius, max(reach, em.last_start_radius))
        yield refinement_step(plan, number, radius)


def refinement_step(plan: Plan, index: int, radius: int) -> Step:
    """Of one such iteration."""
    size = plan.em.refine_size(index, radius)
    found = _near(plan, size, radius, anywhere=plan.em.looks_everywhere(index))
    return Step(size, radius, found + _mapping(plan, size, radius))


def comparing_seconds(plan: Plan) -> float:
    """Of laying the other starts over the best."""
    return _COMPARED_START * (plan.em.starts - 1)


def halves_steps(
    plan: RefinementPlan,
    reach: int,
    *,
    done: int = 0,
    radius: int | None = None,
    agreed: int = 0,
    stalled: int = 0,
) -> Iterator[Step]:
    """Of the passes of a refinement after ``done`` ones, until the halves agree no further.

    The last of them went to ``radius`` and ``agreed`` so far, as in ``stalled`` ones before it.
    """
    furthest = agreed
    for number in range(done, plan.options.iterations):
        if stalled >= PATIENCE:
            return
        radius = plan.start_radius if radius is None else plan.next_radius(radius, agreed)
        agreed = min(radius, max(reach, plan.start_radius))
        stalled = 0 if agreed > furthest else stalled + 1
        furthest = max(agreed, furthest)
        yield halves_step(plan, radius, 1.0 if number == 0 else 0.0)


def halves_step(plan: RefinementPlan, radius: int, everywhere: float) -> Step:
    """Of one pass, in which this share of the images is looked for ``everywhere``."""
    size = plan.em.particles
    lost = _near(plan, size, radius, anywhere=True) * everywhere
    known = _near(plan, size, radius, anywhere=False) * (1 - everywhere)
    return Step(size, radius, lost + known + _mapping(plan, size, radius))


def half_maps_seconds(plan: RefinementPlan) -> float:
    """Of the half maps in the end, with all frequencies."""
    return _mapping(plan, plan.em.particles, plan.radius)


def known_poses_seconds(plan: ReconstructionPlan) -> float:
    """Of a map and half maps of images in known poses."""
    turns = len(symmetry_rotations(plan.options.symmetry))
    points = len(half_plane(plan.radius, plan.box))
    return len(plan.rotations) * turns * points * _SAMPLE_POINT + _KNOWN_VOXEL * plan.box**3


def finishing_seconds(plan: RefinementPlan) -> float:
    """Of what is made of them."""
    return FINISHING_VOXEL * plan.box**3


# --- for the time that is left ---


def starts_work(plan: Plan) -> Callable[[StartsState], Work]:
    """What an iteration of the random starts took and the others will."""
    each = [start_seconds(plan, index) for index in range(plan.em.start_iterations)]
    every = sum(each)

    def work(state: StartsState) -> Work:
        """Of the starts that are asked for, and of one that is made beyond them."""
        begun, index = divmod(state.iteration - 1, len(each))
        later = max(0, plan.em.starts - begun - 1)
        return Work(each[index], sum(each[index + 1 :]) + later * every)

    return work


def refinement_work(plan: Plan, reach: int) -> Callable[[RefinementState], Work]:
    """The same of the refinement of a start."""

    def work(state: RefinementState) -> Work:
        index = plan.em.task(state.iteration - 1).index
        agreed = agreed_radius(state.correlation)
        left = refinement_steps(
            plan, _expected(reach, agreed, state.radius), index=index + 1, radius=state.radius, agreed=agreed
        )
        step = refinement_step(plan, index, state.radius)
        return Work(step.seconds, sum(one.seconds for one in left))

    return work


def halves_work(plan: RefinementPlan, reach: int) -> Callable[[HalvesState], Work]:
    """The same of the refinement of two halves."""

    def work(state: HalvesState) -> Work:
        agreed = agreed_radius(state.correlation)
        left = halves_steps(
            plan,
            _expected(reach, agreed, state.radius),
            done=state.iteration,
            radius=state.radius,
            agreed=agreed,
            stalled=state.stalled,
        )
        step = halves_step(plan, state.radius, state.everywhere)
        return Work(step.seconds, sum(one.seconds for one in left))

    return work


def _expected(reach: int, agreed: int, radius: int) -> int:
    """How far halves will come that agreed so far at frequencies to ``radius``: what did not, hardly will."""
    return reach if agreed >= radius else agreed


# --- parts of an iteration ---


def _points(plan: Planned, radius: int) -> int:
    return len(half_plane(radius, plan.box))


def _everywhere(plan: Planned, images: int, radius: int) -> float:
    """Seconds to score a whole grid."""
    level = coarse_level(radius, plan.box, plan.em.filled)
    shifts = shifts_everywhere(level.shift_step, plan.shift_sigma / plan.pixel_size)
    poses = level.rotation_count * len(shifts)
    return images * poses * (_SCORE + _SCORE_POINT * _points(plan, radius))


def _near(plan: Planned, images: int, radius: int, *, anywhere: bool) -> float:
    """Seconds to find poses near known ones, or near the best of a whole grid."""
    points = _points(plan, radius)
    if not anywhere:
        return images * _NEIGHBOURS_KNOWN * points * _NEIGHBOUR_POINT
    near = images * _NEIGHBOURS_ANYWHERE * points * _NEIGHBOUR_POINT / 2  # coarser levels see fewer points
    return near + _BEST * _everywhere(plan, images, plan.em.last_start_radius)


def _mapping(plan: Planned, images: int, radius: int) -> float:
    """Seconds to make a map."""
    turns = len(symmetry_rotations(plan.options.symmetry))
    box = working_box(radius, plan.box)
    return images * _SAMPLES * turns * _points(plan, radius) * _SAMPLE_POINT + _VOXEL * box**3 + _ITERATION
