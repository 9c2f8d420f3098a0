"""Pictures of finished maps: data in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyviews.metrics.directional_fsc import ConeFsc
from manyviews.report.plots import contrast
from manyviews.report.style import COLOURS, INK, make_plain, new_figure, plain_axes

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Planes = tuple[Float32, Float32, Float32]

_NAMES = ("xy", "xz", "yz")
_FEW = 4  # samples of a shell in a cone, of which nothing can be said


def mask_figure(density: Planes, mask: Planes) -> Figure:
    """Central planes of the mean of the halves, with the mask at a half and where it ends."""
    figure = new_figure(2.9)
    low, high = contrast(density)
    for place, (image, inside, name) in enumerate(zip(density, mask, _NAMES, strict=True), start=1):
        axes = figure.add_subplot(1, 3, place)
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="antialiased")
        for level, colour in ((0.5, COLOURS[1]), (0.01, COLOURS[5])):
            if inside.min() < level < inside.max():
                axes.contour(inside, levels=[level], colors=[colour], linewidths=1.2)
        axes.set_title(name, fontsize=9, color=INK)
        axes.set_axis_off()
    return figure


def local_figure(density: Planes, resolution: Planes, bins: Float64) -> Figure:
    """Local resolution in colours over central planes of the map, and how much volume has which.

    ``resolution`` is 0 where there is none; ``bins (bin, 3)`` are edges in angstrom and cubic angstrom.
    """
    figure = new_figure(5.4)
    grid = figure.add_gridspec(2, 3, height_ratios=(1.2, 1))
    low, high = contrast(density)
    finest, coarsest = float(bins[0, 0]), float(bins[-1, 1])
    shown = None
    for place, (image, local, name) in enumerate(zip(density, resolution, _NAMES, strict=True)):
        axes = figure.add_subplot(grid[0, place])
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="antialiased")
        known = np.ma.masked_less_equal(local, 0.0)
        shown = axes.imshow(
            known, cmap="viridis_r", vmin=finest, vmax=coarsest, alpha=0.65, origin="lower",
            interpolation="nearest",
        )  # fmt: skip
        axes.set_title(name, fontsize=9, color=INK)
        axes.set_axis_off()
    if shown is not None:
        bar = figure.colorbar(shown, ax=figure.axes, shrink=0.9)
        bar.set_label("local resolution (Å)", color=INK, fontsize=9)
    axes = make_plain(figure.add_subplot(grid[1, :]))
    edges = np.append(bins[:, 0], bins[-1:, 1])
    axes.stairs(bins[:, 2] / 1000, edges, color=COLOURS[0], fill=True, alpha=0.85)
    axes.set_xlim(finest, coarsest)
    axes.set_xlabel("local resolution (Å); the last bar holds what is coarser", color=INK)
    axes.set_ylabel("volume (nm³)", color=INK)
    return figure


def guinier_figure(table: Float64) -> Figure:
    """Logarithm of the amplitudes over squared frequency; ``table (shell, 4)`` as `GUINIER_COLUMNS`."""
    figure = new_figure(3.4)
    axes = plain_axes(figure)
    squared = table[1:, 0] ** 2
    for column, name, colour, width in (
        (1, "in the mask", COLOURS[6], 1.2),
        (2, "times the FSC weight", COLOURS[0], 1.6),
        (3, "fitted line", COLOURS[1], 2.0),
    ):
        if np.isfinite(table[1:, column]).any():
            axes.plot(squared, table[1:, column], color=colour, linewidth=width, label=name)
    axes.set_xlabel("squared frequency (1/Å²)", color=INK)
    axes.set_ylabel("log of the mean amplitude", color=INK)
    if axes.lines:
        axes.legend(fontsize=8, frameon=False)
    return figure


def directions_figure(cones: Sequence[ConeFsc]) -> Figure:
    """The range of the correlations in all cones, their median, the best cone and the worst.

    Shells of which a cone holds fewer than four samples are not drawn.
    """
    figure = new_figure(3.6)
    axes = plain_axes(figure)
    frequency = cones[0].curve.frequency
    curves = np.array([np.where(one.curve.samples >= _FEW, one.curve.correlation, np.nan) for one in cones])
    shown = np.isfinite(curves).all(axis=0)
    frequency, curves = frequency[shown], curves[:, shown]
    resolution = np.array([one.resolution(0.143) for one in cones])
    axes.fill_between(frequency, curves.min(axis=0), curves.max(axis=0), color=COLOURS[5], alpha=0.3,
                      linewidth=0, label=f"{len(cones)} directions")  # fmt: skip
    axes.plot(frequency, np.median(curves, axis=0), color=COLOURS[0], label="median")
    for name, number, colour in (
        ("best", int(np.argmin(resolution)), COLOURS[2]),
        ("worst", int(np.argmax(resolution)), COLOURS[1]),
    ):
        at = "none" if np.isinf(resolution[number]) else f"{resolution[number]:.3g} Å"
        x, y, z = cones[number].direction
        label = f"{name}: {at}, along ({x:.2f}, {y:.2f}, {z:.2f})"
        axes.plot(frequency, curves[number], color=colour, linewidth=1.2, label=label)
    axes.axhline(0.143, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, float(cones[0].curve.frequency[-1]))
    axes.set_xlabel("spatial frequency (1/Å)", color=INK)
    axes.set_ylabel("Fourier shell correlation", color=INK)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    return figure
