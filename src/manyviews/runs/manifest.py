"""The table of contents of a checkpoint: names, shapes and sizes, checked before anything is believed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from manyviews.runs.npy import DIGEST_BYTES, file_bytes

MANIFEST_NAME = "manifest.json"
SCALARS_NAME = "state.json"
DIGESTS_NAME = "parts.sha256"
FORMAT = 3
_OTHER_FILES = frozenset((SCALARS_NAME, DIGESTS_NAME))
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_DTYPE = re.compile(r"[<>|][biufc]\d{1,2}")
_MOST_AXES = 32
_LONGEST_AXIS = 1 << 62
_JSON_LIMIT_BYTES = 1 << 24
_DIGESTS_LIMIT_BYTES = 1 << 28


def is_key(name: object) -> bool:
    """Whether a part of a state may have this name; it may then be a file's, too."""
    return isinstance(name, str) and _KEY.fullmatch(name) is not None


@dataclass(frozen=True)
class ArrayEntry:
    """An array of a checkpoint as a whole.

    ``sliced``: each entry along its first axis is a part that is written, read and verified by itself; else
    the array is one part.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sliced: bool = False

    @property
    def parts(self) -> int:
        """Parts with a digest each."""
        return self.shape[0] if self.sliced else 1

    @property
    def part_shape(self) -> tuple[int, ...]:
        """Of one part."""
        return self.shape[1:] if self.sliced else self.shape

    @property
    def file_bytes(self) -> int:
        """Size of its file."""
        return file_bytes(self.shape, self.dtype)

    def to_json(self) -> list[Any]:
        """As it stands in the manifest, and as ranks tell it to each other."""
        return [self.dtype.str, list(self.shape), self.sliced]

    @classmethod
    def from_json(cls, value: Any) -> ArrayEntry:
        """From `to_json`; `ValueError` or `TypeError` if it is something else."""
        kind, shape, sliced = value
        if not isinstance(kind, str) or not _DTYPE.fullmatch(kind):
            raise ValueError(f"{kind!r} is no type of numbers")
        are_lengths = isinstance(shape, list) and all(
            type(n) is int and 0 <= n < _LONGEST_AXIS for n in shape
        )
        if not are_lengths or len(shape) > _MOST_AXES:
            raise ValueError(f"{shape!r} is no shape of an array")
        if type(sliced) is not bool or (sliced and not shape):
            raise ValueError(f"{sliced!r} does not say whether an array of shape {shape!r} has slices")
        return cls(tuple(shape), np.dtype(kind), sliced)


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds, in the folder ``name``.

    ``arrays`` are in the order of their digests in `DIGESTS_NAME`; ``files`` are size and SHA-256 of the
    files that are no arrays, by name.
    """

    name: str
    arrays: Mapping[str, ArrayEntry]
    files: Mapping[str, tuple[int, str]]

    def write(self, folder: Path) -> int:
        """Write it, the last file of a checkpoint; its size in bytes."""
        content = {
            "format": FORMAT,
            "name": self.name,
            "arrays": {name: entry.to_json() for name, entry in self.arrays.items()},
            "files": self.files,
        }
        return write_synced(folder / MANIFEST_NAME, json.dumps(content).encode())[0]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read it, and hold it against the names and sizes of the files in the folder.

        `OSError`, `ValueError`, `KeyError` or `TypeError` if it is missing or damaged, or a file is.
        """
        content = json.loads(_read_plain(folder / MANIFEST_NAME, _JSON_LIMIT_BYTES))
        if content["format"] != FORMAT:
            raise ValueError("it was written by another version")
        if content["name"] != folder.name:
            raise ValueError(f"{MANIFEST_NAME} belongs to another checkpoint")
        arrays, files = dict(content["arrays"]), dict(content["files"])
        for name in [*(name for name in arrays if not is_key(name)), *(files.keys() - _OTHER_FILES)]:
            raise ValueError(f"{MANIFEST_NAME} names {name!r}, which is no part of a checkpoint")
        manifest = cls(
            folder.name,
            {name: ArrayEntry.from_json(entry) for name, entry in arrays.items()},
            {name: (size, sha256) for name, (size, sha256) in files.items()},
        )
        manifest._require_sizes(folder)
        return manifest

    def _require_sizes(self, folder: Path) -> None:
        expected = {f"{name}.npy": entry.file_bytes for name, entry in self.arrays.items()}
        expected |= {name: size for name, (size, _) in self.files.items()}
        for name, size in expected.items():
            status = (folder / name).lstat()
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{name} is not a plain file")
            if status.st_size != size:
                raise ValueError(f"{name} has {status.st_size} bytes instead of {size}")

    def read_file(self, folder: Path, name: str) -> bytes:
        """A file that is no array, verified; `OSError` or `ValueError` if it is missing or damaged."""
        limit = _DIGESTS_LIMIT_BYTES if name == DIGESTS_NAME else _JSON_LIMIT_BYTES
        data = _read_plain(folder / name, limit)
        if [len(data), hashlib.sha256(data).hexdigest()] != list(self.files[name]):
            raise ValueError(f"{name}: its bytes have changed since it was written")
        return data

    def digests(self, folder: Path) -> dict[str, list[bytes]]:
        """SHA-256 of every part of every array; `ValueError` if their file does not fit the shapes."""
        data = self.read_file(folder, DIGESTS_NAME)
        if len(data) != DIGEST_BYTES * sum(entry.parts for entry in self.arrays.values()):
            raise ValueError(f"{DIGESTS_NAME} does not fit the arrays")
        each = iter([data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES)])
        return {name: list(islice(each, entry.parts)) for name, entry in self.arrays.items()}


def write_synced(path: Path, data: bytes) -> tuple[int, str]:
    """Write a file and bring it to the disk; its size and SHA-256."""
    with open(path, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    return len(data), hashlib.sha256(data).hexdigest()


def _read_plain(path: Path, limit_bytes: int) -> bytes:
    """A small file that is no link, device or pipe."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as handle:
        status = os.fstat(handle.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name} is not a plain file")
        if status.st_size > limit_bytes:
            raise ValueError(f"{path.name} is too large")
        return handle.read(status.st_size)
