"""What a reconstruction leaves in its run folder, beside the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.compare import compare
from manyviews.io.mrc import write_mrc_slabs
from manyviews.io.tables import write_table
from manyviews.metrics.correlation import ncc_views
from manyviews.operators.slab_projector import weighted_energy
from manyviews.parallel.layout import Place
from manyviews.report.fitted_images import (
    FILES,
    block_of,
    chosen_images,
    shown,
    shown_size,
    write_fitted,
)
from manyviews.runs.map_names import VOLUME_FILE
from manyviews.tilt.plan import Plan
from manyviews.tilt.series.normalise import PreparedImages
from manyviews.tilt.series.resolve import ResolvedSeries
from manyviews.tilt.solve.problem import TiltProblem

OUTLIERS_FILE = "outliers.csv"
TABLES = ("ncc.csv", "geometry.csv", OUTLIERS_FILE, *FILES)
_COUNTED = 0.5


def write_results(
    folder: Path,
    plan: Plan,
    resolved: ResolvedSeries,
    problem: TiltProblem,
    images: PreparedImages,
    volume: torch.Tensor,
    reference: Path | None,
) -> dict[str, object]:
    """Write volume and tables of a run; every rank makes this call, ``volume`` being its slab.

    In the tables views, series and sections are counted from 1, as users and other programs count them.

    Key figures by name are returned, empty on all ranks but the first; those against the volume in the file
    ``reference``, if there is one, are among them.
    """
    write_volume(folder, plan, problem.place, volume)
    correlations, energy, pairs = reprojection(problem, images, volume)
    if problem.place.world.rank > 0:
        return {}
    _write_ncc(folder / "ncc.csv", problem, correlations)
    _write_geometry(folder / "geometry.csv", resolved, problem)
    pixel_size = plan.pixel_size * block_of(problem.projector.image_shape)
    write_fitted(folder, pairs, _words(problem, correlations), pixel_size)
    outliers = images.outliers.rows(problem.projector.geometry)
    if outliers:
        write_table(folder / OUTLIERS_FILE, ("stack", "section", "pixels"), outliers)
    figures: dict[str, object] = {
        "exact_objective": 0.5 * energy,
        "mean_ncc_of_reprojections": float(correlations.mean()),
        "lowest_ncc_of_reprojections": float(correlations.min()),
        **({"pixels_that_stand_out": int(images.outliers.counts.sum())} if outliers else {}),
    }
    if reference is not None:
        figures |= _compare(folder / VOLUME_FILE, reference, folder)
    return figures


def write_volume(folder: Path, plan: Plan, place: Place, volume: torch.Tensor) -> None:
    """Write a volume of which this rank holds the slab ``volume``; every rank makes this call."""
    if place.group == 0:
        write_mrc_slabs(
            folder / VOLUME_FILE,
            volume.cpu().numpy(),
            place.slab(plan.volume_shape[0]).start,
            plan.volume_shape[0],
            plan.pixel_size,
            place.within,
            overwrite=True,
            labels=(f"manyviews tilt reconstruct, {plan.method}",),
        )


def reprojection(
    problem: TiltProblem, images: PreparedImages, volume: torch.Tensor
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], float, np.ndarray[Any, np.dtype[np.float32]]]:
    """NCC of every image with the projection of the volume (paper eq. 10), and the residual energy.

    ``volume`` is this rank's slab; the result is known to all ranks. Also some images, made small, and their
    reprojections, ``(k, 2, y, x)``; see `manyviews.report.fitted_images`.
    """
    found = np.zeros(len(problem.weights) + 1)
    examples = chosen_images(len(problem.weights))
    pairs = torch.zeros((len(examples), 2, *shown_size(problem.projector.image_shape)))
    for views, projected in problem.project_blocks(volume):
        measured = images.read(views)
        pixels = None if problem.pixels is None else problem.pixels.weights(views)
        found[views] = _correlations(measured, projected, pixels)
        for place, view in enumerate(examples.tolist()):
            for at in np.flatnonzero(np.asarray(views) == view).tolist():
                pairs[place] = torch.cat([shown(one[at : at + 1]) for one in (measured, projected)]).cpu()
        found[-1] += weighted_energy(projected.sub_(measured), problem.weights[views], pixels)
    total = problem.place.world.sum(torch.from_numpy(found)).numpy()
    return total[:-1], float(total[-1]), problem.place.world.sum(pairs).numpy()


def _correlations(
    measured: torch.Tensor, projected: torch.Tensor, pixels: torch.Tensor | None
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """NCC of images ``(k, y, x)``, of the pixels that count half or more."""
    if pixels is None:
        return ncc_views(measured.cpu().numpy(), projected.cpu().numpy())
    found = np.full(len(measured), np.nan)
    for view, counted in enumerate(pixels >= _COUNTED):
        if counted.any():
            pair = (images[view][counted].cpu().numpy()[None, None] for images in (measured, projected))
            found[view] = ncc_views(*pair)[0]
    return found


def _words(problem: TiltProblem, correlations: np.ndarray[Any, np.dtype[np.float64]]) -> list[str]:
    """Which the images are that are shown: number, tilt, NCC."""
    geometry = problem.projector.geometry
    return [
        f"{view + 1}: {geometry.tilt_degrees[view]:.3g}°, {correlations[view]:.2f}"
        for view in chosen_images(len(geometry)).tolist()
    ]


def _write_ncc(path: Path, problem: TiltProblem, correlations: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    geometry = problem.projector.geometry
    rows = [
        (view + 1, geometry.series[view] + 1, geometry.sections[view] + 1, geometry.axis_degrees[view],
         geometry.tilt_degrees[view], f"{correlations[view]:.6f}")
        for view in range(len(geometry))
    ]  # fmt: skip
    write_table(path, ("view", "series", "section", "axis_degrees", "tilt_degrees", "ncc"), rows)


def _write_geometry(path: Path, resolved: ResolvedSeries, problem: TiltProblem) -> None:
    geometry = problem.projector.geometry
    sources = resolved.sources("tilt angles")
    header = (
        "view", "series", "section", "axis_degrees", "tilt_degrees", "shift_x_angstrom", "shift_y_angstrom",
        "source", "shift_source",
    )  # fmt: skip
    rows = [
        (view + 1, geometry.series[view] + 1, geometry.sections[view] + 1, geometry.axis_degrees[view],
         geometry.tilt_degrees[view], f"{geometry.matrices[view, 0, 3]:.4f}",
         f"{geometry.matrices[view, 1, 3]:.4f}", sources.get(int(geometry.series[view]), ""),
         _shift_source(resolved, int(geometry.series[view])) if geometry.matrices[view, :2, 3].any() else "")
        for view in range(len(geometry))
    ]  # fmt: skip
    write_table(path, header, rows)


def _shift_source(resolved: ResolvedSeries, stack: int) -> str:
    """The files that a stack's shifts are from: those of transforms and shifts, else that of the angles."""
    sources = {choice.field: choice.source for choice in resolved.choices if choice.stack == stack}
    own = [sources[field] for field in ("transform", "shifts") if field in sources]
    return ", ".join(own) or sources.get("tilt angles", "")


def _compare(volume: Path, reference: Path, folder: Path) -> dict[str, object]:
    found = compare(volume, reference)
    found.fsc.write_csv(folder / "fsc.csv", overwrite=True)
    return {
        "resolution_fsc05_angstrom": found.resolution_half,
        "resolution_fsc0143_angstrom": found.resolution_143,
        "ncc_with_the_reference": found.ncc,
        "relative_error_against_the_reference": found.relative_error,
    }
