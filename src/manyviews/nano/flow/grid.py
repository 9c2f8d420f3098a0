"""A flow of few numbers: cubic B-splines on a grid, stiff in the image and over time, by Gauss-Newton.

Deformations of a sample are smooth, so a grid of 11 x 11 knots says what 256 x 256 vectors would, and
noise is averaged over all pixels about a knot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from manyviews.kernels.flow_grid_cpu import (
    Bases,
    bin_images,
    expand_grids,
    grid_steps,
    make_basis,
    project_grids,
)
from manyviews.nano.room import Allocate, blocks, in_memory
from manyviews.nano.scan.binning import binned

Float32 = NDArray[np.float32]

_LARGEST_BIN = 4
_COARSE_SPACING, _FEWEST_PIXELS = 8.0, 16  # images with knots so far apart may be binned for a step
_PIXELS_PER_KNOT = 32  # as many are enough; with more the images are binned


@dataclass(frozen=True)
class Grid:
    """Knots half a window apart.

    Attributes
    ----------
    steps
        Of Gauss-Newton; all but the last on images binned by two.
    finest_spacing
        Of knots, pixels, however small the window.
    bending
        Stiffness in the image, as a part of the mean square slope of the images at a knot.
    holding
        The same for staying near the mean of the neighbours in time, each less its own mean shift: whole
        images may jump. 0: views are independent.
    damping
        The same for a change at all: where images tell nothing, nothing moves. With little of it, differences
        of rounding move knots in the air by a hundredth of a pixel; with much, a step goes less far.
    time_width
        Standard deviation of that mean, in views.
    of_all_views
        From what is known of the views at hand to that of all views, and where those at hand are among them;
        None: there are no others.
    allocate
        Room for flows and binned images.
    """

    steps: int = 2
    finest_spacing: float = 16.0
    bending: float = 1e-3
    holding: float = 0.0
    damping: float = 1e-4
    time_width: float = 4.0
    of_all_views: Callable[[Float32], tuple[Float32, slice]] | None = None
    allocate: Allocate = in_memory

    def find(self, data: Float32, model: Float32, flow: Float32, window: float) -> Float32:
        """See `FlowEngine`; views must be in the order of acquisition where ``holding`` is above 0."""
        spacing = max(self.finest_spacing, window / 2)
        fewest = min(data.shape[1:])  # of two rows, binned by four, none would be left
        factor = min(_LARGEST_BIN, fewest, max(1, int(spacing // _PIXELS_PER_KNOT)))
        shape, apart = tuple(length // factor for length in data.shape[1:]), spacing / factor
        full = _bases(shape, shape, apart, 1)
        small_data, small_model = self._small(data, factor), self._small(model, factor)
        knots = _knots(flow, factor, full)
        before, last = knots, self.steps - 1
        binnable = min(shape) >= _FEWEST_PIXELS and not any(length % 2 for length in shape)
        if last > 0 and apart >= _COARSE_SPACING and binnable:
            # the steps before the last one need not see the finest detail
            coarse = self._small(small_data, 2), self._small(small_model, 2)
            knots = 2 * self._stepped(*coarse, knots / np.float32(2), apart / 2, last)
            knots = self._stepped(small_data, small_model, knots, apart, 1)
        else:
            knots = self._stepped(small_data, small_model, knots, apart, self.steps)
        if factor == 1:
            return expand_grids(knots, full, out=self.allocate(flow.shape))
        # what is finer than this grid, from an earlier call, is kept
        fine, found = _bases(flow.shape[2:], shape, apart, 1 / factor), self.allocate(flow.shape)
        for part in blocks(len(flow), flow[0].size):
            changed = expand_grids(knots[part] - before[part], fine, out=found[part])
            changed *= np.float32(factor)
            changed += flow[part]
        return found

    def _stepped(self, data: Float32, model: Float32, knots: Float32, apart: float, steps: int) -> Float32:
        """Knots ``(n, 2, K, L)``, so many pixels of these images apart, after steps of Gauss-Newton."""
        shape = data.shape[1:]
        full = _bases(shape, shape, apart, 1)
        block = max(2, round(apart / 4))
        pooled = _bases(tuple(-(-length // block) for length in shape), shape, apart, block)
        weights = (self.bending, self.holding, self.damping)
        for _ in range(steps):
            middle = self._middle(knots) if self.holding > 0 else knots
            knots = grid_steps(data, model, knots, middle, full, pooled, block, weights)
        return knots

    def _small(self, images: Float32, factor: int) -> Float32:
        """Images ``(n, z, x)``, binned."""
        if factor == 1:
            return images
        found = self.allocate((len(images), *(length // factor for length in images.shape[1:])))
        bin_images(images, factor, found)
        return found

    def _middle(self, knots: Float32) -> Float32:
        whole, here = (knots, slice(None)) if self.of_all_views is None else self.of_all_views(knots)
        own = whole.mean(axis=(2, 3), keepdims=True)
        smooth = gaussian_filter1d(whole - own, self.time_width, axis=0, mode="nearest")
        return np.asarray(smooth + own, dtype=np.float32)[here]


def _knots(flow: Float32, factor: int, bases: Bases) -> Float32:
    """Knots ``(n, 2, K, L)`` of binned pixels, nearest to flows."""
    if factor == 1:
        return project_grids(flow, bases)
    parts = blocks(len(flow), flow[0].size)
    return np.concatenate(
        [project_grids(_binned_flow(flow[part], factor) / np.float32(factor), bases) for part in parts]
    )


def _bases(places: tuple[int, ...], shape: tuple[int, ...], spacing: float, step: float) -> Bases:
    """Splines at so many places ``step`` pixels apart, of images of a shape.

    One place for all of a short axis is its middle: elsewhere a step's matrix would not see what its gradient
    does.
    """
    z, x = (
        make_basis(np.arange(count, dtype=np.float64) * step + 0.5 * (min(step, length) - 1), length, spacing)
        for count, length in zip(places, shape, strict=True)
    )
    return z, x


def _binned_flow(flow: Float32, factor: int) -> Float32:
    """Flows ``(n, 2, z, x)``, binned, in pixels as before."""
    found = binned(flow.reshape(-1, *flow.shape[2:]), factor)
    return np.ascontiguousarray(found.reshape(*flow.shape[:2], *found.shape[1:]), dtype=np.float32)
