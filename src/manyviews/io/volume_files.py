"""One volume a file, MRC or EM: its size, its voxels, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.em_volume import read_em_header
from manyviews.io.mrc_header import MrcHeader, read_header

EM_SUFFIX = ".em"
_PIXEL_TOLERANCE = 1e-2  # headers hold lengths that others have rounded


@dataclass(frozen=True)
class VolumeFile:
    """A volume that is there: its ``shape`` ``(z, y, x)`` and ``pixel_size`` in angstrom, None where the
    header does not tell one, or tells three.
    """

    path: Path
    shape: tuple[int, int, int]
    pixel_size: float | None
    warnings: tuple[str, ...] = ()

    def map_voxels(self) -> NDArray[Any]:
        """The voxels ``(z, y, x)`` in the file's own type, mapped and not read yet."""
        if self.path.suffix.lower() == EM_SUFFIX:
            return read_em_header(self.path).map_voxels()
        return read_header(self.path).map_pixels()


def read_volume(path: Path) -> tuple[NDArray[np.float32], VolumeFile]:
    """All voxels, float32 ``(z, y, x)`` as they are (see `voxel_fault`), and the header."""
    header = volume_header(path)
    with np.errstate(over="ignore", invalid="ignore"):  # of doubles
        return np.array(header.map_voxels(), dtype=np.float32), header


def volume_header(path: Path) -> VolumeFile:
    """The header of a volume, EM by its suffix, else MRC; `InputError` if it cannot be read."""
    path = Path(path)
    if path.suffix.lower() == EM_SUFFIX:
        return VolumeFile(path, read_em_header(path).shape, None)
    header = read_header(path)
    return VolumeFile(path, header.shape, _one_pixel_size(header), header.warnings)


def _one_pixel_size(header: MrcHeader) -> float | None:
    if header.pixel_size is None or max(header.pixel_size) > (1 + _PIXEL_TOLERANCE) * min(header.pixel_size):
        return None
    return sum(header.pixel_size) / 3 if min(header.pixel_size) > 0 else None


def voxel_fault(volume: NDArray[np.float32]) -> str:
    """What is wrong with voxels, in a clause; empty where nothing is."""
    if not np.isfinite(volume).all():
        return f"{int(np.count_nonzero(~np.isfinite(volume)))} voxels are NaN or infinite"
    if volume.size and volume.min() == volume.max():
        return "is empty" if volume.flat[0] == 0 else f"is constant ({volume.flat[0]:g} everywhere)"
    return ""


@dataclass(frozen=True)
class VolumeSurvey:
    """What the headers of many volumes say.

    Attributes
    ----------
    box
        The side that most of them have, in voxels; 0 where none can be read.
    faults
        For each volume what is wrong with it in a sentence, empty where nothing is.
    pixel_sizes
        What the headers tell, each value once, rounded to six digits.
    """

    box: int
    faults: tuple[str, ...]
    pixel_sizes: tuple[float, ...]

    @property
    def good(self) -> NDArray[np.int64]:
        """Numbers of the volumes without a fault, from 0."""
        return np.array([row for row, fault in enumerate(self.faults) if not fault], dtype=np.int64)


def survey_volumes(paths: Sequence[Path]) -> VolumeSurvey:
    """Read the headers of all volumes: which are cubes of the size that most have. Nothing is raised."""
    found: list[VolumeFile | InputError] = []
    for path in paths:
        try:
            found.append(volume_header(path))
        except InputError as error:
            found.append(error)
    files = [one for one in found if isinstance(one, VolumeFile)]
    sides = [file.shape[0] for file in files if len(set(file.shape)) == 1]
    box = max(sorted(set(sides)), key=sides.count, default=0)
    faults = tuple(
        str(one) if isinstance(one, InputError) else _size_fault(one, box, sides.count(box)) for one in found
    )
    pixel_sizes = sorted({round(file.pixel_size, 6) for file in files if file.pixel_size is not None})
    return VolumeSurvey(box, faults, tuple(pixel_sizes))


def _size_fault(file: VolumeFile, box: int, count: int) -> str:
    if file.shape == (box,) * 3:
        return ""
    z, y, x = file.shape
    if not box or len(set(file.shape)) > 1:
        what = f"is {x} x {y} x {z} voxels, not a cube"
    else:
        what = f"is a cube of {x} voxels but {count} others are of {box}"
    return str(InputError(what, path=file.path, fix="cut or pad it to the size of the others"))
