"""What pixels do not count, view by view: as a table, and as a picture of the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyviews.io.tables import read_numbers, require_ordinary, write_table
from manyviews.report.sections import Part, Picture, Section
from manyviews.tilt.pixels.faults import Faults
from manyviews.tilt.pixels.settle import Settled
from manyviews.tilt.pixels.weights import edge_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Float64 = NDArray[np.float64]

PIXELS_FILE = "pixels.csv"
PICTURE = "pixels"
_COLUMNS = (
    "view", "series", "section", "tilt_degrees", "edges_percent", "masked_percent", "bad_rows", "bad_columns",
    "border", "beads",
)  # fmt: skip
_LARGEST = 1e6


def write_pixels(path: Path, settled: Settled) -> None:
    """A row a view, counted from 1: the share of pixels' weight that edges and masks take, and why."""
    pixels = settled.pixels
    if pixels is None:
        return
    geometry = settled.source.series.geometry
    rows = []
    for view in range(len(geometry)):
        edges = 1.0 - float(edge_weights(pixels.coverage(view)).mean()) if pixels.edges else 0.0
        stored = settled.source.pixel_weights(view)
        masked = 0.0 if stored is None else 1.0 - float(stored.mean())
        faults = settled.found.faults.get(view, Faults())
        rows.append(
            (view + 1, geometry.series[view] + 1, geometry.sections[view] + 1, geometry.tilt_degrees[view],
             f"{100 * edges:.3f}", f"{100 * masked:.3f}", len(faults.rows), len(faults.columns),
             int(faults.border), len(faults.discs))
        )  # fmt: skip
    write_table(path, _COLUMNS, rows)


def pixels_section(path: Path) -> Iterator[Part]:
    """The picture of a table; nothing if there is none. `InputError` if it is damaged."""
    table = read_numbers(path, _COLUMNS)
    require_ordinary(table, path, least=-_LARGEST, most=_LARGEST)
    if not len(table):
        return
    alternative = "Share of every view's pixels that have no weight, against tilt"
    yield Section("Pixels without weight", Picture(PICTURE, alternative, _figure(table)))


def _figure(table: Float64) -> Figure:
    """Edges as full lines, masks as dashed ones, a colour a series."""
    from manyviews.report.style import COLOURS, INK, new_figure, plain_axes

    figure = new_figure(3.2)
    axes = plain_axes(figure)
    for number, series in enumerate(np.unique(table[:, 1])):
        own = table[table[:, 1] == series]
        own = own[np.argsort(own[:, 3], kind="stable")]
        colour = COLOURS[number % len(COLOURS)]
        for column, line, name in ((4, "-", "beyond the volume"), (5, "--", "masked")):
            if own[:, column].any():
                axes.plot(own[:, 3], own[:, column], line, color=colour, label=f"series {series:g}: {name}")
    axes.set_xlabel("tilt (degrees)", color=INK)
    axes.set_ylabel("weight taken (%)", color=INK)
    if axes.lines:
        axes.legend(fontsize=8, frameon=False)
    return figure
