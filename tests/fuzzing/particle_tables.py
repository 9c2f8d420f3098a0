"""Tables of particles, read as jobs read them, and written for the program that they came from."""

from __future__ import annotations

from pathlib import Path

from manyviews.io.cryosparc import read_cryosparc_particles
from manyviews.io.cryosparc_writer import write_cryosparc_particles
from manyviews.io.relion_particles import read_relion_particles


def read_star(path: Path, drawn: bool) -> None:
    """With images and without."""
    read_relion_particles(path, with_images=False, ctf=False)
    read_relion_particles(path)


def read_cs(path: Path, drawn: bool) -> None:
    """Whatever is read can be written."""
    table = read_cryosparc_particles(path, with_images=False, ctf=False)
    write_cryosparc_particles(path.with_name("back.cs"), table, overwrite=True)
    read_cryosparc_particles(path)
