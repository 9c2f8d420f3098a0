"""How whole views of a scan move: jitter, drift, jumps, and turns in the plane of the detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from manyviews.geometry.views import TiltGeometry
from manyviews.random import Stream, generator

Float64 = NDArray[np.float64]

_DRIFT_POINTS = 4


@dataclass(frozen=True)
class ViewMotion:
    """What is seen at y lies, without motion, at ``R (y - m) + m + shift``, m the middle of the detector.

    ``shift (view, 2)`` in pixels along x (columns) and z (rows); R turns by ``roll_degrees (view,)`` from x
    towards z. ``jumps`` are the views from which on a jump is in the shifts.
    """

    shift: Float64
    roll_degrees: Float64
    jumps: tuple[int, ...] = ()

    def turn(self, view: int) -> Float64:
        """R of a view, 2x2 on (x, z)."""
        roll = np.deg2rad(self.roll_degrees[view])
        return np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])

    def flow(self, view: int, inner: Float64) -> Float64:
        """Flow ``(2, z, x)`` of a view that is moved first and then read at places moved by ``inner``."""
        rows, columns = inner.shape[1:]
        z, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        place = np.stack([x, z]).astype(np.float64)
        middle = np.array([(columns - 1) / 2, (rows - 1) / 2])[:, None, None]
        turned = np.einsum("ij,jzx->izx", self.turn(view), place + inner - middle)
        return np.asarray(turned + middle + self.shift[view][:, None, None] - place)


def draw_motion(
    views: int,
    *,
    jitter: float = 0.0,
    drift: float = 0.0,
    jumps: int = 0,
    jump_pixels: float = 0.0,
    roll: float = 0.0,
    roll_jitter: float = 0.0,
    seed: int = 0,
) -> ViewMotion:
    """Motion drawn at random; lengths in pixels, angles in degrees.

    ``jitter`` is the standard deviation of each view along x and z, ``drift`` the farthest that a smooth
    course comes from its start along each, ``jump_pixels`` the length of each jump in a random direction.
    ``roll`` turns all views, ``roll_jitter`` is the standard deviation of the turns of each.
    """
    # each kind has its own numbers, so that one more changes no other
    each, course, leap, turns = (generator(seed, Stream.SCAN_MOTION, kind) for kind in range(4))
    shift = jitter * each.standard_normal((views, 2)) + drift * _course(views, course) + 0.0
    starts = tuple(sorted(leap.choice(np.arange(1, views), min(jumps, views - 1), replace=False).tolist()))
    for start in starts:
        direction = leap.uniform(0, 2 * np.pi)
        shift[start:] += jump_pixels * np.array([np.cos(direction), np.sin(direction)])
    return ViewMotion(shift, roll + roll_jitter * turns.standard_normal(views), starts)


def _course(views: int, rng: np.random.Generator) -> Float64:
    """Smooth curves ``(view, 2)`` that begin at 0 and come as far as 1."""
    values = np.concatenate([[[0.0, 0.0]], rng.uniform(-1, 1, (_DRIFT_POINTS - 1, 2))])
    curve = CubicSpline(np.linspace(0, 1, _DRIFT_POINTS), values)(np.linspace(0, 1, views))
    farthest = np.abs(curve).max(axis=0)
    return np.asarray(curve / np.where(farthest > 0, farthest, 1.0))


def scan_geometry(
    theta_degrees: Float64, shape: tuple[int, int], center: float, motion: ViewMotion
) -> TiltGeometry:
    """How views look at a specimen that turns about z, for a detector ``(z, x)``; one pixel is the unit.

    A point lies at column ``center + x cos(theta) + y sin(theta)``, then moves with its view.
    """
    rows, columns = shape
    # image points are counted from the pixel with index n // 2
    middle = np.array([(columns - 1) / 2 - columns // 2, (rows - 1) / 2 - rows // 2])
    matrices = np.tile(np.eye(4), (len(theta_degrees), 1, 1))
    for view, theta in enumerate(np.deg2rad(theta_degrees)):
        still = np.array([[np.cos(theta), np.sin(theta), 0.0, center - columns // 2], [0.0, 0.0, 1.0, 0.0]])
        still[:, 3] -= middle + motion.shift[view]
        back = motion.turn(view).T
        matrices[view, :2] = back @ still
        matrices[view, :2, 3] += middle
        matrices[view, 2, :3] = [-np.sin(theta), np.cos(theta), 0.0]
    zeros = np.zeros(len(theta_degrees))
    return TiltGeometry(
        matrices, zeros.astype(np.int64), np.arange(len(zeros)), np.asarray(theta_degrees), zeros
    )
