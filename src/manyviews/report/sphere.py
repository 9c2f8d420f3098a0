"""Fields of equal area on the sphere: what lies in each direction, as a table and as a map.

Rows are z from -1 to 1, columns longitude from -180 to 180 degrees; all fields have the same area.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.tables import read_numbers, require_ordinary, write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ROWS, COLUMNS = 18, 36
_MOST = 1e12
_MOST_SIDES = 1000  # rows and columns
_FEWEST_A_FIELD = 8.0
_PARTS = 12


def count_directions(directions: Float64) -> Int64:
    """``(ROWS, COLUMNS)`` how many of some unit vectors ``(n, 3)`` (x, y, z) point into each field."""
    row = np.clip(((directions[:, 2] + 1) / 2 * ROWS).astype(int), 0, ROWS - 1)
    turn = np.arctan2(directions[:, 1], directions[:, 0]) / (2 * np.pi) + 0.5
    column = np.clip((turn * COLUMNS).astype(int), 0, COLUMNS - 1)
    counts = np.zeros((ROWS, COLUMNS), np.int64)
    np.add.at(counts, (row, column), 1)
    return counts


def field_directions() -> Float64:
    """``(ROWS, COLUMNS, 3)`` unit vectors (x, y, z) to the middles of the fields."""
    z, longitude = _middles()
    angle, around = np.deg2rad(longitude), np.sqrt(1 - z**2)[:, None]
    flat = (around * np.cos(angle), around * np.sin(angle), np.broadcast_to(z[:, None], (ROWS, COLUMNS)))
    return np.stack(flat, axis=-1)


def _middles() -> tuple[Float64, Float64]:
    z = -1 + 2 * (np.arange(ROWS) + 0.5) / ROWS
    return z, -180 + 360 * (np.arange(COLUMNS) + 0.5) / COLUMNS


def write_fields(path: Path, values: Mapping[str, NDArray[Any]], *, overwrite: bool = True) -> None:
    """Write ``z,longitude_degrees`` and columns of ``(ROWS, COLUMNS)``, a row a field."""
    z, longitude = _middles()
    rows = [
        (f"{z[i]:.5f}", f"{longitude[j]:.3f}", *(_text(grid[i, j]) for grid in values.values()))
        for i in range(ROWS)
        for j in range(COLUMNS)
    ]
    write_table(path, ("z", "longitude_degrees", *values), rows, overwrite=overwrite)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, np.integer) else f"{value:.6g}"


def read_fields(path: Path, column: str) -> Float64 | None:
    """``(rows, columns)`` of a column from 0 on, None if there is no file; `InputError` if it is damaged."""
    table = read_numbers(path, ("z", "longitude_degrees", column))
    if not len(table):
        return None
    require_ordinary(table, path, least=-360.0, most=_MOST)
    require_ordinary(table[:, 2:], path, least=0.0, most=_MOST)
    heights, row = np.unique(table[:, 0], return_inverse=True)
    longitudes, place = np.unique(table[:, 1], return_inverse=True)
    if len(table) != len(heights) * len(longitudes) or len(heights) + len(longitudes) > _MOST_SIDES:
        raise InputError("is not a full grid of directions", path=path)
    values = np.zeros((len(heights), len(longitudes)))
    values[row, place] = table[:, 2]
    return values


def coarser(counts: NDArray[Any]) -> NDArray[Any]:
    """Fields joined two by two, each way, until there is enough in one to tell from chance."""
    while counts.mean() < _FEWEST_A_FIELD and all(n % 2 == 0 and n > 2 for n in counts.shape):
        rows, columns = counts.shape
        counts = counts.reshape(rows // 2, 2, columns // 2, 2).sum(axis=(1, 3))
    return counts


def share_figure(counts: NDArray[Any], label: str) -> Figure:
    """How much lies in each direction, relative to an even distribution."""
    counts = coarser(counts)
    relative = counts / max(counts.mean(), 1e-30)
    return sphere_figure(relative, label, largest=max(2.0, float(relative.max())))


def sphere_figure(values: NDArray[Any], label: str, *, largest: float) -> Figure:
    """Values from 0 on ``(rows, columns)`` on an equal-area (Mollweide) map."""
    from manyviews.report.style import INK, new_figure

    figure = new_figure(4.2)
    axes = figure.add_subplot(projection="mollweide")
    rows, columns = values.shape
    # drawn in parts, because the sides of a field are curves
    latitude = np.arcsin(np.linspace(-1, 1, _PARTS * rows + 1))
    longitude = np.linspace(-np.pi, np.pi, columns + 1)
    fine = np.repeat(values, _PARTS, axis=0)
    mesh = axes.pcolormesh(longitude, latitude, fine, cmap="viridis", vmin=0, vmax=largest)
    axes.grid(color="white", linewidth=0.4, alpha=0.6)
    axes.set_xticks(np.radians([-120, -60, 0, 60, 120]))
    axes.set_yticks(np.radians([-60, -30, 0, 30, 60]))
    axes.tick_params(axis="y", colors=INK, labelsize=8)
    axes.tick_params(axis="x", colors="white", labelsize=8)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.75, pad=0.03)
    bar.set_label(label, color=INK, fontsize=9)
    bar.ax.tick_params(colors=INK, labelsize=8)
    return figure
