"""Where the image stacks of a particle table are, and whether their headers fit the table.

A table names its stacks relative to the folder in which RELION or cryoSPARC ran. A name may come from anyone:
it is followed within one folder only, never out of it through ``..``, an absolute path or a link. Images that
were moved are found in a folder that the user names by the last parts of their names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from manyviews.errors import InputError, quoted
from manyviews.io.moved_files import MovedFiles
from manyviews.io.mrc_header import MrcHeader, read_header
from manyviews.io.particle_table import OpticsGroup, ParticleTable

PARENTS_SEARCHED = 4
"""How far above the table the project folder is looked for; jobs lie two or three folders below it."""

_LONGEST_NAME = 4096
_ROOT_HINT = "give the folder that holds the images with --data-root"
_MOST_ODDITIES = 5
_CRYOSPARC_IMPORT = re.compile(r"^\d{15,}_")


@dataclass(frozen=True)
class FoundStacks:
    """Real ``paths`` of stacks, in the order of their names, and ``warnings`` about how they were found."""

    paths: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def locate_stacks(
    names: Sequence[str], *, source: Path, data_root: Path | None = None, must_exist: bool = True
) -> FoundStacks:
    """Real path of every stack, in order.

    Parameters
    ----------
    names
        As the table has them. cryoSPARC's leading ``>`` is taken off.
    source
        The table.
    data_root
        Folder within which all stacks must lie, links followed; it is searched first, then the folder of the
        table and those above it up to ``data_root``, then for a file anywhere in it whose path ends as the
        name does. Left out: the folder of the table and four above it are searched, and a stack must lie
        within the one where its name is found.
    must_exist
        False: a stack that is not found gets the path where it was looked for first.

    Raises
    ------
    InputError
        If a stack is not found, its name leads out of the folder, or names that were not found as they are
        fit several files, or one file together.
    """
    if data_root is not None and not os.path.isdir(data_root):
        raise InputError("is not a folder", path=data_root, fix=_ROOT_HINT)
    bases = tuple(_bases(Path(os.path.abspath(source)).parent, data_root))
    search = _Search(source, data_root, bases, MovedFiles(data_root))
    found = [search.locate(name, must_exist) for name in names]
    return FoundStacks(tuple(path for path, _ in found), _moved(names, found, source))


def _moved(names: Sequence[str], found: Sequence[tuple[Path, bool]], source: Path) -> tuple[str, ...]:
    """What to say about stacks found by the last parts of their names; no two names may mean one file."""
    of_file: dict[Path, dict[str, None]] = {}
    for name, (path, _) in zip(names, found, strict=True):
        of_file.setdefault(path, {})[name] = None
    moved = [(name, path) for name, (path, is_moved) in zip(names, found, strict=True) if is_moved]
    for _, path in moved:
        if len(of_file[path]) > 1:
            first, second = list(of_file[path])[:2]
            raise InputError(
                f"{quoted(first)} and {quoted(second)} would both be {path}",
                path=source,
                fix="put the images into folders as the table names them, and give that with --data-root",
            )
    if not moved:
        return ()
    said = f"{len(moved)} of {len(names)} image stacks were found by the last parts of their names"
    return (f"{said}: {moved[0][0][:100]} as {moved[0][1]}",)


def project_folder(names: Sequence[str], *, source: Path, data_root: Path | None = None) -> Path | None:
    """The folder from which RELION finds all stacks by their names in the table ``source``; None: no such.

    Looked for where `locate_stacks` looks. With absolute names any will do, and it is that of the table.
    """
    plain = [name.removeprefix(">") for name in names]
    bases = _bases(Path(os.path.abspath(source)).parent, data_root)
    return next((base for base in bases if all(os.path.isfile(base / name) for name in plain)), None)


def folder_to_give(table: ParticleTable, folder: Path) -> Path | None:
    """The ``data_root`` that a copy of a table in ``folder`` needs, so that its images are found; None: none.

    That is the folder to which the names of the table's stacks are relative.
    """
    return root_of_names(table.stack_names, table.stacks, folder)


def root_of_names(names: Sequence[str], files: Sequence[Path], folder: Path) -> Path | None:
    """As `folder_to_give`, of a table's names and the files that they were found to be."""
    bases = _bases(Path(os.path.abspath(folder)), None)
    for name, stack in zip(names, files, strict=False):
        plain = name.removeprefix(">")
        if os.path.isabs(plain) or any(os.path.isfile(base / plain) for base in bases):
            continue
        parts = len(PurePosixPath(plain).parts)
        return stack.parents[min(parts, len(stack.parents)) - 1] if parts else stack.parent
    return None


def _bases(folder: Path, data_root: Path | None) -> list[Path]:
    """Folders in which names are looked up, in order."""
    above = [folder, *folder.parents]
    if data_root is None:
        return [base for base in above[: PARENTS_SEARCHED + 1] if base == folder or base != base.parent]
    root = Path(os.path.abspath(data_root))
    return [root, *(base for base in above if base != root and base.is_relative_to(root))]


@dataclass(frozen=True)
class _Search:
    """Where the stacks of one table are looked for."""

    source: Path
    data_root: Path | None
    bases: tuple[Path, ...]
    moved: MovedFiles

    def locate(self, name: str, must_exist: bool) -> tuple[Path, bool]:
        """Real path of a stack, and whether it was found by the last parts of its name only."""
        plain = name.removeprefix(">")
        shown = quoted(name)
        if not plain or len(plain) > _LONGEST_NAME or not plain.isprintable():
            raise InputError(f"the image path {shown} is not a possible file name", path=self.source)
        leads_out = plain.startswith("/") or ".." in PurePosixPath(plain).parts
        if leads_out and self.data_root is None:
            fix = self._root_for(self.bases[0] / plain)
            raise InputError(f"the image path {shown} leads out of the project", path=self.source, fix=fix)
        path = next((base / plain for base in self.bases if os.path.isfile(base / plain)), None)
        if path is not None:
            return self._within_root(path, shown), False
        if not must_exist:
            return self._within_root(self.bases[0] / plain, shown), False
        moved = self.moved.find(plain, self.source)
        if moved is not None:
            return self._within_root(moved, shown), True
        where = f"neither in {self.bases[0]} nor in the folders searched next"
        if self.data_root is not None:
            where = (
                f"not in {self.bases[0]}, nor is a file there that is called as its last part"
                " (in folders that are links was not looked)"
            )
        raise InputError(f"the image stack {shown} is {where}", path=self.source, fix=_ROOT_HINT)

    def _within_root(self, path: Path, shown: str) -> Path:
        base = next(base for base in self.bases if self.data_root is not None or path.is_relative_to(base))
        real, root = Path(os.path.realpath(path)), os.path.realpath(self.data_root or base)
        if not real.is_relative_to(root):
            what = f"the image path {shown} leads out of {root} to {real}"
            raise InputError(what, path=self.source, fix=self._root_for(real))
        return real

    def _root_for(self, image: Path) -> str:
        """What to give as --data-root: the folder that holds the table and the image."""
        if not os.path.isfile(image):
            return _ROOT_HINT
        both = os.path.commonpath([os.path.realpath(image), os.path.realpath(self.source)])
        return f"give the folder that holds both, with --data-root {both}"


def find_imported_name(name: str, *, source: Path, data_root: Path | None = None) -> str:
    """The name under which a stack that cryoSPARC imported can be found; ``name`` itself if none is better.

    cryoSPARC links imported stacks into its job folder and puts a number of many digits before their names.
    Copied elsewhere they lie beside the table, with or without that number.
    """
    bases = _bases(Path(os.path.abspath(source)).parent, data_root)
    plain = name.removeprefix(">")
    last = PurePosixPath(plain).name
    for candidate in (plain, last, _CRYOSPARC_IMPORT.sub("", last)):
        if candidate.isprintable() and any(os.path.isfile(base / candidate) for base in bases):
            return candidate
    return plain


def check_stacks(table: ParticleTable, *, source: Path) -> ParticleTable:
    """Read the headers of all stacks; the table with image sizes of its optics groups, and what is odd.

    Raises
    ------
    InputError
        If a stack cannot be read, its images are not square, a section does not exist, or sizes within an
        optics group differ.
    """
    headers = [read_header(path) for path in table.stacks]
    sections = np.array([header.shape[0] for header in headers])
    missing = table.section >= sections[table.stack_index]
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        stack = int(table.stack_index[row])
        raise InputError(
            f"image {int(table.section[row]) + 1} of {table.stacks[stack]} was asked for but it has"
            f" {sections[stack]}",
            path=source,
            where=f"particle {row + 1}",
            fix="give the stack that belongs to the table",
        )
    pairs = np.unique(np.stack([table.optics_index, table.stack_index], axis=1), axis=0)
    groups = list(table.optics)
    for group, stack in pairs.tolist():
        groups[group] = _with_size(groups[group], headers[stack], source)
    return replace(table, optics=tuple(groups), warnings=(*table.warnings, *_oddities(headers)))


def _oddities(headers: Sequence[MrcHeader]) -> list[str]:
    """What is odd about the stacks, in a few sentences, however many they are."""
    found: dict[tuple[str, ...], list[MrcHeader]] = {}
    for header in headers:
        if header.warnings:
            kinds = tuple(text.split(":")[0] for text in header.warnings)
            found.setdefault(kinds, []).append(header)
    sentences = []
    for alike in found.values():
        others = f"; so are {len(alike) - 1} other stacks" if len(alike) > 1 else ""
        sentences += [f"{alike[0].path}: {text}{others}" for text in alike[0].warnings]
    return sentences[:_MOST_ODDITIES]


def _with_size(group: OpticsGroup, header: MrcHeader, source: Path) -> OpticsGroup:
    rows, columns = header.shape[1:]
    if rows != columns:
        raise InputError(
            f"the images are {columns} x {rows} pixels, not square",
            path=header.path,
            fix="crop or pad them to squares",
        )
    if group.image_size not in (None, rows):
        raise InputError(
            f"the images of {header.path} are {rows} pixels wide but others of optics group"
            f" {quoted(group.name)}, or its column rlnImageSize, say {group.image_size}",
            path=source,
            fix="give each image size its own optics group",
        )
    return replace(group, image_size=rows)
