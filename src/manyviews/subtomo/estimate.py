"""What an alignment will take, counted before it starts: poses and frequencies read, bytes, and the time.

The rates were measured on one core with AVX-512 that had other work too (40 subtomograms of 64 voxels);
another machine may be twice as fast or slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.jobs.run import Job, after
from manyviews.operators.fourier_points import half_ball
from manyviews.operators.fourier_slice import grid_half
from manyviews.operators.fourier_sums import HALVES, PADDING
from manyviews.parallel.lanes import LANES
from manyviews.runs.course import Expected
from manyviews.runs.pace import Work
from manyviews.subtomo.alignment import (
    SETTLED_DEGREES,
    AlignmentState,
    agreed_radius,
    averaged_radius,
    next_radius,
    trial_radius,
)
from manyviews.subtomo.load import READING
from manyviews.subtomo.plan import Plan
from manyviews.subtomo.pose_search import levels_of, search_grid
from manyviews.subtomo.starts import STAGE as STARTS_STAGE
from manyviews.subtomo.volumes import subtomogram_bytes

Float64 = NDArray[np.float64]

STAGE, AVERAGING = "align", "average"
_USUAL = 3  # iterations until poses have settled, from a reference

# Seconds of one core.
_READ_VOXEL = 1e-7  # reading, transforms of the particle and of its background
_SCORE = 2e-9  # of a subtomogram and a pose of the grid, and for each coefficient of it
_SCORE_POINT = 9e-11
_FITTED_POINT = 2.5e-8  # of a pose that is made fine, a coefficient
_ADDED_POINT = 1.2e-7  # of a pose that is added to the map, a coefficient
_VOXEL = 1e-6  # transforms and masks of the maps in an iteration, for each voxel of a box
_FINAL_VOXEL = 1e-5  # curves with random phases, cones, pictures
_START = 6.0  # loading the program, the wedge as it is seen, the report

_FITS = 4.0  # of a pose at a level of frequencies, as seen
_POSES_ADDED = 2.0  # of a particle
_AGREED = 0.143
_SEEN = 0.05  # of the noise: less signal may be the spectrum's smoothing
_FITTED_SHELLS = 5

_PROGRAM_BYTES = 470 << 20
_BLOCK_BYTES = 100 << 20  # of the search, of what is added at once
_LANE_BYTES = 12  # of a lane of the sums, a point of the grid
_SUMS_BYTES = 24 * HALVES
_FINE_VOXEL_BYTES = 16


@dataclass(frozen=True)
class Cost:
    """What a run takes on each process.

    Attributes
    ----------
    radii
        Highest frequency of each iteration, cycles per box, where the halves agree as far as was expected.
    seconds
        Of one core for all of it; None for methods whose work was not measured.
    data_bytes, working_bytes
        Memory of the subtomograms, and of the rest.
    """

    radii: tuple[int, ...]
    seconds: float | None
    data_bytes: int
    working_bytes: int


def estimate_cost(plan: Plan, count: int, transfers: int, reach: int, ranks: int = 1) -> Cost:
    """Count a run of ``count`` subtomograms with so many different ``transfers``, shared by ``ranks``.

    The halves are expected to agree up to ``reach``, cycles per box.
    """
    count = math.ceil(count / ranks)
    radii = expected_radii(plan, reach)
    seconds: float | None = None
    if plan.options.method == "levenberg-marquardt" and plan.options.search == "joint":
        trial = (plan.start_radius, trial_radius(plan.start_radius, plan.radius))
        tried = trial * plan.draws if plan.draws > 1 else ()
        each = sum(_iteration(plan, count, radius) for radius in (*tried, *radii))
        seconds = _START + _reading_seconds(plan, count) + each + _ending_seconds(plan, count)
    data = subtomogram_bytes(count, plan.radius)
    half = subtomogram_bytes(math.ceil(count / 2), max(radii))  # copied while its poses are looked for
    return Cost(radii, seconds, data, _working_bytes(plan, transfers, min(count, -(-LANES // ranks))) + half)


def expect_alignment(job: Job, plan: Plan, count: int) -> Callable[[AlignmentState], Work] | None:
    """Tell a job what its stages will take with ``count`` subtomograms; returns the cost of iterations.

    Iterations to come are taken to go as far as the halves agree, or as the next one where they agree to the
    end. None for methods whose work was not measured, whose iterations are taken to be alike.
    """
    own = math.ceil(count / job.world.size)
    reading = {READING: Expected(_reading_seconds(plan, own))}
    ending = {after(STAGE): Expected(_ending_seconds(plan, own))}
    cores = torch.get_num_threads() * job.world.size
    if plan.options.method != "levenberg-marquardt" or plan.options.search != "joint":
        job.expect({**reading, STARTS_STAGE: Expected(), STAGE: Expected(), **ending})
        return None

    def seconds(radii: Sequence[int]) -> float:
        return sum(_iteration(plan, own, radius) for radius in radii)

    trial = (plan.start_radius, trial_radius(plan.start_radius, plan.radius))
    tried = {STARTS_STAGE: Expected(plan.draws * seconds(trial))} if plan.draws > 1 else {}
    whole = Expected(seconds(expected_radii(plan, plan.radius)[:_USUAL]))
    job.expect({**reading, **tried, STAGE: whole, **ending}, 1.0 / cores)

    def work(state: AlignmentState) -> Work:
        left = min(plan.options.iterations - state.iteration, _iterations_to_come(state))
        took = _iteration(plan, own, state.searched_radius)
        return Work(took, left * _iteration(plan, own, state.radius))

    return work


def _iterations_to_come(state: AlignmentState) -> int:
    """Until `has_settled` says so: turns fall to a third from one iteration to the next, as seen."""
    if state.iteration < 2:
        return _USUAL - state.iteration
    turned = max(1.0, state.angle_change / SETTLED_DEGREES)
    gained = agreed_radius(state.correlation) > agreed_radius(state.before)
    return max(int(gained), math.ceil(math.log(turned, 3)))


def expect_average(job: Job, plan: Plan, count: int) -> None:
    """Tell a job what it will take to average ``count`` subtomograms in known poses, and what follows."""
    own = math.ceil(count / job.world.size)
    scored = own * _points(plan, plan.radius) * 2 * _FITTED_POINT  # with the maps of both halves
    averaged = _added_seconds(plan, own) + _VOXEL * plan.box**3 + scored
    phases = {
        READING: Expected(_reading_seconds(plan, own)),
        AVERAGING: Expected(averaged),
        after(AVERAGING): Expected(_ending_seconds(plan, own)),
    }
    job.expect(phases, 1.0 / (torch.get_num_threads() * job.world.size))


def _reading_seconds(plan: Plan, own: int) -> float:
    return own * plan.box**3 * _READ_VOXEL


def _added_seconds(plan: Plan, own: int) -> float:
    """All subtomograms of this rank to the map, with all frequencies."""
    return own * _points(plan, plan.radius) * len(plan.search.symmetry) * _ADDED_POINT


def _ending_seconds(plan: Plan, own: int) -> float:
    """Of what is made of poses: the best ones are added first, and the resolution told by their share."""
    return _added_seconds(plan, own) + _FINAL_VOXEL * plan.box**3


def expected_radii(plan: Plan, reach: int) -> tuple[int, ...]:
    """The highest frequency of each iteration: it follows what the halves agree on in the one before."""
    radii = [plan.start_radius]
    for _ in range(plan.options.iterations - 1):
        agreed = min(reach, averaged_radius(radii[-1], plan.radius))
        radii.append(next_radius(agreed, plan.start_radius, plan.radius))
    return tuple(radii)


def expected_reach(ratio: Float64, particles: int, sampled: int) -> int:
    """Where two halves of the particles would stop agreeing (FSC 0.143) if all poses were known exactly.

    Half of N particles, each with a ratio of signal to noise s, give a coefficient the ratio ``N s / 2``.
    What is too weak to be seen in a sample is taken to go on falling by the same factor a shell.

    Parameters
    ----------
    ratio
        ``(shells,)`` of power, signal to noise, of a coefficient that was measured.
    particles
        ``N``.
    sampled
        Subtomograms that the ratios were measured with.
    """
    last = visible_shell(ratio, sampled)
    if last < 2:
        return 1
    shell = np.arange(max(2, last + 1 - _FITTED_SHELLS), last + 1)
    known = np.maximum(ratio[: last + 1], 1e-12)
    slope = float(np.polyfit(shell, np.log(known[shell]), 1)[0]) if len(shell) > 2 else -1.0
    beyond = np.arange(last + 1, len(ratio))
    falling = np.log(known[last]) + min(slope, 0.0) * (beyond - last)
    whole = np.concatenate([known, np.exp(falling)])
    agrees = particles / 2 * whole >= _AGREED / (1 - _AGREED)
    agrees[:2] = True
    return len(whole) - 1 if agrees.all() else int(agrees.argmin()) - 1


def visible_shell(ratio: Float64, sampled: int) -> int:
    """The last shell, from 2 on, before the signal is lost in the noise of a sample; 1: it is never seen."""
    shell = np.arange(len(ratio))
    error = 1 / np.sqrt(2 * math.pi * np.maximum(shell, 1) ** 2 * max(sampled, 1))
    lost = ratio < np.maximum(_SEEN, 3 * error)
    lost[:2] = False
    return int(lost.argmax()) - 1 if lost.any() else len(ratio) - 1


def _iteration(plan: Plan, count: int, radius: int) -> float:
    """Seconds of one core."""
    search = plan.search
    grid = search_grid(search, radius, plan.box)
    coarse = _points(plan, search.coarse_radius(radius, plan.box))
    poses = len(grid.rotations) * len(grid.shifts)
    scored = count * poses * (_SCORE + _SCORE_POINT * coarse)
    before, fitted = 0, 0.0
    for level, kept in levels_of(search, radius, plan.box, search.candidates):
        points = _points(plan, level)
        fitted += points * ((before if kept < before else 0) + kept * _FITS)
        before = kept
    added = _points(plan, averaged_radius(radius, plan.radius)) * _POSES_ADDED * len(search.symmetry)
    return scored + count * (fitted * _FITTED_POINT + added * _ADDED_POINT) + _VOXEL * plan.box**3


def _points(plan: Plan, radius: float) -> int:
    return len(half_ball(radius, plan.box))


def _working_bytes(plan: Plan, transfers: int, lanes: int) -> int:
    half = grid_half(plan.radius, PADDING)
    sums = (2 * half + 1) ** 2 * (half + 2) * (lanes * _LANE_BYTES + _SUMS_BYTES)
    fine = (PADDING * plan.box) ** 3 * _FINE_VOXEL_BYTES
    # transfers, the same whitened and of the particles at work; power of the noise in each lane
    known = (3 * transfers * 4 + LANES * 16) * _points(plan, plan.radius)
    return _PROGRAM_BYTES + _BLOCK_BYTES + sums + fine + known
