"""Checkpoints: a solver's state on disk, whole or not at all, no pickle anywhere.

``RUN/checkpoint/STAGE-NNNNNN/``, after iteration N of a stage, holds one ``.npy`` file an array, the numbers
and texts in ``state.json``, the SHA-256 of every slice of every slab and of every other array in
``parts.sha256``, and ``manifest.json`` with the shapes and with size and SHA-256 of the other files, written
last. All of it is written beside its place, brought to the disk and renamed.

The arrays are global: each rank writes its own slices of its own agents' volumes, and reads and verifies
those it needs, whatever ranks wrote them. Two of a stage are kept; a damaged one is passed over, by all
ranks, for the one before.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.atomic import sync_folder
from manyviews.io.faults import explain_write_errors
from manyviews.io.shared_file import Span, require_cover, reserve, together, write_at, writes_span
from manyviews.runs.manifest import (
    DIGESTS_NAME,
    MANIFEST_NAME,
    SCALARS_NAME,
    ArrayEntry,
    Manifest,
    is_key,
    write_synced,
)
from manyviews.runs.npy import aligned_empty, header_bytes, read_parts, write_parts
from manyviews.runs.placement import Placement
from manyviews.runs.state import StateValue, StateValues

Allocate = Callable[[], NDArray[Any]]
Make = Callable[[tuple[int, ...]], NDArray[np.float32]]

CHECKPOINT_FOLDER = "checkpoint"
KEPT = 2
STAGE = "main"
_STAGE = re.compile(r"[a-z][a-z0-9_]*(-[a-z0-9_]+)*")
_FOLDER = re.compile(rf"({_STAGE.pattern})-(\d{{6,}})")
_OLD_FOLDER = re.compile(r"\d{6,}")  # of versions that knew no stages
_TEMPORARY_FOLDER = re.compile(rf"\.({_FOLDER.pattern}|{_OLD_FOLDER.pattern})\.tmp")
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError)


@dataclass(frozen=True)
class _Held:
    """An array as the ranks hold it together.

    ``spans`` are first and end of the parts that each rank holds, None where it holds nothing of the array.
    """

    entry: ArrayEntry
    spans: list[Span | None]


def save_checkpoint(
    folder: Path,
    state: StateValues,
    iteration: int,
    *,
    stage: str = STAGE,
    placement: Placement | None = None,
    keep: int = KEPT,
) -> int:
    """Write a checkpoint of a stage of a run and remove all but its newest; all ranks make this call.

    Parameters
    ----------
    folder
        The run folder.
    state
        This rank's arrays of numbers, and scalars, the same on all ranks, by name (letters, digits,
        underscores, dots between them).
    stage
        Lower-case letters, digits and underscores, with hyphens between them.
    placement
        Which part of the state this is; left out: all of it.
    keep
        How many checkpoints of the stage to keep, this one included; one more while it is being written.

    Returns
    -------
    int
        Bytes written by all ranks.

    Raises
    ------
    ValueError
        If a name cannot be a file's, or what the ranks hold does not fit together.
    TypeError
        If a value can be neither an array of numbers nor JSON.
    InputError
        On all ranks, if the disk is full or the folder cannot be written on one of them; older checkpoints
        are left as they were.
    """
    placement = placement or Placement.alone()
    world = placement.world
    if not _STAGE.fullmatch(stage):
        raise ValueError(f"{stage!r} cannot be the name of a stage")
    name = f"{stage}-{iteration:06d}"
    arrays, scalars = _divide(placement.to_global(state))
    # before anything is written, so that what cannot be stored leaves no trace
    content = json.dumps({"iteration": iteration, "values": scalars}).encode()
    held = _announce(arrays, placement)
    root = folder / CHECKPOINT_FOLDER
    temporary = root / f".{name}.tmp"
    speaks = world.rank == 0
    try:
        together(world, lambda: _prepare(root, temporary, held) if speaks else None)
        written = together(world, lambda: _write_own(temporary, arrays, held, world.rank))
        complete = partial(_complete, root / name, temporary, content, held, written, keep)
        other_bytes = together(world, lambda: complete() if speaks else 0)
    except BaseException:
        if speaks:
            with contextlib.suppress(OSError):
                _remove_one(temporary)
        raise
    return other_bytes[0] + sum(one.entry.file_bytes for one in held.values())


def load_checkpoint(
    folder: Path,
    say: Callable[[str], None] = lambda text: None,
    *,
    stage: str = STAGE,
    placement: Placement | None = None,
    allocate: Allocate | None = None,
    make: Make | None = None,
) -> tuple[dict[str, StateValue], int] | None:
    """The newest whole checkpoint of a stage of a run: the state, as it was saved, and its iteration.

    All ranks call this at the same time, and get the same checkpoint; None if there is none. ``say`` is told
    a sentence for every one that is damaged and passed over. ``placement`` is which part of the state this
    rank wants; left out: all of it. ``allocate`` gives new arrays in C order for slabs of the volume's shape
    and type, e.g. in files, and ``make`` those for any other large array of float32; left out: in memory.
    """
    placement = placement or Placement.alone()
    world = placement.world
    root = folder / CHECKPOINT_FOLDER
    listed = [path.name for path in reversed(_checkpoints(root, stage))] if world.rank == 0 else []
    for name in world.broadcast(listed):
        state: dict[str, StateValue] = {}
        told = together(world, partial(_try_to_read, root / name, state, placement, _Source(allocate, make)))
        failures = [f"rank {rank}: {text}" if rank else text for rank, text in enumerate(told) if text]
        if not failures:
            return state, _iteration(root / name)
        state.clear()  # makes room for the next
        say(f"checkpoint {name} is damaged and passed over: {failures[0]}")
    return None


@dataclass(frozen=True)
class _Source:
    """Where new arrays come from: slabs, and others; None: from memory."""

    slab: Allocate | None
    other: Make | None


def has_checkpoints(folder: Path, stage: str = STAGE) -> bool:
    """Whether there is a checkpoint of a stage, whole or not."""
    return bool(_checkpoints(folder / CHECKPOINT_FOLDER, stage))


def refuse_old_checkpoints(folder: Path) -> None:
    """Refuse a run with a checkpoint of a version that knew no stages: an `InputError` names it."""
    root = folder / CHECKPOINT_FOLDER
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if _OLD_FOLDER.fullmatch(path.name):
            raise InputError(
                "was written by an older version of manyviews, which this one cannot go on from",
                path=path,
                fix="give --overwrite to start afresh, or finish the run with that version",
            )


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a run, and no file that is not part of one."""
    root = folder / CHECKPOINT_FOLDER
    if root.is_symlink() or not root.is_dir():
        return
    _remove_half_written(root)
    for path in root.iterdir():
        if (_FOLDER.fullmatch(path.name) or _OLD_FOLDER.fullmatch(path.name)) and not path.is_symlink():
            _remove_one(path)
    with contextlib.suppress(OSError):
        root.rmdir()


def _checkpoints(root: Path, stage: str) -> list[Path]:
    """The checkpoint folders of a stage, oldest first."""
    if not root.is_dir():
        return []
    named = [(path, _FOLDER.fullmatch(path.name)) for path in root.iterdir() if not path.is_symlink()]
    return sorted((path for path, match in named if match and match[1] == stage), key=_iteration)


def _iteration(path: Path) -> int:
    """Iterations done at a checkpoint."""
    return int(path.name.rpartition("-")[2])


def _divide(values: StateValues) -> tuple[dict[str, NDArray[Any]], dict[str, StateValue]]:
    """Arrays and the rest."""
    for name in values:
        if not is_key(name):
            raise ValueError(f"{name!r} cannot be the name of a part of a state")
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    return arrays, {name: value for name, value in values.items() if name not in arrays}


def _announce(arrays: Mapping[str, NDArray[Any]], placement: Placement) -> dict[str, _Held]:
    """Tell all ranks what this one holds, and learn what they do; the same table on all of them."""
    own = {}
    for name, array in arrays.items():
        whole = placement.whole_shape(name, array.shape)
        header_bytes(whole, array.dtype)  # refuses what is not numbers
        entry = ArrayEntry(whole, array.dtype, placement.is_slab(name))
        own[name] = [entry.to_json(), list(placement.own_parts(name, whole))]
    told = placement.world.gather(own)
    held = {}
    for name in dict.fromkeys(name for table in told for name in table):
        entries = [table[name][0] for table in told if name in table]
        if any(entry != entries[0] for entry in entries):
            raise ValueError(f"ranks hold different kinds of {name}: {entries}")
        entry = ArrayEntry.from_json(entries[0])
        spans = [(table[name][1][0], table[name][1][1]) if name in table else None for table in told]
        require_cover(spans, entry.parts)
        held[name] = _Held(entry, spans)
    return held


def _prepare(root: Path, temporary: Path, held: Mapping[str, _Held]) -> None:
    """Make the folder and all files at their full size."""
    with explain_write_errors(root):
        root.mkdir(exist_ok=True)
        _remove_half_written(root)
        temporary.mkdir()
        for name, one in held.items():
            header = header_bytes(one.entry.shape, one.entry.dtype)
            descriptor = os.open(temporary / f"{name}.npy", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                reserve(descriptor, one.entry.file_bytes)
                write_at(descriptor, header, 0)
                if not writes_span(one.spans, 0):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _write_own(
    temporary: Path, arrays: Mapping[str, NDArray[Any]], held: Mapping[str, _Held], rank: int
) -> dict[str, str]:
    """Write what this rank holds and no earlier one does; the digests of its parts in hexadecimal."""
    digests = {}
    with explain_write_errors(temporary.parent):
        for name, one in held.items():
            span = one.spans[rank]
            if span is None or not writes_span(one.spans, rank):
                continue
            parts = write_parts(
                temporary / f"{name}.npy", arrays[name], one.entry.shape, span[0], sliced=one.entry.sliced
            )
            digests[name] = b"".join(parts).hex()
    return digests


def _complete(
    target: Path,
    temporary: Path,
    content: bytes,
    held: Mapping[str, _Held],
    written: list[dict[str, str]],
    keep: int,
) -> int:
    """Write all that is no array, the manifest last, and put the folder in its place; bytes written."""
    digests = [table[name] for name, one in held.items() for table in _in_order(one.spans, written)]
    root = target.parent
    with explain_write_errors(root):
        files = {
            SCALARS_NAME: write_synced(temporary / SCALARS_NAME, content),
            DIGESTS_NAME: write_synced(temporary / DIGESTS_NAME, bytes.fromhex("".join(digests))),
        }
        manifest = Manifest(target.name, {name: one.entry for name, one in held.items()}, files)
        size = manifest.write(temporary)
        sync_folder(temporary)
        _remove_one(target)  # a damaged one that the run fell back from
        os.replace(temporary, target)
        sync_folder(root)
        _keep_newest(target, keep)
    return size + sum(size for size, _ in files.values())


def _in_order(spans: list[Span | None], written: list[dict[str, str]]) -> list[dict[str, str]]:
    """What those who wrote an array told, by their place in it."""
    writers = [rank for rank in range(len(spans)) if writes_span(spans, rank)]
    return [written[rank] for rank in sorted(writers, key=lambda rank: spans[rank] or (0, 0))]


def _try_to_read(path: Path, state: dict[str, StateValue], placement: Placement, source: _Source) -> str:
    """Put this rank's part of a checkpoint into ``state``; if that cannot be had, why."""
    try:
        _read_folder(path, state, placement, source)
    except _DAMAGE as error:
        return str(error) or type(error).__name__
    return ""


def _read_folder(path: Path, state: dict[str, StateValue], placement: Placement, source: _Source) -> None:
    manifest = Manifest.read(path)
    digests = manifest.digests(path)
    scalars = dict(json.loads(manifest.read_file(path, SCALARS_NAME))["values"])
    names, own_scalars = placement.to_local(list(manifest.arrays), scalars)
    state.update(own_scalars)
    for name, own_name in names.items():
        entry = manifest.arrays[name]
        if placement.slabs is None:
            first, end = 0, entry.parts
        elif entry.sliced == placement.is_slab(name):
            first, end = placement.own_parts(name, entry.shape)
        else:
            raise ValueError(f"{name} {'has' if entry.sliced else 'lacks'} slices")
        array = _new_array(entry, end - first, source)
        own = digests[name][first:end]
        try:
            read_parts(path / f"{name}.npy", array, entry.shape, first, own, sliced=entry.sliced)
        except ValueError as error:
            raise ValueError(f"{name}.npy: {error}") from error
        state[own_name] = array


def _new_array(entry: ArrayEntry, parts: int, source: _Source) -> NDArray[Any]:
    """Room for some parts of an array."""
    shape = (parts, *entry.part_shape) if entry.sliced else entry.shape
    if source.other is not None and not entry.sliced and entry.dtype == np.float32:
        return source.other(shape)
    if source.slab is not None and entry.sliced:
        array = source.slab()
        if (array.shape, array.dtype) == (shape, entry.dtype) and array.flags.c_contiguous:
            return array
    return aligned_empty(shape, entry.dtype)


def _keep_newest(newest: Path, keep: int) -> None:
    """Keep this checkpoint and those before; later ones are damaged, else the stage had gone on from them."""
    stage, iteration = newest.name.rpartition("-")[0], _iteration(newest)
    numbered = _checkpoints(newest.parent, stage)
    earlier = [path for path in numbered if _iteration(path) < iteration]
    later = [path for path in numbered if _iteration(path) > iteration]
    for path in [*earlier[: max(0, len(earlier) - keep + 1)], *later]:
        _remove_one(path)


def _remove_half_written(root: Path) -> None:
    for path in root.iterdir():
        if _TEMPORARY_FOLDER.fullmatch(path.name) and not path.is_symlink():
            _remove_one(path)


def _remove_one(path: Path) -> None:
    """Remove the files of a checkpoint, the manifest first, then its folder if nothing else is in it."""
    if not path.is_dir():
        return
    (path / MANIFEST_NAME).unlink(missing_ok=True)
    for file in path.iterdir():
        if file.name in (SCALARS_NAME, DIGESTS_NAME) or file.suffix == ".npy":
            file.unlink()
    with contextlib.suppress(OSError):
        path.rmdir()
