"""Reading and writing of MRC files: memory-mapped sections in, whole files or slabs out.

The header and its checks are in `manyviews.io.mrc_header`.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.io.atomic import atomic_path
from manyviews.io.faults import explain_write_errors
from manyviews.io.mrc_header import HEADER_BYTES, LABEL_BYTES, LABELS, MODES, MrcHeader, read_header
from manyviews.io.shared_file import (
    Span,
    require_cover,
    reserve,
    together,
    write_at,
    writes_span,
)
from manyviews.parallel.world import SingleWorld, World

__all__ = [
    "HEADER_BYTES",
    "MODES",
    "MrcHeader",
    "MrcStack",
    "MrcWriter",
    "read_header",
    "read_mrc",
    "write_mrc",
    "write_mrc_slabs",
]


class MrcStack:
    """Sections of an MRC file, read when asked for.

    ``shape`` is ``(sections, rows, columns)``, ``pixel_size`` is ``(x, y, z)`` in angstrom or None, ``files``
    are those that hold it; `InputError` as of `read_header`.
    """

    def __init__(self, path: str | PathLike[str], header: MrcHeader | None = None) -> None:
        self.path = Path(path)
        self.header = read_header(self.path) if header is None else header
        self.shape = self.header.shape
        self.pixel_size = self.header.pixel_size
        self.files: tuple[Path, ...] = (self.path,)

    @property
    def stored_bytes(self) -> int:
        """What it takes on the disk, decompressed."""
        if self.header.compression:
            return self.header.needed_bytes
        return sum(path.stat().st_size for path in self.files)

    def read(self, sections: ArrayLike | None = None) -> NDArray[np.float32]:
        """The given sections (all by default) as float32 ``(n, rows, columns)``.

        `InputError` if a section does not exist or holds NaN or infinity.
        """
        wanted = (
            np.arange(self.shape[0]) if sections is None else np.atleast_1d(np.asarray(sections, np.int64))
        )
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.shape[0]):
            bad = wanted[(wanted < 0) | (wanted >= self.shape[0])][0]
            raise InputError(f"section {bad} was asked for but there are {self.shape[0]}", path=self.path)
        images = np.empty((len(wanted), *self.shape[1:]), dtype=np.float32)
        for image, section, stored in zip(images, wanted.tolist(), self._stored(wanted), strict=True):
            image[...] = stored
            if stored.dtype.kind == "f" and not np.isfinite(image).all():
                bad_pixels = int(np.count_nonzero(~np.isfinite(image)))
                raise InputError(
                    f"{bad_pixels} pixels are NaN or infinite",
                    path=self.file_of(section),
                    where=f"section {section + 1}",
                    fix="replace them or exclude the view",
                )
        return images

    def file_of(self, section: int) -> Path:
        """The file that holds this section."""
        return self.path

    def _stored(self, sections: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """The sections as they lie in the file."""
        pixels = self.header.map_pixels()
        return (pixels[section] for section in sections.tolist())


def read_mrc(path: str | PathLike[str]) -> tuple[NDArray[np.float32], MrcHeader]:
    """The whole file as float32 ``(sections, rows, columns)`` with its header; errors as in `MrcStack`."""
    stack = MrcStack(path)
    return stack.read(), stack.header


def _mode_of(dtype: np.dtype[Any]) -> int:
    """MRC mode that stores ``dtype``: float16, int16, uint16 as they are, bytes widened, else float32."""
    modes = {"float16": 12, "int8": 1, "uint8": 6, "int16": 1, "uint16": 6}
    return modes.get(dtype.name, 2)


def _triple(pixel_size: float | Sequence[float]) -> tuple[float, float, float]:
    values = np.asarray(pixel_size, dtype=np.float64)
    values = np.full(3, values) if values.ndim == 0 else values
    if values.shape != (3,) or not all(math.isfinite(value) and value > 0 for value in values):
        raise InputError(
            f"the pixel size {pixel_size} is not a positive number", fix="give angstrom per pixel"
        )
    return float(values[0]), float(values[1]), float(values[2])


@dataclass
class _Statistics:
    """Running minimum, maximum, mean and standard deviation, merged slab by slab (Chan et al. 1979)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf

    @classmethod
    def of(cls, values: NDArray[Any]) -> _Statistics:
        count, mean = values.size, float(values.mean(dtype=np.float64))
        squares = float(values.var(dtype=np.float64)) * count
        return cls(count, mean, squares, float(values.min()), float(values.max()))

    def add(self, values: NDArray[Any]) -> None:
        self.merge(_Statistics.of(values))

    def merge(self, other: _Statistics) -> None:
        difference, total = other.mean - self.mean, self.count + other.count
        self.squares += other.squares + difference**2 * self.count * other.count / total
        self.mean += difference * other.count / total
        self.count = total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)

    @property
    def deviation(self) -> float:
        return math.sqrt(self.squares / self.count)


def _header_bytes(
    shape: tuple[int, int, int],
    mode: int,
    pixel_size: tuple[float, float, float],
    statistics: _Statistics,
    *,
    labels: Sequence[str],
    is_volume: bool,
) -> bytes:
    """A little-endian MRC2014 header; origin 0, one unit cell, ISPG 1 for a volume and 0 for images."""
    sections, rows, columns = shape
    raw = bytearray(HEADER_BYTES)
    struct.pack_into("<10i", raw, 0, columns, rows, sections, mode, 0, 0, 0, columns, rows, sections)
    lengths = (n * size for n, size in zip((columns, rows, sections), pixel_size, strict=True))
    struct.pack_into("<6f", raw, 40, *lengths, 90.0, 90.0, 90.0)
    struct.pack_into("<3i", raw, 64, 1, 2, 3)
    struct.pack_into("<3f", raw, 76, statistics.minimum, statistics.maximum, statistics.mean)
    struct.pack_into("<2i", raw, 88, int(is_volume), 0)
    struct.pack_into("<i", raw, 108, 20141)
    raw[208:216] = b"MAP " + bytes((0x44, 0x44, 0, 0))
    struct.pack_into("<f", raw, 216, statistics.deviation)
    kept = list(labels)[:LABELS]
    struct.pack_into("<i", raw, 220, len(kept))
    for index, label in enumerate(kept):
        text = label.encode("ascii", "replace")[:LABEL_BYTES].ljust(LABEL_BYTES)
        raw[224 + index * LABEL_BYTES : 224 + (index + 1) * LABEL_BYTES] = text
    return bytes(raw)


def _as_stored(path: Path, sections: NDArray[Any], mode: int, first: int) -> NDArray[Any]:
    """Sections from number ``first`` on as their bytes lie in a file; NaN and infinity are refused."""
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused below
        stored = np.ascontiguousarray(sections, dtype=np.dtype("<" + MODES[mode]))
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise InputError(
            f"sections {first + 1} to {first + len(sections)} hold NaN, infinity or numbers"
            f" too large for {stored.dtype.name}",
            path=path,
        )
    return stored


class MrcWriter:
    """Write an MRC file section by section with little memory; it appears when complete or not at all.

    Use as a context manager; call `write` with consecutive slabs ``(n, rows, columns)``.

    Parameters
    ----------
    shape
        ``(sections, rows, columns)`` of the whole file.
    pixel_size
        Angstrom, one number or ``(x, y, z)``.
    dtype
        numpy type of the pixels: float16, int16, uint16 (int8 and uint8 are widened), else float32.
    is_volume
        True: ISPG 1, a volume; False: ISPG 0, a stack of images.

    Raises
    ------
    InputError
        If the file exists already, cannot be written, or a slab does not fit or holds NaN or infinity.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        shape: tuple[int, int, int],
        pixel_size: float | Sequence[float],
        *,
        overwrite: bool = False,
        labels: Sequence[str] = (),
        dtype: Any = np.float32,
        is_volume: bool = True,
    ) -> None:
        self.path = Path(path)
        self.shape = shape
        self._pixel_size = _triple(pixel_size)
        self._mode = _mode_of(np.dtype(dtype))
        self._labels = tuple(labels)
        self._is_volume = is_volume
        self._overwrite = overwrite
        self._statistics = _Statistics()
        self._written = 0
        self._exits = ExitStack()

    def __enter__(self) -> MrcWriter:
        with ExitStack() as exits:
            temporary = exits.enter_context(atomic_path(self.path, overwrite=self._overwrite))
            self._handle = exits.enter_context(open(temporary, "wb"))
            self._handle.seek(HEADER_BYTES)
            self._exits = exits.pop_all()
        return self

    def write(self, slab: ArrayLike) -> None:
        """Append sections ``(n, rows, columns)``."""
        array = np.asarray(slab)
        if array.ndim != 3 or array.shape[1:] != self.shape[1:]:
            raise InputError(
                f"a slab of shape {array.shape} does not fit {self.shape[1]} x {self.shape[2]} images",
                path=self.path,
            )
        if self._written + len(array) > self.shape[0]:
            raise InputError(f"more than {self.shape[0]} sections were written", path=self.path)
        stored = _as_stored(self.path, array, self._mode, self._written)
        if stored.size:
            self._statistics.add(stored)
            self._handle.write(stored.data)
        self._written += len(array)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._exits.__exit__(kind, error, trace)
            return
        with self._exits:
            if self._written != self.shape[0]:
                raise InputError(f"{self._written} of {self.shape[0]} sections were written", path=self.path)
            self._handle.seek(0)
            self._handle.write(
                _header_bytes(
                    self.shape,
                    self._mode,
                    self._pixel_size,
                    self._statistics,
                    labels=self._labels,
                    is_volume=self._is_volume,
                )
            )


def write_mrc(
    path: str | PathLike[str],
    array: ArrayLike,
    pixel_size: float | Sequence[float],
    *,
    overwrite: bool = False,
    labels: Sequence[str] = (),
    is_volume: bool = True,
) -> None:
    """Write an array ``(sections, rows, columns)``; a 2-D array becomes one section.

    float16, int16 and uint16 keep their type (modes 12, 1, 6), int8 and uint8 are widened, everything else
    becomes float32 (mode 2). ``pixel_size`` is in angstrom, one number or ``(x, y, z)``; `InputError` as of
    `MrcWriter`.
    """
    data = np.asarray(array)
    data = data[np.newaxis] if data.ndim == 2 else data
    if data.ndim != 3 or 0 in data.shape:
        raise InputError(f"an array of shape {data.shape} cannot be an MRC file", path=path)
    with MrcWriter(
        path,
        (data.shape[0], data.shape[1], data.shape[2]),
        pixel_size,
        overwrite=overwrite,
        labels=labels,
        dtype=data.dtype,
        is_volume=is_volume,
    ) as writer:
        for section in range(len(data)):
            writer.write(data[section : section + 1])


def write_mrc_slabs(
    path: Path,
    slab: NDArray[Any],
    first: int,
    depth: int,
    pixel_size: float | Sequence[float],
    ranks: World | None = None,
    *,
    overwrite: bool = False,
    labels: Sequence[str] = (),
    is_volume: bool = True,
) -> None:
    """Write one file by several processes, each its own sections; it appears when complete or not at all.

    All ranks make this call. The file is the same, byte for byte, whatever ranks wrote it.

    Parameters
    ----------
    path
        A file on a disk that all ranks share.
    slab
        This rank's sections ``(n, rows, columns)``, perhaps memory-mapped: one at a time is copied. Where
        ranks hold the same ones, the first of them writes.
    first
        Number of the first of them.
    depth
        Sections of the whole file.
    pixel_size, overwrite, labels, is_volume
        As in `write_mrc`, the same on all ranks.
    ranks
        The processes; left out: this one alone.

    Raises
    ------
    InputError
        On all ranks, if one of them fails: as `MrcWriter`.
    ValueError
        If the slabs do not make up the file.
    """
    ranks = ranks or SingleWorld()
    path = Path(path)
    shape, own = (depth, slab.shape[1], slab.shape[2]), (first, first + len(slab))
    told = ranks.gather([slab.dtype.str, list(slab.shape[1:]), list(own)])
    if any(kind != told[0][:2] for *kind, _ in told):
        raise ValueError(f"the slabs of the ranks differ in kind: {told}")
    spans: list[Span | None] = [(span[0], span[1]) for *_, span in told]
    require_cover(spans, depth)
    mode, voxel = _mode_of(slab.dtype), _triple(pixel_size)
    with ExitStack() as exits:
        file_bytes = HEADER_BYTES + math.prod(shape) * np.dtype(MODES[mode]).itemsize
        prepare = partial(_prepare_slabs, exits, path, file_bytes, overwrite)
        temporary = path.with_name(together(ranks, lambda: prepare() if ranks.rank == 0 else "")[0])
        write = partial(_write_sections, temporary, path, slab, first, mode)
        sections = together(ranks, lambda: write() if writes_span(spans, ranks.rank) else [])

        def complete() -> None:
            statistics = _merged(spans, sections)
            header = _header_bytes(shape, mode, voxel, statistics, labels=labels, is_volume=is_volume)
            with explain_write_errors(path), open(temporary, "rb+") as handle:
                handle.write(header)
            exits.close()  # gives it its name

        together(ranks, lambda: complete() if ranks.rank == 0 else None)


def _prepare_slabs(exits: ExitStack, path: Path, size_bytes: int, overwrite: bool) -> str:
    """Make the temporary file at its full size; its name."""
    temporary = exits.enter_context(atomic_path(path, overwrite=overwrite))
    with explain_write_errors(path), open(temporary, "wb") as handle:
        reserve(handle.fileno(), size_bytes)
    return temporary.name


def _write_sections(
    temporary: Path, path: Path, slab: NDArray[Any], first: int, mode: int
) -> list[tuple[Any, ...]]:
    """Write sections at their place in a file that is there already; the statistics of each."""
    found = []
    with explain_write_errors(path):
        descriptor = os.open(temporary, os.O_WRONLY)
        try:
            for number, section in enumerate(slab, start=first):
                stored = _as_stored(path, section[np.newaxis], mode, number)
                write_at(descriptor, stored.data, HEADER_BYTES + number * stored.nbytes)
                found.append(astuple(_Statistics.of(stored)))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return found


def _merged(spans: Sequence[Span | None], sections: Sequence[Sequence[tuple[Any, ...]]]) -> _Statistics:
    """Statistics of all sections, merged in their order, so that it does not matter who wrote which."""
    statistics = _Statistics()
    for rank in sorted(range(len(spans)), key=lambda rank: spans[rank] or (0, 0)):
        for one in sections[rank]:
            statistics.merge(_Statistics(*one))
    return statistics
