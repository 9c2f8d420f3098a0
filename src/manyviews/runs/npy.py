"""Arrays in and out of ``.npy`` files in blocks, hashed on the way, with no second copy and no pickle."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

Array = NDArray[Any]

_BLOCK_BYTES = 1 << 24
_ALIGNMENT = 64  # torch's own; results of FFT and matrix libraries may depend on it in the last digit
_PLAIN_KINDS = "biufc"


def _byte_blocks(array: Array) -> Iterator[memoryview]:
    """The bytes of an array in C order, a few MiB at a time."""
    if array.size == 0:
        return
    parts = (array,) if array.flags.c_contiguous else (np.ascontiguousarray(part) for part in array)
    for part in parts:
        view = part.reshape(-1).view(np.uint8).data
        for start in range(0, len(view), _BLOCK_BYTES):
            yield view[start : start + _BLOCK_BYTES]


class ByteSink(Protocol):
    """Anything that bytes can be written to."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Write them all."""


class HashingWriter:
    """A file being written, with the SHA-256 and the number of its bytes so far."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes | memoryview, /) -> int:
        """Write and hash."""
        self._handle.write(data)
        self._hash.update(data)
        self.size_bytes += len(data)
        return len(data)

    @property
    def sha256(self) -> str:
        """Digest in hexadecimal."""
        return self._hash.hexdigest()


def write_array(handle: ByteSink, array: Array) -> None:
    """Write ``array`` in C order as .npy version 1 (NumPy enhancement proposal 1).

    Raises
    ------
    TypeError
        If it holds anything but numbers.
    """
    if array.dtype.kind not in _PLAIN_KINDS:
        raise TypeError(f"an array of {array.dtype} is not stored in a checkpoint")
    descr = npy_format.dtype_to_descr(array.dtype)
    npy_format.write_array_header_1_0(handle, {"descr": descr, "fortran_order": False, "shape": array.shape})
    for block in _byte_blocks(array):
        handle.write(block)


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _read_header(handle: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if npy_format.read_magic(handle) != (1, 0):
        raise ValueError("it is not a .npy file of version 1")
    shape, fortran_order, dtype = npy_format.read_array_header_1_0(handle)
    if fortran_order or dtype.kind not in _PLAIN_KINDS or any(length < 0 for length in shape):
        raise ValueError("it does not hold plain numbers in C order")
    return shape, dtype


def read_array(path: Path, sha256: str) -> Array:
    """Read an array that `write_array` wrote, once, checking its digest.

    The shape that the header claims is held against the size of the file before memory is taken.

    Raises
    ------
    ValueError
        If it is damaged or not what `write_array` writes.
    """
    with open(path, "rb") as handle:
        shape, dtype = _read_header(handle)
        start = handle.tell()
        size = math.prod(shape) * dtype.itemsize
        if size != os.fstat(handle.fileno()).st_size - start:
            raise ValueError("its header does not fit its size")
        handle.seek(0)
        digest = hashlib.sha256(handle.read(start))
        array = _aligned_empty(shape, dtype)
        view = array.reshape(-1).view(np.uint8).data if size else memoryview(b"")
        for at in range(0, size, _BLOCK_BYTES):
            block = view[at : at + _BLOCK_BYTES]
            if handle.readinto(block) != len(block):
                raise ValueError("it is cut short")
            digest.update(block)
    if digest.hexdigest() != sha256:
        raise ValueError("its bytes have changed since it was written")
    return array
