"""Pictures that fit more than one job: data in, matplotlib figures out; no windows, no files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyviews.metrics.fsc import FscCurve
from manyviews.report.data import Convergence
from manyviews.report.style import (
    COLOURS,
    DPI,
    INK,
    WIDTH_INCHES,
    new_figure,
    plain_axes,
    scale_bar,
    signed_limit,
)  # fmt: skip
from manyviews.report.surface import level_by_mass, smooth_and_fine, surface_image, three_views
from manyviews.report.volume import CentralSlices, Model

_THRESHOLDS = (0.5, 0.143)
_LEVELS = ((0.143, ":"), (0.5, "--"))
_SURFACE_PIXELS = 160
_PLANES = ("xy", "xz", "yz")
# of as many rows of images
_ROWS = {
    3: ("image", "reprojection", "difference"),
    4: ("image", "low-passed", "reprojection", "difference"),
}
_FINE_BELOW = 97  # voxels along a side; larger maps are fine enough


def contrast(images: tuple[NDArray[np.float32], ...]) -> tuple[float, float]:
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
    grey = contrast((slices.xy, slices.xz, slices.yz))
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


def planes_figure(
    planes: Sequence[tuple[int, Iterable[NDArray[np.float32]]]], captions: Mapping[int, str]
) -> Figure:
    """Three central planes of numbered maps, a column each, with the grey levels of their own."""
    width = 8.0 / max(len(planes), 4)
    figure = new_figure(3 * width + 0.3)
    for column, (number, images) in enumerate(planes):
        low, high = contrast(tuple(images))
        for row, (image, name) in enumerate(zip(images, _PLANES, strict=True)):
            axes = figure.add_subplot(3, max(len(planes), 4), row * max(len(planes), 4) + column + 1)
            axes.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="antialiased")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(captions.get(number, str(number)), fontsize=8, color=INK)
            if column == 0:
                axes.set_ylabel(name, fontsize=9, color=INK)
    return figure


def fitted_figure(panels: NDArray[np.float32], words: Sequence[str]) -> Figure:
    """A column for each image ``(k, 2, rows, columns)``: image, reprojection, difference.

    With three panels an image the first is the image before it was low-passed, at grey levels of its own.
    """
    columns, rows = max(len(panels), 4), panels.shape[1] + 1
    tall = panels.shape[2] / panels.shape[3]
    figure = new_figure(min(rows * tall * 8.0 / columns + 0.4, 12.0))
    for column, (*before, image, projected) in enumerate(panels):
        low, high = np.percentile(image, (0.5, 99.5)).tolist()
        limit = signed_limit(image - projected)
        shown = [(one, *np.percentile(one, (0.5, 99.5)).tolist()) for one in before]
        shown += [(image, low, high), (projected, low, high), (image - projected, -limit, limit)]
        for row, (values, black, white) in enumerate(shown):
            axes = figure.add_subplot(rows, columns, row * columns + column + 1)
            axes.imshow(values, cmap="gray", vmin=black, vmax=max(white, black + 1e-6), origin="lower")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(words[column][:24], fontsize=7, color=INK)
            if column == 0:
                axes.set_ylabel(_ROWS[rows][row], fontsize=8, color=INK)
    return figure


def _show_plane(axes: Axes, image: NDArray[np.float32], grey: tuple[float, float]) -> None:
    low, high = grey
    axes.imshow(
        image, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="antialiased", aspect="auto"
    )
    axes.set_xticks([])
    axes.set_yticks([])


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


def crossing(curve: FscCurve, threshold: float) -> tuple[float, bool] | None:
    """`FscCurve.resolution` in angstrom, and whether the curve falls there; None if it is nowhere above.

    A curve that is above to its last shell gives the limit of its pixel size and False. A shell that is not
    known (NaN) counts as one without correlation.
    """
    resolution = replace(curve, correlation=np.nan_to_num(curve.correlation)).resolution(threshold)
    return (resolution, resolution > 2 * curve.pixel_size) if math.isfinite(resolution) else None


def fsc_figure(curve: FscCurve, *, half_bit: bool = False) -> Figure:
    """Fourier shell correlation with its 0.5 and 0.143 lines and the resolution at each."""
    figure = new_figure(3.6)
    axes = plain_axes(figure)
    axes.plot(curve.frequency, curve.correlation, color=COLOURS[0], linewidth=1.6)
    for threshold, colour in zip(_THRESHOLDS, COLOURS[1:], strict=False):
        found = crossing(curve, threshold)
        resolution = found[0] if found is not None and found[1] else None
        label = f"{threshold:g}: " + ("not crossed" if resolution is None else f"{resolution:.3g} Å")
        axes.axhline(threshold, color=colour, linewidth=1.0, linestyle="--", label=label)
        if resolution is not None:
            axes.plot([1 / resolution], [threshold], marker="o", color=colour, markersize=4.5)
    if half_bit:
        axes.plot(curve.frequency[1:], curve.half_bit()[1:], color=INK, linewidth=0.8, label="half bit")
    axes.set_ylim(_lowest(curve), 1.05)
    axes.set_xlim(0, float(curve.frequency.max()))
    axes.set_xlabel("spatial frequency (1/Å)", color=INK)
    axes.set_ylabel("Fourier shell correlation", color=INK)
    axes.legend(fontsize=8, frameon=False)
    return figure


def _lowest(*curves: FscCurve) -> float:
    """Lower end of the axis of correlations."""
    lowest = min(float(np.nanmin(curve.correlation, initial=0.0)) for curve in curves)
    return min(-0.05, lowest - 0.05)


def resolution_figure(curves: Sequence[tuple[FscCurve, str, float | None]]) -> Figure:
    """Fourier shell correlations, each with its name and where it falls below its own threshold, if any."""
    figure = new_figure(3.8)
    axes = plain_axes(figure)
    for (curve, name, level), colour in zip(curves, COLOURS, strict=False):
        found = None if level is None else crossing(curve, level)
        label = name if level is None else f"{name}: {_at(found, level)}"
        axes.plot(curve.frequency, curve.correlation, color=colour, linewidth=1.6, label=label)
        if level is not None and found is not None and found[1]:
            axes.plot([1 / found[0]], [level], marker="o", color=colour, markersize=5)
    last = max(float(curve.frequency.max()) for curve, _, _ in curves)
    for level, style in _LEVELS:
        axes.axhline(level, color=INK, linewidth=0.8, linestyle=style)
        axes.text(last, level + 0.012, f"{level:g}", ha="right", fontsize=8, color=INK)
    axes.set_ylim(_lowest(*(curve for curve, _, _ in curves)), 1.05)
    axes.set_xlim(0, last)
    _angstrom_ticks(axes, last)
    axes.set_ylabel("Fourier shell correlation", color=INK)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def _at(found: tuple[float, bool] | None, threshold: float) -> str:
    if found is None:
        return f"below {threshold:g} everywhere"
    return f"{threshold:g} at {found[0]:.1f} Å" + ("" if found[1] else " or better")


def _angstrom_ticks(axes: Axes, last: float) -> None:
    """Frequencies, told as the wavelengths that people speak of."""
    step = last / 6
    frequencies = step * np.arange(1, 7)
    axes.set_xticks([0.0, *frequencies], ["∞", *(f"{1 / value:.1f}" for value in frequencies)])
    axes.set_xlabel("resolution (Å), even steps of spatial frequency", color=INK)


def surface_figure(model: Model) -> Figure:
    """The map's surface seen along z, y and x; the level holds 70 % of the density above zero."""
    figure = new_figure(3.1)
    side = len(model.volume)
    factor = 2 if side < _FINE_BELOW else 1
    fine = smooth_and_fine(model.volume, factor)
    level = level_by_mass(fine)
    colours = np.array([0.30, 0.56, 0.78])
    for place, (name, rotation) in enumerate(three_views()):
        axes = figure.add_subplot(1, 3, place + 1)
        light = surface_image(fine, level, rotation, factor * (side // 2), _SURFACE_PIXELS)[..., None]
        coloured = np.where(np.isfinite(light), np.clip(light * (0.35 + 0.9 * colours), 0, 1), 1.0)
        axes.imshow(np.nan_to_num(coloured, nan=1.0), origin="lower", interpolation="antialiased")
        axes.set_title(name, fontsize=9, color=INK)
        axes.set_axis_off()
        if place == 0:
            voxel = model.voxel_angstrom
            pixel = None if voxel is None else voxel * side / _SURFACE_PIXELS
            scale_bar(axes, (_SURFACE_PIXELS, _SURFACE_PIXELS), pixel)
    return figure
