"""What an alignment begins from: the table, its volumes, and what was measured of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.io.volume_files import read_volume, survey_volumes, volume_header
from manyviews.options import check_options
from manyviews.runs.fingerprint import fingerprint, sampled_fingerprint
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.plan import Plan
from manyviews.subtomo.tables import read_subtomograms
from manyviews.subtomo.wedge.table_transfers import TableTransfers, table_transfers

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Subtomograms:
    """``N`` subtomograms that lie in files.

    ``box`` is the side that most have, in voxels; ``transfers`` say what was measured of each.
    """

    table: SubtomogramTable
    box: int
    transfers: TableTransfers

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user."""
        return (*self.table.warnings, *self.transfers.warnings)

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
    check_options(options)
    table = read_subtomograms(options)
    if not table.volumes:
        raise InputError(
            "the table holds positions, not subtomograms",
            path=options.particles,
            fix='cut them out first: "manyviews subtomo extract"',
        )
    box = survey_volumes(table.volumes).box
    if not box:
        volume_header(table.volumes[0])  # says what is wrong
        raise InputError("none of the subtomograms is a cube", path=options.particles)
    return Subtomograms(table, box, table_transfers(table, options, box))


def fingerprints(options: SubtomogramOptions, given: Subtomograms, plan: Plan) -> dict[str, str]:
    """What identifies the input: the table and the maps whole, volumes by size, beginning and end."""
    table = given.table
    weights = {path for path in table.weights if path is not None}
    own = plan.options
    maps = [path for path in (own.reference, own.mask, own.compare) if path is not None]
    whole = [options.particles, *maps]
    sampled = [*table.volumes, *sorted(weights)]
    return {
        **{str(path): fingerprint(path) for path in whole},
        **{str(path): sampled_fingerprint(path) for path in sampled if path.exists()},
    }


def wedge_record(options: SubtomogramOptions) -> dict[str, Any]:
    """For ``run.toml``: what changes how the table is read."""
    return {
        "particles": str(options.particles),
        "voxels_given": options.pixel_size,
        "tilt_range": list(options.tilt_range),
        "tilt_angles": None if options.tilt_angles is None else str(options.tilt_angles),
        "tilt_axis": options.tilt_axis,
        "beam_axis": options.beam_axis,
    }
