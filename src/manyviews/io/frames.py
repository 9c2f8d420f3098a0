"""What a scan is made of: images of one size in a row, read when asked for, and what is known of each.

`manyviews.io.scan_formats` opens a file of any format as a `ScanFile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

LARGEST_SIDE = 1 << 17
"""Rows and columns of a detector; a file that promises more is damaged."""
MOST_FRAMES = 1 << 20
"""Frames of a scan; so many take days."""


class Frames(Protocol):
    """Images of one size ``shape = (frame, row, column)`` in some file, of numbers of the type ``dtype``."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(frame, row, column)``."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers, in the byte order of this machine."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold them."""
        ...

    def read(self, frames: Int64, rows: slice) -> NDArray[Any]:
        """Rows of the given frames ``(k, row, column)``; `InputError` where they cannot be read."""
        ...


@dataclass(frozen=True)
class Selection:
    """Some of the frames: ``numbers`` says which, in which order."""

    frames: Frames
    numbers: Int64

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(frame, row, column)``."""
        return (len(self.numbers), *self.frames.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers, in the byte order of this machine."""
        return self.frames.dtype

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold them."""
        return self.frames.files

    def read(self, frames: Int64, rows: slice) -> NDArray[Any]:
        """Rows of the given frames ``(k, row, column)``; `InputError` where they cannot be read."""
        return self.frames.read(self.numbers[frames], rows)

    def without(self, places: Int64) -> Selection:
        """The others, counted within this selection."""
        return Selection(self.frames, np.delete(self.numbers, places))


@dataclass(frozen=True)
class ScanFile:
    """What a file, or a folder of files, says of a scan.

    Attributes
    ----------
    path, kind
        What was opened, and its format in words.
    projections
        In the order of acquisition, which is the order in the file.
    theta_degrees
        ``(projection,)`` in degrees, or more where a list of angles is longer than the scan; None where the
        file does not say. ``theta_source`` is where they are from, or why there are none.
    flats, darks
        Images of the beam without the specimen, and of no beam; None where there are none.
    is_return
        ``(projection,)`` whether a view was taken again at the end, to see what had moved.
    pixel_size_nm, pixel_size_source
        In nanometres; None where the file does not say.
    axis_angle_degrees
        Direction of the rotation axis in the image, counter-clockwise from +y; None where the file does not
        say.
    is_transmission
        Whether the file says of its format that it holds counts, of which the logarithm is taken.
    notes, warnings
        Sentences: what was taken from where; what the user should look at.
    """

    path: Path
    kind: str
    projections: Selection
    theta_degrees: Float64 | None
    theta_source: str
    flats: Selection | None = None
    darks: Selection | None = None
    is_return: NDArray[np.bool_] | None = None
    pixel_size_nm: float | None = None
    pixel_size_source: str = ""
    axis_angle_degrees: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that hold it."""
        parts = (self.projections, self.flats, self.darks)
        return tuple(dict.fromkeys(path for part in parts if part is not None for path in part.files))


def everything(frames: Frames) -> Selection:
    """All frames in their order."""
    return Selection(frames, np.arange(frames.shape[0]))


def check_shape(
    shape: Sequence[int], path: Path, where: str, what: str = "the images"
) -> tuple[int, int, int]:
    """``(frame, row, column)``; `InputError` if it is not that, or is of a size that no scan has."""
    if len(shape) != 3:
        raise InputError(
            f"{what} have {len(shape)} axes, not 3 (view, row, column)",
            path=path,
            where=where,
            fix="give a scan of images, one a view",
        )
    frames, rows, columns = (int(side) for side in shape)
    if not (0 < frames <= MOST_FRAMES and 0 < rows <= LARGEST_SIDE and 0 < columns <= LARGEST_SIDE):
        raise InputError(
            f"{frames} images of {columns} x {rows} pixels are promised, which is no scan",
            path=path,
            where=where,
            fix="copy the file again, or check what wrote it",
        )
    return frames, rows, columns
