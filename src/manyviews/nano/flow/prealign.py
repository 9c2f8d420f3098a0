"""Cheap shifts before any reconstruction: views that should look alike, from opposite sides or later turns.

A projection from theta + 360 k degrees is the same as that from theta, and one from theta + 180 is its
mirror image about the rotation axis. Their shifts against each other, found pair by pair, are explained
by one shift a view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.kernels.warp_cpu import pull_back
from manyviews.nano.flow.robust import HUBER
from manyviews.nano.flow.shifts import Shifts
from manyviews.nano.room import blocks

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_ROUNDS = 10  # of weights, until they settle


@dataclass(frozen=True)
class Pairs:
    """Views ``first (m,)`` and ``second (m,)``, the earlier first; ``mirrored (m,)``: half a turn between
    them.
    """

    first: Int64
    second: Int64
    mirrored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)


def find_pairs(theta_degrees: Float64, tolerance_degrees: float | None = None) -> Pairs:
    """For each view the nearest earlier one of the same direction, and of the opposite one, if near enough.

    Nearest in angle, of those the latest. ``tolerance_degrees`` None: half of the median step between
    neighbouring directions over 180 degrees. `InputError` if there is no pair.
    """
    theta = np.asarray(theta_degrees, dtype=np.float64)
    if tolerance_degrees is None:
        steps = np.diff(np.sort(np.mod(theta, 180.0)))
        steps = steps[steps > 1e-3]
        tolerance_degrees = 0.5 * float(np.median(steps)) if len(steps) else 0.5
    found = []
    for n in range(1, len(theta)):
        for mirrored in (False, True):
            away = np.mod(theta[:n] - theta[n] + (180.0 if mirrored else 0.0) + 180.0, 360.0) - 180.0
            distance = np.round(np.abs(away), 6)[::-1]
            nearest = int(np.argmin(distance))
            if distance[nearest] <= tolerance_degrees:
                found.append((n - 1 - nearest, n, mirrored))
    if not found:
        raise InputError(
            "no two views look from the same or from opposite sides",
            fix="align by reprojection instead, which needs no such pairs",
        )
    first, second, mirror = np.array(found).T
    return Pairs(first, second, mirror.astype(bool))


def mirror(images: Float32, center: float) -> Float32:
    """Images ``(n, z, x)`` with column ``center + s`` where ``center - s`` was."""
    columns = images.shape[2]
    flow = np.zeros((len(images), 2, *images.shape[1:]), np.float32)
    flow[:, 0] = 2 * np.float32(center) - 2 * np.arange(columns, dtype=np.float32)
    return np.asarray(pull_back(images, flow), dtype=np.float32)


def measure_pairs(projections: Float32, pairs: Pairs, center: float) -> Float64:
    """``(m, 2)`` how far, along x and z, each first view must be read to be the second one, mirrored if
    it is.
    """
    found = np.empty((len(pairs), 2))
    for part in blocks(len(pairs), 4 * projections[0].size):
        second, mirrored = projections[pairs.second[part]], pairs.mirrored[part]
        if mirrored.any():
            second[mirrored] = mirror(second[mirrored], center)
        found[part] = Shifts().motions(second, projections[pairs.first[part]])[:, :2]
    return found


def shifts_of_pairs(measured: Float64, pairs: Pairs, views: int) -> Float64:
    """``(n, 2)`` one shift a view, that with the least square among those that explain the pairs.

    If view i reads the undisturbed image at ``x + t_i``, then the second reads the first at ``x + t_j -
    t_i``, and its mirror image does at ``x - t_j - t_i`` along x. Pairs that do not agree with the others
    lose weight (Huber). What the pairs do not say is left out: a shift of the object, or one that all
    views of a direction share.
    """
    result = np.zeros((views, 2))
    rows = np.arange(len(pairs))
    for axis in range(2):
        matrix = np.zeros((len(pairs), views))
        matrix[rows, pairs.first] = -1.0
        matrix[rows, pairs.second] = np.where(pairs.mirrored & (axis == 0), -1.0, 1.0)
        weights = np.ones(len(pairs))
        for _ in range(_ROUNDS):
            root = np.sqrt(weights)
            result[:, axis] = np.linalg.lstsq(root[:, None] * matrix, root * measured[:, axis], rcond=1e-6)[0]
            rest = np.abs(matrix @ result[:, axis] - measured[:, axis])
            limit = HUBER * max(1.4826 * float(np.median(rest)), 1e-3)
            weights = limit / np.maximum(rest, limit)
    return result


def prealign(
    projections: Float32, theta_degrees: Float64, center: float, tolerance_degrees: float | None = None
) -> Float64:
    """``(n, 2)`` shifts along x and z: where each projection reads the undisturbed one (`rigid_flow` of
    them).

    `InputError` if no views look from the same or from opposite sides.
    """
    pairs = find_pairs(theta_degrees, tolerance_degrees)
    return shifts_of_pairs(measure_pairs(projections, pairs, center), pairs, len(projections))
