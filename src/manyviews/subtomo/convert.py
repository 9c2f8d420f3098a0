"""A table of subtomograms as that of another program, and what the other program cannot be told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from manyviews.errors import InputError
from manyviews.io.numbered_tomograms import number_tomograms
from manyviews.io.particle_stacks import locate_stacks
from manyviews.io.relion_subtomogram_writer import is_foreign
from manyviews.io.subtomogram_formats import (
    TableFormat,
    format_by_name,
    read_subtomograms,
    write_subtomograms,
)
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.io.tables import write_table
from manyviews.subtomo.options import ConvertOptions

_STAR: tuple[TableFormat, ...] = ("relion", "relion-tomo")
_ENDINGS: dict[TableFormat, str] = {
    "relion": ".star",
    "relion-tomo": ".star",
    "dynamo": ".tbl",
    "em": ".em",
    "stopgap": ".star",
}
_MOST_NAMED = 6


@dataclass(frozen=True)
class Converted:
    """The files written, how many particles, ``notes`` on what was taken from where, and ``warnings`` of what
    was guessed and what got lost.
    """

    files: tuple[Path, ...]
    count: int
    kind: TableFormat
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def convert(options: ConvertOptions) -> Converted:
    """Write a table in another format.

    Raises
    ------
    InputError
        If the table cannot be read, the other format needs what is not known, or the file is there already.
    """
    kind = options.format or format_by_name(options.out)
    if options.out.suffix.lower() != _ENDINGS[kind]:
        raise InputError(
            f"is no name for a file of the format {kind}",
            path=options.out,
            fix=f"let it end in {_ENDINGS[kind]}",
        )
    table = read_subtomograms(
        options.table,
        pixel_size=options.pixel_size,
        tomogram_pixel_size=options.tomogram_pixel_size,
        data_root=options.data_root,
        with_volumes=options.data_root is not None,
    )
    table = from_first_voxel(table, options.tomogram_size)
    if kind in _STAR:
        table = _named_from(table, options.out)
    warnings = [*table.warnings, *_lost(table, kind)]
    warnings += write_subtomograms(options.out, table, kind, overwrite=options.overwrite)
    files = [options.out]
    if kind not in _STAR and (renamed := number_tomograms(table).renamed):
        names = options.out.with_name(f"{options.out.stem}_tomograms.csv")
        write_table(names, ("number", "tomogram"), ((n, name) for name, n in renamed.items()))
        files.append(names)
    if kind in _STAR and table.volumes:
        warnings += _where_volumes_are(table, options.out)
    return Converted(tuple(files), len(table), kind, table.notes, tuple(warnings))


def from_first_voxel(table: SubtomogramTable, size: tuple[int, ...]) -> SubtomogramTable:
    """Positions counted from the first voxel, not from the middle, ``size / 2`` voxels from it (RELION 5).

    ``size`` is x, y, z in voxels of the tilt series; none: the table as it is. `InputError` if not three.
    """
    if not size or table.origin == "corner":
        return table
    if len(size) != 3:
        raise InputError(f"{len(size)} numbers are no size", where="--tomogram-size", fix="give x, y and z")
    assert table.coordinates is not None
    middle = np.array(size) / 2 * (table.tomogram_pixel_size or table.pixel_size)
    return replace(table, coordinates=table.coordinates + middle, origin="corner")


def _named_from(table: SubtomogramTable, out: Path) -> SubtomogramTable:
    """Volumes that had numbers only get names, relative to the new table where they lie below its folder."""
    if table.volume_names or not table.volumes:
        return table
    folder = out.absolute().parent
    paths = [path.absolute() for path in table.volumes]
    names = [str(path.relative_to(folder) if path.is_relative_to(folder) else path) for path in paths]
    return replace(table, volume_names=tuple(names))


def _where_volumes_are(table: SubtomogramTable, out: Path) -> list[str]:
    """What to give so that the volumes are found from the new table, where it does not go without."""
    try:
        locate_stacks(table.volume_names[:1], source=out)
    except InputError:
        if not table.volumes[0].is_file():
            return [
                "the volumes are not there now: give their folder with --data-root when the table is read"
            ]
        name = Path(table.volume_names[0])
        parents = table.volumes[0].parents
        root = parents[min(len(name.parts), len(parents)) - 1] if not name.is_absolute() else parents[0]
        return [f"read the new table with --data-root {root}"]
    return []


def _lost(table: SubtomogramTable, kind: TableFormat) -> list[str]:
    """What the other format has no place for, in sentences."""
    is_star = kind in _STAR
    fields = {
        "weights of particles": table.weight is not None and not is_star,
        "priors of angles": table.prior_angles is not None and not is_star,
        "filaments": table.filament is not None and not is_star,
        "visible tilts": bool(table.visible_tilts) and not is_star,
        "weight volumes": bool(table.weights) and not is_star,
        "half sets": table.half is not None and kind in ("dynamo", "em"),
        "tilt ranges": table.tilt_ranges is not None and kind != "dynamo",
    }
    lost = [name for name, is_lost in fields.items() if is_lost]
    notes = [f"not kept, the format has no place for it: {', '.join(lost)}"] if lost else []
    others = [label for label in table.extra if _is_dropped(label, kind) and label != "rlnOpticsGroup"]
    if others:
        more = "" if len(others) <= _MOST_NAMED else f" and {len(others) - _MOST_NAMED} more"
        notes.append(f"columns of the other program are not kept: {', '.join(others[:_MOST_NAMED])}{more}")
    if is_star:
        return notes
    if table.box_angles is not None and table.volumes:
        notes.append(
            "the volumes lie turned by rlnTomoSubtomogramRot, Tilt, Psi in their tomograms, and the angles"
            " are now those in the tomogram: cut the boxes out again"
        )
    if table.volume_names:
        notes.append("the format names volumes by number only, so that their names are not kept")
    size = table.tomogram_pixel_size
    if table.coordinates is not None and size is not None and abs(size / table.pixel_size - 1) > 1e-4:
        notes.append(f"positions are now counted in voxels of the subtomograms, {table.pixel_size:.5g} A")
    return notes


def _is_dropped(label: str, kind: TableFormat) -> bool:
    if kind in _STAR:
        return is_foreign(label)
    prefix = {"dynamo": "dynamo", "em": "motl", "stopgap": "stopgap_"}[kind]
    return not (is_foreign(label) and label.startswith(prefix))
