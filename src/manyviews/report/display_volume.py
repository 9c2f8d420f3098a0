"""A volume as the page carries it: few enough voxels, 256 grey levels, so that slices and surfaces move."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.io.mrc import MrcStack
from manyviews.report.surface import level_by_mass

Float32 = NDArray[np.float32]

_MOST_VOXELS = 1_500_000
_RANGE = (0.02, 99.98)  # percentiles of the grey levels that the page knows
_CONTRAST = (0.5, 99.5)  # and of those that it shows at first
_SAMPLES = 500_000


@dataclass(frozen=True)
class DisplayVolume:
    """A volume in grey levels from 0 to 255.

    Attributes
    ----------
    levels
        ``(z, y, x)``, means of blocks of voxels.
    low, high
        What 0 and 255 stand for; what is beyond is cut off.
    contrast
        Levels shown black and white at first.
    surface_level
        Level of its surface at first; that above which voxels hold 70 % of all density above zero.
    shape
        Of the volume in its file.
    block
        Side of a block in voxels of the file.
    voxel_angstrom
        Of the file; None where it does not tell.
    """

    levels: NDArray[np.uint8]
    low: float
    high: float
    contrast: tuple[int, int]
    surface_level: int
    shape: tuple[int, int, int]
    block: int
    voxel_angstrom: float | None

    @property
    def columns(self) -> int:
        """Sections side by side in `png`."""
        return math.ceil(math.sqrt(len(self.levels)))

    def png(self) -> bytes:
        """All sections in one grey picture, from the left to the right and row below row, y downwards."""
        from PIL import Image

        depth, height, width = self.levels.shape
        rows = -(-depth // self.columns)
        sheet = np.zeros((rows, height, self.columns, width), np.uint8)
        for z in range(depth):
            sheet[z // self.columns, :, z % self.columns] = self.levels[z]
        buffer = io.BytesIO()
        Image.fromarray(sheet.reshape(rows * height, self.columns * width)).save(buffer, format="png")
        return buffer.getvalue()


def read_display_volume(path: Path, most_voxels: int = _MOST_VOXELS) -> DisplayVolume:
    """A volume file, read a block of sections at a time; `InputError` if it is no MRC file or not finite."""
    stack = MrcStack(path)
    block = 1
    while math.prod(max(1, side // block) for side in stack.shape) > most_voxels:
        block += 1
    depth, height, width = (max(1, side // block) for side in stack.shape)
    along = [min(block, side) for side in stack.shape]  # a slab may be thinner than a block is wide
    mean = np.empty((depth, height, width), np.float32)
    for z in range(depth):
        sections = stack.read(np.arange(z * along[0], (z + 1) * along[0]))
        kept = sections[:, : height * along[1], : width * along[2]]
        mean[z] = kept.reshape(along[0], height, along[1], width, along[2]).mean(axis=(0, 2, 4))
    size = stack.pixel_size
    return _with_levels(mean, stack.shape, block, None if size is None else float(size[0]))


def _with_levels(
    mean: Float32, shape: tuple[int, int, int], block: int, voxel_angstrom: float | None
) -> DisplayVolume:
    sample = mean.ravel()[:: max(1, mean.size // _SAMPLES)]
    low, black, white, high = np.percentile(sample, (_RANGE[0], *_CONTRAST, _RANGE[1])).astype(float).tolist()
    if high <= low:
        low, high = low - 0.5, low + 0.5
        black, white = low, high
    scale = 255 / (high - low)

    def level(value: float) -> int:
        return int(np.clip(round((value - low) * scale), 0, 255))

    levels = np.clip((mean - np.float32(low)) * np.float32(scale), 0, 255).round().astype(np.uint8)
    surface = level_by_mass(sample)
    return DisplayVolume(
        levels, low, high, (level(black), max(level(white), level(black) + 1)),
        min(max(level(surface), 1), 254), shape, block, voxel_angstrom,
    )  # fmt: skip
