"""Width and height of the volume: the field of view of the images as they lie over the specimen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    turns = [_turn_degrees(geometry.matrices[view]) for view in views]
    rows, columns = image_shape
    field = (columns, rows) if _is_on_its_side(turns[0]) else (rows, columns)
    how = "that of the images"
    if _is_on_its_side(turns[0]):
        how = f"that of the images, which lie on their side ({turns[0]:.1f} degrees)"
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
    inside = (np.abs(across + (width // 2 - (width - 1) / 2)) <= width / 2 + 1) & (
        np.abs(along + (height // 2 - (height - 1) / 2)) <= height / 2 + 1
    )
    return 1.0 - float(inside.mean())


def _lowest_tilt(geometry: TiltGeometry, series: int) -> int:
    views = np.flatnonzero(geometry.series == series)
    return int(views[np.argmax(np.abs(geometry.matrices[views, 2, 2]))])


def _turn_degrees(matrix: Float64) -> float:
    """In-plane turn from specimen to image of a view at low tilt."""
    block = matrix[:2, :2]
    return float(np.rad2deg(np.arctan2(block[1, 0] - block[0, 1], block[0, 0] + block[1, 1])))


def _is_on_its_side(turn_degrees: float) -> bool:
    return abs(abs(turn_degrees) - 90.0) < 45.0
