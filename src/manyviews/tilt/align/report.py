"""What an alignment adds to the page of its run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manyviews.io.tables import read_numbers, require_ordinary
from manyviews.report.common import slices_section, table_section, what_is_readable
from manyviews.report.data import RunData, as_number
from manyviews.report.sections import Citation, Finding, Part, Picture, Section
from manyviews.tilt.series.alignment_table import ALIGNMENT_FILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Float64 = NDArray[np.float64]

PICTURES = ("before", "after", "shifts", "agreement")
_PADFIELD = (
    "Padfield D (2012) Masked object registration in the Fourier domain. IEEE Transactions on Image "
    "Processing 21:2706-2718."
)
_GOLUB = (
    "Golub GH, Pereyra V (1973) The differentiation of pseudo-inverses and nonlinear least squares problems "
    "whose variables separate. SIAM Journal on Numerical Analysis 10:413-432."
)
_LARGEST = 1e6
_SHIFTS = ("stack", "tilt_degrees", "used", "moved_x_pixels", "moved_y_pixels")
_AGREEMENT = (
    "stack", "tilt_degrees", "used", "correlation_before", "correlation_after", "residual_pixels"
)  # fmt: skip


def sections(run: RunData) -> Iterator[Part]:
    """What the folder of a run holds, finished or not; a file that cannot be read is noted in its place."""
    residual = as_number(run.summary.get("residual_rms_pixels"))
    if np.isfinite(residual):
        yield Finding(f"views lie {residual:.2g} pixels rms from where the others say")
        bad = run.summary.get("bad_views")
        if bad:
            yield Finding(f"{bad} bad view{'s' if bad != 1 else ''} left out")
    yield from what_is_readable(
        lambda: slices_section(run.path / "before.mrc", "Volume of the views as they were given", "before"),
        lambda: slices_section(run.path / "after.mrc", "Volume of the aligned views", "after"),
        lambda: _shifts(run.path / ALIGNMENT_FILE),
        lambda: _agreement(run.path / "residuals.csv"),
        lambda: table_section(run.path / ALIGNMENT_FILE, "Alignment of the {rows} views"),
    )
    yield Citation(_PADFIELD)
    yield Citation(_GOLUB)


def _shifts(path: Path) -> Iterator[Section]:
    table = read_numbers(path, _SHIFTS)
    if len(table):
        require_ordinary(table, path, least=-_LARGEST, most=_LARGEST)
        picture = Picture("shifts", "Shifts of the views in x and y against tilt", shifts_figure(table))
        caption = "How far each view was moved in its image, in unbinned pixels; crosses are bad views."
        yield Section("Shifts", picture, caption)


def _agreement(path: Path) -> Iterator[Section]:
    table = read_numbers(path, _AGREEMENT)
    if len(table):
        require_ordinary(table, path, least=-_LARGEST, most=_LARGEST)
        words = "Correlation of each view with the volume of the others, and how far it lies from it"
        caption = (
            "Each view against the volume of views that it is none of: pale, as the views were given; dark, "
            "aligned. Below, how far it lies from where they say, in unbinned pixels."
        )
        yield Section("Agreement of views", Picture("agreement", words, agreement_figure(table)), caption)


def shifts_figure(table: Float64) -> Figure:
    """Shifts against tilt; columns as `_SHIFTS`."""
    from manyviews.report.style import INK, make_plain, new_figure

    figure = new_figure(4.6)
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, column, name in ((above, 3, "x"), (below, 4, "y")):
        make_plain(axes)
        _lines(axes, table, column, legend=column == 3)
        axes.set_ylabel(f"shift in {name} (pixels)", color=INK)
    below.set_xlabel("tilt (degrees)", color=INK)
    return figure


def agreement_figure(table: Float64) -> Figure:
    """Correlations before and after, and residuals, against tilt; columns as `_AGREEMENT`."""
    from manyviews.report.style import INK, make_plain, new_figure

    figure = new_figure(4.6)
    above, below = figure.subplots(2, 1, sharex=True)
    make_plain(above)
    make_plain(below)
    _lines(above, table, 3, faint=True)
    _lines(above, table, 4, legend=True)
    _lines(below, table, 5)
    above.set_ylabel("correlation", color=INK)
    below.set_ylabel("residual (pixels)", color=INK)
    below.set_xlabel("tilt (degrees)", color=INK)
    return figure


def _lines(axes: Any, table: Float64, column: int, *, faint: bool = False, legend: bool = False) -> None:
    """One line a stack over its good views by tilt, crosses for bad ones; columns 0 to 2 as everywhere."""
    from manyviews.report.style import COLOURS

    for number, stack in enumerate(np.unique(table[:, 0])):
        rows = table[table[:, 0] == stack]
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        colour, alpha = COLOURS[number % len(COLOURS)], 0.35 if faint else 1.0
        good, bad = rows[rows[:, 2] > 0], rows[rows[:, 2] <= 0]
        axes.plot(
            good[:, 1], good[:, column], color=colour, alpha=alpha, linewidth=1.2, marker="o", markersize=2.4,
            label=f"stack {stack:g}",
        )  # fmt: skip
        axes.plot(bad[:, 1], bad[:, column], color=colour, alpha=alpha, linestyle="", marker="x")
    if legend and len(np.unique(table[:, 0])) > 1:
        axes.legend(fontsize=8, frameon=False)
