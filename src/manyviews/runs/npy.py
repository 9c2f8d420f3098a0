"""Arrays in and out of ``.npy`` files part by part, hashed on the way, with no second copy and no pickle.

A part is a slice of a volume, or the whole of any other array. Several ranks may write and read parts of one
file.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.io.shared_file import write_at

Array = NDArray[Any]

DIGEST_BYTES = 32
_BLOCK_BYTES = 1 << 24
_ALIGNMENT = 64  # torch's own; results of FFT and matrix libraries may depend on it in the last digit
_PLAIN_KINDS = "biufc"
_PREAMBLE_BYTES = 10
_HEADER_MULTIPLE = 64


def header_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Header of a .npy file of version 1 in C order (NumPy enhancement proposal 1), of numbers.

    `TypeError` if ``dtype`` is anything else.
    """
    if dtype.kind not in _PLAIN_KINDS:
        raise TypeError(f"an array of {dtype} is not stored in a checkpoint")
    # written out here, so that every version of NumPy gives the same bytes
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {tuple(map(int, shape))}, }}"
    room = -(_PREAMBLE_BYTES + len(text) + 1) % _HEADER_MULTIPLE
    size = (len(text) + room + 1).to_bytes(2, "little")
    return b"\x93NUMPY\x01\x00" + size + (text + " " * room + "\n").encode()


def file_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of the whole file of an array."""
    return len(header_bytes(shape, dtype)) + math.prod(shape) * dtype.itemsize


def write_parts(path: Path, array: Array, whole: tuple[int, ...], first: int, *, sliced: bool) -> list[bytes]:
    """Write ``array`` as the parts from ``first`` on of a file that has its size, and bring it to the disk.

    ``sliced``: every entry along the first axis is a part, else the whole array ``whole`` is one. Returns the
    SHA-256 of each part.
    """
    size = math.prod(whole[1:] if sliced else whole) * array.dtype.itemsize
    offset = len(header_bytes(whole, array.dtype)) + first * size
    digests = []
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        for part in array if sliced else [array]:
            digest = hashlib.sha256()
            for block in _byte_blocks(part):
                write_at(descriptor, block, offset)
                digest.update(block)
                offset += len(block)
            digests.append(digest.digest())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return digests


def read_parts(
    path: Path, array: Array, whole: tuple[int, ...], first: int, digests: Sequence[bytes], *, sliced: bool
) -> None:
    """Fill ``array``, in C order, with the parts from ``first`` on of a file that `write_parts` wrote.

    ``whole`` is the shape of the array in the file; ``digests`` are the SHA-256 of each part that is read.

    Raises
    ------
    ValueError
        If it is damaged or not what `write_parts` writes.
    """
    header = header_bytes(whole, array.dtype)
    size = math.prod(whole[1:] if sliced else whole) * array.dtype.itemsize
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as handle:
        _require_size(handle.fileno(), file_bytes(whole, array.dtype))
        if handle.read(len(header)) != header:
            raise ValueError("its header has changed since it was written")
        handle.seek(len(header) + first * size)
        for part, expected in zip(array if sliced else [array], digests, strict=True):
            digest = hashlib.sha256()
            for block in _byte_blocks(part):
                _fill(handle, block)
                digest.update(block)
            if digest.digest() != expected:
                raise ValueError("its bytes have changed since it was written")


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A new array in memory, aligned as torch aligns its own."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _byte_blocks(array: Array) -> Iterator[memoryview]:
    """The bytes of an array in C order, a few MiB at a time; those of an array in C order itself, no copy."""
    if array.size == 0:
        return
    in_order = array.flags.c_contiguous
    parts = (array,) if in_order or array.ndim < 3 else array
    for part in map(np.ascontiguousarray, parts):
        view = part.reshape(-1).view(np.uint8).data
        for start in range(0, len(view), _BLOCK_BYTES):
            yield view[start : start + _BLOCK_BYTES]


def _require_size(descriptor: int, size_bytes: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a plain file")
    if status.st_size != size_bytes:
        raise ValueError(f"it has {status.st_size} bytes instead of {size_bytes}")


def _fill(handle: io.FileIO, block: memoryview) -> None:
    done = 0
    while done < len(block):
        count = handle.readinto(block[done:])
        if not count:
            raise ValueError("it is cut short")
        done += count
