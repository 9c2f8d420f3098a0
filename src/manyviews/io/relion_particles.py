"""RELION particle STAR files: 3.0 (one table), 3.1 and 5.0 (optics groups) read, the 3.1 form written.

Source: RELION 3.1 ``metadata_label.h``, ``obs_model.cpp``; for 3.0, pixel size = detector pixel size (um)
* 1e4 / magnification. RELION 3.1.3 keeps labels that it does not know and says so in a line of its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, quoted
from manyviews.io.particle_stacks import check_stacks, locate_stacks
from manyviews.io.particle_table import IDENTITY, OpticsGroup, ParticleTable
from manyviews.io.relion_optics import OPTICS_LABELS, optics_columns, optics_of_particles, read_optics
from manyviews.io.star import (
    StarBlock,
    column_numbers,
    column_whole_numbers,
    is_cut_within_line,
    read_star,
    write_star,
)

SIGN_LABEL = "manyviewsContrastSign"
"""Our own column, written where protein is dark in some images; RELION has none and takes it as white."""

_DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_SHIFTS = ("rlnOriginXAngst", "rlnOriginYAngst")
_PIXEL_SHIFTS = ("rlnOriginX", "rlnOriginY")
_TOMOGRAPHY = ("rlnTomoVisibleFrames", "rlnTomoParticleName")


@dataclass(frozen=True)
class _Reader:
    """The columns of the particle table and what is needed to complain about them."""

    path: Path
    columns: Mapping[str, list[str]]
    count: int

    def has(self, *labels: str) -> bool:
        return all(label in self.columns for label in labels)

    def require(self, labels: tuple[str, ...]) -> None:
        missing = [label for label in labels if label not in self.columns]
        if missing:
            raise _missing_columns(missing, self.path, "the particle table")

    def numbers(self, label: str, default: float) -> NDArray[np.float64]:
        if label not in self.columns:
            return np.full(self.count, default)
        return column_numbers(self.columns[label], label, self.path)

    def whole(self, label: str) -> NDArray[np.int64]:
        return column_whole_numbers(self.columns[label], label, self.path)

    def stacked(self, labels: tuple[str, ...]) -> NDArray[np.float64]:
        return np.stack([self.numbers(label, 0.0) for label in labels], axis=1)


def _missing_columns(missing: list[str], path: Path, table: str) -> InputError:
    """The sentence that names columns a table lacks."""
    columns = "the column" if len(missing) == 1 else "the columns"
    verb = "is" if len(missing) == 1 else "are"
    return InputError(
        f"{columns} {', '.join(missing)} {verb} missing in {table}",
        path=path,
        fix="add what is missing, or say that the images have no CTF",
    )


def read_relion_particles(
    path: Path,
    *,
    data_root: Path | None = None,
    with_images: bool = True,
    ctf: bool = True,
    pixel_size: float | None = None,
    dark_protein: bool = False,
) -> ParticleTable:
    """Read the particles of a RELION STAR file.

    Parameters
    ----------
    path
        The STAR file.
    data_root
        RELION's project folder, within which all images must lie; see `locate_stacks`.
    with_images
        Whether the stacks must be there; their headers are checked and tell sizes that the table does not.
    ctf
        False: CTF columns are not needed and not read, and images are taken as free of a CTF.
    pixel_size
        Angstrom, used where the file has none.
    dark_protein
        The images show protein dark, against RELION's rule.

    Raises
    ------
    InputError
        If the file is no particle table, lacks a column, holds something that is not a number, names an image
        that does not exist or lies outside the project, or mixes image sizes within an optics group.
    """
    path = Path(path)
    blocks = read_star(path)
    block = _particle_block(blocks, path)
    reader = _Reader(path, block.columns, len(block))
    optics_block = next((found for found in blocks if found.name == "optics"), None)
    if ctf:
        reader.require(_DEFOCUS)
    if optics_block is not None:
        reader.require(("rlnOpticsGroup",))
        optics, numbers = read_optics(optics_block, path, ctf=ctf, pixel_size=pixel_size)
        optics_index = _group_indices(reader, numbers)
    else:
        optics, optics_index = optics_of_particles(block, path, ctf=ctf, pixel_size=pixel_size)
    names, stack_index, section = _image_names(reader)
    used = {*_used_labels(reader), *(OPTICS_LABELS if optics_block is None else ())}
    stacks = locate_stacks(names, source=path, data_root=data_root, must_exist=with_images)
    zeros = np.zeros(reader.count)
    table = ParticleTable(
        stacks=stacks.paths,
        stack_names=names,
        stack_index=stack_index,
        section=section,
        optics=optics,
        optics_index=optics_index,
        defocus=reader.stacked(_DEFOCUS[:2]) if ctf else np.zeros((reader.count, 2)),
        defocus_angle=reader.numbers(_DEFOCUS[2], 0.0) if ctf else zeros,
        phase_shift=reader.numbers("rlnPhaseShift", 0.0) if ctf else zeros,
        b_factor=reader.numbers("rlnCtfBfactor", 0.0) if ctf else zeros,
        scale=reader.numbers("rlnCtfScalefactor", 1.0) if ctf else np.ones(reader.count),
        angles=reader.stacked(_ANGLES) if reader.has(*_ANGLES) else None,
        shifts=_shifts(reader, optics, optics_index),
        half=_halves(reader),
        contrast_sign=_signs(reader, dark_protein),
        extra={label: values for label, values in block.columns.items() if label not in used},
        warnings=(*optics_warnings(optics), *stacks.warnings, *_end_warnings(path)),
    )
    return check_stacks(table, source=path) if with_images else table


def _end_warnings(path: Path) -> tuple[str, ...]:
    said = "the file ends within a line: is its last row whole, or was the file cut off?"
    return (said,) if is_cut_within_line(path) else ()


def _particle_block(blocks: tuple[StarBlock, ...], path: Path) -> StarBlock:
    found = [block for block in blocks if "rlnImageName" in block.columns]
    if not found:
        if any(label in block.columns for block in blocks for label in _TOMOGRAPHY):
            raise InputError("lists subtomograms, not particle images", path=path)
        raise InputError(
            "is not a particle table: the column rlnImageName is missing",
            path=path,
            fix="give a STAR file of extracted particles",
        )
    block = next((block for block in found if block.name == "particles"), found[0])
    if any(label in block.columns for label in _TOMOGRAPHY):
        raise InputError("lists subtomograms, not particle images", path=path)
    if len(block) == 0:
        raise InputError("holds no particles", path=path, fix="give a STAR file of extracted particles")
    return block


def _group_indices(reader: _Reader, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of every particle's optics group, whatever numbers the groups have."""
    wanted = reader.whole("rlnOpticsGroup")
    order = np.argsort(numbers)
    found = order[np.clip(np.searchsorted(numbers, wanted, sorter=order), 0, len(numbers) - 1)]
    unknown = numbers[found] != wanted
    if unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        raise InputError(
            f"optics group {wanted[row]} is not in data_optics",
            path=reader.path,
            where=f"column rlnOpticsGroup, row {row + 1}",
        )
    return found.astype(np.int64)


def _image_names(reader: _Reader) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
    """Names of the stacks, each once, and for every particle which of them and which section from 0."""
    stacks: dict[str, int] = {}
    stack_index = np.empty(reader.count, dtype=np.int64)
    section = np.empty(reader.count, dtype=np.int64)
    for row, text in enumerate(reader.columns["rlnImageName"]):
        number, at, name = text.partition("@")
        if not (at and name and number.isdecimal() and number.isascii() and len(number) <= 12):
            raise InputError(
                f"{quoted(text)} is not an image number, '@' and a stack",
                path=reader.path,
                where=f"column rlnImageName, row {row + 1}",
            )
        if int(number) == 0:
            raise InputError(
                "images are counted from 1, not 0",
                path=reader.path,
                where=f"column rlnImageName, row {row + 1}",
            )
        # RELION takes ':mrcs' after a name as the format to read it in.
        stack_index[row] = stacks.setdefault(name.removesuffix(":mrcs"), len(stacks))
        section[row] = int(number) - 1
    return tuple(stacks), stack_index, section


def _shifts(
    reader: _Reader, optics: tuple[OpticsGroup, ...], optics_index: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """``(N, 2)`` angstrom: from angstrom columns, else from 3.0's columns in pixels."""
    if reader.has(*_SHIFTS):
        return reader.stacked(_SHIFTS)
    if not reader.has(*_PIXEL_SHIFTS):
        return None
    pixel_sizes = np.array([group.pixel_size for group in optics])[optics_index]
    shifts: NDArray[np.float64] = reader.stacked(_PIXEL_SHIFTS) * pixel_sizes[:, np.newaxis]
    return shifts


def _halves(reader: _Reader) -> NDArray[np.int64] | None:
    if not reader.has("rlnRandomSubset"):
        return None
    halves = reader.whole("rlnRandomSubset")
    if not halves.any():
        return None  # 0 is how RELION says that none were drawn
    bad = (halves < 1) | (halves > 2)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        where = f"column rlnRandomSubset, row {row + 1}"
        raise InputError(f"half set {halves[row]} is neither 1 nor 2", path=reader.path, where=where)
    return halves


def _signs(reader: _Reader, dark_protein: bool) -> NDArray[np.int64] | None:
    if dark_protein:
        return np.full(reader.count, -1, dtype=np.int64)
    if not reader.has(SIGN_LABEL):
        return None
    signs = reader.whole(SIGN_LABEL)
    if not np.all(np.abs(signs) == 1):
        raise InputError(
            "a contrast sign is neither 1 nor -1", path=reader.path, where=f"column {SIGN_LABEL}"
        )
    return signs


def _used_labels(reader: _Reader) -> tuple[str, ...]:
    """Labels whose values have a field of their own; what is incomplete stays text."""
    groups = (_DEFOCUS, _ANGLES, _SHIFTS, _PIXEL_SHIFTS)
    complete = tuple(label for group in groups if reader.has(*group) for label in group)
    single = ("rlnImageName", "rlnOpticsGroup", "rlnPhaseShift", "rlnCtfBfactor", "rlnCtfScalefactor")
    return (*complete, *single, "rlnRandomSubset", SIGN_LABEL)


def optics_warnings(optics: tuple[OpticsGroup, ...]) -> tuple[str, ...]:
    """What the optics groups say that the model does not use, a sentence each."""
    tilt = max(float(np.hypot(*group.beam_tilt_mrad)) for group in optics)
    found = {
        f"the beam tilt (up to {tilt:.2f} mrad) is kept but not corrected": tilt > 0,
        "aberrations beyond defocus and spherical aberration are kept but not corrected": any(
            any(group.odd_zernike) or any(group.even_zernike) for group in optics
        ),
        "the anisotropic magnification is kept but not corrected": any(
            np.abs(np.subtract(group.magnification, IDENTITY)).max() > 1e-6 for group in optics
        ),
        "the images were multiplied by their CTF already": any(group.ctf_premultiplied for group in optics),
    }
    return tuple(sentence for sentence, is_so in found.items() if is_so)


def write_relion_particles(path: Path, table: ParticleTable, *, overwrite: bool = False) -> None:
    """Write the table as RELION 3.1 does; 3.1 and later read it.

    Images keep the names they had, so RELION finds them from the folder where it found them before; a stack
    whose name does not end in ``.mrcs`` gets RELION's suffix ``:mrcs``, without which it would be taken for a
    volume. Columns with fields of their own come first, then `ParticleTable.extra`. Optics groups without
    particles are left out and the others numbered from 1.

    Raises
    ------
    InputError
        As `write_star`.
    """
    used, numbers = np.unique(table.optics_index, return_inverse=True)
    names = table.stack_names or tuple(str(stack) for stack in table.stacks)
    names = tuple(name if name.endswith(".mrcs") else f"{name}:mrcs" for name in names)
    pairs = zip(table.section.tolist(), table.stack_index.tolist(), strict=True)
    columns = {
        "rlnImageName": [f"{section + 1:06d}@{names[stack]}" for section, stack in pairs],
        "rlnOpticsGroup": [str(number + 1) for number in numbers.tolist()],
        **_numbers(_DEFOCUS, np.column_stack([table.defocus, table.defocus_angle])),
        **_numbers(("rlnPhaseShift",), table.phase_shift),
        **_numbers(("rlnCtfBfactor",), table.b_factor),
        **_numbers(("rlnCtfScalefactor",), table.scale),
        **({} if table.angles is None else _numbers(_ANGLES, table.angles)),
        **({} if table.shifts is None else _numbers(_SHIFTS, table.shifts)),
        **_whole("rlnRandomSubset", table.half),
    }
    if table.contrast_sign is not None and (table.contrast_sign < 0).any():
        columns |= _whole(SIGN_LABEL, table.contrast_sign)
    columns |= {label: values for label, values in table.extra.items() if label not in columns}
    groups = tuple(table.optics[index] for index in used)
    blocks = [StarBlock("optics", optics_columns(groups)), StarBlock("particles", columns)]
    write_star(path, blocks, overwrite=overwrite)


def _numbers(labels: tuple[str, ...], values: NDArray[np.float64]) -> dict[str, list[str]]:
    table = values.reshape(len(values), -1)
    return {
        label: [f"{value:.6f}" for value in column.tolist()]
        for label, column in zip(labels, table.T, strict=True)
    }


def _whole(label: str, values: NDArray[np.int64] | None) -> dict[str, list[str]]:
    return {} if values is None else {label: [str(value) for value in values.tolist()]}
