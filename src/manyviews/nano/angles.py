"""Whether the angles of a scan are what its projections say, and better ones where they are not.

A stage that loses steps, or moves unevenly, takes views at other angles than it tells. They are looked for
with large pixels, on half of the rows; the other half must confirm them. They are taken only where they
explain most of what rigid views at the given angles leave beyond noise, or leave hardly more than noise: a
specimen that deforms looks turned as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.jobs.run import Job
from manyviews.nano.plan import Plan
from manyviews.nano.rigid.angle_fit import ANGLE, RigidScan, fit_rigid, left_by_rows
from manyviews.nano.scan.binning import binned_center
from manyviews.nano.solve.joint import Joint, Motion, first_state
from manyviews.nano.solve.noise import noise_of
from manyviews.nano.solve.problem import LevelProblem
from manyviews.nano.solve.start import NearAndFar, begin_shifts, shift_flow
from manyviews.nano.space import WHOLE_ITERATIONS, smooth_enough
from manyviews.nano.stages import Views

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_MOST_COLUMNS, _FEWEST_ROWS, _MOST_ROWS, _MOST_VIEWS = 47, 4, 12, 512
_REDUNDANT = 1.5  # numbers of a row for each pixel of its slice, at least
_STEPS_WITHOUT, _STEPS_WITH = 3, 8
_BEYOND_NOISE = 1.01  # of what noise leaves
_BEYOND_CHANCE = 5.0  # times
_MOST_OF_IT, _HARDLY_MORE = 0.5, 1.2
_INNER_STEPS = 4
_DIGITS = 2  # of a degree: what rounds differently with more threads is less, and views.csv tells as many


@dataclass(frozen=True)
class FoundAngles:
    """``change_degrees (view,)``, and why it is, or is not, to be taken.

    ``without``, ``found`` and ``noise`` are what rigid views leave of the rows that were kept apart, with
    the given angles, with changed ones, and by noise alone; ``by_chance`` is what as many free numbers take
    of noise.
    """

    change_degrees: Float64
    without: float
    found: float
    noise: float
    by_chance: float

    @property
    def share(self) -> float:
        """Of what is beyond noise, what the angles explain."""
        beyond = self.without - self.noise
        return (self.without - self.found) / beyond if beyond > 0 else 0.0

    @property
    def taken(self) -> bool:
        """Whether they explain most of it, or leave hardly more than noise; and more than chance explains."""
        explains = self.share > _MOST_OF_IT or self.found < _HARDLY_MORE * self.noise
        gain = self.without - self.found
        return self.without > self.noise and explains and gain > _BEYOND_CHANCE * self.by_chance


def refined_angles(job: Job, plan: Plan, views: Views) -> Views:
    """The same views, at angles that explain them better where there are such; all ranks make this call."""
    if not _wanted(plan):
        return views
    scan, start = _coarse(job, plan, views)
    told = None
    if job.world.rank == 0:
        found = find_angles(scan, start, noise_of(views.projections) / _factor(plan))
        if found is not None and found.taken:
            told = [float(value) for value in np.round(found.change_degrees, _DIGITS)]
    told = job.world.broadcast(told)
    if told is None:
        return views
    change = np.array(told)
    job.warn(
        f"the angles of the views are not as given: they are changed by {change.min():.2g} to "
        f"{change.max():.2g} degrees, {float(np.sqrt(np.mean(change**2))):.2g} rms, see views.csv; "
        "--no-refine-angles leaves them as they are"
    )
    return replace(views, theta_degrees=views.theta_degrees + change)


def angle_figures(given_degrees: Float64, views: Views) -> dict[str, object]:
    """For the summary; nothing where angles are as given."""
    change = views.theta_degrees - given_degrees
    if not change.any():
        return {}
    return {"angles_changed_rms_degrees": round(float(np.sqrt(np.mean(change**2))), 3)}


def changed_angles(given_degrees: Float64, told_degrees: Float64) -> Float64:
    """Angles ``(view,)`` of a run that changed those given, to the last bit, from what its table tells."""
    return np.asarray(given_degrees + np.round(told_degrees - given_degrees, _DIGITS))


def find_angles(scan: RigidScan, shifts: Float64, sigma: float) -> FoundAngles | None:
    """From ``shifts (view, 2)`` on; ``sigma`` is the noise of a pixel.

    None: there are too few numbers to tell, or the given angles leave nothing but noise.
    """
    views, rows, columns = scan.images.shape
    pairs = np.arange(rows) // 2 % 2 == 0
    used, checked = np.flatnonzero(pairs), ~pairs
    told = np.zeros(rows, bool)
    told[used[:: -(-len(used) // _MOST_ROWS)]] = True
    motion, alike = np.zeros((views, 4)), np.ones(views)
    motion[:, :2] = shifts
    fit = scan.at(motion, alike)
    noise = sigma**2 * fit.freedom() * int(checked.sum())
    if fit.basis.shape[2] * _REDUNDANT > views * columns:
        return None
    if left_by_rows(scan, motion, alike, checked) < _BEYOND_NOISE * noise:
        return None
    without, _ = fit_rigid(scan, motion, told, _STEPS_WITHOUT, angles=False)
    found, weights = fit_rigid(scan, motion, told, _STEPS_WITH, angles=True)
    left = [left_by_rows(scan, one, weights, checked) for one in (without, found)]
    share = float(weights.mean())
    return FoundAngles(found[:, ANGLE], left[0], left[1], noise * share, sigma**2 * views * share)


def _wanted(plan: Plan) -> bool:
    options, (views, rows, _) = plan.options, plan.shape
    asked = options.refine_angles and options.prealign and plan.aligning
    return asked and views <= _MOST_VIEWS and rows // _factor(plan) >= _FEWEST_ROWS


def _factor(plan: Plan) -> int:
    """The least power of two by which pixels are binned to be few enough."""
    factor = 1
    while plan.shape[2] // factor > _MOST_COLUMNS:
        factor *= 2
    return factor


def _coarse(job: Job, plan: Plan, views: Views) -> tuple[RigidScan, Float64]:
    """Images of large pixels, and shifts ``(view, 2)`` of whole views by reprojection."""
    factor = _factor(plan)
    pixels, center = views.binned(factor), binned_center(views.center, factor)
    problem = LevelProblem.of(pixels, views.theta_degrees, center, job.world)
    shifts = begin_shifts(pixels, problem).shifts
    state = first_state(problem, torch.from_numpy(shift_flow(shifts, problem)), variation=False)
    motion = Motion(NearAndFar(), lambda iteration: float(pixels.shape[2]), dilation=False)
    solver = Joint(problem, state, motion, smooth_enough(pixels, problem), _INNER_STEPS, plan.options.robust)
    for _ in range(WHOLE_ITERATIONS):
        state = solver.step(state)
    found = state.flow.numpy().mean(axis=(2, 3), dtype=np.float64)
    return RigidScan(pixels, views.theta_degrees, center), found
