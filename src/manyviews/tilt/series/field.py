"""Width and height of the volume: the field of view of the images as they lie over the specimen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.euler import half_pixel_offset, in_plane_turn
from manyviews.geometry.views import TiltGeometry
from manyviews.tilt.series.choices import Choice, Notes

Float64 = NDArray[np.float64]
_MUCH_OUTSIDE = 0.15
_GRID = 41


def settle_field(
    geometry: TiltGeometry, image_shape: tuple[int, int], pixel_size: float, notes: Notes
) -> tuple[int, int]:
    """``(rows, columns)`` of the field of view in pixels of the images.

    Images that are turned by more than 45 degrees against the specimen, as by an .xf that lays the axis of a
    camera's long side upright, give a volume that is as wide as they are high, as IMOD makes it. The first
    stack decides; how much of the images of each lies outside is told with the choice.
    """
    views = [_lowest_tilt(geometry, number) for number in np.unique(geometry.series)]
    turn = float(in_plane_turn(geometry.matrices[views[0], :2, :2]))
    field, how = image_shape, "that of the images"
    if abs(abs(turn) - 90.0) < 45.0:
        field = image_shape[::-1]
        how = f"that of the images, which lie on their side ({turn:.1f} degrees)"
    for number, view in enumerate(views):
        outside = outside_fraction(geometry.matrices[view], image_shape, field, pixel_size)
        text = f"{field[1]} x {field[0]} pixels"
        if outside >= 0.005:
            text += f"; {100 * outside:.0f} % of the images lies outside"
        notes.choices.append(Choice("field of view", number, text, how))
    return field


def outside_warnings(
    geometry: TiltGeometry, image_shape: tuple[int, int], field: tuple[int, int], pixel_size: float
) -> list[str]:
    """A sentence for each stack of whose images much lies beside a volume of ``field`` (rows, columns)."""
    found = []
    for number in np.unique(geometry.series):
        matrix = geometry.matrices[_lowest_tilt(geometry, number)]
        outside = outside_fraction(matrix, image_shape, field, pixel_size)
        if outside > _MUCH_OUTSIDE:
            found.append(
                f"stack {number + 1}: {100 * outside:.0f} % of the images at low tilt lies outside the volume"
                f" of {field[1]} x {field[0]} pixels: --volume-size makes it larger"
            )
    return found


def outside_fraction(
    matrix: Float64, image_shape: tuple[int, int], field: tuple[int, int], pixel_size: float
) -> float:
    """Part of an image, seen by ``matrix`` (4 x 4), that lies beside a field ``(rows, columns)`` at z = 0."""
    rows, columns = image_shape
    y, x = np.meshgrid(
        (np.arange(_GRID) + 0.5) / _GRID * rows - 0.5 - rows // 2,
        (np.arange(_GRID) + 0.5) / _GRID * columns - 0.5 - columns // 2,
        indexing="ij",
    )
    image_points = np.stack([x.ravel(), y.ravel()]) - matrix[:2, 3:4] / pixel_size
    across, along = np.linalg.solve(matrix[:2, :2], image_points)
    height, width = field
    to_middle = half_pixel_offset(field)
    inside = np.abs(across + to_middle[0]) <= width / 2 + 1
    inside &= np.abs(along + to_middle[1]) <= height / 2 + 1
    return 1.0 - float(inside.mean())


def _lowest_tilt(geometry: TiltGeometry, series: int) -> int:
    views = np.flatnonzero(geometry.series == series)
    return int(views[np.argmax(np.abs(geometry.matrices[views, 2, 2]))])
