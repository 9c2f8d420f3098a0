"""Tilts of views towards the beam, with shifts and turns of whole views, by Gauss-Newton.

As in `manyviews.nano.rigid.angle_fit` steps are taken on what no volume explains. The fit of slices knows
no pitch, by which every depth of a view slides along z; so what the pitch of a view adds to its projection,
by the volume found last, is taken from the images before slices are fitted to them. That converges where
things slide by a part of a large pixel.

In half a turn a pitch that changes smoothly, and ends as it began but for the sign, is nearly a change of the
specimen by ``-d/dz`` of another volume. Along it the fit creeps, so it stops as soon as steps are small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.nano.rigid.angle_fit import (
    HALF_DEGREE,
    LONGEST,
    RigidScan,
    gauss_newton_step,
    slopes_of_motion,
    weights_of_views,
)
from manyviews.nano.rigid.slice_fit import EPSILON, SliceFit
from manyviews.operators.pitched_radon import PitchedRadon
from manyviews.operators.radon import Radon

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_DONE_DEGREES = 0.04
_ROUNDS = 4


@dataclass(frozen=True)
class PitchFit:
    """``motion (view, 4)`` as of `fit_rigid`, ``pitch_degrees`` and ``weights (view,)``."""

    motion: Float64
    pitch_degrees: Float64
    weights: Float64


def fit_pitch(
    scan: RigidScan, motion: Float64, weights: Float64, rows: NDArray[np.bool_], steps: int
) -> PitchFit:
    """From ``motion (view, 4)`` and ``weights (view,)`` of a fit without pitch on, by what ``rows (z,)`` say.

    Angles stay.
    """
    found, pitch = motion.copy(), np.zeros(len(motion))
    added = np.zeros_like(scan.images)
    for _ in range(steps):
        fit, laid_back = scan.at(found, weights), scan.laid_back(found)
        if pitch.any():
            volume, level = fit.fit(laid_back - added)
            added = project_pitched(volume, fit, pitch) - level
        images = laid_back - added
        volume, level = fit.fit(images)
        by_pitch = _slopes_of_pitch(volume, fit, pitch)
        slopes = np.concatenate([slopes_of_motion(fit, volume, level, angles=False), by_pitch], axis=1)
        change = gauss_newton_step(fit, slopes[:, :, rows], (images - level)[:, rows])
        change = np.clip(change, -LONGEST, LONGEST)
        found[:, :3] += change[:, :3]
        pitch += change[:, 3]
        if float(np.sqrt(np.mean(change[:, 3] ** 2))) < _DONE_DEGREES:
            break
        weights = weights_of_views(scan, images, fit)
    return PitchFit(found, pitch, weights)


def left_with_pitch(scan: RigidScan, found: PitchFit, rows: NDArray[np.bool_]) -> float:
    """The weighted sum of squares that no volume explains of some rows, with motion and pitch."""
    fit, laid_back = scan.at(found.motion, found.weights), scan.laid_back(found.motion)
    added = np.zeros_like(laid_back)
    for _ in range(_ROUNDS):
        volume, level = fit.fit(laid_back - added)
        added = project_pitched(volume, fit, found.pitch_degrees) - level
    images = np.ascontiguousarray((laid_back - added)[:, rows])
    apart = images - fit.fit(images)[1]
    return float(found.weights @ np.square(apart, dtype=np.float64).sum(axis=(1, 2)))


def project_pitched(volume: Float32, fit: SliceFit, pitch_degrees: Float64) -> Float32:
    """``(view, z, column)`` of slices ``(z, y, x)``, at the angles of a fit."""
    level = Radon(
        fit.theta_degrees, len(volume), volume.shape[2], fit.center, epsilon=EPSILON, threads=1
    )  # fmt: skip
    found: Float32 = PitchedRadon(level, pitch_degrees).forward(torch.from_numpy(volume)).numpy()
    return found


def _slopes_of_pitch(volume: Float32, fit: SliceFit, pitch_degrees: Float64) -> Float32:
    """``(view, 1, z, x)`` by how much projections change with a degree of pitch."""
    after, before = (project_pitched(volume, fit, pitch_degrees + sign * HALF_DEGREE) for sign in (1.0, -1.0))
    slopes: Float32 = (after - before)[:, None] / np.float32(2 * HALF_DEGREE)
    return slopes
