"""Shifts to begin with, before there is a volume to compare with: several guesses, and which is the best.

A volume made with right shifts explains the projections better. So each guess is tried with a few steps at
the coarsest pixels, and the one with the least misfit is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.kernels.flow_rigid_cpu import rigid_flow
from manyviews.nano.flow.gauge import remove_shift_gauge
from manyviews.nano.flow.prealign import prealign
from manyviews.nano.flow.shifts import Shifts, mean_shift, rigid_misfits, rigid_part
from manyviews.nano.room import Allocate, in_memory
from manyviews.nano.solve.joint import Joint, Regularity, first_state, view_misfits
from manyviews.nano.solve.problem import LevelProblem

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_TRIED_ITERATIONS, _TRIED_STEPS = 2, 3
_CLEARLY = 0.98  # of a misfit, below which another guess is worth taking
_ROUNDS = 4
_WITHIN = 0.5  # of the width that mass may lie away from its place
_AIR = 0.05  # of the largest mass of a profile, that may be at its ends for its middle to be known


@dataclass(frozen=True)
class Start:
    """Shifts ``(view, 2)`` along x and z, in pixels; ``by`` says in words what they come from."""

    shifts: Float64
    by: str


def begin_shifts(projections: Float32, problem: LevelProblem) -> Start:
    """The best of no shifts, those of opposite and return views, and those that keep the mass in its place.

    ``projections`` are all views of the level; every rank makes this call.
    """
    theta, center = problem.theta_degrees, problem.center
    none = np.zeros((len(theta), 2))
    guesses = [Start(none, "none")]
    paired = pair_shifts(projections, theta, center)
    if paired is not None:
        guesses.append(Start(paired, "opposite and return views"))
    guesses.append(Start(mass_shifts(projections, theta, center), "the middle of the mass"))
    free = [Start(remove_shift_gauge(one.shifts, theta)[0], one.by) for one in guesses]
    tried = [_misfit(problem, one.shifts) for one in free]
    best = int(np.argmin(tried))
    return free[best] if tried[best] < _CLEARLY * tried[0] else free[0]


def pair_shifts(projections: Float32, theta_degrees: Float64, center: float) -> Float64 | None:
    """`prealign`, or None where no views are opposite or from the same side."""
    try:
        return prealign(projections, theta_degrees, center)
    except InputError:
        return None


def mass_shifts(projections: Float32, theta_degrees: Float64, center: float) -> Float64:
    """Shifts ``(n, 2)`` from sums: along z the profile is the same in all views, and along x the middle of
    the mass goes as ``center + a cos + b sin``.
    """
    found = np.zeros((len(projections), 2))
    found[:, 1] = _profile_shifts(projections.sum(axis=2, dtype=np.float64))
    across = projections.sum(axis=1, dtype=np.float64)
    across -= across.min(axis=1, keepdims=True)
    ends = np.maximum(across[:, 0], across[:, -1])
    mass = across.sum(axis=1)
    known = (mass > 0) & (ends < _AIR * across.max(axis=1))
    if known.sum() < max(3, len(known) // 2):
        return found
    middle = across @ np.arange(across.shape[1]) / np.where(mass > 0, mass, 1.0) - center
    theta = np.radians(theta_degrees)
    design = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    weights = known.astype(np.float64)
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        path = design @ np.linalg.lstsq(root[:, None] * design, root * middle, rcond=1e-6)[0]
        apart = np.abs(path - middle)
        limit = max(2 * float(np.median(apart[known])), 0.1)
        weights = known * np.minimum(1.0, limit / np.maximum(apart, limit))
    found[:, 0] = np.where(known, path - middle, 0.0)
    return found


def _profile_shifts(profiles: Float64) -> Float64:
    """``(n,)`` where each profile ``(n, z)`` must be read from their common one, by cross-correlation."""
    views, rows = profiles.shape
    size = 2 * rows
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    spectra = np.fft.rfft(centred, n=size, axis=1)
    frequency = np.fft.rfftfreq(size)
    found = np.zeros(views)
    reach = max(1, int(_WITHIN * rows))
    lags = np.arange(-reach, reach + 1)
    common = spectra[views // 2]
    for _ in range(_ROUNDS):
        correlation = np.fft.irfft(common * np.conj(spectra), n=size, axis=1)[:, lags]
        best = np.clip(np.argmax(correlation, axis=1), 1, len(lags) - 2)
        rows_of = np.arange(views)
        low, top, high = (correlation[rows_of, best + step] for step in (-1, 0, 1))
        bend = low - 2 * top + high
        part = np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, -1.0), 0.0)
        found = lags[best] + np.clip(part, -0.5, 0.5)
        # the common profile is the mean of all, each laid back
        common = np.mean(spectra * np.exp(-2j * np.pi * frequency * found[:, None]), axis=0)
    return found - np.median(found)


def _misfit(problem: LevelProblem, shifts: Float64) -> float:
    """Of a volume that some steps make with these shifts."""
    flow = torch.from_numpy(shift_flow(shifts, problem))
    state = first_state(problem, flow, variation=False)
    solver = Joint(problem, state, None, Regularity(), _TRIED_STEPS, "none")
    for _ in range(_TRIED_ITERATIONS):
        state = solver.step(state)
    own = flow[problem.ranks.own_views].numpy()
    misfit, _ = view_misfits(problem, problem.project(state.iterate), own)
    return float(misfit.sum())


def shift_flow(shifts: Float64, problem: LevelProblem) -> Float32:
    """The flow ``(view, 2, z, x)`` that is these shifts."""
    motion = np.concatenate([shifts, np.zeros((len(shifts), 1))], axis=1)
    rows, columns = problem.ranks.rows, problem.ranks.columns
    room = problem.allocate((len(motion), 2, rows, columns))
    found: Float32 = rigid_flow(motion, rows, columns, out=room)
    return found


@dataclass(frozen=True)
class NearAndFar:
    """Whole-image motion, of each view going on from the last one unless another is clearly better."""

    rotation: bool = False
    allocate: Allocate = in_memory

    def find(self, data: Float32, model: Float32, flow: Float32, window: float) -> Float32:
        """See `manyviews.nano.flow.engines.FlowEngine`; ``window`` does not matter."""
        engine, shape = Shifts(rotation=self.rotation), data.shape[1:]
        near = engine.motions(data, model, rigid_part(flow) if self.rotation else mean_shift(flow))
        far = engine.motions(data, model)
        better = rigid_misfits(data, model, far) < _CLEARLY * rigid_misfits(data, model, near)
        best = np.where(better[:, None], far, near)
        found: Float32 = rigid_flow(best, shape[0], shape[1], out=self.allocate(flow.shape))
        return found
