"""Pictures that only runs over single particles have: data in, matplotlib figures out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyviews.particles.report_data import Learning, Spread
from manyviews.report.style import COLOURS, INK, make_plain, new_figure, plain_axes

Float64 = NDArray[np.float64]

_MOST_PIECES = 200


def _pieces(learning: Learning) -> list[slice]:
    """Runs of iterations of one start, then of the refinement, whose values belong to one curve."""
    bounds = np.flatnonzero(np.diff(learning.start)) + 1
    if len(bounds) > _MOST_PIECES:  # no run has so many starts
        bounds = bounds[:0]
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
