"""How much of a motion comes back: a known one is put into given projections, and looked for again.

A run that ends well may have fitted noise, or have missed what moved. Here the data of a run are deformed
once more by a motion that is known, of a kind that the method can describe, and solved again. What the flow
changed by is compared with what was put in, as far as projections tell (`manyviews.nano.flow.gauge`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manyviews.errors import InputError
from manyviews.kernels.warp_cpu import pull_back
from manyviews.nano.flow.gauge import remove_gauge
from manyviews.random import Stream, generator
from manyviews.simulate.deformation import FlowPattern, Kept, growth, inverse_flow
from manyviews.simulate.view_motion import draw_motion

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Solve = Callable[[Float32], Float32]
Motion = Literal["smooth", "drift", "jitter"]

_SEEN = 0.1  # of the strongest slopes, above which a pixel tells of motion
_STRONGEST = 99.0
_BLUR_PIXELS = 2.0
_LEAST_DETERMINANT = 0.1  # that a flow may leave of an area
_LEAST_RMS = 1e-3


@dataclass(frozen=True, eq=False)
class Injected:
    """Projections that were deformed once more.

    ``projections (view, z, x)``; ``flow (view, 2, z, x)`` in pixels is what was put in, of the model's kind:
    where mass is kept it says where mass goes, else where is read.
    """

    projections: Float32
    flow: Float32


@dataclass(frozen=True, eq=False)
class Returned:
    """What came back of a motion that was put in, less what no projection tells.

    Attributes
    ----------
    share
        Part of its mean square that was found: 1 is all, 0 as much as nothing, below 0 something else.
    slope
        Length of what was found along it, in that of what was put in: below 1 it is found too short.
    injected_rms_pixels, left_rms_pixels
        Of what was put in, and of what is left of it, over the pixels that tell of motion.
    injected_by_view, left_by_view
        ``(view,)`` the same for each view.
    """

    share: float
    slope: float
    injected_rms_pixels: float
    left_rms_pixels: float
    injected_by_view: Float64
    left_by_view: Float64

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"share of the injected motion that came back: {100 * self.share:.0f} %",
            f"its length: {self.slope:.2f} of what was injected",
            f"injected: {self.injected_rms_pixels:.3g} pixels rms; left: {self.left_rms_pixels:.3g}",
        ]


def inject(
    projections: Float32, amount: float, *, motion: Motion = "smooth", kept: Kept = "move", seed: int = 0,
    control_points: int = 3,
) -> Injected:  # fmt: skip
    """Deform projections ``(view, z, x)`` by up to ``amount`` pixels, in the order of acquisition.

    ``smooth``: a smooth flow that grows in time as in `manyviews.simulate.deformation`; ``drift`` and
    ``jitter``: shifts of whole views, smooth in time or each its own. `InputError` if the flow would fold
    the images.
    """
    views, shape = len(projections), projections.shape[1:]
    if motion == "smooth":
        rng = generator(seed, Stream.INJECTED_MOTION)
        pattern = FlowPattern.random(rng, (shape[0], shape[1]), control_points)
        if pattern.determinant(amount).min() < _LEAST_DETERMINANT:
            raise InputError(
                f"a smooth motion of {amount:g} pixels folds images of {shape}", fix="inject less"
            )
        return _deformed(projections, pattern, amount * growth(np.linspace(0, 1, views)), kept)
    drawn = {motion: amount}
    shift = draw_motion(
        views, drift=drawn.get("drift", 0.0), jitter=drawn.get("jitter", 0.0), seed=seed
    ).shift
    flow = np.broadcast_to(shift[:, :, None, None], (views, 2, *shape)).astype(np.float32)
    return Injected(pull_back(projections, flow), -flow if kept == "mass" else flow)


def _deformed(projections: Float32, pattern: FlowPattern, amounts: Float64, kept: Kept) -> Injected:
    flow = np.empty((len(projections), 2, *projections.shape[1:]), np.float32)
    deformed = np.empty_like(projections)
    for view, amount in enumerate(amounts):
        deformed[view] = pattern.deform(projections[view], float(amount), kept)
        own = amount * pattern.flow
        flow[view] = inverse_flow(own) if kept == "mass" else own
    return Injected(deformed, flow)


def composed(first: Float32, then: Float32) -> Float32:
    """One flow for reading along ``then`` what was read along ``first``: ``then(y) + first(y + then(y))``.

    Both ``(view, 2, z, x)``. Where flows say where mass goes, the one that acts first is ``then``.
    """
    moved = [pull_back(np.ascontiguousarray(first[:, part]), then) for part in range(2)]
    return np.asarray(np.stack(moved, axis=1) + then, dtype=np.float32)


def telling_pixels(projections: Float32) -> NDArray[np.bool_]:
    """``(view, z, x)``: where images have slopes, without which no motion is seen."""
    slopes = np.empty(projections.shape, np.float32)
    for view, image in enumerate(projections):
        smooth = ndimage.gaussian_filter(image.astype(np.float64), _BLUR_PIXELS)
        slopes[view] = np.hypot(*np.gradient(smooth))
    return np.asarray(slopes > _SEEN * np.percentile(slopes, _STRONGEST))


def returned(
    before: Float32, after: Float32, injected: Injected, theta_degrees: Float64, *,
    center: float | None = None, kept: Kept = "move", where: NDArray[np.bool_] | None = None,
) -> Returned:  # fmt: skip
    """Compare flows ``(view, 2, z, x)`` found ``before`` and ``after`` a motion was put in.

    ``where (view, z, x)`` are the pixels that count; None: those that tell of motion.

    Raises
    ------
    InputError
        If nothing is left of what was put in when what no projection tells is taken out, or no pixel counts.
    """
    both = (injected.flow, before) if kept == "mass" else (before, injected.flow)
    wanted, _ = remove_gauge(composed(*both) - before, theta_degrees, center=center)
    found, _ = remove_gauge(after - before, theta_degrees, center=center)
    counted = telling_pixels(injected.projections) if where is None else where
    number = counted.sum(axis=(1, 2))
    squares, products, rest = (
        np.einsum("vczx,vczx,vzx->v", one, other, counted, dtype=np.float64)
        for one, other in ((wanted, wanted), (found, wanted), (found - wanted, found - wanted))
    )
    total = int(number.sum())
    if not total:
        raise InputError("no pixel tells of motion", fix="check that the projections show the specimen")
    rms = math.sqrt(squares.sum() / total)
    if rms < _LEAST_RMS:
        raise InputError(
            f"of the motion that was injected {rms:.1g} pixels are left that projections can tell",
            fix="inject more, or a motion of another kind",
        )
    each = np.maximum(number, 1)
    return Returned(
        share=float(1 - rest.sum() / squares.sum()),
        slope=float(products.sum() / squares.sum()),
        injected_rms_pixels=rms,
        left_rms_pixels=math.sqrt(rest.sum() / total),
        injected_by_view=np.sqrt(squares / each),
        left_by_view=np.sqrt(rest / each),
    )


def measure_return(
    projections: Float32, theta_degrees: Float64, solve: Solve, amount: float, *,
    before: Float32 | None = None, center: float | None = None, motion: Motion = "smooth",
    kept: Kept = "move", seed: int = 0,
) -> Returned:  # fmt: skip
    """Inject a motion, solve, and compare.

    ``solve`` gives the flow ``(view, 2, z, x)`` of projections; ``before`` is that of those given, where it
    is known already. Other arguments and `InputError` as of `inject` and `returned`.
    """
    injected = inject(projections, amount, motion=motion, kept=kept, seed=seed)
    first = solve(projections) if before is None else before
    after = solve(injected.projections)
    return returned(first, after, injected, theta_degrees, center=center, kept=kept)
