"""Angles and pitch of views, looked for before anything else; a run tells and uses what is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.jobs.run import Job
from manyviews.nano.angles import DIGITS, find_angles
from manyviews.nano.pitch import find_pitch
from manyviews.nano.plan import Plan
from manyviews.nano.refining import is_refining, refining_factor
from manyviews.nano.rigid.angle_fit import RigidScan
from manyviews.nano.scan.binning import binned_center
from manyviews.nano.solve.joint import Joint, Motion, first_state
from manyviews.nano.solve.noise import noise_of
from manyviews.nano.solve.problem import LevelProblem
from manyviews.nano.solve.start import NearAndFar, begin_shifts, shift_flow
from manyviews.nano.space import WHOLE_ITERATIONS, smooth_enough
from manyviews.nano.stages import Views

Float64 = NDArray[np.float64]

_INNER_STEPS = 4


def refined_views(job: Job, plan: Plan, views: Views) -> Views:
    """The same views, with angles and pitch that explain them better where there are such.

    All ranks make this call.
    """
    if not is_refining(plan):
        return views
    scan, start = _coarse(job, plan, views)
    change: list[float] | None = None
    pitch: list[float] | None = None
    if job.world.rank == 0:
        sigma = noise_of(views.projections) / refining_factor(plan)
        angles = find_angles(scan, start, sigma)
        if angles is not None and angles.taken:
            change = _rounded(angles.change_degrees)
            scan = replace(scan, theta_degrees=views.theta_degrees + np.array(change))
        pitched = None if plan.space else find_pitch(scan, start, sigma)
        if pitched is not None and pitched.taken:
            pitch = _rounded(pitched.pitch_degrees)
    return _told(job, views, job.world.broadcast(change), job.world.broadcast(pitch))


def _told(job: Job, views: Views, change: list[float] | None, pitch: list[float] | None) -> Views:
    if change is not None:
        by = np.array(change)
        job.warn(
            f"the angles of the views are not as given: they are changed by {by.min():.2g} to "
            f"{by.max():.2g} degrees, {float(np.sqrt(np.mean(by**2))):.2g} rms, see views.csv; "
            "--no-refine-angles leaves them as they are"
        )
        views = replace(views, theta_degrees=views.theta_degrees + by)
    if pitch is not None:
        by = np.array(pitch)
        job.warn(
            f"the views are pitched, tilted towards the beam by {by.min():.2g} to {by.max():.2g} degrees, "
            "see pitch.csv; --no-refine-angles takes none to be"
        )
        views = replace(views, pitch_degrees=by)
    return views


def _rounded(degrees: Float64) -> list[float]:
    return [float(value) for value in np.round(degrees, DIGITS)]


def _coarse(job: Job, plan: Plan, views: Views) -> tuple[RigidScan, Float64]:
    """Images of large pixels, and shifts ``(view, 2)`` of whole views by reprojection."""
    factor = refining_factor(plan)
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
