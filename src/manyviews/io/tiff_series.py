"""Scans as TIFF files: a folder with an image a file, or a stack; flats, darks and a list of angles beside
them.

The files of a folder are in the order of the numbers in their names. Those whose names begin with ``flat``,
``dark`` and the like are flats and darks; they may lie in folders of such names, or beside the folder of the
projections, as Savu has them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, quoted, shortened
from manyviews.io.frames import Float64, Int64, ScanFile, check_shape, everything
from manyviews.io.text import read_number_rows

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUFFIXES = (".tif", ".tiff")
_FLATS = re.compile(r"^(flat|white|open|bright|gain|ff|ob)", re.IGNORECASE)
_DARKS = re.compile(r"^(dark|df)", re.IGNORECASE)
_ANGLES = re.compile(r"(angle|theta|rotation)", re.IGNORECASE)
_ANGLE_SUFFIXES = (".txt", ".tlt", ".rawtlt", ".csv", ".dat")
_MOST_PAGES = 1 << 20
_MOST_PAGE_BYTES = 1 << 30


@dataclass(frozen=True)
class TiffFrames:
    """Images in TIFF files, ``pages`` of each file; see `manyviews.io.frames.Frames`.

    ``offsets`` are where the images of a file lie one after the other, of which it describes only the first,
    as ImageJ writes large stacks; 0 for all other files.
    """

    files: tuple[Path, ...]
    pages: tuple[int, ...]
    offsets: tuple[int, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def read(self, frames: Int64, rows: slice) -> NDArray[Any]:
        """Rows of the given frames ``(k, row, column)``; `InputError` where they cannot be read."""
        firsts = np.cumsum([0, *self.pages])
        first, last = rows.indices(self.shape[1])[:2]
        images = np.empty((len(frames), max(0, last - first), self.shape[2]), self.dtype)
        files = np.searchsorted(firsts, frames, side="right") - 1
        for number in np.unique(files).tolist():
            places = np.flatnonzero(files == number)
            with _opened(self.files[number]) as tiff:
                for place, page in zip(
                    places.tolist(), (frames[places] - firsts[number]).tolist(), strict=True
                ):
                    if self.offsets[number]:
                        images[place] = self._plain(tiff, number)[page, first:last]
                    else:
                        images[place] = self._image(tiff.pages[page], self.files[number])[first:last]
        return images

    def _plain(self, tiff: Any, number: int) -> NDArray[Any]:
        """All images of a file that lie one after the other, mapped."""
        kind = self.dtype.newbyteorder(tiff.byteorder)
        shape = (self.pages[number], *self.shape[1:])
        return np.memmap(self.files[number], kind, "r", self.offsets[number], shape)

    def _image(self, page: Any, path: Path) -> NDArray[Any]:
        """A page, which in a file that has changed or is damaged may be anything."""
        _check_page(page, path)
        image = page.asarray()
        if image.shape != self.shape[1:]:
            raise _other_size(path, image.shape, self.shape[1:], self.files[0])
        return np.asarray(image, self.dtype)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import logging

    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said in a sentence
    try:
        with tifffile.TiffFile(path) as tiff:
            yield tiff
    except InputError:
        raise
    except Exception as error:  # the library raises of nearly every kind where a file is damaged
        raise InputError(
            f"cannot be read as TIFF ({shortened(error)})", path=path, fix="copy the file again"
        ) from error


def _check_page(page: Any, path: Path) -> None:
    if page.samplesperpixel != 1 or len(page.shape) != 2:
        raise InputError(
            f"holds pictures of shape {quoted(page.shape)}, not grey values",
            path=path,
            fix="save grey values",
        )
    if page.dtype is None or np.dtype(page.dtype).kind not in "iuf":
        raise InputError("holds no grey values of a usual type", path=path)
    if page.nbytes > _MOST_PAGE_BYTES:
        raise InputError(f"promises an image of {page.nbytes} bytes", path=path, fix="copy the file again")


def _plain_stack(tiff: Any, page: Any) -> tuple[int, int]:
    """How many images ImageJ says there are, and where they begin: it describes only the first of a large
    stack.
    """
    count = int((tiff.imagej_metadata or {}).get("images", 1))
    if count <= 1 or page.compression != 1 or not page.is_contiguous:
        return 1, 0
    offset = int(page.dataoffsets[0])
    if count > _MOST_PAGES or tiff.filehandle.size < offset + count * page.nbytes:
        raise InputError(
            f"promises {count} images, for which it is too short",
            path=tiff.filehandle.path,
            fix="copy it again",
        )
    return count, offset


def _other_size(path: Path, shape: tuple[int, ...], right: tuple[int, ...], first: Path) -> InputError:
    return InputError(
        f"is {shape[1]} x {shape[0]} pixels but {first.name} is {right[1]} x {right[0]}",
        path=path,
        fix="give images of one size",
    )


def open_tiffs(files: Sequence[Path]) -> TiffFrames:
    """Images of one size in files, in their order; the headers are read.

    `InputError` if a file cannot be read, is no grey TIFF, or is of another size or type than the first.
    """
    pages, offsets, shapes, kinds = [], [], [], []
    for path in files:
        with _opened(path) as tiff:
            count, offset = len(tiff.pages), 0
            if not 0 < count <= _MOST_PAGES:
                raise InputError(f"has {count} images", path=path)
            page = tiff.pages[0]
            _check_page(page, path)
            if count == 1 and tiff.is_imagej:
                count, offset = _plain_stack(tiff, page)
            pages.append(count)
            offsets.append(offset)
            shapes.append((int(page.shape[0]), int(page.shape[1])))
            kinds.append(np.dtype(page.dtype).newbyteorder("="))
    for path, shape, kind in zip(files, shapes, kinds, strict=True):
        if shape != shapes[0]:
            raise _other_size(path, shape, shapes[0], files[0])
        if kind != kinds[0]:
            raise InputError(f"holds {kind.name} but {files[0].name} {kinds[0].name}", path=path)
    whole = check_shape((sum(pages), *shapes[0]), files[0], "TIFF")
    return TiffFrames(tuple(files), tuple(pages), tuple(offsets), whole, kinds[0])


def is_tiff(path: Path) -> bool:
    """Whether a file begins as TIFF."""
    try:
        with open(path, "rb") as handle:
            return handle.read(4) in SIGNATURES
    except (OSError, ValueError):
        return False


def tiff_files(folder: Path) -> list[Path]:
    """The TIFF files of a folder, in the order of the numbers in their names."""
    return sorted(
        (path for path in _listed(folder) if path.suffix.lower() in SUFFIXES and path.is_file()),
        key=_by_number,
    )


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", path=folder) from error


def _by_number(path: Path) -> tuple[object, ...]:
    """Names with their numbers as numbers: 2 before 10, whether written 2 or 002."""
    parts = re.split(r"(\d+)", path.name)
    return tuple((0, int(part), "") if part.isdigit() and part.isascii() else (1, 0, part) for part in parts)


def read_tiff_stack(path: Path) -> ScanFile:
    """One file with all projections, with a list of angles beside it; no image is read."""
    return _scan_file(path, path.parent, [path], [], [], stem=_stem(path))


def read_tiff_folder(folder: Path) -> ScanFile:
    """A folder of files, or a folder that holds the one with the projections; no image is read.

    `InputError` if it is not clear which files are the projections.
    """
    own = tiff_files(folder)
    below = {path: tiff_files(path) for path in _listed(folder) if path.is_dir()}
    below = {path: files for path, files in below.items() if files}
    flats = [path for path in own if _FLATS.match(path.name)]
    darks = [path for path in own if _DARKS.match(path.name)]
    images = [path for path in own if path not in flats and path not in darks]
    for path, files in below.items():
        if _FLATS.match(path.name):
            flats += files
        elif _DARKS.match(path.name):
            darks += files
    others = [path for path in below if not _FLATS.match(path.name) and not _DARKS.match(path.name)]
    if not images:
        if len(others) != 1:
            names = ", ".join(path.name for path in others[:4])
            what = f"has no TIFF files but in {names}" if others else "has no TIFF files with projections"
            raise InputError(what, path=folder, fix="give the folder of the projections")
        images = [
            path for path in below[others[0]] if not _FLATS.match(path.name) and not _DARKS.match(path.name)
        ]
        flats += [path for path in below[others[0]] if _FLATS.match(path.name)]
        darks += [path for path in below[others[0]] if _DARKS.match(path.name)]
    if not images:
        raise InputError("has no TIFF files with projections", path=folder, fix="give their folder")
    return _scan_file(folder, folder, images, flats, darks, stem="")


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _scan_file(
    path: Path, folder: Path, images: list[Path], flats: list[Path], darks: list[Path], *, stem: str
) -> ScanFile:
    projections = open_tiffs(images)
    theta, source, warnings = angles_beside(folder, stem)
    notes = []
    for name, files in (("flats", flats), ("darks", darks)):
        if files:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            notes.append(f"{name}: {files[0].name}{more}, by name")
    if len(images) > 1:
        notes.append(f"projections: {images[0].name} to {images[-1].name}, in the order of their numbers")
    return ScanFile(
        path=path,
        kind="folder of TIFF files" if len(images) > 1 else "TIFF stack",
        projections=everything(projections),
        theta_degrees=theta,
        theta_source=source,
        flats=everything(open_tiffs(flats)) if flats else None,
        darks=everything(open_tiffs(darks)) if darks else None,
        notes=tuple(notes),
        warnings=warnings,
    )


def angles_beside(folder: Path, stem: str) -> tuple[Float64 | None, str, tuple[str, ...]]:
    """The one list of angles in a folder: called as the stack is, or with ``angle`` or ``theta`` in its name.

    Without one, or with several, None and the reason.
    """
    files = [path for path in _listed(folder) if path.suffix.lower() in _ANGLE_SUFFIXES and path.is_file()]
    named = [path for path in files if stem and path.name.split(".")[0] == stem]
    found = named or [path for path in files if _ANGLES.search(path.stem)]
    if not found:
        return None, f"there is no list of angles in {folder.name or folder}", ()
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        return None, f"it may be any of {names}", ()
    try:
        rows = read_number_rows(found[0], meaning="an angle")
    except InputError as error:
        return None, error.problem, ()
    if any(len(row.values) != 1 for row in rows):
        return None, f"{found[0].name} has more than an angle a line", ()
    return np.array([row.values[0] for row in rows]), str(found[0]), ()
