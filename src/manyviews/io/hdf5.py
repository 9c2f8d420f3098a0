"""HDF5 files of others: links and virtual sets are followed within the folder of the file and no further.

A name in a file may lead into other files, by external links, virtual sets and external storage. The HDF5
library follows all of them wherever they lead, and gives zeros where a part is missing. Here links are
followed by hand, and every file that is read lies in the folder of the scan, or below it.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, quoted, shortened
from manyviews.io.frames import Int64, check_shape
from manyviews.io.sizes import format_bytes

Float64 = NDArray[np.float64]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_LINKS = 16  # one after the other
_MOST_SOURCES = 100_000  # of a virtual set
_MOST_CHUNK_BYTES = 1 << 29
_MOST_NUMBERS = 1 << 21
_MOST_WORDS, _MOST_WORD_BYTES = 64, 1 << 16  # of an attribute
_ITSELF = "."  # how a virtual set names its own file


@dataclass(frozen=True)
class Place:
    """A data set or group behind all links: the file that holds it and its name there.

    ``moved`` is a sentence where a file was found beside the scan and not where the link says.
    """

    file: Path
    name: str
    moved: str = ""

    @property
    def title(self) -> str:
        """For sentences."""
        return f"{self.file.name}:{self.name}"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, open for reading; `InputError` if it or what is read of it meanwhile is damaged."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("is not there", path=path, fix="check the name") from error
    except Exception as error:  # the library raises of nearly every kind where a file is damaged
        raise InputError(
            f"cannot be read as HDF5 ({shortened(error)})", path=path, fix="copy the file again"
        ) from error


def locate(path: Path, name: str, folder: Path | None = None) -> Place | None:
    """Where a name of a file leads to; None where there is nothing of that name.

    ``folder`` is that of the scan. `InputError` if a link leads out of it, to a file that is not there, or
    in a circle.
    """
    folder = _folder(path) if folder is None else folder
    moved = ""
    for _ in range(_MOST_LINKS):
        with opened(path) as file:
            found, rest, told = _follow(file, name, path, folder)
        moved = told or moved
        if not isinstance(found, Path):
            return Place(path, found, moved) if found else None
        path, name = found, rest
    raise InputError(f"{quoted(name)} leads through too many links", path=path, fix="copy the data itself")


def _folder(path: Path) -> Path:
    return path.resolve().parent


def _follow(file: Any, name: str, path: Path, folder: Path) -> tuple[Path | str, str, str]:
    """The name without soft links, or empty; or the file an external link names and the name in it."""
    import h5py

    done: list[str] = []
    parts = _parts(name)
    for _ in range(_MOST_LINKS * (len(parts) + 1)):
        if not parts:
            return "/" + "/".join(done), "", ""
        group = file["/" + "/".join(done)]
        link = group.get(parts[0], getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            return "", "", ""
        rest = parts[1:]
        if isinstance(link, h5py.ExternalLink):
            target, told = linked_file(link.filename, path, folder)
            return target, "/".join([link.path, *rest]), told
        if isinstance(link, h5py.SoftLink):
            parts = [*_parts(link.path), *rest]
            done = [] if link.path.startswith("/") else done
            if len(parts) > 1000:
                break
            continue
        done, parts = [*done, parts[0]], rest
    raise InputError(f"{quoted(name)} leads through too many links", path=path, fix="copy the data itself")


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def linked_file(name: str, path: Path, folder: Path) -> tuple[Path, str]:
    """The file that a link of ``path`` names, and a sentence where it was found elsewhere.

    `InputError` if it lies outside ``folder``, or is not there.
    """
    wanted = Path(name)
    try:
        target = (path.parent / wanted).resolve()
        beside = path.resolve().parent / wanted.name
        if target.is_relative_to(folder) and target.is_file():
            return target, ""
        is_there = target.exists()
        # scans are often handed on without the folders that their links speak of
        if not is_there and wanted.name and beside.is_file() and beside.resolve().is_relative_to(folder):
            return beside, f"{quoted(name)} was found beside the file that links to it"
    except (OSError, ValueError) as error:
        raise InputError(f"links to {quoted(name)}, which is no file name", path=path) from error
    if is_there:
        raise InputError(
            f"links to {quoted(name)}, which is outside its folder and is not followed",
            path=path,
            fix=f"copy that file into {folder}",
        )
    raise InputError(
        f"links to {quoted(name)}, which is not there", path=path, fix=f"copy that file to {folder}"
    )


@dataclass(frozen=True)
class HdfFrames:
    """A data set of images; see `manyviews.io.frames.Frames`. The file is opened for every reading."""

    place: Place
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    files: tuple[Path, ...]

    def read(self, frames: Int64, rows: slice) -> NDArray[Any]:
        """Rows of the given frames ``(k, row, column)``; `InputError` where they cannot be read."""
        first, last = rows.indices(self.shape[1])[:2]
        images = np.empty((len(frames), max(0, last - first), self.shape[2]), self.dtype)
        with opened(self.place.file) as file:
            data = file[self.place.name]
            for start, stop in _runs(frames):
                begin = int(frames[start])
                images[start:stop] = data[begin : begin + stop - start, first:last]
        return images


def _runs(numbers: Int64) -> Iterator[tuple[int, int]]:
    """Places from which to which numbers follow on each other."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    edges = [0, *breaks.tolist(), len(numbers)]
    return ((a, b) for a, b in itertools.pairwise(edges) if b > a)


def open_frames(place: Place, folder: Path) -> HdfFrames:
    """A data set of images; nothing of it is read.

    Raises
    ------
    InputError
        If it is no set of images of real numbers, its parts lie outside ``folder`` or are missing, much of it
        was never written, or it is packed by a filter that is not installed.
    """
    with opened(place.file) as file:
        data = _data_set(file, place)
        shape = check_shape(data.shape or (), place.file, place.name)
        if data.dtype.kind not in "iuf" or data.dtype.itemsize > 8:
            raise InputError(
                f"holds {quoted(data.dtype.name)} where grey values were expected",
                path=place.file,
                where=place.name,
            )
        sources = _check_storage(data, shape, place, folder)
        return HdfFrames(place, shape, data.dtype, (place.file, *sources))


def _data_set(file: Any, place: Place) -> Any:
    import h5py

    data = file[place.name]
    if not isinstance(data, h5py.Dataset):
        raise InputError("is a group, not data", path=place.file, where=place.name)
    return data


def _check_storage(data: Any, shape: tuple[int, int, int], place: Place, folder: Path) -> tuple[Path, ...]:
    """The other files that hold parts of it."""
    if data.is_virtual:
        return _virtual_files(data, shape, place, folder)
    if data.external:
        return tuple(linked_file(name, place.file, folder)[0] for name, _, _ in data.external)
    _check_filters(data, place)
    if data.chunks is not None:
        _check_chunks(data, shape, place)
    else:
        wanted, stored = math.prod(shape) * data.dtype.itemsize, data.id.get_storage_size()
        if stored < wanted or wanted > os.path.getsize(place.file):
            raise _not_written(place, "its images are not in the file")
    return ()


def _check_chunks(data: Any, shape: tuple[int, int, int], place: Place) -> None:
    chunk_bytes = math.prod(data.chunks) * data.dtype.itemsize
    if chunk_bytes > _MOST_CHUNK_BYTES:
        raise InputError(
            f"is stored in chunks of {format_bytes(chunk_bytes)}",
            path=place.file,
            where=place.name,
            fix="rewrite it with one image a chunk: h5repack -l CHUNK=1xROWSxCOLUMNS IN OUT",
        )
    wanted = math.prod(-(-side // part) for side, part in zip(shape, data.chunks, strict=True))
    written = data.id.get_num_chunks()
    if written < wanted:
        raise _not_written(place, f"only {written} of {wanted} chunks were ever written")


def _not_written(place: Place, what: str) -> InputError:
    return InputError(
        what,
        path=place.file,
        where=place.name,
        fix="copy the file again; a scan that was stopped has to be cut",
    )


def _check_filters(data: Any, place: Place) -> None:
    import h5py

    properties = data.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            title = name.decode("ascii", "replace") or str(code)
            raise InputError(
                f"is packed by the filter {quoted(title)}, which is not installed",
                path=place.file,
                where=place.name,
                fix="install hdf5plugin, or unpack it: h5repack -f NONE IN OUT",
            )


def _virtual_files(data: Any, shape: tuple[int, int, int], place: Place, folder: Path) -> tuple[Path, ...]:
    """The files of a virtual set, each there and in the folder, that together hold all of it."""
    properties = data.id.get_create_plist()
    count = properties.get_virtual_count()
    if count > _MOST_SOURCES:
        raise InputError(f"is a virtual set of {count} parts", path=place.file, where=place.name)
    names = {properties.get_virtual_filename(number) for number in range(count)}
    if "HDF5_VDS_PREFIX" in os.environ and names - {_ITSELF}:
        raise InputError(
            "is a virtual set, and HDF5_VDS_PREFIX looks for its parts elsewhere",
            path=place.file,
            where=place.name,
            fix="unset HDF5_VDS_PREFIX",
        )
    files = []
    for name in sorted(names - {_ITSELF}):
        file, told = linked_file(name, place.file, folder)
        if told:
            raise InputError(
                f"is a virtual set of {quoted(name)}, which is not there",
                path=place.file,
                where=place.name,
                fix="put the file where the set looks for it",
            )
        files.append(file)
    mapped = 0
    for number in range(count):
        mapped += _mapped(properties.get_virtual_vspace(number), math.prod(shape))
        _check_source(properties, number, place, folder)
    if mapped < math.prod(shape):
        raise _not_written(
            place, f"the virtual set maps {100 * mapped / math.prod(shape):.2g} % of its images"
        )
    return tuple(files)


def _mapped(space: Any, whole: int) -> int:
    """How many values of a virtual set one part maps; all of them, if it goes on without end."""
    import h5py

    if space.is_regular_hyperslab():
        _, _, counts, blocks = space.get_regular_hyperslab()
        if h5py.h5s.UNLIMITED in (*counts, *blocks):
            return whole
    return int(space.get_select_npoints())


def _check_source(properties: Any, number: int, place: Place, folder: Path) -> None:
    """That a part of a virtual set is plain data: no set of sets, which might lead anywhere."""
    name, dataset = properties.get_virtual_filename(number), properties.get_virtual_dsetname(number)
    if "%" in name or "%" in dataset:  # patterns of names, the parts of which are not listed
        raise InputError(
            f"is a virtual set of parts named by the pattern {quoted(name)}",
            path=place.file,
            where=place.name,
            fix="copy the data into one file: h5repack, or h5py",
        )
    path = place.file if name == _ITSELF else linked_file(name, place.file, folder)[0]
    with opened(path) as file:
        source = file[dataset] if _is_plain(file, dataset) else None
        if source is None or source.is_virtual or source.external:
            raise InputError(
                f"is a virtual set of {quoted(dataset)} in {path.name}, which is not data itself",
                path=place.file,
                where=place.name,
                fix="copy the data into one file",
            )
        _check_filters(source, Place(path, dataset))


def _is_plain(file: Any, name: str) -> bool:
    """Whether a name leads to data without any link."""
    import h5py

    group = file
    parts = [part for part in name.split("/") if part]
    for part in parts:
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            return False
        group = group[part]
    return isinstance(group, h5py.Dataset)


def read_numbers(place: Place, folder: Path) -> tuple[Float64, str]:
    """All numbers of a small data set, ``(n,)``, and its unit, empty where none is told.

    `InputError` if it is no list of finite numbers, or is too large for one.
    """
    with opened(place.file) as file:
        data = _data_set(file, place)
        size = math.prod(data.shape or ())
        if data.dtype.kind not in "iuf" or size > _MOST_NUMBERS or size < 1:
            raise InputError("is no list of numbers", path=place.file, where=place.name)
        if data.is_virtual:
            _virtual_files(data, (size, 1, 1), place, folder)
        elif data.external or (data.chunks and math.prod(data.chunks) > _MOST_NUMBERS):
            raise InputError("is no plain list of numbers", path=place.file, where=place.name)
        values = np.asarray(data[()], np.float64).reshape(-1)
        unit = text_of(attribute(data, "units"))
    if not np.isfinite(values).all():
        raise InputError("holds a number that is not finite", path=place.file, where=place.name)
    return values, unit


def in_degrees(theta: Float64, unit: str, title: str) -> tuple[Float64, tuple[str, ...]]:
    """Angles whose unit may be radians, and a sentence if it is."""
    if unit.lower() not in ("rad", "radian", "radians"):
        return theta, ()
    return theta * (180.0 / math.pi), (f"{title}: its unit is {unit}: turned into degrees",)


def attribute(item: Any, name: str) -> Any:
    """A small attribute; None where there is none, or one that promises more than a few words.

    A damaged one may promise billions of texts, which the library would read one after the other.
    """
    if name not in item.attrs:
        return None
    stored = item.attrs.get_id(name)
    if math.prod(stored.shape or ()) > _MOST_WORDS or stored.get_storage_size() > _MOST_WORD_BYTES:
        return None
    return item.attrs[name]


def text_of(value: object) -> str:
    """A string attribute or data set as text; empty for anything else."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return str(value).strip() if isinstance(value, str) else ""
