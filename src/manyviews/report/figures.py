"""The pictures of a run: data in, matplotlib figures out; no windows, no files, no global state."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyviews.metrics.fsc import FscCurve
from manyviews.report.data import CentralSlices, Convergence, NccCurve
from manyviews.report.style import COLOURS, DPI, INK, WIDTH_INCHES, new_figure, plain_axes, scale_bar

_THRESHOLDS = (0.5, 0.143)


def _contrast(images: tuple[NDArray[np.float32], ...]) -> tuple[float, float]:
    """Grey levels from percentiles, so that a few bright voxels do not hide the rest."""
    low, high = np.percentile(np.concatenate([image.ravel() for image in images]), (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def slices_figure(slices: CentralSlices) -> Figure:
    """The three central planes at one scale and contrast: xy, xz below it, yz beside it; y and z point up."""
    rows, columns = slices.xy.shape
    depth = slices.xz.shape[0]
    left, right, low, high, gap = 0.3, 0.15, 0.3, 0.35, 0.6  # margins in inches, for titles and labels
    room = WIDTH_INCHES - left - right - gap
    inch = min(room / (columns + depth), 2 * room / (rows + depth))  # of one voxel
    width, height, thickness = columns * inch, rows * inch, depth * inch
    total = height + thickness + low + high + gap
    figure = Figure(figsize=(WIDTH_INCHES, total), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    grey = _contrast((slices.xy, slices.xz, slices.yz))
    top = low + thickness + gap
    panels = (
        ((left, top, width, height), slices.xy, f"xy, z = {depth // 2}", "x", "y"),
        ((left, low, width, thickness), slices.xz, f"xz, y = {rows // 2}", "x", "z"),
        ((left + width + gap, top, thickness, height), slices.yz.T, f"yz, x = {columns // 2}", "z", "y"),
    )
    for (x, y, wide, tall), image, title, across, up in panels:
        place = (x / WIDTH_INCHES, y / total, wide / WIDTH_INCHES, tall / total)
        axes = figure.add_axes(place)
        _show_plane(axes, image, grey)
        # a thin slab has no room for its title above it
        words = title if wide > 0.9 else title.partition(",")[0]
        axes.set_title(words, fontsize=9, color=INK)
        axes.set_xlabel(across, fontsize=9, color=INK)
        axes.set_ylabel(up, fontsize=9, color=INK)
        if image is slices.xy:
            scale_bar(axes, (rows, columns), slices.voxel_angstrom)
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
    figure = new_figure(3.8 if len(curves) <= 5 else 4.8)
    axes = plain_axes(figure)
    for number, curve in enumerate(curves):
        finite = curve.ncc[np.isfinite(curve.ncc)]
        mean = f"{finite.mean():.3f}" if len(finite) else "not known"
        axes.plot(
            curve.tilt_degrees,
            curve.ncc,
            color=COLOURS[number % len(COLOURS)],
            linestyle=("-", "--", ":")[number // len(COLOURS) % 3],
            linewidth=1.4,
            marker="o",
            markersize=2.6,
            label=f"axis {curve.axis_degrees:g}°: mean {mean}",
        )
    axes.set_xlabel("tilt (degrees)", color=INK)
    axes.set_ylabel("NCC of view and reprojection", color=INK)
    if len(curves) <= 5:
        axes.legend(fontsize=8, frameon=False)
    else:
        figure.legend(fontsize=8, frameon=False, ncols=4, loc="outside lower center")
    return figure


def convergence_figure(convergence: Convergence) -> Figure:
    """The objective relative to its start against passes over the data, on a logarithmic scale."""
    figure = new_figure(3.4)
    axes = plain_axes(figure)
    positive = np.where(convergence.values > 0, convergence.values, np.nan)
    axes.plot(convergence.passes, positive, color=COLOURS[0], linewidth=1.6, marker="o", markersize=2.6)
    if np.isfinite(positive).any():
        axes.set_yscale("log")
    name = convergence.name.replace("_", " ")
    axes.set_ylabel(f"{name} / its start" if name == "objective" else name, color=INK)
    axes.set_xlabel("passes over the data" if convergence.in_passes else "iteration", color=INK)
    return figure


def crossing_angstrom(curve: FscCurve, threshold: float) -> float | None:
    """Resolution in angstrom where the curve first falls below ``threshold``; None if it does not."""
    below = np.flatnonzero(curve.correlation < threshold)
    if not len(below) or below[0] == 0:
        return None
    last = int(below[0])
    upper, lower = curve.correlation[last - 1], curve.correlation[last]
    if not math.isfinite(upper):
        return None
    part = (upper - threshold) / (upper - lower)
    frequency = curve.frequency[last - 1] + part * (curve.frequency[last] - curve.frequency[last - 1])
    return float(1 / frequency) if frequency > 0 else None


def fsc_figure(curve: FscCurve) -> Figure:
    """Fourier shell correlation with its 0.5 and 0.143 lines and the resolution at each."""
    figure = new_figure(3.6)
    axes = plain_axes(figure)
    axes.plot(curve.frequency, curve.correlation, color=COLOURS[0], linewidth=1.6)
    for threshold, colour in zip(_THRESHOLDS, COLOURS[1:], strict=False):
        resolution = crossing_angstrom(curve, threshold)
        label = f"{threshold:g}: " + ("not crossed" if resolution is None else f"{resolution:.3g} Å")
        axes.axhline(threshold, color=colour, linewidth=1.0, linestyle="--", label=label)
        if resolution is not None:
            axes.plot([1 / resolution], [threshold], marker="o", color=colour, markersize=4.5)
    axes.set_ylim(min(-0.05, float(np.nanmin(curve.correlation, initial=0.0)) - 0.05), 1.05)
    axes.set_xlim(0, float(curve.frequency.max()))
    axes.set_xlabel("spatial frequency (1/Å)", color=INK)
    axes.set_ylabel("Fourier shell correlation", color=INK)
    axes.legend(fontsize=8, frameon=False)
    return figure
