"""What an ab initio run will take, counted before it starts: poses, points, bytes, and from these the time.

The rates were measured on one core with AVX-512 (2,000 images of 64 pixels took 62 s with one start); another
machine may be twice as fast or slow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from manyviews.operators.fourier_points import half_plane
from manyviews.operators.fourier_slice import grid_half
from manyviews.operators.fourier_sums import PADDING
from manyviews.parallel.lanes import LANES
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.pose_grids import coarse_level, shifts_everywhere
from manyviews.particles.images.fourier_resample import working_box
from manyviews.particles.images.load import image_bytes
from manyviews.particles.plan import Plan
from manyviews.particles.sagd.sagd import gradient_bytes

# Seconds of one core.
_IMAGE_PIXEL = 2.5e-8  # reading, transforming
_SCORE = 5e-9  # of an image and a pose of a grid, and for each coefficient of it
_SCORE_POINT = 6.5e-11
_NEIGHBOUR_POINT = 1.1e-9  # of an image, a pose near a known one, and a coefficient
_SAMPLE_POINT = 1.6e-8  # added to the map: a coefficient of a pose
_VOXEL = 2e-7  # transforms and masks of the maps in an iteration, for each voxel of a box
_ITERATION = 0.02

_FITTED_SHELLS = 8
_NEIGHBOURS_KNOWN, _NEIGHBOURS_ANYWHERE = 2000, 3500  # poses scored around candidates, as seen
_SAMPLES = 20  # different poses of an image that are added

_PROGRAM_BYTES = 470 << 20
_READING_BYTES = 130 << 20
_SCORES_BYTES = 60 << 20
_GRID_POINT_BYTES = 12 * LANES + 24 * 4 + 12 * 4
_FINE_VOXEL_BYTES = 12


@dataclass(frozen=True)
class Stage:
    """Some iterations alike, each of so many images.

    Frequencies go from ``first_radius`` to ``last_radius``, Fourier pixels; ``seconds`` are of one core, for
    all iterations.
    """

    name: str
    iterations: int
    images: int
    first_radius: int
    last_radius: int
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What a run takes: seconds of one core, None if not known, and memory of all images and of the rest."""

    stages: tuple[Stage, ...]
    seconds: float | None
    images_bytes: int
    working_bytes: int


def estimate_cost(plan: Plan, reach: int) -> Cost:
    """Count a run; the halves are expected to stop agreeing at ``reach``, Fourier pixels."""
    images = image_bytes(plan.em.particles, plan.radius)
    if plan.options.method == "sagd":
        size = plan.options.batch
        kept = gradient_bytes(plan.em.particles, plan.radius, plan.box, size)
        return Cost((), None, images, kept + _working_bytes(plan, plan.radius))
    stages = (_starts(plan), *_refinement(plan, reach))
    read = _IMAGE_PIXEL * plan.em.particles * plan.box**2
    last = max(stage.last_radius for stage in stages)
    return Cost(stages, read + sum(stage.seconds for stage in stages), images, _working_bytes(plan, last))


def _starts(plan: Plan) -> Stage:
    em = plan.em
    seconds = 0.0
    each = em.start_iterations - 1
    for index in range(each):
        radius = em.start_radius(index)
        seconds += _everywhere(plan, em.batch, radius) + _mapping(plan, em.batch, radius)
    name = "1 random start" if em.starts == 1 else f"{em.starts} random starts, each"
    return Stage(name, each, em.batch, em.start_radius(0), em.start_radius(each - 1), em.starts * seconds)


def _refinement(plan: Plan, reach: int) -> list[Stage]:
    """Iterations of the refinement, joined where they see as many images at the same frequencies."""
    em, radius = plan.em, plan.em.last_start_radius
    stages: list[Stage] = []
    agreed = radius
    for index in range(em.refinements):
        radius = em.next_radius(radius, agreed)
        agreed = min(radius, max(reach, em.last_start_radius))
        size = em.refine_size(index, radius)
        seconds = _neighbours(plan, size, radius, anywhere=em.looks_everywhere(index))
        seconds += _mapping(plan, size, radius)
        previous = stages[-1] if stages else None
        if previous is not None and (previous.images, previous.last_radius) == (size, radius):
            joined = previous.iterations + 1, previous.seconds + seconds
            stages[-1] = Stage("refinement", joined[0], size, radius, radius, joined[1])
        else:
            stages.append(Stage("refinement", 1, size, radius, radius, seconds))
    return stages


def _points(plan: Plan, radius: int) -> int:
    return len(half_plane(radius, plan.box))


def _everywhere(plan: Plan, images: int, radius: int) -> float:
    """Seconds to score a whole grid."""
    level = coarse_level(radius, plan.box, plan.em.filled)
    shifts = shifts_everywhere(level.shift_step, plan.shift_sigma / plan.pixel_size)
    poses = level.rotation_count * len(shifts)
    return images * poses * (_SCORE + _SCORE_POINT * _points(plan, radius))


def _neighbours(plan: Plan, images: int, radius: int, *, anywhere: bool) -> float:
    """Seconds to find the poses of a refining batch."""
    points = _points(plan, radius)
    if not anywhere:
        return images * _NEIGHBOURS_KNOWN * points * _NEIGHBOUR_POINT
    near = images * _NEIGHBOURS_ANYWHERE * points * _NEIGHBOUR_POINT / 2  # coarser levels see fewer points
    return near + _everywhere(plan, images, plan.em.last_start_radius)


def _mapping(plan: Plan, images: int, radius: int) -> float:
    """Seconds to make a map."""
    turns = _order(plan.options.symmetry)
    box = working_box(radius, plan.box)
    return images * _SAMPLES * turns * _points(plan, radius) * _SAMPLE_POINT + _VOXEL * box**3 + _ITERATION


def _order(symmetry: str) -> int:
    from manyviews.geometry.symmetry import symmetry_rotations

    return len(symmetry_rotations(symmetry))


def _working_bytes(plan: Plan, radius: int) -> int:
    half = grid_half(radius, PADDING)
    grid = (2 * half + 1) ** 2 * (half + 2) * _GRID_POINT_BYTES
    fine = (PADDING * working_box(radius, plan.box)) ** 3 * _FINE_VOXEL_BYTES
    batch = _largest_part(plan.em, radius) * image_bytes(plan.em.particles, plan.radius)
    iterating = grid + fine + int(batch) + _SCORES_BYTES
    return _PROGRAM_BYTES + max(iterating, _READING_BYTES)


def _largest_part(em: EmPlan, radius: int) -> float:
    """The largest batch that is copied, as a part of all images; a batch of all of them is not."""
    sizes = [em.refine_size(index, radius) for index in range(em.refinements)]
    copied = [size for size in sizes if size < em.particles]
    return max(copied, default=min(em.batch, em.particles)) / em.particles


def expected_reach(signal_to_noise: list[float], particles: int, sampled: int, filled: float) -> int:
    """Where two halves of the particles would stop agreeing (FSC 0.143) if all poses were known exactly.

    A shell of k pixels has ``2 pi k`` coefficients in an image and ``4 pi k^2`` in the box, of which a
    particle leaves only as many free as its sphere takes of the box. So each is seen ``N / (2 k share)``
    times, and half of ``N`` images with a signal-to-noise ratio s give it one of ``N s / (4 k share)``. Where
    s is too small to be measured it is taken to go on falling by the same factor a shell.

    Parameters
    ----------
    signal_to_noise
        Of an image's coefficients in each shell, from 0 on.
    particles
        ``N``.
    sampled
        Images that the ratios were measured with: those within three standard errors are not believed.
    filled
        Diameter of the particle over the side of the box.
    """
    shells = np.arange(len(signal_to_noise))
    ratio = np.maximum(np.array(signal_to_noise, dtype=np.float64), 1e-12)
    lost = ratio < 3 / np.sqrt(np.pi * np.maximum(shells, 1) * sampled)
    lost[:2] = False
    known = int(lost.argmax()) if lost.any() else len(shells)
    last = np.arange(max(2, known - _FITTED_SHELLS), known)
    if len(last) > 2:
        slope, start = np.polyfit(last, np.log(ratio[last]), 1)
        ratio[known:] = np.exp(np.minimum(start + slope * shells[known:], np.log(ratio[known - 1])))
    share = math.pi / 6 * filled**3
    agreed = particles * ratio / (4 * np.maximum(shells, 1) * share) >= 0.143 / (1 - 0.143)
    agreed[:2] = True
    return len(shells) - 1 if agreed.all() else int(agreed.argmin()) - 1
