"""What an alignment leaves in its run folder, beside the report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import MrcStack, MrcWriter, write_mrc
from manyviews.io.tables import write_table
from manyviews.jobs.run import Job
from manyviews.kernels import select
from manyviews.tilt.align.frames import frame_shape, index_map, upright
from manyviews.tilt.align.stages import Aligned
from manyviews.tilt.convert import geometry_files
from manyviews.tilt.series.alignment_table import ALIGNMENT_FILE, write_alignment
from manyviews.tilt.series.resolve import ResolvedSeries

Float64 = NDArray[np.float64]

BEFORE_FILE, AFTER_FILE, RESIDUALS_FILE = "before.mrc", "after.mrc", "residuals.csv"
PROGRAMS = ("imod", "aretomo", "relion5")
_SUFFIXES = (".tlt", ".xtilt", ".xf", "_tilt.com", ".aln", ".star", "_ali.mrc")
_RESIDUALS = (
    "stack", "section", "tilt_degrees", "used", "correlation_before", "correlation_after", "residual_pixels",
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """Every view against the volume of the others, as given and as aligned.

    ``before, after (view,)`` are correlations, ``residual (view, 2)`` pixels in the frames; the volumes are
    ``(z, y, x)`` of a coarse ``bin``.
    """

    before: Float64
    after: Float64
    residual: Float64
    volume_before: torch.Tensor
    volume_after: torch.Tensor
    bin: int

    @property
    def lengths(self) -> Float64:
        """``(view,)`` pixels."""
        return np.asarray(np.hypot(self.residual[:, 0], self.residual[:, 1]))


def result_names(series: ResolvedSeries) -> tuple[str, ...]:
    """All files that a run may leave."""
    own = (f"{stack.path.stem}{suffix}" for stack in series.stacks for suffix in _SUFFIXES)
    return (ALIGNMENT_FILE, RESIDUALS_FILE, BEFORE_FILE, AFTER_FILE, *own)


def write_results(
    job: Job, series: ResolvedSeries, given: TiltGeometry, aligned: Aligned, check: Check, *, stacks: bool
) -> dict[str, object]:
    """Write tables, files of other programs and pictures' volumes; key figures by name.

    ``given`` and the aligned geometry are in pixels; ``stacks``: write aligned stacks too.
    """
    geometry = in_angstrom(aligned.geometry, series.pixel_size)
    used = aligned.weights > 0
    names = tuple(stack.path.name for stack in series.stacks)
    moved = aligned.geometry.matrices[:, :2, 3] - given.matrices[:, :2, 3]
    write_alignment(job.folder / ALIGNMENT_FILE, geometry, names, used, moved, check.after)
    _write_residuals(job.folder / RESIDUALS_FILE, aligned, check)
    for name, volume in ((BEFORE_FILE, check.volume_before), (AFTER_FILE, check.volume_after)):
        write_mrc(job.folder / name, volume.numpy(), series.pixel_size * check.bin, overwrite=True)
    _write_for_programs(job, series, geometry.select(used))
    if stacks:
        for number, stack in enumerate(series.stacks):
            mine = aligned.geometry.select(used & (aligned.geometry.series == number))
            _write_stack(job.folder / f"{stack.path.stem}_ali.mrc", stack, mine, series)
    return _figures(given, aligned, check, moved)


def in_angstrom(geometry: TiltGeometry, pixel_size: float) -> TiltGeometry:
    """Shifts in angstrom from shifts in pixels."""
    matrices = geometry.matrices.copy()
    matrices[:, :2, 3] *= pixel_size
    return replace(geometry, matrices=matrices)


def axes_in_images(geometry: TiltGeometry) -> list[float]:
    """Direction of each stack's axis in its images, degrees counter-clockwise from +y."""
    _, cameras = upright(geometry)
    turns = np.rad2deg(np.arctan2(cameras[:, 1, 0], cameras[:, 0, 0]))
    return [float(np.median(turns[geometry.series == number])) for number in np.unique(geometry.series)]


def _figures(given: TiltGeometry, aligned: Aligned, check: Check, moved: Float64) -> dict[str, object]:
    used = aligned.weights > 0
    numbers = np.unique(given.series)
    tilts = aligned.geometry.tilt_degrees - given.tilt_degrees
    offsets = [float(np.median(tilts[given.series == number])) for number in numbers]
    several = len(numbers) > 1
    return {
        "views": len(given),
        "bad_views": int((~used).sum()),
        "axis_in_images_degrees": [round(axis, 3) for axis in axes_in_images(aligned.geometry)],
        "axis_as_given_degrees": [round(axis, 3) for axis in axes_in_images(given)],
        **({"tilt_offset_degrees": [round(offset, 3) for offset in offsets]} if several else {}),
        "largest_shift_pixels": float(np.hypot(moved[used, 0], moved[used, 1]).max()),
        "residual_rms_pixels": float(np.sqrt((check.lengths[used] ** 2).mean())),
        "correlation_with_the_others_before": float(check.before[used].mean()),
        "correlation_with_the_others_after": float(check.after[used].mean()),
    }


def _write_residuals(path: Path, aligned: Aligned, check: Check) -> None:
    geometry = aligned.geometry
    rows = [
        (geometry.series[view] + 1, geometry.sections[view] + 1, f"{geometry.tilt_degrees[view]:.4f}",
         int(aligned.weights[view] > 0), f"{check.before[view]:.6f}", f"{check.after[view]:.6f}",
         f"{check.lengths[view]:.4f}")
        for view in range(len(geometry))
    ]  # fmt: skip
    write_table(path, _RESIDUALS, rows)


def _write_for_programs(job: Job, series: ResolvedSeries, geometry: TiltGeometry) -> None:
    """IMOD's, AreTomo's and RELION-5's files; a word where one of them cannot hold the geometry."""
    for program in PROGRAMS:
        try:
            files = geometry_files(series.stacks, geometry, series.pixel_size, program, job.folder)
        except InputError as error:
            job.warn(f"no files for {program}: {error.problem}")
            continue
        for file in files:
            for path, write in file.write.items():
                path.unlink(missing_ok=True)
                write(path)


def _write_stack(path: Path, stack: MrcStack, geometry: TiltGeometry, series: ResolvedSeries) -> None:
    """A stack whose images are shifted and turned; bad views are left out. ``geometry`` in pixels."""
    _, cameras = upright(geometry)
    shape = frame_shape(replace(geometry, axis_degrees=np.zeros(len(geometry))), series.field_shape)
    kernels = select.affine(torch.device("cpu"))
    with MrcWriter(
        path, (len(geometry), *shape), series.pixel_size, labels=("manyviews tilt align",), is_volume=False,
        overwrite=True,
    ) as writer:  # fmt: skip
        for section, camera in zip(geometry.sections, cameras, strict=True):
            image = stack.read(int(section))
            level = float(np.median(image))
            maps = torch.from_numpy(index_map(camera, image.shape[1:], shape)[None])
            coefficients = kernels.spline_prefilter(torch.from_numpy(image - level))
            writer.write(kernels.resample_spline(coefficients, maps, shape)[:1].numpy() + level)
