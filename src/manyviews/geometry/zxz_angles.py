"""Euler angles about z, x, z, as programs for subtomograms count them, and RELION's about z, y, z.

All of them say the same rotation: ``A`` of `manyviews.geometry.poses` takes the reference to the subtomogram.
With right-handed rotations of points ``Rz``, ``Rx`` and ``Ry``, RELION's angles are
``A^T = Rz(rot) Ry(tilt) Rz(psi)``;

* Dynamo: ``A^T = Rz(narot) Rx(tilt) Rz(tdrot)``, in its tables in the order tdrot, tilt, narot;
* TOM, AV3, STOPGAP, cryoCAT: ``A = Rz(psi) Rx(theta) Rz(phi)``, in motive lists in the order phi, psi, theta.

``Ry(tilt) = Rz(90) Rx(tilt) Rz(-90)`` turns one into the other. STOPGAP's own ``sg_motl_dynamo_to_stopgap``
agrees: phi = -narot, theta = -tilt, psi = -tdrot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from manyviews.geometry.poses import Float64, euler_to_matrices, matrices_to_euler


def from_dynamo(angles: ArrayLike) -> Float64:
    """RELION's rot, tilt, psi ``(..., 3)`` of Dynamo's tdrot, tilt, narot, degrees."""
    tdrot, tilt, narot = np.moveaxis(np.asarray(angles, dtype=np.float64), -1, 0)
    return _ordinary(np.stack([narot - 90, tilt, tdrot + 90], axis=-1))


def to_dynamo(angles: ArrayLike) -> Float64:
    """Dynamo's tdrot, tilt, narot ``(..., 3)`` of RELION's rot, tilt, psi, degrees."""
    rot, tilt, psi = np.moveaxis(np.asarray(angles, dtype=np.float64), -1, 0)
    return np.stack([_within_half_turn(psi - 90), tilt, _within_half_turn(rot + 90)], axis=-1)


def from_motive_list(angles: ArrayLike) -> Float64:
    """RELION's rot, tilt, psi ``(..., 3)`` of a motive list's phi, psi, theta, degrees."""
    phi, psi, theta = np.moveaxis(np.asarray(angles, dtype=np.float64), -1, 0)
    return _ordinary(np.stack([90 - phi, theta, -90 - psi], axis=-1))


def to_motive_list(angles: ArrayLike) -> Float64:
    """A motive list's phi, psi, theta ``(..., 3)`` of RELION's rot, tilt, psi, degrees."""
    rot, tilt, psi = np.moveaxis(np.asarray(angles, dtype=np.float64), -1, 0)
    return np.stack([_within_half_turn(90 - rot), _within_half_turn(-90 - psi), tilt], axis=-1)


def _ordinary(angles: Float64) -> Float64:
    """The same rotations with rot and psi within +-180 and tilt from 0 to 180."""
    wrapped = _within_half_turn(angles)
    odd = wrapped[..., 1] < 0
    if np.any(odd):
        wrapped[odd] = matrices_to_euler(euler_to_matrices(wrapped[odd]))
    return wrapped


def _within_half_turn(degrees: Float64) -> Float64:
    """Within +-180; what lies there stays as it is, to the last digit."""
    turned: Float64 = np.where(np.abs(degrees) <= 180, degrees, (degrees + 180) % 360 - 180)
    return turned
