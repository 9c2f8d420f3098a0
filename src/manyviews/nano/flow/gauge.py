"""Motions that no projection can tell from a motion of the object: taken out of flows, and applied to
volumes.

In a parallel beam, for any functions a, b, c, eps of the height z, with s the distance from the rotation
axis,

    f_x = a(z) cos(theta) + b(z) sin(theta) + eps(z) s,    f_z = c(z)

gives the projections of another object: ``D_f R u = R u'`` with

    u'(x, y, z) = (1 + eps) u((1 + eps) x + a, (1 + eps) y + b, z + c),

each of a, b, eps at z. Where mass moves (`push_forward`) it goes to ``((1 + eps) x + a, (1 + eps) y +
b)``, then to ``z + c``. Flows are only known up to these; left in, the object drifts, slice by slice, and
halves solved apart shear against each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.kernels.flow_rows_cpu import row_means, subtract_from_rows
from manyviews.kernels.warp_cpu import pull_back, push_forward

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_SLICES_AT_ONCE = 16


@dataclass(frozen=True)
class Gauge:
    """Functions of the height, ``(z,)`` each.

    Attributes
    ----------
    cosine, sine, vertical
        a, b, c in pixels.
    dilation
        eps, without unit.
    center
        Column of the rotation axis.
    """

    cosine: Float64
    sine: Float64
    vertical: Float64
    dilation: Float64
    center: float

    def flow(self, theta_degrees: Float64, columns: int) -> Float32:
        """The flow ``(n, 2, z, x)`` that is this gauge, for images so many columns wide."""
        along = self._along(theta_degrees)
        result = np.empty((len(along), 2, len(self.cosine), columns), np.float32)
        result[:, 0] = along[:, :, None] + self.dilation[:, None] * (np.arange(columns) - self.center)
        result[:, 1] = self.vertical[:, None]
        return result

    def take_from(self, flow: Float32, theta_degrees: Float64) -> None:
        """Subtract it from flows ``(n, 2, z, x)`` of views at ``theta_degrees (n,)``, in place."""
        places = np.arange(flow.shape[3], dtype=np.float64) - self.center
        subtract_from_rows(flow, self._along(theta_degrees), self.dilation, self.vertical, places)

    def _along(self, theta_degrees: Float64) -> Float64:
        theta = np.radians(np.asarray(theta_degrees, dtype=np.float64))
        return np.asarray(np.cos(theta)[:, None] * self.cosine + np.sin(theta)[:, None] * self.sine)

    def move_object(self, volume: Float32, *, mass: bool = False, order: int = 3) -> Float32:
        """The volume ``u'`` of ``volume (z, y, x)``, whose axis is at the pixels ``n // 2``."""
        if mass:
            return self._raised(self._across(volume, push_forward, order), push_forward, order)
        return self._across(self._raised(volume, pull_back, order), pull_back, order)

    def _across(self, volume: Float32, warp, order: int) -> Float32:  # type: ignore[no-untyped-def]
        """Within slices: dilation and shift; values read also grow with the dilation, moved mass does not."""
        slices, rows, columns = volume.shape
        x, y = np.arange(columns) - columns // 2, np.arange(rows) - rows // 2
        result = np.empty(volume.shape, np.float32)
        for first in range(0, slices, _SLICES_AT_ONCE):
            part = slice(first, min(slices, first + _SLICES_AT_ONCE))
            flow = np.empty((part.stop - first, 2, rows, columns), np.float32)
            flow[:, 0] = (self.cosine[part, None] + self.dilation[part, None] * x)[:, None, :]
            flow[:, 1] = (self.sine[part, None] + self.dilation[part, None] * y)[:, :, None]
            result[part] = warp(volume[part], flow, order)
        if warp is pull_back:
            result *= (1 + self.dilation).astype(np.float32)[:, None, None]
        return result

    def _raised(self, volume: Float32, warp, order: int) -> Float32:  # type: ignore[no-untyped-def]
        """Along z, one plane of x after the other."""
        slices, rows, columns = volume.shape
        flow = np.zeros((1, 2, slices, columns), np.float32)
        flow[0, 1] = self.vertical[:, None]
        result = np.empty(volume.shape, np.float32)
        for row in range(rows):
            result[:, row] = warp(np.ascontiguousarray(volume[:, row])[None], flow, order)[0]
        return result


def remove_gauge(
    flow: Float32, theta_degrees: Float64, *, center: float | None = None, dilation: bool = True,
    terms: int | None = None, weights: Float64 | None = None,
) -> tuple[Float32, Gauge]:  # fmt: skip
    """A flow less the gauge that is nearest to it, in the mean of squares, and that gauge.

    What is left has no such motion: the projection is orthogonal, so a gauge leaves nothing, and what is
    orthogonal to all of them stays. To go on solving with it, move the object by the gauge as well, or
    let a few iterations do so.

    Parameters
    ----------
    flow
        ``(n, 2, z, x)`` in pixels.
    theta_degrees
        ``(n,)`` angles of the views.
    center
        Column of the rotation axis; None: the middle of the detector.
    dilation
        Take out dilation too.
    terms
        a, b, c, eps are made of the first so many cosines over the height, so that they are smooth; None:
        every row has its own.
    weights
        ``(n,)`` of the views, not below 0; None: all alike.

    Raises
    ------
    InputError
        If angles or weights are not those of the flow, or no weight is above 0.
    """
    gauge = find_gauge(
        flow_rows(flow, center), theta_degrees, flow.shape[3], center=center, dilation=dilation, terms=terms,
        weights=weights,
    )  # fmt: skip
    rest = np.array(flow, dtype=np.float32, order="C")
    gauge.take_from(rest, theta_degrees)
    return rest, gauge


def flow_rows(flow: Float32, center: float | None = None) -> Float64:
    """What `find_gauge` is to know of flows ``(n, 2, z, x)``: ``(n, 3, z)``."""
    columns = flow.shape[3]
    return row_means(flow, np.arange(columns, dtype=np.float64) - _axis(columns, center))


def find_gauge(
    rows: Float64, theta_degrees: Float64, columns: int, *, center: float | None = None,
    dilation: bool = True, terms: int | None = None, weights: Float64 | None = None,
) -> Gauge:  # fmt: skip
    """The gauge nearest to flows of which ``rows (n, 3, z)`` are `flow_rows`; else as `remove_gauge`."""
    views = len(rows)
    theta = np.radians(np.asarray(theta_degrees, dtype=np.float64))
    own = np.ones(views) if weights is None else np.asarray(weights, dtype=np.float64)
    if theta.shape != (views,) or own.shape != (views,):
        raise InputError(f"{len(theta)} angles and {len(own)} weights are not those of {views} flows")
    if not own.sum() > 0:
        raise InputError("every view has weight 0, so there is no flow to take a common motion out of")
    axis = _axis(columns, center)
    s = np.arange(columns) - axis
    reach = max(float(np.sqrt(np.mean(s**2))), 1e-12)
    mean_x, with_s, mean_z = rows.swapaxes(0, 1)
    ones = np.ones(views)
    design = np.stack([np.cos(theta), np.sin(theta), s.mean() / reach * ones])
    matrix = (design * own) @ design.T
    matrix[2, 2] = own.sum()  # the mean square of s / reach
    force = np.stack([design[0] * own @ mean_x, design[1] * own @ mean_x, own @ with_s / reach])
    wanted = 3 if dilation else 2
    found = np.zeros((4, rows.shape[2]))
    # angles that are all alike know one direction only: then the least motion is taken
    found[:wanted] = np.linalg.pinv(matrix[:wanted, :wanted], rcond=1e-9, hermitian=True) @ force[:wanted]
    found[2] /= reach
    found[3] = own @ mean_z / own.sum()
    cosine, sine, eps, vertical = found if terms is None else _smooth(found, terms)
    return Gauge(cosine, sine, vertical, eps, axis)


def _axis(columns: int, center: float | None) -> float:
    return 0.5 * (columns - 1) if center is None else center


def remove_shift_gauge(
    shifts: Float64, theta_degrees: Float64, weights: Float64 | None = None
) -> tuple[Float64, Float64]:
    """Shifts ``(n, 2)`` along x and z less ``(a cos + b sin, c)``, and a, b, c, by which the object moves."""
    flow = np.asarray(shifts, dtype=np.float32)[:, :, None, None]
    _, gauge = remove_gauge(flow, theta_degrees, dilation=False, weights=weights)
    moved = np.array([gauge.cosine[0], gauge.sine[0], gauge.vertical[0]])
    theta = np.radians(np.asarray(theta_degrees, dtype=np.float64))
    common = np.stack([np.cos(theta) * moved[0] + np.sin(theta) * moved[1], np.full(len(theta), moved[2])])
    return shifts - common.T, moved


def _smooth(functions: Float64, terms: int) -> Float64:
    """Functions ``(k, z)`` of their first cosines, which are orthogonal over the rows."""
    spectrum = scipy.fft.dct(functions, norm="ortho", axis=1)
    spectrum[:, max(1, terms) :] = 0
    return np.asarray(scipy.fft.idct(spectrum, norm="ortho", axis=1), dtype=np.float64)


@dataclass(frozen=True)
class FlowDifference:
    """Of two flows: rms in pixels as they are, and less the gauge by which they differ; by view; that
    gauge.
    """

    rms_pixels: float
    rms_without_gauge: float
    by_view: Float64
    gauge: Gauge


def compare_flows(
    found: Float32, truth: Float32, theta_degrees: Float64, *, center: float | None = None,
    dilation: bool = True, terms: int | None = None, where: NDArray[np.bool_] | None = None,
) -> FlowDifference:  # fmt: skip
    """How far two flows are apart, as far as projections can tell.

    ``where (n, z, x)`` are the pixels that count for the rms, None: all. The other arguments are as of
    `remove_gauge`.
    """
    apart = found - truth
    rest, gauge = remove_gauge(apart, theta_degrees, center=center, dilation=dilation, terms=terms)
    counted = np.ones((len(apart), *apart.shape[2:]), bool) if where is None else where
    number = np.maximum(counted.sum(axis=(1, 2)), 1)
    before, after = (
        (np.sum(part.astype(np.float64) ** 2, axis=1) * counted).sum(axis=(1, 2)) for part in (apart, rest)
    )
    total = max(int(counted.sum()), 1)
    return FlowDifference(
        float(np.sqrt(before.sum() / total)),
        float(np.sqrt(after.sum() / total)),
        np.sqrt(after / number),
        gauge,
    )
