"""The images of a particle table, read from memory-mapped stacks when asked for; stacks written in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.io.mrc import MrcWriter
from manyviews.io.mrc_header import read_header
from manyviews.io.particle_table import ParticleTable

_BLOCK_BYTES = 32 * 1024**2


class ParticleImages:
    """Images ``(N, box, box)`` of one size and pixel size in angstrom, protein white in all of them.

    Raises
    ------
    InputError
        If a stack cannot be read, an image is not in it, or sizes or pixel sizes of the images differ.
    """

    def __init__(self, table: ParticleTable) -> None:
        self.table = table
        self.pixel_size = table.pixel_size
        used = np.unique(table.stack_index).tolist()
        self._headers = {stack: read_header(table.stacks[stack]) for stack in used}
        self.box = self._one_box()
        self.shape = (len(table), self.box, self.box)
        self._check_sections()

    def __len__(self) -> int:
        return len(self.table)

    def _one_box(self) -> int:
        headers = list(self._headers.values())
        box = headers[0].shape[1]
        for header in headers:
            rows, columns = header.shape[1:]
            if (rows, columns) != (box, box):
                raise InputError(
                    f"the images are {columns} x {rows} pixels but those of {headers[0].path} are {box} wide",
                    path=header.path,
                    fix="give square images of one size",
                )
        return box

    def _check_sections(self) -> None:
        for stack, header in self._headers.items():
            of_stack = self.table.stack_index == stack
            if int(self.table.section[of_stack].max()) >= header.shape[0]:
                row = int(np.flatnonzero(of_stack & (self.table.section >= header.shape[0]))[0])
                raise InputError(
                    f"{self.name(row)} was asked for but the stack has {header.shape[0]} images",
                    path=header.path,
                    fix="give the stack that belongs to the table",
                )

    def name(self, particle: int) -> str:
        """A particle as the user counts it, from 1, and its image."""
        return f"particle {particle + 1} ({self.table.image_name(particle)})"

    def read(self, indices: ArrayLike | None = None, *, finite: bool = True) -> NDArray[np.float32]:
        """The images of these particles (from 0; all by default), float32 ``(n, box, box)``, in this order.

        Unless they must be ``finite``, NaN and infinity come as they are. Images in which protein is dark
        (`ParticleTable.contrast_sign`) are returned negated. Files are read in the order in which they lie on
        the disk, whatever the order of ``indices``.

        Raises
        ------
        InputError
            If a particle does not exist, or its image holds NaN or infinity or cannot be read.
        """
        count = len(self.table)
        wanted = np.arange(count) if indices is None else np.atleast_1d(np.asarray(indices, dtype=np.int64))
        if wanted.size and (wanted.min() < 0 or wanted.max() >= count):
            raise InputError(f"a particle was asked for that is not among the {count} there are")
        images = np.empty((len(wanted), self.box, self.box), dtype=np.float32)
        stacks, sections = self.table.stack_index[wanted], self.table.section[wanted]
        order = np.lexsort((sections, stacks))
        bounds = np.flatnonzero(np.diff(stacks[order])) + 1
        for places in np.split(order, bounds) if len(order) else ():
            self._read_stack(int(stacks[places[0]]), sections[places], images, places)
        if finite:
            self._require_finite(images, wanted)
        if self.table.contrast_sign is not None:
            images[self.table.contrast_sign[wanted] < 0] *= -1
        return images

    def _read_stack(
        self, stack: int, sections: NDArray[np.int64], images: NDArray[np.float32], places: NDArray[np.int64]
    ) -> None:
        pixels = self._headers[stack].map_pixels()
        for place, section in zip(places.tolist(), sections.tolist(), strict=True):
            images[place] = pixels[section]

    def _require_finite(self, images: NDArray[np.float32], particles: NDArray[np.int64]) -> None:
        if np.isfinite(images).all():
            return
        bad = ~np.isfinite(images).all(axis=(1, 2))
        row = int(particles[bad].min())
        raise InputError(
            f"{self.name(row)} has pixels that are NaN or infinite",
            path=self.table.stacks[int(self.table.stack_index[row])],
            fix="extract it again or leave it out",
        )

    def blocks(
        self, indices: ArrayLike | None = None, *, finite: bool = True
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Particles and their images, a few at a time, in the order of the files; arguments as of `read`."""
        wanted = np.arange(len(self)) if indices is None else np.atleast_1d(np.asarray(indices, np.int64))
        order = np.lexsort((self.table.section[wanted], self.table.stack_index[wanted]))
        step = max(1, _BLOCK_BYTES // (4 * self.box**2))
        for first in range(0, len(order), step):
            particles = wanted[order[first : first + step]]
            yield particles, self.read(particles, finite=finite)


def read_particles(path: Path, **options: Any) -> ParticleTable:
    """Read a particle table by the ending of its name: ``.cs`` cryoSPARC's, anything else RELION's STAR.

    ``options`` are those of `read_cryosparc_particles` or `read_relion_particles`; errors are theirs.
    """
    from manyviews.io.cryosparc import read_cryosparc_particles
    from manyviews.io.relion_particles import read_relion_particles

    if Path(path).suffix.lower() == ".cs":
        return read_cryosparc_particles(path, **options)
    return read_relion_particles(path, **options)


def write_particle_stack(
    path: Path,
    blocks: Iterable[NDArray[Any]],
    count: int,
    pixel_size: float,
    *,
    overwrite: bool = False,
    labels: Sequence[str] = (),
) -> None:
    """Write ``count`` images, given as blocks ``(n, y, x)``, as a stack; only one block is held at a time.

    float16 stays float16 (mode 12), everything else becomes float32 as in `write_mrc`, with its errors.
    RELION wants the name to end in ``.mrcs``; ``pixel_size`` is in angstrom.
    """
    remaining = iter(blocks)
    first = next(remaining, None)
    if first is None or first.ndim != 3 or first.size == 0:
        raise InputError("there are no images to write", path=path)
    kind = first.dtype if first.dtype == np.float16 else np.dtype(np.float32)
    with MrcWriter(
        Path(path),
        (count, first.shape[1], first.shape[2]),
        pixel_size,
        overwrite=overwrite,
        labels=labels,
        dtype=kind,
        is_volume=False,
    ) as writer:
        for block in chain([first], remaining):
            writer.write(block)
