"""How the pictures of a report look; no windows, no files, no global state."""

from __future__ import annotations

import io
import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

# Okabe and Ito's colours, which the colour-blind can tell apart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#b8a900")
INK = "#24292f"
_GRID = "#d8dee4"
DPI = 130
WIDTH_INCHES = 8.0


def new_figure(height_inches: float) -> Figure:
    """An empty figure of the page's width."""
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(figure: Figure) -> Axes:
    """The only axes of a figure."""
    return make_plain(figure.add_subplot())


def make_plain(axes: Axes) -> Axes:
    """Axes with a faint grid and no frame."""
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return axes


def figure_png(figure: Figure) -> bytes:
    """A figure as PNG bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def signed_limit(values: NDArray[np.float32]) -> float:
    """Grey levels from minus this to this show values about zero; the few largest do not count."""
    return float(max(np.percentile(np.abs(values), 99.5), 1e-12))


def _nice_length(limit: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above ``limit``."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(step * power for step in (1, 2, 5) if step * power <= limit)


def scale_bar(axes: Axes, shape: tuple[int, int], voxel_angstrom: float | None) -> None:
    """A bar of a round length in the lower left corner of an image ``(rows, columns)``."""
    rows, columns = shape
    unit = voxel_angstrom or 1.0
    length = _nice_length(columns * unit / 4)
    if voxel_angstrom is None:
        text = f"{length:g} voxels"
    else:
        text = f"{length / 10:g} nm" if length >= 10 else f"{length:g} Å"
    left, bottom = 0.04 * columns, 0.05 * rows
    thickness = max(1.0, 0.012 * rows)
    bar = Rectangle(
        (left, bottom), length / unit, thickness, facecolor="white", edgecolor="black", linewidth=0.6
    )
    axes.add_patch(bar)
    label = axes.text(
        left, bottom + 2.2 * thickness, text, color="white", fontsize=9, ha="left", va="bottom", weight="bold"
    )
    label.set_bbox({"facecolor": "black", "alpha": 0.45, "edgecolor": "none", "pad": 1.5})
