"""EM files, in which TOM, AV3, Dynamo and PyTom keep volumes and motive lists.

512 bytes of header (machine, type, three sizes, a comment, forty numbers), then the voxels, x fastest.
Sources: Hegerl, J. Struct. Biol. 116 (1996) 30 (EM); TOM toolbox, ``tom_emread``.

The pixel size among the forty numbers is not read: programs leave it at 0, or at 1 nm where nobody set it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.atomic import atomic_path

HEADER_BYTES = 512
TYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
"""Types of voxels that are read; 8, complex numbers, is refused."""

_COMPLEX = 8
_BYTE_ORDERS = {0: ">", 3: ">", 5: ">", 6: "<"}  # OS-9, SGI, Macintosh; PC
_PC = 6
_FLOAT32 = 5
_LARGEST_SIDE = 1 << 24


@dataclass(frozen=True)
class EmHeader:
    """What the header of an EM file says, checked against the file; ``shape`` is ``(z, y, x)``."""

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    @property
    def needed_bytes(self) -> int:
        """Size of the file."""
        return HEADER_BYTES + math.prod(self.shape) * self.dtype.itemsize

    def map_voxels(self) -> NDArray[Any]:
        """The voxels ``(z, y, x)`` in the file's own type, mapped and not read yet; `InputError` if gone."""
        try:
            mapped = np.memmap(self.path, self.dtype, mode="r", offset=HEADER_BYTES, shape=self.shape)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot be read any more ({error})", path=self.path, fix="copy it again"
            ) from error
        return np.asarray(mapped)


def read_em_header(path: Path) -> EmHeader:
    """Read and check the header of an EM file; no voxel is touched.

    Raises
    ------
    InputError
        If the file cannot be read, is not EM, holds complex numbers, or is smaller than its header says.
    """
    path = Path(path)
    raw, size = _start(path)
    if len(raw) < HEADER_BYTES:
        raise InputError(f"has {len(raw)} bytes but the header of an EM file alone has 512", path=path)
    machine, kind = raw[0], raw[3]
    fix = "check that this is an EM file"
    if machine not in _BYTE_ORDERS:
        raise InputError(
            f"comes from a machine number {machine}, which is none of EM's",
            path=path,
            where="byte 0",
            fix=fix,
        )
    if kind == _COMPLEX:
        raise InputError(
            "holds complex numbers (type 8)", path=path, where="byte 3", fix="transform it back before"
        )
    if kind not in TYPES:
        raise InputError(f"type {kind} is none of EM's", path=path, where="byte 3", fix=fix)
    order = _BYTE_ORDERS[machine]
    columns, rows, sections = struct.unpack_from(order + "3i", raw, 4)
    if not all(0 < side < _LARGEST_SIDE for side in (columns, rows, sections)):
        raise InputError(
            f"the size {columns} x {rows} x {sections} makes no sense", path=path, where="bytes 4-15", fix=fix
        )
    header = EmHeader(path, (sections, rows, columns), np.dtype(order + TYPES[kind]))
    if size < header.needed_bytes:
        raise InputError(
            f"the header promises {header.needed_bytes} bytes ({columns} x {rows} x {sections} voxels)"
            f" but the file has {size}",
            path=path,
            fix="the file is truncated or its header is damaged; copy it again",
        )
    return header


def _start(path: Path) -> tuple[bytes, int]:
    """The header's bytes and the size of the file."""
    try:
        with open(path, "rb") as handle:
            return handle.read(HEADER_BYTES), path.stat().st_size
    except IsADirectoryError as error:
        raise InputError("is a folder", path=path, fix="name the EM file in it") from error
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", path=path, fix="check the name and the permissions"
        ) from error
    except ValueError as error:
        raise InputError("is not a possible file name", path=path, fix="check the name") from error


def write_em(path: Path, volume: NDArray[Any], *, overwrite: bool = False) -> None:
    """Write ``(z, y, x)`` as float32 in the byte order of PCs; errors as in `atomic_path`."""
    stored = np.ascontiguousarray(volume, dtype="<f4")
    sections, rows, columns = stored.shape
    header = bytearray(HEADER_BYTES)
    header[0], header[3] = _PC, _FLOAT32
    struct.pack_into("<3i", header, 4, columns, rows, sections)
    with atomic_path(Path(path), overwrite=overwrite) as temporary, open(temporary, "wb") as handle:
        handle.write(header)
        handle.write(stored.data)
