"""A volume read for its pictures, section by section, so that it may be larger than memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.io.mrc import MrcStack

Float32 = NDArray[np.float32]

_LARGEST_MODEL = 128  # voxels along a side: enough for the pictures of a surface


@dataclass(frozen=True)
class CentralSlices:
    """The planes ``(y, x)``, ``(z, x)`` and ``(z, y)`` through a volume's centre (index ``n // 2``).

    ``voxel_angstrom`` is None where the file does not tell.
    """

    xy: Float32
    xz: Float32
    yz: Float32
    voxel_angstrom: float | None


@dataclass(frozen=True)
class Model:
    """A map, small enough to draw its surface: ``volume`` ``(D, D, D)`` and the size of its voxels."""

    volume: Float32
    voxel_angstrom: float | None

    @property
    def side_angstrom(self) -> float | None:
        """Side of the map, None where the voxels' size is not known."""
        return None if self.voxel_angstrom is None else len(self.volume) * self.voxel_angstrom

    @property
    def has_surface(self) -> bool:
        """Whether it is a cube with some density above zero."""
        return len(set(self.volume.shape)) == 1 and len(self.volume) > 1 and bool((self.volume > 0).any())


def central_slices(path: Path) -> CentralSlices:
    """The central planes of a volume; `InputError` if it is no MRC file, or a voxel there is not finite."""
    stack = MrcStack(path)
    nz, ny, nx = stack.shape
    xz = np.empty((nz, nx), np.float32)
    yz = np.empty((nz, ny), np.float32)
    xy = np.empty((ny, nx), np.float32)
    for z in range(nz):
        section = stack.read([z])[0]
        xz[z], yz[z] = section[ny // 2], section[:, nx // 2]
        if z == nz // 2:
            xy = section
    size = stack.pixel_size
    return CentralSlices(xy, xz, yz, None if size is None else float(size[0]))


def read_model(path: Path, largest: int = _LARGEST_MODEL) -> Model:
    """A map whose voxels are averaged in blocks until its side is at most ``largest``."""
    stack = MrcStack(path)
    factor = -(-max(stack.shape) // largest)
    kept = [size // factor for size in stack.shape]
    volume = np.empty(kept, np.float32)
    for z in range(kept[0]):
        slab = stack.read(np.arange(z * factor, (z + 1) * factor))[:, : kept[1] * factor, : kept[2] * factor]
        volume[z] = slab.reshape(factor, kept[1], factor, kept[2], factor).mean(axis=(0, 2, 4))
    size = stack.pixel_size
    return Model(volume, None if size is None else float(size[0]) * factor)
