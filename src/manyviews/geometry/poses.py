"""Poses of single particles: Euler angles, rotation matrices, view directions, distances between them.

RELION's convention (Heymann, Chagoyen and Belnap, J. Struct. Biol. 151 (2005) 196): a pose is the matrix
``A = Rz(psi) Ry(tilt) Rz(rot)`` of coordinate axes, not of points, so the rows of A are the image's x, y and
z axes in the volume. A volume point X is seen at the first two components of ``A X``. The third row is the
view direction ``(sin tilt cos rot, sin tilt sin rot, cos tilt)``; psi turns the image in its plane. Vectors
are ``(x, y, z)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Float64 = NDArray[np.float64]

_PLASTIC_ROOT = 1.533751168755204288118041  # positive root of psi^4 = psi + 4 (Alexa 2022)


def euler_to_matrices(angles: ArrayLike) -> Float64:
    """Matrices ``(..., 3, 3)`` of Euler angles ``(..., 3)``: rot, tilt, psi in degrees.

    Equal to ``Rotation.from_euler("ZYZ", angles, degrees=True).inv()``.
    """
    radians = np.deg2rad(np.asarray(angles, dtype=np.float64))
    (cr, ct, cp), (sr, st, sp) = np.moveaxis(np.cos(radians), -1, 0), np.moveaxis(np.sin(radians), -1, 0)
    rows = [
        [cp * ct * cr - sp * sr, cp * ct * sr + sp * cr, -cp * st],
        [-sp * ct * cr - cp * sr, -sp * ct * sr + cp * cr, sp * st],
        [st * cr, st * sr, ct],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrices_to_euler(matrices: ArrayLike) -> Float64:
    """Euler angles ``(..., 3)``, rot, tilt, psi in degrees, of pose matrices ``(..., 3, 3)``.

    rot and psi are within +-180, tilt within 0 to 180. At tilt 0 and 180 only the sum or the difference of
    rot and psi is defined; rot is 0 then.
    """
    a = np.asarray(matrices, dtype=np.float64)
    sine = np.hypot(a[..., 2, 0], a[..., 2, 1])
    tilt = np.arctan2(sine, a[..., 2, 2])
    upright = sine < 1e-9
    rot = np.where(upright, 0.0, np.arctan2(a[..., 2, 1], a[..., 2, 0]))
    seen_psi = np.arctan2(a[..., 1, 2], -a[..., 0, 2])
    psi = np.where(upright, np.arctan2(-np.sign(a[..., 2, 2]) * a[..., 1, 0], a[..., 1, 1]), seen_psi)
    radians: Float64 = np.stack([rot, tilt, psi], axis=-1)
    return np.rad2deg(radians)


def view_directions(matrices: ArrayLike) -> Float64:
    """Unit vectors ``(..., 3)`` along which the volume is seen: the third rows of ``(..., 3, 3)`` poses."""
    poses = np.asarray(matrices, dtype=np.float64)
    return np.array(poses[..., 2, :], dtype=np.float64)


def direction_matrices(directions: ArrayLike, psi_degrees: ArrayLike = 0.0) -> Float64:
    """Poses ``(..., 3, 3)`` that look along ``(..., 3)`` vectors, turned in the plane by psi in degrees.

    The shapes of the directions (less their last axis) and of psi are broadcast.
    """
    d = np.asarray(directions, dtype=np.float64)
    rot = np.rad2deg(np.arctan2(d[..., 1], d[..., 0]))
    tilt = np.rad2deg(np.arctan2(np.hypot(d[..., 0], d[..., 1]), d[..., 2]))
    psi = np.asarray(psi_degrees, dtype=np.float64)
    return euler_to_matrices(np.stack(np.broadcast_arrays(rot, tilt, psi), axis=-1))


def random_rotations(count: int, rng: np.random.Generator) -> Float64:
    """Rotations ``(count, 3, 3)`` uniform over SO(3): normalised normal deviates as quaternions."""
    return _from_quaternions(rng.standard_normal((count, 4)))


def random_directions(count: int, rng: np.random.Generator) -> Float64:
    """Unit vectors ``(count, 3)`` uniform over the sphere."""
    drawn = rng.standard_normal((count, 3))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float64)


def uniform_rotations(count: int) -> Float64:
    """Rotations ``(count, 3, 3)`` that cover SO(3) evenly: super-Fibonacci spirals.

    Alexa, CVPR 2022, pp. 8291-8300, any count. The rotation angle between neighbours is about
    ``(8 pi^2 / count)^(1/3)`` radians: 14 degrees for 5,000.
    """
    s = np.arange(count) + 0.5
    alpha, beta = 2 * np.pi * s / np.sqrt(2), 2 * np.pi * s / _PLASTIC_ROOT
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    parts = [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)]
    return _from_quaternions(np.stack(parts, axis=1))


def rotations_from_vectors(vectors: ArrayLike) -> Float64:
    """Rotation matrices ``(..., 3, 3)`` of rotation vectors ``(..., 3)``, axis times angle in radians."""
    v = np.asarray(vectors, dtype=np.float64)
    turned = Rotation.from_rotvec(v.reshape(-1, 3)).as_matrix()
    return np.asarray(turned, dtype=np.float64).reshape(*v.shape[:-1], 3, 3)


def angular_distance(a: ArrayLike, b: ArrayLike) -> Float64:
    """Angle in degrees, 0 to 180, of the rotation between matrices ``(..., 3, 3)``; shapes are broadcast.

    From ``|A - B|^2 = 8 sin^2(angle / 2)``, which keeps its digits at small angles where the trace does not.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    half_sine = np.sqrt(np.sum(difference**2, axis=(-2, -1)) / 8)
    return np.asarray(np.rad2deg(2 * np.arcsin(np.minimum(half_sine, 1.0))), dtype=np.float64)


def _from_quaternions(quaternions: Float64) -> Float64:
    """``(n, 3, 3)`` of ``(n, 4)`` (x, y, z, w), normalised here."""
    return np.asarray(Rotation.from_quat(quaternions).as_matrix(), dtype=np.float64)
