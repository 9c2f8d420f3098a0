"""The images of a tilt series: an MRC file, or a list of files with one image each (`open_stack`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, quoted
from manyviews.io.image_list import MRC_SUFFIXES, ListedImage, is_image_list, read_image_list
from manyviews.io.mrc import MrcStack
from manyviews.io.mrc_header import HEADER_BYTES, MrcHeader, read_header

_PARENTS_SEARCHED = 4
_PIXEL_TOLERANCE = 0.001
_MOVIE_SUFFIXES = (".eer", ".tif", ".tiff")
_LIST_THEM = (
    "write their names into a text file, one a line in the order of the angles, and give that as STACK"
)


def open_stack(path: Path) -> MrcStack:
    """The images of one tilt series, from an MRC file or a list of images (`read_image_list`).

    `InputError` as of `read_header` and `read_image_list`, or if the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise _is_folder(path)
    return ListedStack(path) if is_image_list(path) else MrcStack(path)


def open_stacks(paths: Sequence[Path]) -> tuple[MrcStack, ...]:
    """The images of several tilt series, a path each; `InputError` also where each holds a single image."""
    stacks = tuple(open_stack(path) for path in paths)
    if len(stacks) > 1 and all(stack.shape[0] == 1 for stack in stacks):
        raise InputError(
            f"is one of {len(stacks)} files of a single image each, but a STACK holds a whole tilt series",
            path=stacks[0].path,
            fix=_LIST_THEM,
        )
    return stacks


def _is_folder(path: Path) -> InputError:
    """The sentence about a folder that was given as stack, with what it holds."""
    shown = f"{path}, the folder you are in," if str(path) == "." else str(path)
    try:
        files = sorted(child for child in path.iterdir() if child.suffix.lower() in MRC_SUFFIXES)
    except OSError:
        files = []
    if len(files) == 1:
        return InputError(f"{shown} is a folder, not a stack", fix=f"give the stack in it, {files[0]}")
    if not files:
        return InputError(f"{shown} is a folder without MRC files, not a stack", fix="name an MRC file")
    return InputError(
        f"{shown} is a folder of {len(files)} MRC files, not a stack",
        fix=f"give one of them, e.g. {files[0].name}; if each is one image, {_LIST_THEM}",
    )


class ListedStack(MrcStack):
    """Images in files of their own as the sections of one stack, in the order of their list.

    Its ``header`` speaks for all images; ``listed_tilts`` in it are the angles of the list.

    Attributes
    ----------
    files
        The list and the images' files; what identifies the input.
    listed_axis
        Direction of the tilt axis in the raw images that the list gives, degrees, or None.

    Raises
    ------
    InputError
        If an image is not found, is not one MRC image, or has another size than the first.
    """

    def __init__(self, path: Path) -> None:
        path = Path(path)
        images = read_image_list(path)
        found = _find_all(images, path)
        self._headers = [_single(*pair, path) for pair in zip(images, found, strict=True)]
        self._sections = [image.section or 0 for image in images]
        super().__init__(path, _common_header(path, images, self._headers))
        self.files = (path, *dict.fromkeys(found))
        axes = [image.axis for image in images if image.axis is not None]
        self.listed_axis = float(np.median(axes)) if axes else None

    @property
    def stored_bytes(self) -> int:
        """What the images take on the disk, decompressed."""
        return sum({header.path: header.needed_bytes for header in self._headers}.values())

    def file_of(self, section: int) -> Path:
        """The image's own file."""
        return self._headers[section].path

    def _stored(self, sections: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        for section in sections.tolist():
            yield self._headers[section].map_pixels()[self._sections[section]]


def _find_all(images: Sequence[ListedImage], path: Path) -> list[Path]:
    """The file of every image; different names never stand for one file."""
    found = [_find(image, path) for image in images]
    names: dict[tuple[str, int | None], str] = {}
    for image, file in zip(images, found, strict=True):
        other = names.setdefault((os.path.realpath(file), image.section), image.name)
        if other != image.name:
            raise InputError(
                f"{image.name!r} and {other!r} would both be the file {file}",
                path=path,
                where=image.where,
                fix="put the images where the list says they are",
            )
    return found


def _named_places(name: str, path: Path) -> list[Path]:
    """Where a list's name may mean: from its folder or one above it, as RELION names from its project."""
    folder = Path(os.path.abspath(path)).parent
    return [base / name for base in [folder, *folder.parents][: _PARENTS_SEARCHED + 1]]


def _find(image: ListedImage, path: Path) -> Path:
    """The file as it is named, else its last part beside the list.

    A movie's name stands for the image that was made of it: the same name with ``.mrc``, beside the movie or
    the list, or in Warp's folder ``average`` there.
    """
    last = PurePosixPath(image.name).name
    places = [*_named_places(image.name, path), Path(os.path.abspath(path)).parent / last]
    made = [place.parent / folder / f"{place.stem}.mrc" for place in places for folder in (".", "average")]
    is_movie = PurePosixPath(last).suffix.lower() in _MOVIE_SUFFIXES
    candidates = made if is_movie else [*places, *made]
    found = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
    if found is not None:
        return found
    if is_movie and any(os.path.isfile(place) for place in places):
        raise InputError(
            f"{quoted(image.name)} is a movie or TIFF image, and no MRC image made of it is beside it",
            path=path,
            where=image.where,
            fix=f"put the motion-corrected {PurePosixPath(last).stem}.mrc beside it, or beside the list",
        )
    raise InputError(
        f"the image {quoted(image.name)} is neither there nor beside the list",
        path=path,
        where=image.where,
        fix="give names relative to the list or to a folder above it",
    )


def _single(image: ListedImage, file: Path, path: Path) -> MrcHeader:
    header = read_header(file)
    count = header.shape[0]
    if image.section is None and count != 1:
        raise InputError(
            f"{file} holds {count} images where the list names one (is it a movie?)",
            path=path,
            where=image.where,
            fix=f"give motion-corrected images, or write the section before the name: 1@{file.name}",
        )
    if image.section is not None and image.section >= count:
        raise InputError(
            f"image {image.section + 1} of {file} was asked for but it has {count}",
            path=path,
            where=image.where,
            fix="give the stack that belongs to the list",
        )
    return header


def _common_header(path: Path, images: Sequence[ListedImage], headers: Sequence[MrcHeader]) -> MrcHeader:
    """The header of the whole, from those of the images."""
    first = headers[0]
    _, rows, columns = first.shape
    for header in headers:
        if header.shape[1:] != (rows, columns):
            raise InputError(
                f"is {header.shape[2]} x {header.shape[1]} pixels but {first.path} is {columns} x {rows}",
                path=header.path,
                fix="give images of one size",
            )
    pixel_size, said = _common_pixel_size(headers)
    said += _moved(path, images, headers)
    said += [f"{header.path}: {text}" for header in headers for text in header.warnings][:3]
    tilts = tuple(image.tilt for image in images if image.tilt is not None)
    return replace(
        first,
        path=path,
        shape=(len(images), rows, columns),
        pixel_size=pixel_size,
        data_offset=HEADER_BYTES,
        is_volume=False,
        extended_type="",
        warnings=tuple(said),
        compression="",
        stored_axes=(1, 2, 3),
        listed_tilts=tilts if len(tilts) == len(images) else (),
    )


def _moved(path: Path, images: Sequence[ListedImage], headers: Sequence[MrcHeader]) -> list[str]:
    """A sentence about images that are not where, or not called what, the list says."""
    moved = [
        f"{image.name} as {header.path}"
        for image, header in zip(images, headers, strict=True)
        if header.path not in _named_places(image.name, path)
    ]
    return [f"{len(moved)} of {len(images)} images were found elsewhere, {moved[0]}"] if moved else []


def _common_pixel_size(
    headers: Sequence[MrcHeader],
) -> tuple[tuple[float, float, float] | None, list[str]]:
    """The pixel size of all images, None where they differ, and what to say then."""
    sizes = [header.pixel_size for header in headers]
    known = [size for size in sizes if size is not None]
    if not known:
        return None, []
    low, high = (pick(known, key=lambda size: size[0]) for pick in (min, max))
    if high[0] - low[0] > _PIXEL_TOLERANCE * low[0]:
        return None, [
            f"the headers of the images say pixels of {low[0]:g} to {high[0]:g} A, so none is taken"
        ]
    return known[0], []
