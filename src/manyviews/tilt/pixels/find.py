"""Find the pixels of a series that do not count as others do, in one pass over the images."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.ray_coverage import ray_coverage
from manyviews.io.mrc import MrcStack
from manyviews.kernels.specks import noise_deviation
from manyviews.parallel.world import World, shares
from manyviews.tilt.pixels.borders import find_border
from manyviews.tilt.pixels.faults import Faults, filled
from manyviews.tilt.pixels.lines import LineLevels, always_bad, line_levels
from manyviews.tilt.pixels.outside import Outside, OutsideTest
from manyviews.tilt.pixels.stored import StoredWeights
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.normalise import border_level

Float32 = NDArray[np.float32]
Edges = Literal["auto", "weigh", "keep"]
_LEAST_NOISE = 0.02  # of the spread of an image
_MOST_OFF = 1.0
_MOSTLY = 0.5  # of a line in a border: its level says nothing
_ARRAYS = 4  # of the size of an image that a look holds
_MOST_BYTES = 1 << 30  # of all looks together


@dataclass(frozen=True)
class Wanted:
    """What is looked for, as the options have it; ``volume_shape`` is ``(z, y, x)`` in binned voxels."""

    edges: Edges
    detector: bool
    borders: bool
    normalise: str
    volume_shape: tuple[int, int, int]


@dataclass(frozen=True)
class Found:
    """Faults of the views that have some, and what lies beside the volume.

    ``always`` are rows and columns that are bad in a whole stack: ``{stack: (rows, columns)}``, from 0.
    ``border_pixels`` are counts, by view.
    """

    faults: dict[int, Faults]
    always: dict[int, tuple[tuple[int, ...], tuple[int, ...]]]
    border_pixels: dict[int, int]
    outside: Outside

    def weights(self, source: ImageSource, stacks: tuple[MrcStack, ...] = ()) -> StoredWeights:
        """Of the images as they are stored, with a user's own."""
        return StoredWeights(source.series.geometry, self.faults, stacks)


@dataclass(frozen=True)
class _Look:
    """What one image has shown; how far its rows, then columns, are ``off (rows + columns,)``."""

    off: NDArray[np.float64]
    faults: Faults
    border_pixels: int
    outside: OutsideTest


def find_faults(
    source: ImageSource, wanted: Wanted, world: World, tell: Callable[[int], None] | None = None
) -> Found:
    """Look at every image once; the ranks of ``world`` share them and get the same.

    ``tell`` is told how many of this rank's images were looked at.
    """
    geometry = source.series.geometry
    views = len(geometry)
    rows, columns = source.series.image_shape
    sums = np.zeros((int(geometry.series.max()) + 1, rows + columns))
    own_faults: dict[int, Faults] = {}
    border_pixels: dict[int, int] = {}
    outside = OutsideTest()
    own = range(*shares(views, world.size)[world.rank].indices(views))
    with ThreadPoolExecutor(_threads(source)) as pool:
        looks = pool.map(lambda view: _look(source, view, wanted), own)
        for done, (view, look) in enumerate(zip(own, looks, strict=True), 1):  # in their order
            sums[geometry.series[view]] += look.off
            outside.merge(look.outside)
            if look.border_pixels:
                border_pixels[view] = look.border_pixels
            if look.faults:
                own_faults[view] = look.faults
            if tell is not None:
                tell(done)
    sums = np.asarray(world.sum(torch.from_numpy(sums)).numpy())
    always = _always(sums, geometry.series, source.series.image_shape) if wanted.detector else {}
    faults = _gathered(own_faults, world)
    for view in range(views):
        lines = always.get(int(geometry.series[view]))
        if lines is not None:
            before = faults.get(view, Faults())
            faults[view] = replace(
                before,
                rows=tuple(sorted({*before.rows, *lines[0]})),
                columns=tuple(sorted({*before.columns, *lines[1]})),
            )
    counts = {view: count for part in world.gather(list(border_pixels.items())) for view, count in part}
    return Found(faults, always, counts, outside.result(world))


def _threads(source: ImageSource) -> int:
    """As many as torch uses, if their images fit."""
    image = _ARRAYS * 4 * int(np.prod(source.series.image_shape))
    return max(1, min(torch.get_num_threads(), _MOST_BYTES // image))


def _look(source: ImageSource, view: int, wanted: Wanted) -> _Look:
    """Search one image."""
    image = source.stored(view)
    noise = float(noise_deviation(image[None])[0])
    # lines and borders are told from images by the noise that these have
    noisy = noise > _LEAST_NOISE * float(image.std(dtype=np.float64))
    border = find_border(image) if wanted.borders and noisy else None
    off = np.zeros(sum(image.shape))
    faults = Faults(border=border is not None)
    if wanted.detector and noisy:
        clean = image if border is None else filled(image, 1.0 - border.astype(np.float32))
        levels = [_levels(clean, axis, noise, border) for axis in (0, 1)]
        found = [tuple(level.bad.tolist()) for level in levels]
        faults = replace(faults, rows=found[0], columns=found[1])
        # no single image says more of a line than a few others
        off = np.concatenate([np.clip(level.off, -_MOST_OFF, _MOST_OFF) for level in levels])
    outside = OutsideTest()
    if wanted.edges == "auto":
        good = filled(image, faults.weights(image)) if faults else image
        coverage = ray_coverage(
            source.series.geometry.matrices[view],
            _unbinned(wanted.volume_shape, source.bin),
            source.series.image_shape,
            source.series.pixel_size,
        )
        outside.add(good - np.float32(_level(good, wanted.normalise)), coverage, noise)
    return _Look(off, faults, 0 if border is None else int(border.sum()), outside)


def _levels(image: Float32, axis: int, noise: float, border: NDArray[np.bool_] | None) -> LineLevels:
    levels = line_levels(image, axis, noise)
    if border is None:
        return levels
    gone = border.mean(axis=1 - axis) > _MOSTLY
    return LineLevels(np.where(gone, 0.0, levels.off), levels.bad[~gone[levels.bad]])


def _unbinned(shape: tuple[int, int, int], bin: int) -> tuple[int, int, int]:
    depth, height, width = shape
    return depth * bin, height * bin, width * bin


def _level(image: Float32, normalise: str) -> float:
    """What normalisation will subtract."""
    if normalise == "background":
        return border_level(image)
    return float(image.mean(dtype=np.float64)) if normalise == "statistics" else 0.0


def _always(
    sums: NDArray[np.float64], series: NDArray[np.int64], shape: tuple[int, int]
) -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Lines that are wrong in all images of a stack."""
    found = {}
    for stack in np.unique(series):
        views = int((series == stack).sum())
        mean = sums[stack] / views
        parts = (mean[: shape[0]], shape[1]), (mean[shape[0] :], shape[0])
        own = tuple(tuple(always_bad(part, views, length).tolist()) for part, length in parts)
        if any(own):
            found[int(stack)] = (own[0], own[1])
    return found


def _gathered(faults: dict[int, Faults], world: World) -> dict[int, Faults]:
    """Faults of all ranks."""
    own = [[[view, int(f.border)], list(f.rows), list(f.columns)] for view, f in faults.items()]
    return {
        view: Faults(tuple(rows), tuple(columns), bool(border))
        for part in world.gather(own)
        for (view, border), rows, columns in part
    }
