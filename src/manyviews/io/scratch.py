"""Arrays that live in files, for volumes that memory has no room for.

The files have no name once they are made, so that nothing is left of them when the process ends or is killed.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from manyviews.errors import InputError
from manyviews.io.shared_file import reserve
from manyviews.io.sizes import format_bytes

_ATTEMPTS = 3
_PREFIX = ".manyviews-scratch-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ScratchFolder:
    """A folder for arrays in files, made if it is not there, for one process or several; a context
    manager.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._is_ours = False
        self._is_closed = False
        self._make_folder()

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A new array of zeros in a file; its room is given back when nothing refers to the array any more.

        Its first number lies on a border of a memory page. `InputError` if the disk is full or the folder
        cannot be written, `ValueError` after `close`.
        """
        if self._is_closed:
            raise ValueError(f"the scratch folder {self.path} is closed")
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size == 0:
            return np.zeros(shape, kind)
        try:
            mapped = self._map(size)
        except OSError as error:
            raise self._failure(error, size) from error
        return np.frombuffer(mapped, kind).reshape(shape)

    def close(self) -> None:
        """Allocate no more, and remove the folder if it was made here and is empty; arrays stay good."""
        self._is_closed = True
        if self._is_ours:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def __enter__(self) -> ScratchFolder:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _make_folder(self) -> None:
        try:
            self.path.mkdir(parents=True)
            self._is_ours = True
        except FileExistsError:
            if not self.path.is_dir():
                raise InputError("is a file, not a folder", path=self.path) from None
        except OSError as error:
            raise self._failure(error, 0) from error

    def _map(self, size_bytes: int) -> mmap.mmap:
        descriptor = self._nameless_file()
        try:
            reserve(descriptor, size_bytes)
            return mmap.mmap(descriptor, size_bytes)  # keeps a descriptor of its own
        finally:
            os.close(descriptor)

    def _nameless_file(self) -> int:
        for _ in range(_ATTEMPTS):
            self._make_folder()  # another process may have removed it as it closed
            with contextlib.suppress(FileNotFoundError):
                return self._open_nameless()
        return self._open_nameless()

    def _open_nameless(self) -> int:
        if hasattr(os, "O_TMPFILE"):
            with contextlib.suppress(OSError):  # not every file system can
                return os.open(self.path, os.O_TMPFILE | os.O_RDWR, 0o600)
        descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=self.path)
        os.unlink(name)
        return descriptor

    def _failure(self, error: OSError, size_bytes: int) -> InputError:
        if error.errno not in _FULL:
            return InputError(
                f"cannot be written ({error.strerror or error})",
                path=self.path,
                fix="choose a scratch folder that is writable",
            )
        wanted, free = format_bytes(size_bytes), format_bytes(self._free_bytes())
        return InputError(
            f"the disk has no room for a scratch file of {wanted}, {free} are free",
            path=self.path,
            fix="make room, or choose a scratch folder on another disk",
        )

    def _free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self.path).free
        except OSError:
            return 0
