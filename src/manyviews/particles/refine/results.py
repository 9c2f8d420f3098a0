"""What a refinement leaves in its folder, beside the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.io.mrc import write_mrc
from manyviews.metrics.fsc import FscCurve, fsc
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.known_poses import VOLUMES
from manyviews.particles.refine.plan import RefinementPlan
from manyviews.particles.results import (
    HALVES_FILE,
    PARTICLES_FILE,
    REFERENCE_FILE,
    compare_with_reference,
    write_poses,
)
from manyviews.particles.selection import FILES, Selection
from manyviews.report.words import in_figures

NOISE_FILE = "noise.csv"
RESULTS = (*VOLUMES, PARTICLES_FILE, HALVES_FILE, "directions.csv", "spread.csv", REFERENCE_FILE, *FILES)


@dataclass(frozen=True)
class Refined:
    """What was found: the map of both halves and one of each ``(D, D, D)``, and the poses of all particles.

    ``summary`` has key figures by name.
    """

    volume: torch.Tensor
    halves: tuple[torch.Tensor, ...]
    samples: PoseSamples
    mask: torch.Tensor
    summary: dict[str, object]

    def correlation(self, pixel_size: float) -> FscCurve:
        """Of the halves, within the particle's sphere."""
        first, second = (half.numpy() for half in self.halves)
        return fsc(first, second, pixel_size, mask=self.mask.numpy())


def write_refined(folder: Path, plan: RefinementPlan, chosen: Selection, found: Refined) -> dict[str, object]:
    """Write maps, poses and tables; returns key figures by name."""
    maps: list[NDArray[np.float32]] = [one.numpy() for one in (found.volume, *found.halves)]
    for name, volume in zip(VOLUMES, maps, strict=True):
        write_mrc(folder / name, volume, plan.pixel_size, overwrite=True,
                  labels=("manyviews particles refine",))  # fmt: skip
    spreads = write_poses(
        folder, chosen, found.samples, plan.pixel_size, plan.options.symmetry, chosen.numbers % 2 + 1
    )
    curve = found.correlation(plan.pixel_size)
    curve.write_csv(folder / HALVES_FILE, overwrite=True)
    summary: dict[str, object] = {
        "particles": len(chosen.table),
        **chosen.summary(),
        "map_voxels": plan.box,
        "pixel_size_angstrom": plan.pixel_size,
        **found.summary,
        "resolution_fsc0143_of_independent_halves_angstrom": in_figures(curve.resolution(0.143)),
        **spreads,
    }
    if plan.options.reference is not None:
        summary |= compare_with_reference(folder, maps[0], plan.pixel_size, plan.options.reference)
    return summary
