"""Scans in NeXus HDF5 (NXtomo): one data set with all frames, and a key that says what each is.

Source: the NeXus definition NXtomo; ``image_key`` 0 is a projection, 1 a flat, 2 a dark, 3 invalid. In
``image_key_control``, of ESRF's files, -1 is a projection that was taken again at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.frames import Float64, ScanFile, Selection
from manyviews.io.hdf5 import (
    HdfFrames,
    Place,
    attribute,
    in_degrees,
    locate,
    open_frames,
    opened,
    read_numbers,
    text_of,
)

KEY = "image_key"
CONTROL = "image_key_control"
PROJECTION, FLAT, DARK, INVALID = 0, 1, 2, 3
_RETURN = -1
_ANGLES = ("rotation_angle", "rotation_angle_set", "theta", "gts_theta_value", "gts_theta_value_set")
_MOST_NODES = 20_000
_DEEPEST = 10
_NANOMETRES = {"nm": 1.0, "um": 1e3, "µm": 1e3, "micron": 1e3, "microns": 1e3, "mm": 1e6, "m": 1e9}


@dataclass(frozen=True)
class _Node:
    """A thing in the file: its path, what it is, and whether it is only a link."""

    name: str
    kind: str  # "group", "data", "link"

    @property
    def title(self) -> str:
        """The last part of its path."""
        return self.name.rsplit("/", 1)[-1]


def find_keys(path: Path) -> list[str]:
    """The names of all image keys in a file, the nearest to its root first."""
    return [node.name for node in _nodes(path) if node.title == KEY]


def _nodes(path: Path) -> list[_Node]:
    """All groups, data and links of a file, without following links, the nearest to the root first."""
    with opened(path) as file:
        return list(_walk(file))


def _walk(file: Any) -> Iterator[_Node]:
    import h5py

    waiting = deque([("", 0)])
    seen = 0
    while waiting:
        name, depth = waiting.popleft()
        group = file[name or "/"]
        for child in group:
            seen += 1
            if seen > _MOST_NODES:
                return
            path = f"{name}/{child}"
            if not isinstance(group.get(child, getlink=True), h5py.HardLink):
                yield _Node(path, "link")
                continue
            item = group[child]
            if isinstance(item, h5py.Group):
                yield _Node(path, "group")
                if depth < _DEEPEST:
                    waiting.append((path, depth + 1))
            else:
                yield _Node(path, "data")


def read_nexus_tomo(path: Path) -> ScanFile:
    """What a file says; no image is read.

    `InputError` if no image key has images beside it, has another length than they, or marks no projection.
    """
    folder = path.resolve().parent
    nodes = _nodes(path)
    keys = [node.name for node in nodes if node.title == KEY]
    if not keys:
        raise InputError(f"has no {KEY}", path=path, fix="give an NXtomo file")
    key_name, frames, moved = _keyed_frames(path, keys, nodes, folder)
    key = _key(path, key_name, folder, frames)
    control = _control(path, key_name, folder, len(key))
    projections = np.flatnonzero((key == PROJECTION) & (control != INVALID))
    if not len(projections):
        raise InputError("marks no frame as a projection (0)", path=path, where=key_name)
    angles, source, notes = _angles(path, key_name, nodes, folder, (len(key), len(projections)))
    invalid = int((key == INVALID).sum())
    counted = (
        f"{key_name}: {len(projections)} projections, {int((key == FLAT).sum())} flats,"
        f" {int((key == DARK).sum())} darks" + (f", {invalid} invalid" if invalid else "")
    )
    is_return = control[projections] == _RETURN
    size, size_source = _pixel_size(path, nodes, folder)
    return ScanFile(
        path=path,
        kind="NXtomo HDF5",
        projections=Selection(frames, projections),
        theta_degrees=None
        if angles is None
        else (angles[projections] if len(angles) == len(key) else angles),
        theta_source=source,
        flats=_chosen(frames, key == FLAT),
        darks=_chosen(frames, key == DARK),
        is_return=is_return if is_return.any() else None,
        pixel_size_nm=size,
        pixel_size_source=size_source,
        notes=(counted, *notes, *([moved] if moved else [])),
    )


def _chosen(frames: HdfFrames, which: NDArray[np.bool_]) -> Selection | None:
    return Selection(frames, np.flatnonzero(which)) if which.any() else None


def _keyed_frames(
    path: Path, keys: list[str], nodes: list[_Node], folder: Path
) -> tuple[str, HdfFrames, str]:
    """The first key that has images: beside it, else in the NXdata called as its detector is."""
    names = {node.name for node in nodes}
    reasons: list[InputError] = []
    for key in keys:
        detector = key.rsplit("/", 1)[0]
        title = detector.rsplit("/", 1)[-1]
        others = [name for name in names if name.endswith(f"/{title}/data") and name != f"{detector}/data"]
        for name in (f"{detector}/data", *sorted(others)):
            if name not in names:
                continue
            try:
                place = locate(path, name)
                if place is not None:
                    return key, open_frames(place, folder), place.moved
            except InputError as error:
                reasons.append(error)
    if reasons:
        inside = [error for error in reasons if "not followed" in error.what]
        raise (inside or reasons)[0]
    raise InputError("no images are beside it", path=path, where=keys[0], fix="give an NXtomo file")


def _key(path: Path, name: str, folder: Path, frames: HdfFrames) -> NDArray[np.int64]:
    values = _whole_numbers(path, name, folder)
    if len(values) != frames.shape[0]:
        raise InputError(
            f"has {len(values)} entries for {frames.shape[0]} frames",
            path=path,
            where=name,
            fix="copy the file again",
        )
    return values


def _control(path: Path, key_name: str, folder: Path, count: int) -> NDArray[np.int64]:
    """``image_key_control`` beside the key; zeros where there is none."""
    name = f"{key_name.rsplit('/', 1)[0]}/{CONTROL}"
    if locate(path, name) is None:
        return np.zeros(count, np.int64)
    values = _whole_numbers(path, name, folder)
    return values if len(values) == count else np.zeros(count, np.int64)


def _whole_numbers(path: Path, name: str, folder: Path) -> NDArray[np.int64]:
    place = locate(path, name)
    if place is None:
        raise InputError("is not there", path=path, where=name)
    values = read_numbers(place, folder)[0]
    if np.abs(values).max() > 1000 or (values != np.round(values)).any():
        raise InputError("holds other numbers than keys", path=path, where=name)
    return values.astype(np.int64)


def _angles(
    path: Path, key_name: str, nodes: list[_Node], folder: Path, fitting: tuple[int, int]
) -> tuple[Float64 | None, str, tuple[str, ...]]:
    """The first angles of which there are as many as frames or projections, else the first there are."""
    reason = ""
    misfit: tuple[Float64 | None, str, tuple[str, ...]] | None = None
    for name in _angle_names(path, key_name, nodes):
        try:
            place = locate(path, name)
            if place is None:
                continue
            theta, unit = read_numbers(place, folder)
        except InputError as error:
            reason = reason or f"the file {error.what}"
            continue
        if len(theta) < 2:  # where the stage stood, not where it went
            continue
        theta, told = in_degrees(theta, unit, place.title)
        if len(theta) in fitting:
            return theta, place.title, told
        misfit = misfit or (theta, place.title, told)
    return misfit or (None, reason or "the file has no rotation_angle", ())


def _angle_names(path: Path, key_name: str, nodes: list[_Node]) -> Iterator[str]:
    """Where angles may be, the likeliest first: by name, in the entry of the key at first, then by axes."""
    entry, title = key_name.split("/")[1], key_name.rsplit("/", 2)[-2]
    near = sorted(nodes, key=lambda node: node.name.split("/")[1] != entry)
    yield from (node.name for node in near if node.title == _ANGLES[0] and node.kind != "group")
    for node in near:
        if node.kind == "group" and node.title in (title, "data"):
            with opened(path) as file:
                named = attribute(file[node.name], "axes")
            axis = "" if named is None else text_of(np.atleast_1d(named)[0])
            if axis not in ("", "."):
                yield f"{node.name}/{axis}"
    for wanted in _ANGLES[1:]:
        yield from (node.name for node in near if node.title == wanted and node.kind != "group")


def _pixel_size(path: Path, nodes: list[_Node], folder: Path) -> tuple[float | None, str]:
    """In nm: of the sample if that is told, else of the detector, which is that of the image."""
    for wanted in ("sample_x_pixel_size", "x_pixel_size"):
        for node in nodes:
            if node.title != wanted or node.kind != "data":
                continue
            try:
                values, unit = read_numbers(Place(path, node.name), folder)
            except InputError:
                continue
            size = float(values[0]) * _NANOMETRES.get(unit.lower(), 1e9)  # metres where nothing is said
            if len(values) == 1 and 0 < size < 1e6:
                return size, f"{path.name}:{node.name}"
    return None, ""
