"""Checkpoints: a solver's state on disk, whole or not at all, no pickle anywhere.

``RUN/checkpoint/NNNNNN/`` holds one ``.npy`` file an array, the numbers and texts in ``state.json``, and
``manifest.json`` with size and SHA-256 of every other file, written last. All of it is written beside its
place, brought to the disk and renamed. Two are kept; a damaged one is passed over for the one before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manyviews.io.atomic import sync_folder
from manyviews.runs.faults import explain_write_errors
from manyviews.runs.npy import HashingWriter, read_array, write_array

Scalar: TypeAlias = float | int | str | bool | list["Scalar"] | None
StateValue: TypeAlias = NDArray[Any] | Scalar
StateValues: TypeAlias = Mapping[str, StateValue]

CHECKPOINT_FOLDER = "checkpoint"
KEPT = 2
_SCALARS_NAME = "state.json"
_MANIFEST_NAME = "manifest.json"
_FORMAT = 1
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_FOLDER = re.compile(r"\d{6,}")
_TEMPORARY_FOLDER = re.compile(r"\.\d{6,}\.tmp")
_JSON_LIMIT_BYTES = 1 << 24


def save_checkpoint(folder: Path, state: StateValues, iteration: int) -> int:
    """Write a checkpoint of a run and remove all but the newest two.

    Parameters
    ----------
    folder
        The run folder.
    state
        Arrays of numbers and scalars by name (letters, digits, underscores, dots between them).
    iteration
        Iterations done.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    ValueError
        If a name cannot be a file's.
    TypeError
        If a value can be neither an array of numbers nor JSON.
    InputError
        If the disk is full or the folder cannot be written; older checkpoints are left as they were.
    """
    root = folder / CHECKPOINT_FOLDER
    with explain_write_errors(root):
        root.mkdir(exist_ok=True)
        _remove_half_written(root)
        temporary = root / f".{iteration:06d}.tmp"
        try:
            written = _write_folder(temporary, state, iteration)
            target = root / f"{iteration:06d}"
            _remove_one(target)  # a damaged one that the run fell back from
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove_one(temporary)
            raise
        sync_folder(root)
        _keep_newest(root, iteration)
    return written


def load_checkpoint(
    folder: Path, say: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, StateValue], int] | None:
    """The newest whole checkpoint of a run, or None if there is none.

    Parameters
    ----------
    folder
        The run folder.
    say
        Called with a sentence for every checkpoint that is damaged and passed over.

    Returns
    -------
    tuple or None
        The state as it was given to `save_checkpoint`, and its iteration.
    """
    for path in reversed(_checkpoints(folder / CHECKPOINT_FOLDER)):
        try:
            return _read_folder(path), int(path.name)
        except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
            say(f"checkpoint {path.name} is damaged and passed over: {error}")
    return None


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a run, and no file that is not part of one."""
    root = folder / CHECKPOINT_FOLDER
    if root.is_symlink() or not root.is_dir():
        return
    _remove_half_written(root)
    for path in _checkpoints(root):
        _remove_one(path)
    with contextlib.suppress(OSError):
        root.rmdir()


def _checkpoints(root: Path) -> list[Path]:
    """The checkpoint folders, oldest first."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if _FOLDER.fullmatch(path.name) and not path.is_symlink()]
    return sorted(found, key=lambda path: int(path.name))


def _write_folder(path: Path, state: StateValues, iteration: int) -> int:
    path.mkdir()
    files = {}
    scalars: dict[str, Scalar] = {}
    for key, value in state.items():
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} cannot be the name of a part of a state")
        if isinstance(value, np.ndarray):
            files[f"{key}.npy"] = _write_array_file(path / f"{key}.npy", value)
        else:
            scalars[key] = value
    files[_SCALARS_NAME] = _write_json(path / _SCALARS_NAME, {"iteration": iteration, "values": scalars})
    manifest = {"format": _FORMAT, "iteration": iteration, "files": files}
    last = _write_json(path / _MANIFEST_NAME, manifest)
    sync_folder(path)
    return int(last["bytes"]) + sum(int(entry["bytes"]) for entry in files.values())


def _write_array_file(path: Path, array: NDArray[Any]) -> dict[str, Any]:
    with open(path, "wb") as handle:
        writer = HashingWriter(handle)
        write_array(writer, array)
        handle.flush()
        os.fsync(handle.fileno())
    return {"bytes": writer.size_bytes, "sha256": writer.sha256}


def _write_json(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    data = json.dumps(content).encode()
    with open(path, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _read_json(path: Path) -> tuple[Any, bytes]:
    with open(path, "rb") as handle:
        data = handle.read(_JSON_LIMIT_BYTES + 1)
    if len(data) > _JSON_LIMIT_BYTES:
        raise ValueError(f"{path.name} is too large")
    return json.loads(data), data


def _read_folder(path: Path) -> dict[str, StateValue]:
    _require_plain_file(path / _MANIFEST_NAME, None)
    manifest, _ = _read_json(path / _MANIFEST_NAME)
    if manifest["format"] != _FORMAT or manifest["iteration"] != int(path.name):
        raise ValueError(f"{_MANIFEST_NAME} belongs to another checkpoint")
    files = dict(manifest["files"])
    for name, entry in files.items():
        if name != _SCALARS_NAME and not (name.endswith(".npy") and _KEY.fullmatch(name[:-4])):
            raise ValueError(f"{_MANIFEST_NAME} names {name!r}, which is no part of a checkpoint")
        _require_plain_file(path / name, entry["bytes"])
    expected = files.pop(_SCALARS_NAME)
    content, data = _read_json(path / _SCALARS_NAME)
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise ValueError(f"{_SCALARS_NAME}: its bytes have changed since it was written")
    state: dict[str, StateValue] = dict(content["values"])
    for name, entry in files.items():
        try:
            state[name[:-4]] = read_array(path / name, entry["sha256"])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return state


def _require_plain_file(path: Path, size_bytes: int | None) -> None:
    """No link, device or pipe, and of the size that the manifest names."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path.name} is not a plain file")
    if size_bytes is not None and status.st_size != size_bytes:
        raise ValueError(f"{path.name} has {status.st_size} bytes instead of {size_bytes}")


def _keep_newest(root: Path, iteration: int) -> None:
    """Keep this checkpoint and the one before; later ones are damaged, else the run had begun from them."""
    numbered = _checkpoints(root)
    earlier = [path for path in numbered if int(path.name) < iteration]
    later = [path for path in numbered if int(path.name) > iteration]
    for path in [*earlier[: 1 - KEPT], *later]:
        _remove_one(path)


def _remove_half_written(root: Path) -> None:
    for path in root.iterdir():
        if _TEMPORARY_FOLDER.fullmatch(path.name) and not path.is_symlink():
            _remove_one(path)


def _remove_one(path: Path) -> None:
    """Remove the files of a checkpoint, the manifest first, then its folder if nothing else is in it."""
    if not path.is_dir():
        return
    (path / _MANIFEST_NAME).unlink(missing_ok=True)
    for file in path.iterdir():
        if file.name == _SCALARS_NAME or file.suffix == ".npy":
            file.unlink()
    with contextlib.suppress(OSError):
        path.rmdir()
