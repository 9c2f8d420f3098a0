"""Angles of views, with shifts and turns of whole views, by Gauss-Newton on what no volume explains.

A projection changes with its angle by what its volume says. To go to and fro between volume and angles
gets nowhere, as the volume follows wrong angles that change slowly; here the volume is eliminated
(`SliceFit`), and steps are those of the residual that is left whatever the volume is, with the Jacobian of
Kaufman (BIT 15 (1975) 49). That angles can be known from projections alone: Basu and Bresler, IEEE Trans.
Image Process. 9 (2000) 1094.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.kernels.flow_rigid_cpu import rigid_flow
from manyviews.kernels.warp_cpu import pull_back
from manyviews.nano.flow.robust import view_weights
from manyviews.nano.rigid.slice_fit import SliceFit, project

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

LONGEST = np.array([1.0, 1.0, np.radians(2.0), 2.0])  # a step along x, z, of the turn, of the angle
HALF_DEGREE = 0.5  # for differences
_DAMPING = 1e-2  # of the mean square of a view's slopes
_DONE_DEGREES = 0.02
_ROUNDS = 3
ANGLE = 3
"""Which number of a view is its angle."""


@dataclass(frozen=True)
class RigidScan:
    """``images (view, z, x)``, at ``theta_degrees (view,)`` as given, and the column of the axis."""

    images: Float32
    theta_degrees: Float64
    center: float

    def at(self, motion: Float64, weights: Float64) -> SliceFit:
        """The fit of slices with the angles of a motion ``(view, 4)``."""
        theta = self.theta_degrees + motion[:, ANGLE]
        return SliceFit.of(theta, self.images.shape[2], self.center, weights)

    def laid_back(self, motion: Float64) -> Float32:
        """The images without the shifts and turns of a motion."""
        cosine, sine = np.cos(motion[:, 2]), np.sin(motion[:, 2])
        x, z = motion[:, 0], motion[:, 1]
        back = np.stack([-(cosine * x + sine * z), sine * x - cosine * z, -motion[:, 2]], axis=1)
        return np.asarray(pull_back(self.images, rigid_flow(back, *self.images.shape[1:])), dtype=np.float32)


def left_by_rows(scan: RigidScan, motion: Float64, weights: Float64, rows: NDArray[np.bool_]) -> float:
    """The weighted sum of squares that no volume explains of some rows, with a motion ``(view, 4)``."""
    images = np.ascontiguousarray(scan.laid_back(motion)[:, rows])
    apart = images - scan.at(motion, weights).fit(images)[1]
    return float(weights @ np.square(apart, dtype=np.float64).sum(axis=(1, 2)))


def fit_rigid(
    scan: RigidScan, motion: Float64, rows: NDArray[np.bool_], steps: int, *, angles: bool
) -> tuple[Float64, Float64]:
    """``(view, 4)`` shifts along x and z in pixels, turn in the plane in radians, angle in degrees; weights.

    From ``motion`` on, by what ``rows (z,)`` tell; without ``angles`` those stay. Views that fit badly weigh
    less. What all angles have in common turns the specimen: their weighted mean stays nought.
    """
    found, weights = motion.copy(), np.ones(len(motion))
    for _ in range(_ROUNDS):  # views that do not belong must not draw their neighbours away first
        weights = weights_of_views(scan, scan.laid_back(found), scan.at(found, weights))
    for _ in range(steps):
        images, fit = scan.laid_back(found), scan.at(found, weights)
        volume, fitted = fit.fit(images)
        slopes = slopes_of_motion(fit, volume, fitted, angles=angles)
        change = gauss_newton_step(fit, slopes[:, :, rows], (images - fitted)[:, rows])
        change = np.clip(change, -LONGEST[: change.shape[1]], LONGEST[: change.shape[1]])
        found[:, : change.shape[1]] += change
        found[:, ANGLE] -= weights @ found[:, ANGLE] / weights.sum()
        if angles and float(np.sqrt(np.mean(change[:, ANGLE] ** 2))) < _DONE_DEGREES:
            break
        weights = weights_of_views(scan, images, fit)
    return found, weights


def weights_of_views(scan: RigidScan, images: Float32, fit: SliceFit) -> Float64:
    """``(view,)`` weights of views by what is left of them."""
    left = np.square(images - fit.fit(images)[1], dtype=np.float64).sum(axis=(1, 2))
    sizes = np.square(scan.images, dtype=np.float64).sum(axis=(1, 2))
    return view_weights(left, sizes, kind="student").weights


def slopes_of_motion(fit: SliceFit, volume: Float32, fitted: Float32, *, angles: bool) -> Float32:
    """``(view, 3 or 4, z, x)`` by how much fitted projections change with a motion."""
    rows, columns = fitted.shape[1:]
    along_z, along_x = np.gradient(fitted, axis=(1, 2))
    across = (np.arange(columns) - 0.5 * (columns - 1)).astype(np.float32)
    down = (np.arange(rows) - 0.5 * (rows - 1)).astype(np.float32)[:, None]
    slopes = [along_x, along_z, across * along_z - down * along_x]
    if angles:
        ends = (project(volume, fit.theta_degrees + sign * HALF_DEGREE, fit.center) for sign in (1.0, -1.0))
        after, before = ends
        slopes.append((after - before) / np.float32(2 * HALF_DEGREE))
    return np.stack(slopes, axis=1)


def gauss_newton_step(fit: SliceFit, slopes: Float32, rest: Float32) -> Float64:
    """``(view, k)`` the change that leaves least, whatever volume answers it."""
    views, kinds, rows, _ = slopes.shape
    root = np.sqrt(fit.weights).astype(np.float32)
    sizes = np.sqrt(np.mean(np.square(slopes, dtype=np.float64).sum(axis=(2, 3)), axis=0)) + 1e-30
    own = slopes * (root[:, None] / sizes.astype(np.float32))[:, :, None, None]
    alike = np.zeros((views, kinds, views, kinds))
    every = np.arange(views)
    alike[every, :, every] = np.einsum("vkzx,vlzx->vkl", own, own, optimize=True)
    matrix = alike.reshape(views * kinds, -1)
    for row in range(rows):
        explained = np.matmul(own[:, :, row], fit.basis).reshape(views * kinds, -1)
        matrix -= explained @ explained.T
    matrix[np.diag_indices(len(matrix))] += _DAMPING
    force = np.einsum("vkzx,vzx->vk", own, rest * root[:, None, None], optimize=True)
    return np.asarray(np.linalg.solve(matrix, force.ravel()).reshape(views, kinds) / sizes)
