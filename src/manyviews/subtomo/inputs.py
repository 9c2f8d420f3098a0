"""What an alignment begins from: the table, its volumes, and what was measured of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.io.volume_files import read_volume, volume_header
from manyviews.runs.fingerprint import fingerprint, sampled_fingerprint
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.plan import Plan
from manyviews.subtomo.tables import read_subtomograms
from manyviews.subtomo.wedge.table_transfers import table_transfers

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Subtomograms:
    """``N`` subtomograms that lie in files.

    ``transfers (W, box, box, box // 2 + 1)`` say what was measured, ``transfer_index (N,)`` which is whose;
    ``warnings`` are sentences for the user.
    """

    table: SubtomogramTable
    box: int
    transfers: Float32
    transfer_index: Int64
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def pixel_size(self) -> float:
        """Angstrom."""
        return self.table.pixel_size

    def read(self, number: int) -> Float32:
        """The volume of a particle, molecule bright; `InputError` if its file cannot be read."""
        return read_volume(self.table.volumes[number])[0]


def open_subtomograms(options: SubtomogramOptions) -> Subtomograms:
    """Read the table and work out the wedges, before any volume is read.

    Raises
    ------
    InputError
        If the table cannot be used, holds no volumes, or nothing tells what was measured.
    """
    table = read_subtomograms(options)
    if not table.volumes:
        raise InputError(
            "the table holds positions, not subtomograms",
            path=options.particles,
            fix='cut them out first: "manyviews subtomo extract"',
        )
    box = _box(table.volumes)
    transfers, index, told = table_transfers(table, options, box)
    return Subtomograms(table, box, transfers, index, (*table.warnings, *told))


def _box(volumes: tuple[Path, ...]) -> int:
    """Voxels along a side of the first volume that can be read."""
    error: InputError | None = None
    for path in volumes:
        try:
            shape = volume_header(path).shape
        except InputError as one:
            error = error or one
            continue
        if len(set(shape)) != 1:
            raise InputError(f"is no cube: {' x '.join(map(str, shape[::-1]))} voxels", path=path)
        return int(shape[0])
    raise error or InputError("there are no subtomograms")


def read_start(plan: Plan) -> torch.Tensor | None:
    """The map to begin with, ``(box, box, box)``, or None; `InputError` if it does not go with the particles."""
    path = plan.options.reference
    if path is None:
        return None
    volume, header = read_volume(path)
    if volume.shape != (plan.box,) * 3:
        raise InputError(
            f"the map has {' x '.join(map(str, volume.shape[::-1]))} voxels, the particles have {plan.box} "
            "along each side",
            path=path,
            fix="give a map of the particles' size",
        )
    if not np.isfinite(volume).all() or volume.min() == volume.max():
        raise InputError("the map is constant or holds NaN", path=path)
    size = header.pixel_size
    if size and abs(size / plan.pixel_size - 1) > 0.01:
        raise InputError(
            f"the map has voxels of {size:g} angstrom, the particles of {plan.pixel_size:g}",
            path=path,
            where="--reference",
            fix="resample the map, or correct the pixel size in its header",
        )
    return torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))


def fingerprints(options: SubtomogramOptions, given: Subtomograms, plan: Plan) -> dict[str, str]:
    """What identifies the input: the table and the maps whole, volumes by size, beginning and end."""
    table = given.table
    weights = {path for path in table.weights if path is not None}
    maps = [path for path in (plan.options.reference, plan.options.compare) if path is not None]
    whole = [options.particles, *maps]
    sampled = [*table.volumes, *sorted(weights)]
    return {
        **{str(path): fingerprint(path) for path in whole},
        **{str(path): sampled_fingerprint(path) for path in sampled if path.exists()},
    }
