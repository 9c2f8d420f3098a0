"""What an ab initio run leaves in its folder, beside the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.alignment.map_alignment import aligned_fsc
from manyviews.geometry.poses import matrices_to_euler, view_directions
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.cryosparc_writer import write_cryosparc_particles
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.particle_stacks import folder_to_give
from manyviews.io.particle_table import ParticleTable
from manyviews.io.relion_particles import write_relion_particles
from manyviews.io.tables import write_table
from manyviews.jobs.run import Job
from manyviews.metrics.fsc import FscCurve
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.em.pose_summary import mean_poses
from manyviews.particles.pass_files import REFINEMENT, pass_files
from manyviews.particles.plan import Plan
from manyviews.particles.selection import FILES, Selection
from manyviews.particles.start_files import START_PLANES_FILE, STARTS_FILE
from manyviews.report import fitted_images
from manyviews.report.sphere import count_directions, write_fields
from manyviews.report.words import in_figures
from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, MASK_FILE, VOLUME_FILE

HALVES_FILE = "fsc.csv"
REFERENCE_FILE = "fsc_reference.csv"
PARTICLES_FILE = "particles.star"
CRYOSPARC_FILE = "particles.cs"  # where the particles came from cryoSPARC
_TABLES = (HALVES_FILE, "directions.csv", "spread.csv", REFERENCE_FILE)
HALF_MAPS = (HALF1_FILE, HALF2_FILE, MASK_FILE)
POSE_FILES = (PARTICLES_FILE, CRYOSPARC_FILE)
RESULTS = (
    VOLUME_FILE,
    *HALF_MAPS,
    *POSE_FILES,
    *_TABLES,
    STARTS_FILE,
    START_PLANES_FILE,
    *FILES,
    *fitted_images.FILES,
    *pass_files(REFINEMENT),
)
_SPREAD_BINS = 40


@dataclass(frozen=True)
class Reconstruction:
    """What a method found: the map ``(D, D, D)``, poses of all particles, and key figures by name.

    ``correlation`` is the Fourier shell correlation of the halves by shell, empty where there are none;
    ``halves`` are the maps of halves that were refined apart, neither filtered nor masked, and the ``mask``
    within which they were compared, ``(D, D, D)`` each; without such halves, empty.
    """

    volume: torch.Tensor
    samples: PoseSamples
    correlation: list[float]
    summary: dict[str, object]
    halves: tuple[torch.Tensor, ...] = ()
    mask: torch.Tensor | None = None

    @property
    def independent(self) -> bool:
        """Whether the halves were refined apart."""
        return bool(self.halves)


def far_from_images(table: ParticleTable, folder: Path) -> Iterator[str]:
    """A warning where the images cannot be found from the table that a run leaves in its folder."""
    root = folder_to_give(table, folder)
    if root is not None:
        yield (
            f"the run folder lies outside of the project: what reads its {PARTICLES_FILE} finds the images "
            f"with --data-root {root}, and RELION when it is started there"
        )


class _Boxed(Protocol):
    """A plan of maps for images of ``box`` pixels of ``pixel_size`` angstrom."""

    @property
    def box(self) -> int: ...

    @property
    def pixel_size(self) -> float: ...


def preview(job: Job, plan: _Boxed) -> Callable[[torch.Tensor], None]:
    """Writes the present map, which may have fewer and larger voxels than the images have pixels."""

    def show(volume: torch.Tensor) -> None:
        if job.speaks:
            voxel = plan.box * plan.pixel_size / len(volume)
            write_mrc(job.folder / VOLUME_FILE, volume.cpu().numpy(), voxel, overwrite=True)

    return show


def write_results(folder: Path, plan: Plan, chosen: Selection, found: Reconstruction) -> dict[str, object]:
    """Write map, poses and tables; returns key figures by name."""
    table = chosen.table
    volume = found.volume.numpy()
    write_mrc(folder / VOLUME_FILE, volume, plan.pixel_size, overwrite=True,
              labels=(f"manyviews particles abinitio, {plan.options.method}",))  # fmt: skip
    _write_half_maps(folder, plan, found)
    halves = chosen.numbers % 2 + 1 if found.independent else None
    spreads = write_poses(folder, chosen, found.samples, plan.pixel_size, plan.options.symmetry, halves)
    halves_curve(found.correlation, plan).write_csv(folder / HALVES_FILE, overwrite=True)
    summary: dict[str, object] = {
        "method": plan.options.method,
        "particles": len(table),
        **chosen.summary(),
        "map_voxels": plan.box,
        "pixel_size_angstrom": plan.pixel_size,
        **found.summary,
        **_halves(found, plan),
        **spreads,
    }
    if plan.options.reference is not None:
        summary |= compare_with_reference(folder, volume, plan.pixel_size, plan.options.reference)
    return summary


def _write_half_maps(folder: Path, plan: Plan, found: Reconstruction) -> None:
    """The maps of halves that were refined apart, and their mask, as postprocessing wants them."""
    maps = (*found.halves, found.mask) if found.independent else ()
    for name, volume in zip(HALF_MAPS, maps, strict=False):
        if volume is not None:
            write_mrc(folder / name, volume.numpy(), plan.pixel_size, overwrite=True,
                      labels=(f"manyviews particles abinitio, {plan.options.method}",))  # fmt: skip


def write_poses(
    folder: Path,
    chosen: Selection,
    samples: PoseSamples,
    pixel_size: float,
    symmetry: str,
    halves: NDArray[np.int64] | None,
    columns: Mapping[str, list[str]] | None = None,
) -> dict[str, object]:
    """Write the particles with their poses, and what the poses are like; returns key figures by name.

    ``halves (K,)``, 1 or 2, are of halves that were refined apart: RELION takes those of a table for such.
    More ``columns`` of the table are in the order of the run.
    """
    table = chosen.table
    mean, spread, shift_spread = mean_poses(samples, len(table), symmetry_rotations(symmetry))
    posed = replace(table, half=None).with_poses(
        matrices_to_euler(mean.rotations),
        mean.shifts.astype(np.float64) * pixel_size,
        half=halves,
        extra={
            "rlnMaxValueProbDistribution": [f"{value:.6f}" for value in mean.weights],
            "manyviewsAngleSpreadDegrees": [f"{value:.3f}" for value in spread],
            "manyviewsShiftSpreadAngst": [f"{value * pixel_size:.3f}" for value in shift_spread],
            **(columns or {}),
        },
    )
    if not np.all(np.diff(chosen.order) > 0):
        posed = posed.select(np.argsort(chosen.order))  # as they were in the table
    write_relion_particles(folder / PARTICLES_FILE, posed, overwrite=True)
    if posed.records is not None:
        write_cryosparc_particles(folder / CRYOSPARC_FILE, posed, overwrite=True)
    chosen.write(folder)
    seen = count_directions(view_directions(mean.rotations))
    write_fields(folder / "directions.csv", {"particles": seen})
    _write_spread(folder / "spread.csv", spread)
    return {
        "median_spread_of_angles_degrees": round(float(np.median(spread)), 2),
        "median_spread_of_shifts_angstrom": round(float(np.median(shift_spread) * pixel_size), 2),
    }


def _halves(found: Reconstruction, plan: Plan) -> dict[str, object]:
    if not found.correlation:
        return {}
    curve = halves_curve(found.correlation, plan)
    kind = "independent_halves" if found.independent else "halves_found_with_one_map"
    # a curve that never falls says no more than its last shell
    last = plan.box * plan.pixel_size / max(1, len(found.correlation) - 1)
    return {f"resolution_fsc0143_of_{kind}_angstrom": in_figures(max(last, curve.resolution(0.143)))}


def compare_with_reference(
    folder: Path, volume: NDArray[np.float32], pixel_size: float, reference: Path
) -> dict[str, object]:
    """Lay a map over a true one, in either hand, and write their curve; returns key figures by name."""
    truth, _ = read_mrc(reference)
    curve, alignment = aligned_fsc(volume, truth, pixel_size)
    curve.write_csv(folder / REFERENCE_FILE, overwrite=True)
    return {
        "resolution_fsc05_with_the_reference_angstrom": in_figures(curve.resolution(0.5)),
        "hand": "other than the reference" if alignment.mirrored else "as the reference",
        "correlation_with_the_reference": round(alignment.correlation, 4),
    }


def halves_curve(correlation: Sequence[float], plan: Plan) -> FscCurve:
    """Correlation of the halves by shell, up to some radius, as a curve."""
    shells = np.arange(len(correlation))
    side = plan.box * plan.pixel_size
    return FscCurve(shells / side, np.array(correlation), np.full(len(shells), math.nan), plan.pixel_size)


def _write_spread(path: Path, spread_degrees: NDArray[np.float64]) -> None:
    """How many particles have how wide a posterior."""
    largest = max(1.0, float(np.ceil(1.5 * np.quantile(spread_degrees, 0.95))))
    edges = np.linspace(0, largest, _SPREAD_BINS + 1)
    counts, _ = np.histogram(np.minimum(spread_degrees, largest), edges)  # the last bin holds what is beyond
    rows = [(f"{a:.4f}", f"{b:.4f}", n) for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    write_table(path, ("from_degrees", "to_degrees", "particles"), rows)
