"""Whether the rotation axis is vertical or horizontal in the images.

What turns about an axis keeps its mass in every plane across it: the sums of an image along lines across
the axis are the same in all views, however the specimen drifts across the axis.
"""

from __future__ import annotations

import numpy as np

from manyviews.io.frames import ScanFile

_VIEWS = 24
_ODDS = 2.0  # so much better must the other axis be before it is believed
_TOLERANCE_DEGREES = 10.0


def choose_axis(file: ScanFile, wanted: str) -> tuple[str, str]:
    """``vertical`` or ``horizontal``, and a sentence where that was not asked for and is not vertical."""
    if wanted != "auto":
        return wanted, ""
    if file.axis_angle_degrees is not None:
        off = abs((file.axis_angle_degrees + 90.0) % 180.0 - 90.0)
        told = f"the scan says it lies at {file.axis_angle_degrees:g} degrees from vertical"
        if off < _TOLERANCE_DEGREES:
            return "vertical", ""
        if abs(off - 90.0) < _TOLERANCE_DEGREES:
            return "horizontal", f"rotation axis: horizontal, {told}"
    if file.kind.startswith("MRC"):
        odds = vertical_odds(file)
        if odds < 1 / _ODDS:
            return (
                "horizontal",
                f"rotation axis: horizontal; the images' sums along rows change {1 / odds:.1f} times as"
                f" much as those"
                " along columns; give --axis vertical if this is wrong",
            )
    return "vertical", ""


def vertical_odds(file: ScanFile) -> float:
    """How much more sums along columns change from view to view than sums along rows; 1 where nobody knows.

    Above 1 the axis is vertical, below horizontal.
    """
    count, rows, _ = file.projections.shape
    views = np.unique(np.linspace(0, count - 1, min(count, _VIEWS)).round().astype(np.int64))
    images = file.projections.read(views, slice(0, rows)).astype(np.float64)
    images -= np.median(images, axis=(1, 2), keepdims=True)
    images[~np.isfinite(images)] = 0.0
    changes = []
    for axis in (2, 1):  # sums along rows, along columns
        lines = images.mean(axis=axis)
        lines -= lines.mean(axis=1, keepdims=True)
        scale = float(np.median(lines.std(axis=1)))
        changes.append(float(lines.std(axis=0).mean()) / scale if scale > 0 else 0.0)
    across_rows, across_columns = changes
    if across_rows <= 0 or across_columns <= 0:
        return 1.0
    return across_columns / across_rows
