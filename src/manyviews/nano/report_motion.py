"""The picture of a motion in space: where the specimen is at the beginning and at the end of a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyviews.nano.motion.displacement import displacement_at
from manyviews.nano.results import SpaceMotion
from manyviews.report.plots import contrast
from manyviews.report.style import COLOURS, INK, new_figure
from manyviews.report.volume import CentralSlices

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_ARROWS = 24  # along the detector
_SOMETHING = 0.1  # of the range of grey levels
_LONGEST = 0.15  # of the detector, of an arrow
# axes of the displacement across and up, and the axis that a plane is at the middle of
_PLANES = {"xy": (2, 1, 0), "xz": (2, 0, 1), "yz": (1, 0, 2)}


def displacement_figure(slices: CentralSlices, motion: SpaceMotion) -> Figure:
    """Central planes with arrows from where a part is in the volume to where first and last view have it.

    To first order: a view shows at X what the volume has at ``X + w(X)``, so parts have moved by ``-w``.
    Where nothing is, no motion is told, and none is drawn.
    """
    planes = {"xy": slices.xy, "xz": slices.xz, "yz": slices.yz}
    depth, columns = slices.xz.shape
    figure = new_figure(2 * (8.0 / 3 * max(columns, depth) / columns + 0.3))
    grey = contrast((slices.xy, slices.xz, slices.yz))
    ends = (0, len(motion.functions) - 1)
    drawn = {
        (row, name): _arrows(motion, view, name, plane, (depth, columns), grey)
        for row, view in enumerate(ends)
        for name, plane in planes.items()
    }
    longest = max(one.longest for one in drawn.values())
    for row, view in enumerate(ends):
        for column, (name, plane) in enumerate(planes.items()):
            axes = figure.add_subplot(2, 3, 3 * row + column + 1)
            axes.imshow(plane, cmap="gray", vmin=grey[0], vmax=grey[1], origin="lower")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(name if row == 0 else "", fontsize=9, color=INK)
            drawn[row, name].draw(axes, longest / (_LONGEST * columns) if longest > 0 else 1.0)
            if column == 0:
                size = max(drawn[row, other].longest for other in planes)
                axes.set_ylabel(f"view {view + 1}, up to {size:.2g} px", fontsize=8, color=INK)
    return figure


@dataclass(frozen=True, eq=False)
class _Arrows:
    """Where, how far across and up in a picture, ``(n,)`` each, and the longest in all three directions."""

    x: Float64
    y: Float64
    right: Float64
    up: Float64
    longest: float

    def draw(self, axes: Axes, scale: float) -> None:
        """So many pixels of displacement in one of the picture."""
        axes.quiver(
            self.x, self.y, self.right, self.up, angles="xy", scale_units="xy", scale=scale,
            color=COLOURS[1], width=0.006,
        )  # fmt: skip


def _arrows(
    motion: SpaceMotion,
    view: int,
    name: str,
    plane: Float32,
    size: tuple[int, int],
    grey: tuple[float, float],
) -> _Arrows:
    """Of one plane, at a few places where something is."""
    depth, columns = size
    across = min(_ARROWS, columns)
    deep = max(1, min(depth, round(_ARROWS * depth / columns)))
    moved = -displacement_at(motion.knots, motion.functions[view], (deep, across, across)).astype(np.float64)
    right, up, through = _PLANES[name]
    middle = np.take(moved, moved.shape[1 + through] // 2, axis=1 + through)
    rows, places = (
        _places(count, length) for count, length in zip(middle.shape[1:], plane.shape, strict=True)
    )
    y, x = np.meshgrid(rows, places, indexing="ij")
    there = np.abs(plane - np.median(plane))[np.rint(y).astype(int), np.rint(x).astype(int)]
    kept = there > _SOMETHING * (grey[1] - grey[0])
    lengths = np.linalg.norm(middle, axis=0)[kept]
    return _Arrows(x[kept], y[kept], middle[right][kept], middle[up][kept], float(lengths.max(initial=0.0)))


def _places(count: int, length: int) -> Float64:
    """Of arrows along an axis of a picture."""
    return np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
