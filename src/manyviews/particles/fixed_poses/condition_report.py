"""What a run of ``particles condition`` leaves in its folder, and adds to its page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyviews.io.atomic import atomic_write
from manyviews.io.tables import read_numbers, read_table, require_ordinary, write_table
from manyviews.particles.fixed_poses.spectrum import PRECONDITIONERS, Spectrum
from manyviews.report.common import table_section, what_is_readable
from manyviews.report.data import RunData, as_number
from manyviews.report.sections import Citation, Finding, Part, Picture, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE_FILE, JSON_FILE = "condition.csv", "condition.json"
PICTURES = ("condition",)
_MOST = 1e30
_COLUMNS = (
    "resolution_angstrom", "radius", "preconditioner", "condition_number", "converged", "smallest_eigenvalue",
    "largest_eigenvalue", "unseen_coordinates", "hessian_products",
)  # fmt: skip
_TOADER = (
    "Toader B, Brubaker MA, Lederman RR (2025) Efficient high-resolution refinement in cryo-EM with "
    "stochastic gradient descent. Acta Crystallographica D 81:327-343."
)
_CAPTION = (
    "Largest over smallest eigenvalue of the Hessian of the misfit to all images in their given poses: about "
    "as many steps does gradient descent need. Open marks are lower bounds, where the search for the "
    "smallest eigenvalue did not settle. Without a preconditioner, a Fourier coefficient that is in no image "
    "has the damping as its eigenvalue."
)
_NAMES = {"none": "no preconditioner", "exact": "exact diagonal", "row-sums": "row sums",
          "hutchinson": "Hutchinson's estimate"}  # fmt: skip


def write_condition(folder: Path, found: Sequence[Spectrum], side_angstrom: float) -> dict[str, object]:
    """Write the table and the same as JSON; returns key figures by name, of the finest resolution."""
    rows = [
        (
            f"{side_angstrom / one.radius:.4g}", one.radius, one.preconditioner, f"{one.condition:.6g}",
            "yes" if one.converged else "no", f"{one.smallest:.6g}", f"{one.largest:.6g}", one.unseen,
            one.products,
        )
        for one in found
    ]  # fmt: skip
    write_table(folder / TABLE_FILE, _COLUMNS, rows)
    kept = [
        {
            "resolution_angstrom": side_angstrom / one.radius,
            **vars(one),
            "condition_number": one.condition,
        }
        for one in found
    ]
    atomic_write(folder / JSON_FILE, json.dumps(kept, indent=1).encode(), overwrite=True)
    finest = max(one.radius for one in found)
    last = {one.preconditioner: one for one in found if one.radius == finest}
    return {
        "finest_resolution_angstrom": round(side_angstrom / finest, 3),
        "unseen_coordinates": last["none"].unseen,
        **{
            f"condition_number_{name.replace('-', '_')}": float(f"{one.condition:.4g}")
            for name, one in last.items()
        },
        "lower_bounds": sum(not one.converged for one in found),
    }


def sections(run: RunData) -> Iterator[Part]:
    """The curves, the table, and where the theory is from."""
    bare, exact = (as_number(run.summary.get(f"condition_number_{name}")) for name in ("none", "exact"))
    if math.isfinite(bare) and math.isfinite(exact):
        yield Finding(
            f"condition number {bare:.2g} without a preconditioner, {exact:.2g} with the exact diagonal"
        )
    yield from what_is_readable(
        lambda: _curves(run.path / TABLE_FILE),
        lambda: table_section(run.path / TABLE_FILE, "All {rows} condition numbers"),
    )
    yield Citation(_TOADER)


def _curves(path: Path) -> Iterator[Section]:
    rows = read_table(path, _COLUMNS)
    if rows:
        numbers = read_numbers(path, ("radius", "condition_number"))
        require_ordinary(numbers, path, least=0.0, most=_MOST)
        alternative = "Condition number against resolution, by preconditioner"
        figure = condition_figure(rows, numbers)
        yield Section("Condition numbers", Picture("condition", alternative, figure), _CAPTION)


def condition_figure(rows: Sequence[Mapping[str, str]], numbers: NDArray[np.float64]) -> Figure:
    """Condition numbers over frequency; ``numbers (row, 2)`` are the rows' radii and condition numbers."""
    from manyviews.report.style import COLOURS, INK, new_figure, plain_axes

    figure = new_figure(3.8)
    axes = plain_axes(figure)
    for name, colour in zip(PRECONDITIONERS, COLOURS, strict=False):
        own = [number for number, row in enumerate(rows) if row["preconditioner"] == name]
        axes.plot(*numbers[own].T, color=colour, linewidth=1.6, label=_NAMES[name])
        for number in own:
            face = colour if rows[number]["converged"] == "yes" else "white"
            axes.plot(*numbers[number], marker="o", color=colour, markerfacecolor=face, markersize=5)
    axes.set_yscale("log")
    ticks = dict(zip(numbers[:, 0].tolist(), (row["resolution_angstrom"] for row in rows), strict=True))
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlabel("resolution (Å), by spatial frequency", color=INK)
    axes.set_ylabel("condition number", color=INK)
    axes.legend(fontsize=8, frameon=False, loc="best")
    return figure
