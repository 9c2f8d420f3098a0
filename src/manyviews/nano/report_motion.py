"""The picture of a motion in space: where the specimen is at the beginning and at the end of a scan."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyviews.nano.motion.displacement import displacement_at
from manyviews.nano.results import SpaceMotion
from manyviews.report.plots import contrast
from manyviews.report.style import COLOURS, INK, new_figure
from manyviews.report.volume import CentralSlices

Float64 = NDArray[np.float64]

_ARROWS = 13  # along the detector
_LONGEST = 0.15  # of the detector, of an arrow
# axes of the displacement across and up, and the axis that a plane is at the middle of
_PLANES = {"xy": (2, 1, 0), "xz": (2, 0, 1), "yz": (1, 0, 2)}


def displacement_figure(slices: CentralSlices, motion: SpaceMotion) -> Figure:
    """Central planes with arrows from where a part is in the volume to where first and last view have it.

    To first order: a view shows at X what the volume has at ``X + w(X)``, so parts have moved by ``-w``.
    """
    planes = {"xy": slices.xy, "xz": slices.xz, "yz": slices.yz}
    depth, columns = slices.xz.shape
    figure = new_figure(2 * (8.0 / 3 * max(columns, depth) / columns + 0.3))
    grey = contrast((slices.xy, slices.xz, slices.yz))
    ends = [
        (view, _arrows(motion, view, (depth, columns, columns))) for view in (0, len(motion.functions) - 1)
    ]
    longest = max(float(np.linalg.norm(moved, axis=0).max()) for _, moved in ends)
    for row, (view, moved) in enumerate(ends):
        for column, (name, plane) in enumerate(planes.items()):
            axes = figure.add_subplot(2, 3, 3 * row + column + 1)
            axes.imshow(plane, cmap="gray", vmin=grey[0], vmax=grey[1], origin="lower")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(name if row == 0 else "", fontsize=9, color=INK)
            _draw(axes, moved, name, plane.shape, longest)
            if column == 0:
                size = float(np.linalg.norm(moved, axis=0).max())
                axes.set_ylabel(f"view {view + 1}, up to {size:.2g} px", fontsize=8, color=INK)
    return figure


def _arrows(motion: SpaceMotion, view: int, shape: tuple[int, int, int]) -> Float64:
    """``(3, z, y, x)`` by which parts have moved, at a few places of the volume, in pixels."""
    across = min(_ARROWS, shape[2])
    deep = max(1, min(shape[0], round(_ARROWS * shape[0] / shape[2])))
    found = displacement_at(motion.knots, motion.functions[view], (deep, across, across))
    return -found.astype(np.float64)


def _draw(axes, moved: Float64, name: str, shape: tuple[int, ...], longest: float) -> None:  # type: ignore[no-untyped-def]
    right, up, through = _PLANES[name]
    middle = np.take(moved, moved.shape[1 + through] // 2, axis=1 + through)
    places = [_places(count, length) for count, length in zip(middle.shape[1:], shape, strict=True)]
    scale = longest / (_LONGEST * shape[1]) if longest > 0 else 1.0
    axes.quiver(
        places[1], places[0], middle[right], middle[up], angles="xy", scale_units="xy", scale=scale,
        color=COLOURS[1], width=0.005,
    )  # fmt: skip


def _places(count: int, length: int) -> Float64:
    """Of arrows along an axis of a picture."""
    return np.asarray((np.arange(count) + 0.5) * length / count - 0.5)
