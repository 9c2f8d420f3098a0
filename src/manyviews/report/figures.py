"""The pictures of a run: data in, matplotlib figures out; no windows, no files, no global state."""

from __future__ import annotations

import io
import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from manyviews.report.data import CentralSlices, Convergence, FscCurve, NccCurve

# Okabe and Ito's colours, which the colour-blind can tell apart
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#b8a900")
_INK = "#24292f"
_GRID = "#d8dee4"
_DPI = 130
_WIDTH_INCHES = 8.0
_THRESHOLDS = (0.5, 0.143)


def _new_figure(height_inches: float) -> Figure:
    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain_axes(figure: Figure) -> Axes:
    axes = figure.add_subplot()
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)
    return axes


def figure_png(figure: Figure) -> bytes:
    """A figure as PNG bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _nice_length(limit: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above ``limit``."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(step * power for step in (1, 2, 5) if step * power <= limit)


def _scale_bar(axes: Axes, shape: tuple[int, int], voxel_angstrom: float | None) -> None:
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


def _contrast(images: tuple[NDArray[np.float32], ...]) -> tuple[float, float]:
    """Grey levels from percentiles, so that a few bright voxels do not hide the rest."""
    low, high = np.percentile(np.concatenate([image.ravel() for image in images]), (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def slices_figure(slices: CentralSlices) -> Figure:
    """The three central planes at one scale and contrast: xy, xz below it, yz beside it; y and z point up."""
    rows, columns = slices.xy.shape
    depth = slices.xz.shape[0]
    left, right, low, high, gap = 0.3, 0.15, 0.3, 0.35, 0.6  # margins in inches, for titles and labels
    room = _WIDTH_INCHES - left - right - gap
    inch = min(room / (columns + depth), 2 * room / (rows + depth))  # of one voxel
    width, height, thickness = columns * inch, rows * inch, depth * inch
    total = height + thickness + low + high + gap
    figure = Figure(figsize=(_WIDTH_INCHES, total), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    grey = _contrast((slices.xy, slices.xz, slices.yz))
    top = low + thickness + gap
    panels = (
        ((left, top, width, height), slices.xy, f"xy, z = {depth // 2}", "x", "y"),
        ((left, low, width, thickness), slices.xz, f"xz, y = {rows // 2}", "x", "z"),
        ((left + width + gap, top, thickness, height), slices.yz.T, f"yz, x = {columns // 2}", "z", "y"),
    )
    for (x, y, wide, tall), image, title, across, up in panels:
        place = (x / _WIDTH_INCHES, y / total, wide / _WIDTH_INCHES, tall / total)
        axes = figure.add_axes(place)
        _show_plane(axes, image, grey)
        # a thin slab has no room for its title above it
        words = title if wide > 0.9 else title.partition(",")[0]
        axes.set_title(words, fontsize=9, color=_INK)
        axes.set_xlabel(across, fontsize=9, color=_INK)
        axes.set_ylabel(up, fontsize=9, color=_INK)
        if image is slices.xy:
            _scale_bar(axes, (rows, columns), slices.voxel_angstrom)
    return figure


def _show_plane(axes: Axes, image: NDArray[np.float32], grey: tuple[float, float]) -> None:
    low, high = grey
    axes.imshow(
        image, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="antialiased", aspect="auto"
    )
    axes.set_xticks([])
    axes.set_yticks([])


def ncc_figure(curves: list[NccCurve]) -> Figure:
    """NCC of data and reprojection against tilt, one line a tilt axis."""
    figure = _new_figure(3.8 if len(curves) <= 5 else 4.8)
    axes = _plain_axes(figure)
    for number, curve in enumerate(curves):
        finite = curve.ncc[np.isfinite(curve.ncc)]
        mean = f"{finite.mean():.3f}" if len(finite) else "not known"
        axes.plot(
            curve.tilt_degrees,
            curve.ncc,
            color=_COLOURS[number % len(_COLOURS)],
            linestyle=("-", "--", ":")[number // len(_COLOURS) % 3],
            linewidth=1.4,
            marker="o",
            markersize=2.6,
            label=f"axis {curve.axis_degrees:g}°: mean {mean}",
        )
    axes.set_xlabel("tilt (degrees)", color=_INK)
    axes.set_ylabel("NCC of view and reprojection", color=_INK)
    if len(curves) <= 5:
        axes.legend(fontsize=8, frameon=False)
    else:
        figure.legend(fontsize=8, frameon=False, ncols=4, loc="outside lower center")
    return figure


def convergence_figure(convergence: Convergence) -> Figure:
    """The objective relative to its start against passes over the data, on a logarithmic scale."""
    figure = _new_figure(3.4)
    axes = _plain_axes(figure)
    positive = np.where(convergence.values > 0, convergence.values, np.nan)
    axes.plot(convergence.passes, positive, color=_COLOURS[0], linewidth=1.6, marker="o", markersize=2.6)
    if np.isfinite(positive).any():
        axes.set_yscale("log")
    name = convergence.name.replace("_", " ")
    axes.set_ylabel(f"{name} / its start" if name == "objective" else name, color=_INK)
    axes.set_xlabel("passes over the data" if convergence.in_passes else "iteration", color=_INK)
    return figure


def crossing_angstrom(curve: FscCurve, threshold: float) -> float | None:
    """Resolution in angstrom where the curve first falls below ``threshold``; None if it does not."""
    below = np.flatnonzero(curve.fsc < threshold)
    if not len(below) or below[0] == 0:
        return None
    last = int(below[0])
    upper, lower = curve.fsc[last - 1], curve.fsc[last]
    if not math.isfinite(upper):
        return None
    part = (upper - threshold) / (upper - lower)
    frequency = curve.frequency[last - 1] + part * (curve.frequency[last] - curve.frequency[last - 1])
    return float(1 / frequency) if frequency > 0 else None


def fsc_figure(curve: FscCurve) -> Figure:
    """Fourier shell correlation with its 0.5 and 0.143 lines and the resolution at each."""
    figure = _new_figure(3.6)
    axes = _plain_axes(figure)
    axes.plot(curve.frequency, curve.fsc, color=_COLOURS[0], linewidth=1.6)
    for threshold, colour in zip(_THRESHOLDS, _COLOURS[1:], strict=False):
        resolution = crossing_angstrom(curve, threshold)
        label = f"{threshold:g}: " + ("not crossed" if resolution is None else f"{resolution:.3g} Å")
        axes.axhline(threshold, color=colour, linewidth=1.0, linestyle="--", label=label)
        if resolution is not None:
            axes.plot([1 / resolution], [threshold], marker="o", color=colour, markersize=4.5)
    axes.set_ylim(min(-0.05, float(np.nanmin(curve.fsc, initial=0.0)) - 0.05), 1.05)
    axes.set_xlim(0, float(curve.frequency.max()))
    axes.set_xlabel("spatial frequency (1/Å)", color=_INK)
    axes.set_ylabel("Fourier shell correlation", color=_INK)
    axes.legend(fontsize=8, frameon=False)
    return figure
