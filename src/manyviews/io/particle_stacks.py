"""Where the image stacks of a particle table are, and whether their headers fit the table.

A table names its stacks relative to the folder in which RELION or cryoSPARC ran. A name may come from anyone:
it is followed within one folder only, never out of it through ``..``, an absolute path or a link.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from manyviews.errors import InputError, quoted
from manyviews.io.mrc_header import MrcHeader, read_header
from manyviews.io.particle_table import OpticsGroup, ParticleTable

PARENTS_SEARCHED = 4
"""How far above the table the project folder is looked for; jobs lie two or three folders below it."""

_LONGEST_NAME = 4096
_ROOT_HINT = "give the folder that holds the images with --data-root"
_CRYOSPARC_IMPORT = re.compile(r"^\d{15,}_")


def locate_stacks(
    names: Sequence[str], *, source: Path, data_root: Path | None = None, must_exist: bool = True
) -> tuple[Path, ...]:
    """Real path of every stack, in order.

    Parameters
    ----------
    names
        As the table has them. cryoSPARC's leading ``>`` is taken off.
    source
        The table.
    data_root
        Folder within which all stacks must lie, links followed; it is searched first, then the folder of the
        table and those above it up to ``data_root``. Left out: the folder of the table and four above it are
        searched, and a stack must lie within the one where its name is found.
    must_exist
        False: a stack that is not found gets the path where it was looked for first.

    Raises
    ------
    InputError
        If a stack is not found, or its name leads out of the folder.
    """
    if data_root is not None and not os.path.isdir(data_root):
        raise InputError("is not a folder", path=data_root, fix=_ROOT_HINT)
    bases = _bases(Path(os.path.abspath(source)).parent, data_root)
    return tuple(_locate(name, bases, source, data_root, must_exist) for name in names)


def folder_to_give(table: ParticleTable, folder: Path) -> Path | None:
    """The ``data_root`` that a copy of a table in ``folder`` needs, so that its images are found; None: none.

    That is the folder to which the names of the table's stacks are relative.
    """
    bases = _bases(Path(os.path.abspath(folder)), None)
    for name, stack in zip(table.stack_names, table.stacks, strict=False):
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


def _locate(name: str, bases: list[Path], source: Path, data_root: Path | None, must_exist: bool) -> Path:
    plain = name.removeprefix(">")
    shown = quoted(name)
    if not plain or len(plain) > _LONGEST_NAME or not plain.isprintable():
        raise InputError(f"the image path {shown} is not a possible file name", path=source)
    leads_out = plain.startswith("/") or ".." in PurePosixPath(plain).parts
    if leads_out and data_root is None:
        raise InputError(f"the image path {shown} leads out of the project", path=source, fix=_ROOT_HINT)
    found = next((base for base in bases if os.path.isfile(base / plain)), None)
    if found is None and must_exist:
        raise InputError(
            f"the image stack {shown} is neither in {bases[0]} nor in the folders searched next",
            path=source,
            fix=_ROOT_HINT,
        )
    base = bases[0] if found is None else found
    real, root = (
        Path(os.path.realpath(base / plain)),
        os.path.realpath(base if data_root is None else data_root),
    )
    if not real.is_relative_to(root):
        raise InputError(f"the image path {shown} leads out of {root}", path=source, fix=_ROOT_HINT)
    return real


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
    """Read the headers of all stacks; the table with the image sizes of its optics groups filled in.

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
    return replace(table, optics=tuple(groups))


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
