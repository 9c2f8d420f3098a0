"""Pictures that only runs over scans have: data in, matplotlib figures out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyviews.metrics.fsc import FscCurve
from manyviews.nano.results import Examples, GaugeTable, Iteration, Views
from manyviews.report.plots import contrast
from manyviews.report.style import COLOURS, INK, make_plain, new_figure, plain_axes, scale_bar
from manyviews.report.volume import CentralSlices

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]

_ANGSTROM_PER_NM = 10.0
_MOST_ROWS = 4
_WHEEL = 101  # pixels of the legend
_STRONG = 99.0  # percentile of lengths that has the full colour


def flow_colours(flow: RealArray, longest: float) -> Float64:
    """``(z, x, 3)`` from 0 to 1 of a flow ``(2, z, x)``: the hue is its direction, white is no motion.

    The colour is full where the flow is ``longest`` or longer. Red moves to the right, along +x; up is +z, as
    rows are drawn from below.
    """
    from matplotlib.colors import hsv_to_rgb

    length = np.hypot(flow[0], flow[1])
    hue = np.mod(np.arctan2(flow[1], flow[0]) / (2 * np.pi), 1.0)
    strength = np.clip(length / longest, 0, 1) if longest > 0 else np.zeros_like(length)
    return np.asarray(hsv_to_rgb(np.stack([hue, strength, np.ones_like(hue)], axis=-1)))


def full_colour_length(flow: RealArray) -> float:
    """The length of a flow ``(..., 2, z, x)`` that most of it stays below: the full colour."""
    lengths = np.hypot(flow[..., 0, :, :], flow[..., 1, :, :])
    return float(np.percentile(lengths, _STRONG)) if lengths.size else 0.0


def examples_figure(examples: Examples) -> Figure:
    """A view in each row: as measured, as aligned, as the volume projects, and the flow with its wheel."""
    count = min(len(examples.view), _MOST_ROWS)
    chosen = np.linspace(0, len(examples.view) - 1, count).round().astype(int)
    rows, columns = examples.data.shape[1:]
    width = 8.0 / 4
    figure = new_figure(count * (width * rows / columns + 0.25) + 0.2)
    grid = figure.add_gridspec(count, 4)
    grey = contrast(tuple(examples.data[one] for one in chosen))
    longest = full_colour_length(examples.flow[chosen])
    shown = {"measured": examples.data, "aligned": examples.aligned, "projected": examples.reprojection}
    for row, one in enumerate(chosen):
        for column, (title, images) in enumerate(shown.items()):
            axes = _picture(figure.add_subplot(grid[row, column]), title if row == 0 else "")
            axes.imshow(images[one], cmap="gray", vmin=grey[0], vmax=grey[1], origin="lower")
            if column == 0:
                words = f"view {examples.view[one] + 1}, {examples.theta_degrees[one]:.5g}°"
                axes.set_ylabel(words, fontsize=8, color=INK)
        axes = _picture(figure.add_subplot(grid[row, 3]), "flow" if row == 0 else "")
        axes.imshow(flow_colours(examples.flow[one], longest), origin="lower")
        if row == 0:
            _wheel(axes, longest)
    return figure


def _picture(axes: Axes, title: str) -> Axes:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=9, color=INK)
    return axes


def _wheel(axes: Axes, longest: float) -> None:
    """The legend of the colours: a disc of all flows up to the full colour, in a corner."""
    along = np.linspace(-1, 1, _WHEEL)
    flow = np.stack(np.broadcast_arrays(along[None, :], along[:, None]))
    disc = np.ones((_WHEEL, _WHEEL, 4))
    disc[..., :3] = flow_colours(flow, 1.0)
    disc[..., 3] = np.hypot(*flow) <= 1
    inset = axes.inset_axes((0.72, 0.72, 0.27, 0.27))
    inset.imshow(disc, origin="lower")
    inset.set_axis_off()
    inset.set_title(f"{longest:.2g} px", fontsize=7, color=INK, pad=1)


def before_after_figure(before: CentralSlices | None, after: CentralSlices) -> Figure:
    """Central planes xy, xz and yz, above without alignment where that is known, below as reconstructed.

    Both have the grey levels of their own: without alignment contrast is lower.
    """
    volumes = [("aligned", after)] if before is None else [("not aligned", before), ("aligned", after)]
    rows, columns = after.xy.shape
    depth = after.xz.shape[0]
    sides = [rows, depth, depth]
    height = 8.0 / 3 * max(sides) / columns
    figure = new_figure(len(volumes) * (height + 0.2) + 0.1)
    for row, (name, one) in enumerate(volumes):
        low, high = contrast((one.xy, one.xz, one.yz))
        for column, (title, plane) in enumerate((("xy", one.xy), ("xz", one.xz), ("yz", one.yz))):
            axes = _picture(figure.add_subplot(len(volumes), 3, 3 * row + column + 1), title)
            axes.imshow(plane, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="antialiased")
            if column == 0:
                axes.set_ylabel(name, fontsize=9, color=INK)
                scale_bar(axes, (plane.shape[0], plane.shape[1]), one.voxel_angstrom)
    return figure


def iterations_figure(iterations: Sequence[Iteration]) -> Figure:
    """Misfit, augmented Lagrangian, and flow with the window it was found by; levels are divided by lines."""
    figure = new_figure(6.2)
    number = np.arange(1, len(iterations) + 1)
    panels: list[Axes] = []
    lagrangian = _column(iterations, "lagrangian")
    rows = 3 if np.isfinite(lagrangian).any() else 2
    for place in range(rows):
        panels.append(
            make_plain(figure.add_subplot(rows, 1, place + 1, sharex=panels[0] if panels else None))
        )
        panels[-1].tick_params(labelbottom=place == rows - 1)
    _curve(panels[0], number, _column(iterations, "misfit"), COLOURS[0], "misfit / data", log=True)
    if rows == 3:
        _curve(panels[1], number, lagrangian, COLOURS[1], "Lagrangian", log=True)
    # in pixels of the scan, so that levels compare
    flow = _column(iterations, "flow_rms_pixels") * _column(iterations, "binning")
    window = _column(iterations, "window_pixels") * _column(iterations, "binning")
    _curve(panels[-1], number, flow, COLOURS[2], "flow, rms (px)")
    if np.isfinite(window).any():
        beside = panels[-1].twinx()
        beside.plot(number, window, color=COLOURS[6], linewidth=1.0, linestyle=":")
        beside.set_ylabel("window (px)", color=INK)
        beside.tick_params(colors=INK, labelsize=9)
    levels = [one.level for one in iterations]
    for at in range(1, len(levels)):
        if levels[at] != levels[at - 1]:
            for axes in panels:
                axes.axvline(at + 0.5, color=INK, linewidth=0.8, linestyle="--")
    panels[-1].set_xlabel("outer iteration", color=INK)
    return figure


def _column(iterations: Sequence[Iteration], name: str) -> Float64:
    return np.array([getattr(one, name) for one in iterations], dtype=np.float64)


def _curve(
    axes: Axes, at: NDArray[Any], values: Float64, colour: str, label: str, *, log: bool = False
) -> None:
    axes.plot(at, values, color=colour, linewidth=1.5, marker="o", markersize=2.4)
    known = values[np.isfinite(values)]
    if log and len(known) and (known > 0).all():
        axes.set_yscale("log")
    axes.set_ylabel(label, color=INK)


def views_figure(views: Views, shifts: Float64 | None) -> Figure:
    """Residual of every view before and after, and its weight, deformation and shift; bad ones are marked."""
    figure = new_figure(6.6 if shifts is not None else 4.6)
    count = 3 if shifts is not None else 2
    number = np.arange(1, len(views.theta_degrees) + 1)
    panels: list[Axes] = []
    for place in range(count):
        panels.append(
            make_plain(figure.add_subplot(count, 1, place + 1, sharex=panels[0] if panels else None))
        )
        panels[-1].tick_params(labelbottom=place == count - 1)
    bad, jump = views.bad > 0, views.jump > 0
    if np.isfinite(views.residual_before).any():
        panels[0].plot(number, views.residual_before, color=COLOURS[6], linewidth=1.0, label="not aligned")
    panels[0].plot(number, views.residual, color=COLOURS[0], linewidth=1.2, label="aligned")
    if bad.any():
        words = f"do not fit: {int(bad.sum())}"
        panels[0].plot(number[bad], views.residual[bad], "x", color=COLOURS[1], markersize=5, label=words)
    panels[0].set_ylabel("residual / data", color=INK)
    panels[0].legend(fontsize=8, frameon=False)
    panels[1].plot(number, views.weight, color=COLOURS[2], linewidth=1.2, label="weight")
    panels[1].plot(number, views.flow_rms_pixels, color=COLOURS[4], linewidth=1.2, label="flow, rms (px)")
    panels[1].legend(fontsize=8, frameon=False)
    if shifts is not None:
        for axis, name in enumerate(("along x", "along z")):
            panels[2].plot(number, shifts[:, axis], color=COLOURS[axis], linewidth=1.2, label=name)
        panels[2].set_ylabel("shift (px)", color=INK)
        panels[2].legend(fontsize=8, frameon=False)
    for at in number[jump]:
        panels[-1].axvline(at - 0.5, color=COLOURS[1], linewidth=0.8, linestyle=":")
    panels[-1].set_xlabel("view, in the order of acquisition", color=INK)
    return figure


def gauge_figure(gauge: GaugeTable) -> Figure:
    """The common motion over the height, along the axes of the volume, and the dilation of slices."""
    figure = new_figure(3.0)
    height = np.arange(len(gauge.cosine))
    left, right = (make_plain(figure.add_subplot(1, 2, place)) for place in (1, 2))
    for values, name, colour in (
        (gauge.cosine, "along x", COLOURS[0]), (gauge.sine, "along y", COLOURS[1]),
        (gauge.vertical, "along z", COLOURS[2]),
    ):  # fmt: skip
        left.plot(height, values, color=colour, linewidth=1.4, label=name)
    left.set_ylabel("moved by (px)", color=INK)
    left.legend(fontsize=8, frameon=False)
    right.plot(height, 100 * gauge.dilation, color=COLOURS[3], linewidth=1.4)
    right.set_ylabel("dilation (%)", color=INK)
    for axes in (left, right):
        axes.set_xlabel("slice (z)", color=INK)
    return figure


def returned_figure(injected: Float64, left: Float64) -> Figure:
    """Of each view the rms of a motion that was injected, and of what did not come back."""
    figure = new_figure(2.8)
    axes = plain_axes(figure)
    number = np.arange(1, len(injected) + 1)
    axes.plot(number, injected, color=COLOURS[6], linewidth=1.2, label="injected")
    axes.plot(number, left, color=COLOURS[0], linewidth=1.4, label="left")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("motion, rms (px)", color=INK)
    axes.set_xlabel("view, in the order of acquisition", color=INK)
    axes.legend(fontsize=8, frameon=False)
    return figure


def half_bit_figure(curves: Sequence[tuple[FscCurve, str, float | None]]) -> Figure:
    """Correlations and where each falls below its level, in nm; None: the half-bit line, for halves."""
    figure = new_figure(3.8)
    axes = plain_axes(figure)
    for (curve, name, level), colour in zip(curves, COLOURS, strict=False):
        line = curve.half_bit() if level is None else np.full(len(curve.frequency), level)
        found = _resolution_nm(curve, line)
        label = f"{name}: {_in_words(found, curve, 'half bit' if level is None else f'{level:g}')}"
        axes.plot(curve.frequency, curve.correlation, color=colour, linewidth=1.6, label=label)
        if math.isfinite(found):
            at = 1 / (found * _ANGSTROM_PER_NM)
            axes.plot([at], [np.interp(at, curve.frequency, line)], marker="o", color=colour, markersize=5)
    first = curves[0][0]
    for values, name, style in ((first.half_bit(), "half bit", "-"), (first.one_bit(), "one bit", ":")):
        if np.isfinite(values).any():
            axes.plot(first.frequency[1:], values[1:], color=INK, linewidth=0.9, linestyle=style, label=name)
    last = max(float(curve.frequency.max()) for curve, _, _ in curves)
    lowest = min(float(np.nanmin(curve.correlation, initial=0.0)) for curve, _, _ in curves)
    axes.set_ylim(min(-0.05, lowest - 0.05), 1.05)
    axes.set_xlim(0, last)
    frequencies = last / 6 * np.arange(1, 7)
    words = [f"{1 / (value * _ANGSTROM_PER_NM):.3g}" for value in frequencies]
    axes.set_xticks([0.0, *frequencies], ["∞", *words])
    axes.set_xlabel("resolution (nm), even steps of spatial frequency", color=INK)
    axes.set_ylabel("Fourier shell correlation", color=INK)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def half_bit_resolution_nm(curve: FscCurve) -> float:
    """Where a curve falls below the half-bit line, in nm; infinity where it never rises above it.

    A shell that is not known (NaN) counts as one without correlation. NaN where the file does not tell how
    many samples a shell has.
    """
    return _resolution_nm(curve, curve.half_bit())


def _resolution_nm(curve: FscCurve, line: Float64) -> float:
    if not np.isfinite(line).all():
        return math.nan
    known = replace(curve, correlation=np.nan_to_num(curve.correlation))
    return known.resolution(line) / _ANGSTROM_PER_NM


def _in_words(resolution_nm: float, curve: FscCurve, line: str) -> str:
    if math.isnan(resolution_nm):
        return "samples not known"
    if math.isinf(resolution_nm):
        return f"below {line} everywhere"
    finest = resolution_nm <= 2 * curve.pixel_size / _ANGSTROM_PER_NM
    return f"{line} at {resolution_nm:.4g} nm" + (" or better" if finest else "")
