"""Whether a specimen goes on beside the volume: what images show where their rays miss it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.parallel.world import World

Float32 = NDArray[np.float32]

_BLOCK = 4  # pixels a side: their means have less noise, and find room in narrow bands
_MISSES, _INSIDE = 0.02, 0.99  # coverage of rays that miss the volume, and of rays within
_FEWEST_BLOCKS = 50
_EMPTY = 0.02  # power beside the volume over that within, for a specimen that ends there


@dataclass(frozen=True)
class Outside:
    """Mean square of means of blocks of pixels beside the volume, over that of blocks within; how many."""

    power_ratio: float
    blocks: int

    @property
    def has_matter(self) -> bool:
        """Whether there is anything beside the volume."""
        return self.blocks >= _FEWEST_BLOCKS and self.power_ratio > _EMPTY

    @property
    def is_empty(self) -> bool:
        """Whether it is known that there is nothing."""
        return self.blocks >= _FEWEST_BLOCKS and self.power_ratio <= _EMPTY


@dataclass
class OutsideTest:
    """Sums of the powers of blocks, image by image; ``noise`` is that of a pixel."""

    beside: float = 0.0
    beside_blocks: float = 0.0
    within: float = 0.0
    within_blocks: float = 0.0

    def add(self, image: Float32, coverage: Float32, noise: float) -> None:
        """Count an image ``(y, x)`` and the coverage of its rays."""
        if min(image.shape) < _BLOCK:
            return
        means = _over_blocks(image, np.add) / np.float32(_BLOCK**2)
        least, most = _over_blocks(coverage, np.minimum), _over_blocks(coverage, np.maximum)
        power = np.square(means.astype(np.float64)) - noise**2 / _BLOCK**2
        self.beside += float(power[most < _MISSES].sum())
        self.beside_blocks += int((most < _MISSES).sum())
        self.within += float(power[least > _INSIDE].sum())
        self.within_blocks += int((least > _INSIDE).sum())

    def merge(self, other: OutsideTest) -> None:
        """Count the images of another one too."""
        self.beside += other.beside
        self.beside_blocks += other.beside_blocks
        self.within += other.within
        self.within_blocks += other.within_blocks

    def result(self, world: World) -> Outside:
        """Of the images of all ranks; all make this call."""
        parts = world.gather([self.beside, self.beside_blocks, self.within, self.within_blocks])
        beside, beside_blocks, within, within_blocks = (sum(values) for values in zip(*parts, strict=True))
        mean = within / within_blocks if within_blocks else 0.0
        ratio = max(beside / beside_blocks, 0.0) / mean if beside_blocks and mean > 0 else 0.0
        return Outside(ratio, int(beside_blocks))


def _over_blocks(values: Float32, together: np.ufunc) -> Float32:
    """Sum, or least or most, of all whole blocks of pixels ``(y, x)``."""
    rows, columns = (side // _BLOCK for side in values.shape)
    whole = values[: rows * _BLOCK, : columns * _BLOCK]
    found = whole[0::_BLOCK].copy()
    for row in range(1, _BLOCK):
        together(found, whole[row::_BLOCK], out=found)
    blocks = found[:, 0::_BLOCK].copy()
    for column in range(1, _BLOCK):
        together(blocks, found[:, column::_BLOCK], out=blocks)
    return blocks
