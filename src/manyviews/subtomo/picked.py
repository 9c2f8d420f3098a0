"""Where boxes are to be cut out: positions of any file, in voxels of the tomograms in which they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from manyviews.errors import InputError, quoted
from manyviews.io.particle_stacks import locate_stacks
from manyviews.io.positions import read_positions
from manyviews.io.star import read_star
from manyviews.io.subtomogram_formats import read_subtomograms
from manyviews.io.subtomogram_table import Float64, Int64, SubtomogramTable
from manyviews.io.volume_files import VolumeFile, volume_header
from manyviews.subtomo.options import ExtractOptions

_TEXT = (".txt", ".csv", ".xyz", ".coords")
_NAME, _FILE = "rlnTomoName", "rlnTomoReconstructedTomogram"
_ENDINGS = ("", ".mrc", ".rec", ".em")
_SAME = 1e-3


@dataclass(frozen=True)
class Picked:
    """Particles in tomograms.

    Attributes
    ----------
    table
        The particles, angles and shifts along the axes of the tomograms.
    rows
        ``(N,)`` the row of each in the file, from 0.
    tomograms
        The files, ``tomograms[index]`` for each particle.
    index
        ``(N,)``.
    pixel_size
        Angstrom, of all tomograms.
    voxels
        ``(N, 3)`` x y z, where the particles sit; the middle of the first voxel is 0.
    """

    table: SubtomogramTable
    rows: Int64
    tomograms: tuple[VolumeFile, ...]
    index: Int64
    pixel_size: float
    voxels: Float64


def pick(options: ExtractOptions) -> Picked:
    """Read the positions and the headers of the tomograms.

    Raises
    ------
    InputError
        If a file cannot be read, a tomogram is missing, voxel sizes or units are not known or differ, or one
        tomogram was given for positions in several.
    """
    is_text = options.positions.suffix.lower() in _TEXT
    if is_text and options.units is None:
        raise InputError(
            "the file does not say whether its positions are voxels or angstrom",
            path=options.positions,
            fix="give --units voxels or --units angstrom",
        )
    if not is_text and options.units is not None:
        raise InputError(
            "--units is for .txt and .csv files, the format of this one says them", path=options.positions,
            fix="leave it out, or give --position-pixel-size",
        )  # fmt: skip
    several = options.tomogram.is_dir() or options.tomogram.suffix.lower() == ".star"
    if several:
        names = _read(options, is_text, 1.0)[0].tomograms
        files = _in_folder(options, names) if options.tomogram.is_dir() else _in_list(options, names)
    else:
        files = (volume_header(options.tomogram),)
    size = _one_pixel_size(options, files)
    table, rows = _read(options, is_text, size)
    index = table.tomogram_index if several else None
    index = np.zeros(len(table), dtype=np.int64) if index is None else index
    if not several and len(table.tomograms) > 1:
        raise InputError(
            f"the positions lie in {len(table.tomograms)} tomograms but one was given",
            path=options.positions,
            fix=f"give the folder of all, or --only {quoted(table.tomograms[0])}",
        )
    flat = table.in_tomogram()
    if not several and _is_called_otherwise(flat.tomograms, files[0].path):
        said = f"the table calls the tomogram of its positions {flat.tomograms[0]}; taken to be"
        flat = replace(flat, warnings=(*flat.warnings, f"{said} {files[0].path.name}"))
    if flat.coordinates is None:
        raise InputError("holds no positions", path=options.positions, fix="give a table with coordinates")
    voxels = (flat.coordinates - flat.shifts) / size
    if flat.origin == "centre":
        sides = np.array([file.shape[::-1] for file in files], dtype=np.float64)
        voxels = voxels + sides[index] / 2
    return Picked(flat, rows, files, index, size, voxels)


def _read(
    options: ExtractOptions, is_text: bool, tomogram_pixel_size: float
) -> tuple[SubtomogramTable, Int64]:
    """The particles that are wanted, and their rows."""
    if is_text:
        table = _of_text(options, tomogram_pixel_size)
    else:
        counted = options.position_pixel_size
        is_star = options.positions.suffix.lower() == ".star"
        table = read_subtomograms(
            options.positions,
            pixel_size=None if is_star else counted,
            default_pixel_size=counted or tomogram_pixel_size,
            tomogram_pixel_size=counted,
            with_volumes=False,
        )
        is_told = any("pixel size" in text or "voxels" in text for text in (*table.notes, *table.warnings))
        if counted is None and not is_told:
            said = f"positions are taken to be counted in voxels of the tomogram, {tomogram_pixel_size:.5g} A"
            table = replace(table, warnings=(*table.warnings, said))
    rows = np.arange(len(table))
    if options.only is not None:
        if options.only not in table.tomograms:
            names = ", ".join(table.tomograms[:5]) or "none"
            raise InputError(
                f"no position lies in a tomogram {quoted(options.only)} (there are: {names})",
                path=options.positions,
                where="--only",
                fix="give the name as the table has it",
            )
        rows = np.flatnonzero(table.tomogram_index == table.tomograms.index(options.only))
        table = replace(
            table.select(rows), tomograms=(options.only,), tomogram_index=np.zeros(len(rows), dtype=np.int64)
        )
    return table, rows


def _of_text(options: ExtractOptions, tomogram_pixel_size: float) -> SubtomogramTable:
    found = read_positions(options.positions)
    size = options.position_pixel_size or tomogram_pixel_size
    unit = 1.0 if options.units == "angstrom" else size
    names = tuple(dict.fromkeys(found.tomograms))
    index = np.array([names.index(name) for name in found.tomograms], dtype=np.int64) if names else None
    return SubtomogramTable(
        pixel_size=tomogram_pixel_size,
        shifts=np.zeros(found.values.shape),
        coordinates=found.values * unit,
        tomograms=names,
        tomogram_index=index,
    )


def _is_called_otherwise(names: Sequence[str], path: Path) -> bool:
    """Whether neither name is a part of the other; numbers are no names."""
    stems = [Path(name).stem.lower() for name in names if not name.isdecimal()]
    file = path.stem.lower()
    return bool(stems) and stems[0] not in file and file not in stems[0]


def _in_folder(options: ExtractOptions, names: Sequence[str]) -> tuple[VolumeFile, ...]:
    """The tomograms of these names."""
    _require_names(options, names)
    files = []
    for name in names:
        plain = Path(name)
        if plain.is_absolute() or ".." in plain.parts or not name.strip():
            raise InputError(
                f"the name of the tomogram {quoted(name)} leads out of the folder", path=options.positions,
                fix="give tomograms one by one, with --only",
            )  # fmt: skip
        there = [path for path in _candidates(options.tomogram, plain) if path.is_file()]
        if not there:
            raise InputError(
                f"there is no tomogram {quoted(name)}, as {name}.mrc, {name}.rec or {name}.em",
                path=options.tomogram,
                where=f"for {options.positions.name}",
                fix="call the files as the table calls the tomograms",
            )
        files.append(volume_header(there[0]))
    return tuple(files)


def _in_list(options: ExtractOptions, names: Sequence[str]) -> tuple[VolumeFile, ...]:
    """The tomograms of these names by RELION 5's ``tomograms.star``."""
    _require_names(options, names)
    block = next((found for found in read_star(options.tomogram) if _FILE in found.columns), None)
    if block is None or _NAME not in block.columns:
        raise InputError(
            f"does not name tomograms with {_NAME} and {_FILE}",
            path=options.tomogram,
            fix="give RELION 5's tomograms.star, one tomogram, or a folder of them",
        )
    there = dict(zip(block.columns[_NAME], block.columns[_FILE], strict=True))
    for name in names:
        if name not in there:
            raise InputError(f"there is no tomogram {quoted(name)}", path=options.tomogram, fix="add it")
    found = locate_stacks([there[name] for name in names], source=options.tomogram)
    return tuple(volume_header(path) for path in found.paths)


def _require_names(options: ExtractOptions, names: Sequence[str]) -> None:
    if not names:
        raise InputError(
            "does not say in which tomograms its positions lie",
            path=options.positions,
            fix="give the tomogram itself, not a folder or a list",
        )


def _candidates(folder: Path, name: Path) -> list[Path]:
    bases = dict.fromkeys((folder / name, folder / name.name, folder / f"rec_{name.name}"))
    return [base.with_name(base.name + ending) for base in bases for ending in _ENDINGS]


def _one_pixel_size(options: ExtractOptions, files: Sequence[VolumeFile]) -> float:
    if options.pixel_size is not None:
        return options.pixel_size
    sizes = [file.pixel_size for file in files]
    for file, size in zip(files, sizes, strict=True):
        if size is None:
            raise InputError(
                "the header does not tell one voxel size", path=file.path,
                fix="give it with --pixel-size, in angstrom",
            )  # fmt: skip
    known = [size for size in sizes if size is not None]
    if max(known) > (1 + _SAME) * min(known):
        raise InputError(
            f"the tomograms have different voxel sizes ({min(known):g} to {max(known):g} A)",
            path=options.tomogram,
            fix="extract from those of one size at a time, with --only",
        )
    return known[0]
