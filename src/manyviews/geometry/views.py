"""How each view looks at the specimen: one 4x4 matrix a view, whatever the file it came from.

The convention of the whole project. Volume points are ``(x, y, z)`` in angstrom from the volume centre, image
points ``(u, v)`` in angstrom from the image centre; array index ``n // 2`` is the centre on every axis. View
``i`` sees a volume point X at ``image = (P_i X)[:2]`` with ``P_i = S(shift) B R``: R a right-handed rotation,
B an in-plane image transform (identity for aligned images, a rotation and slight magnification for raw ones),
shifts applied last, in the image plane. This is RELION-5's ``rlnTomoProj`` chain
``S(image centre) S(shift) Rz(ZRot) Ry(YTilt) Rx(XTilt) S(-volume centre)`` with both centres taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError

Float64 = NDArray[np.float64]


def rotation_x(degrees: float) -> Float64:
    """Right-handed rotation about x, 3x3: at 90 degrees it takes +y to +z."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rotation_y(degrees: float) -> Float64:
    """Right-handed rotation about y, 3x3: at 90 degrees it takes +z to +x."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def rotation_z(degrees: float) -> Float64:
    """Right-handed rotation about z, 3x3: at 90 degrees it takes +x to +y."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def tilt_rotation(tilt_degrees: float, axis_degrees: float) -> Float64:
    """Rotation of a view tilted about an axis in the image plane, 3x3: ``Rz(A) Ry(tilt) Rz(-A)``.

    ``axis_degrees`` is the direction A of the tilt axis, counter-clockwise from +y as seen in the image.
    """
    return rotation_z(axis_degrees) @ rotation_y(tilt_degrees) @ rotation_z(-axis_degrees)


@dataclass(frozen=True)
class TiltGeometry:
    """The views of one or several tilt series, in the order of their images.

    Attributes
    ----------
    matrices
        ``(view, 4, 4)`` float64, centred specimen point in angstrom to centred image point in angstrom.
    series
        ``(view,)`` int, which stack the view came from, counted from 0.
    sections
        ``(view,)`` int, index of the view's section in that stack.
    tilt_degrees
        ``(view,)`` float64, the nominal tilt, for reports and for sorting into subsets.
    axis_degrees
        ``(view,)`` float64, direction of the tilt axis in the (aligned) image, counter-clockwise from +y.
    """

    matrices: Float64
    series: NDArray[np.int64]
    sections: NDArray[np.int64]
    tilt_degrees: Float64
    axis_degrees: Float64

    def __post_init__(self) -> None:
        n = len(self.matrices)
        if self.matrices.shape != (n, 4, 4):
            raise ValueError(f"matrices must be (view, 4, 4), got {self.matrices.shape}")
        for name in ("series", "sections", "tilt_degrees", "axis_degrees"):
            if getattr(self, name).shape != (n,):
                raise ValueError(f"{name} must be ({n},), got {getattr(self, name).shape}")

    def __len__(self) -> int:
        return len(self.matrices)

    @classmethod
    def from_tilt_axis(
        cls,
        tilt_degrees: ArrayLike,
        axis_degrees: float = 0.0,
        *,
        shifts: ArrayLike | None = None,
        series: int = 0,
    ) -> TiltGeometry:
        """One series tilted about one in-plane axis; ``shifts`` is ``(view, 2)`` in angstrom, (x, y)."""
        tilts = np.atleast_1d(np.asarray(tilt_degrees, dtype=np.float64))
        matrices = np.tile(np.eye(4), (len(tilts), 1, 1))
        for matrix, tilt in zip(matrices, tilts, strict=True):
            matrix[:3, :3] = tilt_rotation(float(tilt), axis_degrees)
        if shifts is not None:
            matrices[:, :2, 3] = np.asarray(shifts, dtype=np.float64)
        return cls(
            matrices=matrices,
            series=np.full(len(tilts), series, dtype=np.int64),
            sections=np.arange(len(tilts), dtype=np.int64),
            tilt_degrees=tilts,
            axis_degrees=np.full(len(tilts), float(axis_degrees)),
        )

    @classmethod
    def from_angles(cls, tilt_degrees: ArrayLike, axis_degrees: ArrayLike = 0.0) -> TiltGeometry:
        """The same tilts ``(view,)`` about one in-plane axis or several, a series for each axis.

        `InputError` if these are not lists of finite numbers.
        """
        tilts, axes = (np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in (tilt_degrees, axis_degrees))
        for name, angles in (("tilt", tilts), ("axis", axes)):
            if angles.ndim > 1 or angles.size == 0 or not np.isfinite(angles).all():
                raise InputError(
                    f"{name} angles of shape {angles.shape} are not a list of finite numbers",
                    fix="give degrees",
                )
        return cls.concatenate(
            [cls.from_tilt_axis(tilts, float(axis), series=number) for number, axis in enumerate(axes)]
        )

    @classmethod
    def concatenate(cls, parts: Sequence[TiltGeometry]) -> TiltGeometry:
        """The views of several series, one after the other."""
        names = ("matrices", "series", "sections", "tilt_degrees", "axis_degrees")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def select(self, views: ArrayLike) -> TiltGeometry:
        """The given views only, in the given order (indices or a boolean mask)."""
        index = np.asarray(views)
        return TiltGeometry(
            self.matrices[index],
            self.series[index],
            self.sections[index],
            self.tilt_degrees[index],
            self.axis_degrees[index],
        )

    def with_image_transform(self, raw_to_aligned: ArrayLike) -> TiltGeometry:
        """The same views seen in raw images.

        ``raw_to_aligned`` is ``(view, 3, 3)`` homogeneous, centred raw image point to centred aligned image
        point, both in angstrom (an IMOD ``.xf`` line with its shifts times the pixel size).
        """
        transforms = np.tile(np.eye(4), (len(self), 1, 1))
        given = np.asarray(raw_to_aligned, dtype=np.float64)
        transforms[:, :2, :2] = given[:, :2, :2]
        transforms[:, :2, 3] = given[:, :2, 2]
        return replace(self, matrices=np.linalg.inv(transforms) @ self.matrices)

    def project(self, points: ArrayLike) -> Float64:
        """Where specimen points ``(point, 3)`` appear: ``(view, point, 2)`` in angstrom from the centre."""
        given = np.asarray(points, dtype=np.float64)
        homogeneous = np.concatenate([given, np.ones((len(given), 1))], axis=1)
        points_seen: Float64 = np.einsum("vij,pj->vpi", self.matrices[:, :2], homogeneous)
        return points_seen
