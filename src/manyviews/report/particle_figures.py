"""The pictures of a run over single particles: data in, matplotlib figures out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyviews.metrics.fsc import FscCurve
from manyviews.report.isosurface import level_by_mass, smooth_and_fine, surface_image, three_views
from manyviews.report.particle_data import Learning, Model, Spread
from manyviews.report.style import COLOURS, INK, make_plain, new_figure, plain_axes, scale_bar

Float64 = NDArray[np.float64]

_SURFACE_PIXELS = 160
_FINE_BELOW = 97  # voxels along a side; larger maps are fine enough
_FEWEST_A_FIELD = 8.0
_PARTS = 12
_LEVELS = ((0.143, ":"), (0.5, "--"))


def has_surface(model: Model) -> bool:
    """Whether a map is a cube with some density above zero."""
    return len(set(model.volume.shape)) == 1 and len(model.volume) > 1 and bool((model.volume > 0).any())


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


def _coarser(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fields joined two by two, each way, until there are enough particles in one to tell from chance."""
    while counts.mean() < _FEWEST_A_FIELD and all(n % 2 == 0 and n > 2 for n in counts.shape):
        rows, columns = counts.shape
        counts = counts.reshape(rows // 2, 2, columns // 2, 2).sum(axis=(1, 3))
    return counts


def directions_figure(counts: NDArray[np.int64]) -> Figure:
    """Where particles are seen from, on an equal-area (Mollweide) map, relative to an even distribution."""
    figure = new_figure(4.2)
    axes = figure.add_subplot(projection="mollweide")
    counts = _coarser(counts)
    rows, columns = counts.shape
    # drawn in parts, because the sides of a field are curves
    latitude = np.arcsin(np.linspace(-1, 1, _PARTS * rows + 1))
    longitude = np.linspace(-np.pi, np.pi, columns + 1)
    relative = np.repeat(counts, _PARTS, axis=0) / max(counts.mean(), 1e-30)
    mesh = axes.pcolormesh(longitude, latitude, relative, cmap="viridis", vmin=0, vmax=max(2, relative.max()))
    axes.grid(color="white", linewidth=0.4, alpha=0.6)
    axes.set_xticks(np.radians([-120, -60, 0, 60, 120]))
    axes.set_yticks(np.radians([-60, -30, 0, 30, 60]))
    axes.tick_params(axis="y", colors=INK, labelsize=8)
    axes.tick_params(axis="x", colors="white", labelsize=8)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.75, pad=0.03)
    bar.set_label("particles / even share", color=INK, fontsize=9)
    bar.ax.tick_params(colors=INK, labelsize=8)
    return figure


def crossing(curve: FscCurve, threshold: float) -> tuple[float, bool] | None:
    """Resolution in angstrom where a curve falls below a threshold, and whether it does.

    The end of its longest run above, as `manyviews.metrics.fsc.FscCurve.resolution`; a curve that is above to
    its last shell gives that shell and False. None: it is nowhere above.
    """
    above = curve.correlation >= threshold
    above[0] = False  # the mean
    edges = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]]).astype(np.int8)))
    if not len(edges):
        return None
    end = int(edges[1::2][np.argmax(edges[1::2] - edges[::2])])
    if end == len(above):
        return float(1 / curve.frequency[-1]), False
    upper, lower = curve.correlation[end - 1], curve.correlation[end]
    part = (upper - threshold) / (upper - lower) if math.isfinite(lower) else 0.0
    return float(
        1 / (curve.frequency[end - 1] + part * (curve.frequency[end] - curve.frequency[end - 1]))
    ), True


def _at(curve: FscCurve, threshold: float) -> str:
    found = crossing(curve, threshold)
    if found is None:
        return f"below {threshold:g} everywhere"
    return f"{threshold:g} at {found[0]:.1f} Å" + ("" if found[1] else " or better")


def resolution_figure(halves: FscCurve | None, reference: FscCurve | None, *, independent: bool) -> Figure:
    """The curves that there are, with what they are of and where they cross 0.143 and 0.5."""
    figure = new_figure(3.8)
    axes = plain_axes(figure)
    of_halves = "halves refined apart" if independent else "halves found with one map (optimistic)"
    there = ((halves, of_halves, 0.143), (reference, "map and reference, aligned", 0.5))
    told = [(curve, name, level) for curve, name, level in there if curve is not None]
    for number, (curve, name, level) in enumerate(told):
        colour = COLOURS[number if halves is not None else 1]
        told_as = f"{name}: {_at(curve, level)}"
        axes.plot(curve.frequency, curve.correlation, color=colour, linewidth=1.6, label=told_as)
        found = crossing(curve, level)
        if found is not None and found[1]:
            axes.plot([1 / found[0]], [level], marker="o", color=colour, markersize=5)
    last = max(float(curve.frequency.max()) for curve, _, _ in told)
    lowest = min(float(np.nanmin(curve.correlation, initial=0.0)) for curve, _, _ in told)
    for level, style in _LEVELS:
        axes.axhline(level, color=INK, linewidth=0.8, linestyle=style)
        axes.text(last, level + 0.012, f"{level:g}", ha="right", fontsize=8, color=INK)
    axes.set_ylim(min(-0.05, lowest - 0.05), 1.05)
    axes.set_xlim(0, last)
    _angstrom_ticks(axes, last)
    axes.set_ylabel("Fourier shell correlation", color=INK)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def _angstrom_ticks(axes: Axes, last: float) -> None:
    """Frequencies, told as the wavelengths that people speak of."""
    step = last / 6
    frequencies = step * np.arange(1, 7)
    axes.set_xticks([0.0, *frequencies], ["∞", *(f"{1 / value:.1f}" for value in frequencies)])
    axes.set_xlabel("resolution (Å), even steps of spatial frequency", color=INK)


def _pieces(learning: Learning) -> list[slice]:
    """Runs of iterations of one start, then of the refinement, whose values belong to one curve."""
    bounds = np.flatnonzero(np.diff(learning.start)) + 1
    edges = [0, *bounds.tolist(), len(learning.start)]
    return [slice(first, stop) for first, stop in itertools.pairwise(edges)]


def _mark_starts(panels: Sequence[Axes], learning: Learning) -> None:
    """A thin line where a start or the refinement begins, and its name on the topmost panel."""
    if not learning.starts:
        return
    for piece in _pieces(learning):
        first = float(learning.iteration[piece.start])
        for axes in panels:
            axes.axvline(first - 0.5, color=INK, linewidth=0.7, linestyle=":")
        number = int(learning.start[piece.start])
        name = f"start {number + 1}" if number < learning.starts else "refinement"
        panels[0].annotate(
            name, (first - 0.5, 1.0), xycoords=("data", "axes fraction"), xytext=(3, 2),
            textcoords="offset points", fontsize=8, color=INK, annotation_clip=False,
        )  # fmt: skip


def _curve(axes: Axes, learning: Learning, values: Float64, **style: Any) -> None:
    label = style.pop("label", None)
    for number, piece in enumerate(_pieces(learning)):
        axes.plot(
            learning.iteration[piece], values[piece], label=label if number == 0 else None,
            marker="o" if piece.stop - piece.start < 30 else None, markersize=2.6, linewidth=1.4, **style,
        )  # fmt: skip


def _panels(figure: Figure, count: int) -> list[Axes]:
    panels: list[Axes] = []
    for place in range(count):
        axes = figure.add_subplot(count, 1, place + 1, sharex=panels[0] if panels else None)
        panels.append(make_plain(axes))
        if place < count - 1:
            axes.tick_params(labelbottom=False)
    panels[-1].set_xlabel("iteration", color=INK)
    return panels


def _without_outliers(values: Float64) -> tuple[float, float] | None:
    """Limits that show nearly all values, though a start may begin far below; None if there are few."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return None
    low, high = np.quantile(finite, (0.05, 0.95))
    span = max(high - low, 1e-6 * abs(high), 1e-30)
    bottom, top = max(finite.min(), low - span), min(finite.max(), high + span)
    return float(bottom - 0.05 * span), float(top + 0.05 * span)


def learning_figure(learning: Learning) -> Figure:
    """Log likelihood or objective, and the frequencies in use, over the iterations; starts are marked."""
    with_radius = bool(np.isfinite(learning.radius).any())
    figure = new_figure(4.8 if with_radius else 3.4)
    panels = _panels(figure, 2 if with_radius else 1)
    _curve(panels[0], learning, learning.fit, color=COLOURS[0])
    panels[0].set_ylim(_without_outliers(learning.fit))
    likelihood = learning.fit_name == "log_likelihood"
    panels[0].set_ylabel("log likelihood / image" if likelihood else "objective / mini-batch", color=INK)
    if with_radius:
        axes, side = panels[1], learning.side_angstrom
        _curve(axes, learning, learning.radius, color=COLOURS[0], label="highest frequency in use")
        _curve(axes, learning, learning.agreed_radius, color=COLOURS[1], label="halves agree (FSC 0.143)")
        axes.legend(fontsize=8, frameon=False, loc="upper left")
        axes.set_ylim(0, 1.15 * float(np.nanmax(learning.radius)))
        if side is None:
            axes.set_ylabel("Fourier pixels", color=INK)
        else:
            ticks = np.array([tick for tick in axes.get_yticks() if tick > 0])
            limits = axes.get_ylim()
            axes.set_yticks(ticks, [f"{side / tick:.3g}" for tick in ticks])
            axes.set_ylim(limits)
            axes.set_ylabel("resolution (Å)", color=INK)
    _mark_starts(panels, learning)
    return figure


def poses_figure(learning: Learning) -> Figure:
    """Poses scored an image, the points of the whole quadrature, and the one as a fraction of the other."""
    with_counts = bool(np.isfinite(learning.poses).any())
    figure = new_figure(4.8 if with_counts else 3.2)
    panels = _panels(figure, 2 if with_counts else 1)
    if with_counts:
        _curve(panels[0], learning, learning.all_poses, color=COLOURS[6], label="all at this frequency")
        _curve(panels[0], learning, learning.poses, color=COLOURS[0], label="evaluated")
        panels[0].set_ylabel("poses / image", color=INK)
        panels[0].legend(fontsize=8, frameon=False)
    _curve(panels[-1], learning, learning.fraction, color=COLOURS[1])
    panels[-1].set_ylabel("fraction evaluated", color=INK)
    for axes in panels:
        axes.set_yscale("log")
    _mark_starts(panels, learning)
    return figure


def spread_figure(spread: Spread) -> Figure:
    """How sure the poses are: particles by the root mean square angle of their posterior."""
    figure = new_figure(2.8)
    axes = plain_axes(figure)
    axes.stairs(spread.particles, spread.edges_degrees, color=COLOURS[0], fill=True, alpha=0.85)
    axes.set_xlim(0, float(spread.edges_degrees[-1]))
    axes.set_xlabel("spread of a particle's orientation (degrees)", color=INK)
    axes.set_ylabel("particles", color=INK)
    return figure
