"""A particle table as that of another program, and what the other program cannot be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manyviews.errors import InputError
from manyviews.io.cryosparc_writer import lost_in_cryosparc, write_cryosparc_particles
from manyviews.io.particle_stacks import folder_to_give
from manyviews.io.relion_particles import write_relion_particles
from manyviews.particles.options import ConvertOptions, ParticleOptions
from manyviews.particles.plan import load_table

_PROGRAMS = {".star": "RELION", ".cs": "cryoSPARC"}


@dataclass(frozen=True)
class Converted:
    """The file, how many particles of which program's form it holds, and ``warnings`` of what got lost."""

    path: Path
    count: int
    program: str
    warnings: tuple[str, ...]


def convert(particles: ParticleOptions, options: ConvertOptions) -> Converted:
    """Write a table in the form that the ending of the new name says.

    Raises
    ------
    InputError
        If the table cannot be read, the ending is none of the two, or the file is there already.
    """
    ending = options.out.suffix.lower()
    if ending not in _PROGRAMS:
        raise InputError(
            "is no name for a table of particles", path=options.out, fix="let it end in .star or .cs"
        )
    table = load_table(particles, with_images=not options.without_images)
    warnings = list(table.warnings)
    if ending == ".cs":
        write_cryosparc_particles(options.out, table, overwrite=options.overwrite)
        warnings += lost_in_cryosparc(table)
    else:
        write_relion_particles(options.out, table, overwrite=options.overwrite)
        if any(group.image_size is None for group in table.optics):
            warnings.append("the table does not tell the size of its images, which RELION wants")
    root = None if options.without_images else folder_to_give(table, options.out.absolute().parent)
    if root is not None:
        warnings.append(f"read the new table with --data-root {root}, and RELION from that folder")
    return Converted(options.out, len(table), _PROGRAMS[ending], tuple(warnings))
