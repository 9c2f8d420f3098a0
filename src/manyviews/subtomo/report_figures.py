"""Pictures that only runs over subtomograms have: data in, matplotlib figures out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from scipy import ndimage

from manyviews.report.style import COLOURS, INK, make_plain, new_figure, plain_axes
from manyviews.subtomo.iteration_files import Iteration
from manyviews.subtomo.score_files import Rejection, Scores
from manyviews.subtomo.wedge_views import WedgeView

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_MOST_BINS = 40
_STOP_DEGREES = 1.0
_RINGS_FROM = 2
_MEASURED = 1e-3  # of the largest


def progress_figure(iterations: Sequence[Iteration]) -> Figure:
    """How far the poses moved in each iteration, and how fine the map and the search were."""
    figure = new_figure(6.0)
    number = np.array([one.iteration for one in iterations])

    def column(name: str) -> Float64:
        return np.array([getattr(one, name) for one in iterations], dtype=np.float64)

    panels: list[Axes] = []
    for place in range(3):
        axes = figure.add_subplot(3, 1, place + 1, sharex=panels[0] if panels else None)
        panels.append(make_plain(axes))
        axes.tick_params(labelbottom=place == 2)
    _changes(panels[0], number, column("median_angle_change_degrees"), "median turn (degrees)")
    panels[0].axhline(_STOP_DEGREES, color=INK, linewidth=0.8, linestyle=":")
    _changes(panels[1], number, column("median_shift_change_angstrom"), "median move (Å)")
    limit = column("frequency_limit")
    limit = np.divide(1, limit, out=np.full(len(limit), math.nan), where=limit > 0)
    for values, label, colour in (
        (column("resolution_angstrom"), "halves agree to, in the mask and corrected", COLOURS[0]),
        (column("fsc143_angstrom"), "halves agree to, as they are", COLOURS[5]),
        (limit, "particles compared to", COLOURS[1]),
    ):
        if np.isfinite(values).any():
            panels[2].plot(number, values, marker="o", markersize=3, color=colour, label=label)
    panels[2].set_ylabel("resolution (Å)", color=INK)
    if panels[2].has_data():
        panels[2].legend(fontsize=8, frameon=False)
    panels[2].set_xlabel("iteration", color=INK)
    panels[2].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _changes(axes: Axes, number: NDArray[np.int64], values: Float64, label: str) -> None:
    positive = np.where(values > 0, values, math.nan)
    axes.plot(number, positive, marker="o", markersize=3, color=COLOURS[0])
    if np.isfinite(positive).any():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel(label, color=INK, fontsize=9)


def scores_figure(scores: Scores, rejection: Rejection | None) -> Figure:
    """How the scores are spread, where particles are left out, and what leaving out more of them would do."""
    figure = new_figure(3.0 if rejection is None else 5.6)
    axes = make_plain(figure.add_subplot(1 if rejection is None else 2, 1, 1))
    known = np.isfinite(scores.score)
    values = scores.score[known]
    bins = int(np.clip(2 * math.sqrt(len(values)), 5, _MOST_BINS))
    edges = np.histogram_bin_edges(values, bins)
    groups = [(scores.half[known] == half, name) for half, name in ((1, "half 1"), (2, "half 2"), (0, "all"))]
    for (rows, name), colour in zip(groups, COLOURS, strict=False):
        if rows.any():
            counts, _ = np.histogram(values[rows], edges)
            axes.stairs(counts, edges, color=colour, fill=True, alpha=0.45, label=name)
    if math.isfinite(scores.threshold):
        left = int(np.count_nonzero(~scores.kept))
        label = f"left out below {scores.threshold:.3g}: {left}"
        axes.axvline(scores.threshold, color=INK, linewidth=1.0, linestyle="--", label=label)
    axes.set_xlabel("score", color=INK)
    axes.set_ylabel("particles", color=INK)
    axes.legend(fontsize=8, frameon=False)
    if rejection is not None:
        below = make_plain(figure.add_subplot(2, 1, 2))
        below.plot(100 * rejection.fraction_kept, rejection.resolution_angstrom,
                   marker="o", markersize=3, color=COLOURS[0])  # fmt: skip
        below.set_xlabel("best particles kept (%)", color=INK)
        below.set_ylabel("resolution (Å), FSC 0.143", color=INK)
    return figure


def wedge_figure(view: WedgeView) -> Figure:
    """The mean power across the tilt axis, each ring over its mean, with what was told and what it shows."""
    figure = new_figure(4.6)
    axes = plain_axes(figure)
    axes.grid(visible=False)
    side = len(view.power)
    edge = side // 2
    along = np.arange(side) - edge
    limits = (-0.5 - edge, side - edge - 0.5)
    image = np.log10(np.maximum(over_ring_mean(view.power), 1e-3))
    beyond = np.hypot(along[:, None], along) >= edge - 0.5  # Nyquist; left white
    image[beyond] = math.nan
    axes.imshow(image, cmap="magma", origin="lower", vmin=-1, vmax=0.5, extent=(*limits, *limits))
    # zeros of the CTF are no border of what was measured
    told = ndimage.grey_closing(view.transfer, (3, 3)) > _MEASURED * float(view.transfer.max())
    if told[~beyond].any() and not told[~beyond].all():
        border = np.ma.masked_where(beyond, told.astype(float))
        axes.contour(along, along, border, levels=[0.5], colors=[COLOURS[5]], linewidths=1.4)
    axes.plot([], [], color=COLOURS[5], linewidth=1.4, label=f"told: {view.told}")
    for tilt in (view.lowest_degrees, view.highest_degrees):
        turn = math.radians(tilt) if math.isfinite(tilt) else math.nan
        reach = edge * np.array([-1, 1])
        axes.plot(reach * math.cos(turn), reach * math.sin(turn), "--", color="white", linewidth=1.2)
    axes.plot([], [], "--", color="white", linewidth=1.2, label=f"measured: {view.measured}")
    axes.set_xlim(*limits)
    axes.set_ylim(*limits)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("across the tilt axis", color=INK)
    axes.set_ylabel("beam", color=INK)
    figure.legend(fontsize=8, loc="outside upper center", facecolor="#555555", labelcolor="white")
    return figure


def over_ring_mean(power: NDArray[np.floating[Any]]) -> Float64:
    """Power ``(n, n)``, frequency zero at ``n // 2``, over its mean at the same distance from there.

    1 in the middle, where rings are too small, and beyond Nyquist.
    """
    along = np.arange(len(power)) - len(power) // 2
    ring = np.hypot(along[:, None], along).round().astype(int)
    count = np.bincount(ring.ravel())
    mean = np.bincount(ring.ravel(), power.ravel()) / np.maximum(count, 1)
    inside = (ring >= _RINGS_FROM) & (ring < len(power) // 2) & (mean[ring] > 0)
    return np.asarray(np.divide(power, mean[ring], out=np.ones(power.shape), where=inside))
