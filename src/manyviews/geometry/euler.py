"""A view's matrix taken apart into what alignment files hold, and pixel-centre conventions.

Source of the angles: RELION-5 ``rlnTomoXTilt``, ``rlnTomoYTilt``, ``rlnTomoZRot``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from manyviews.geometry.views import Float64, rotation_x, rotation_y, rotation_z


def rotation_zyx(x_tilt: float, y_tilt: float, z_rotation: float) -> Float64:
    """``Rz(z_rotation) Ry(y_tilt) Rx(x_tilt)``, degrees, 3x3: RELION-5's order."""
    return rotation_z(z_rotation) @ rotation_y(y_tilt) @ rotation_x(x_tilt)


def zyx_angles(rotation: ArrayLike) -> tuple[float, float, float]:
    """``(x_tilt, y_tilt, z_rotation)`` in degrees with ``rotation = Rz Ry Rx``; y_tilt within +-90.

    At y_tilt = +-90 only a combination of the other two is defined; x_tilt is 0 then.
    """
    r = np.asarray(rotation, dtype=np.float64)
    cosine = np.hypot(r[0, 0], r[1, 0])
    y_tilt = np.arctan2(-r[2, 0], cosine)
    if cosine > 1e-9:
        x_tilt, z_rotation = np.arctan2(r[2, 1], r[2, 2]), np.arctan2(r[1, 0], r[0, 0])
    else:
        x_tilt, z_rotation = 0.0, np.arctan2(-r[0, 1], r[1, 1])
    return float(np.rad2deg(x_tilt)), float(np.rad2deg(y_tilt)), float(np.rad2deg(z_rotation))


def within_half_turn(degrees: float) -> float:
    """The same direction from -180 to 180 degrees; what lies there stays as it is, to the last digit."""
    return degrees if -180.0 <= degrees <= 180.0 else (degrees + 180.0) % 360.0 - 180.0


def in_plane_turn(blocks: ArrayLike) -> Float64:
    """Degrees by which 2x2 matrices ``(..., 2, 2)`` turn a plane, counter-clockwise, stretches set aside."""
    m = np.asarray(blocks, dtype=np.float64)
    turns: Float64 = np.rad2deg(np.arctan2(m[..., 1, 0] - m[..., 0, 1], m[..., 0, 0] + m[..., 1, 1]))
    return turns


@dataclass(frozen=True)
class ViewParts:
    """One view as ``image = stretch (rotation X)[:2] + shift``, the shift ``(x, y)`` in angstrom.

    ``rotation`` is 3x3, right-handed; ``stretch`` 2x2 symmetric, the identity unless the view was magnified
    or stretched.
    """

    rotation: Float64
    stretch: Float64
    shift: Float64


def split_view(matrix: ArrayLike) -> ViewParts:
    """Take a view's 4x4 matrix apart (polar decomposition of its first two rows)."""
    given = np.asarray(matrix, dtype=np.float64)
    rows = given[:2, :3]
    values, vectors = np.linalg.eigh(rows @ rows.T)
    stretch = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    first, second = np.linalg.solve(stretch, rows)
    return ViewParts(np.array([first, second, np.cross(first, second)]), stretch, given[:2, 3].copy())


def half_pixel_offset(image_shape: tuple[int, int]) -> Float64:
    """Distance ``(x, y)`` in pixels from the middle of an image, ``(n - 1) / 2``, to our centre, ``n // 2``.

    IMOD and AreTomo turn images about their middle, which for an even side lies between two pixels;
    RELION and manyviews turn about pixel ``n // 2``. The offset is 0.5 for an even side and 0 for an odd one.
    """
    rows, columns = image_shape
    return np.array([columns // 2 - (columns - 1) / 2, rows // 2 - (rows - 1) / 2])


def move_image_origin(raw_to_aligned: ArrayLike, offset: ArrayLike) -> Float64:
    """Let ``(view, 3, 3)`` raw-to-aligned transforms take raw points counted from another origin.

    ``offset`` ``(x, y)`` is the new origin seen from the old one, in the transforms' unit.
    """
    moved = np.array(raw_to_aligned, dtype=np.float64)
    moved[:, :2, 2] += moved[:, :2, :2] @ np.asarray(offset, dtype=np.float64)
    return moved
