"""The postprocessing job: from two half maps in files to a folder with all that is made of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.given_maps import read_mask
from manyviews.io.sizes import format_bytes
from manyviews.io.volume_files import VolumeFile, read_volume, volume_header, voxel_fault
from manyviews.jobs.run import JobResult, start_job
from manyviews.maps import postprocess as maps
from manyviews.options import MachineOptions, RunOptions
from manyviews.parallel.world import World
from manyviews.particles.cost import FINISHING_VOXEL
from manyviews.particles.estimate import FINISHING
from manyviews.particles.options import PostprocessOptions
from manyviews.particles.postprocess_report import PICTURES, sections
from manyviews.particles.postprocess_results import RESULTS, write_finished
from manyviews.runs.course import Expected
from manyviews.runs.fingerprint import fingerprint
from manyviews.runs.memory import available_memory_bytes

Float32 = NDArray[np.float32]

_PIXEL_TOLERANCE = 1e-3  # relative; headers hold lengths that others have rounded
_VOLUMES = 27  # of float32 that are in memory at most, measured: docs/postprocessing.md


@dataclass(frozen=True)
class HalfMapFiles:
    """Two half maps that go together: ``box`` voxels a side, and the size of each in angstrom."""

    half1: Path
    half2: Path
    box: int
    pixel_size: float

    @property
    def memory_bytes(self) -> int:
        """What it takes to finish them."""
        return _VOLUMES * 4 * self.box**3


def look_at_halves(options: PostprocessOptions) -> HalfMapFiles:
    """Read the headers of two half maps; `InputError` where they do not go together."""
    first, second = volume_header(options.half1), volume_header(options.half2)
    shapes = [" x ".join(map(str, one.shape[::-1])) for one in (first, second)]
    if first.shape != second.shape:
        raise InputError(
            f"the map is {shapes[1]} voxels and {first.path} is {shapes[0]}",
            path=second.path,
            fix="give two half maps of one refinement",
        )
    box = first.shape[0]
    if set(first.shape) != {box}:
        raise InputError(f"the map is {shapes[0]} voxels, not a cube", path=first.path, fix="give cubes")
    if box < maps.LEAST_BOX:
        raise InputError(
            f"the map has {box} voxels a side, fewer than {maps.LEAST_BOX}", path=first.path,
            fix="give the maps of the halves, as the refinement wrote them",
        )  # fmt: skip
    return HalfMapFiles(options.half1, options.half2, box, _pixel_size(options, first, second))


def _pixel_size(options: PostprocessOptions, first: VolumeFile, second: VolumeFile) -> float:
    if options.pixel_size is not None:
        return options.pixel_size
    sizes = [one.pixel_size for one in (first, second)]
    for file, size in zip((first, second), sizes, strict=True):
        if size is None:
            raise InputError("its header holds no pixel size", path=file.path, fix="give --pixel-size")
    known = [size for size in sizes if size is not None]
    if max(known) > min(known) * (1 + _PIXEL_TOLERANCE):
        raise InputError(
            f"its voxels are {known[1]:g} angstrom, those of {first.path} {known[0]:g}",
            path=second.path,
            fix="give two half maps of one refinement, or --pixel-size",
        )
    return known[0]


def postprocess(options: PostprocessOptions, run: RunOptions, *, world: World | None = None) -> JobResult:
    """Make of two half maps what `manyviews.maps.postprocess` makes of them, in a run folder.

    Parameters
    ----------
    options
        The half maps, and how.
    run
        The run folder.
    world
        The processes of the job; the first of them does it alone.

    Raises
    ------
    InputError
        If anything the user gave cannot be used.
    """
    began = time.monotonic()
    files = look_at_halves(options)
    symmetry_rotations(options.symmetry)
    inputs = [options.half1, options.half2, *([] if options.mask is None else [options.mask])]
    with start_job(
        "particles postprocess",
        run,
        MachineOptions(threads=options.threads),
        record=_record(options, files),
        inputs={str(path): fingerprint(path) for path in inputs},
        results=RESULTS,
        pictures=PICTURES,
        sections=sections,
        seed=options.seed,
        world=world,
        began=began,
    ) as job:
        if job.finished:
            return job.result()
        free = available_memory_bytes()
        if free is not None and files.memory_bytes > free:
            job.warn(
                f"this takes some {format_bytes(files.memory_bytes)} of memory, and "
                f"{format_bytes(free)} are free"
            )
        halves = [_read_half(path) for path in (files.half1, files.half2)]
        told = files.pixel_size if options.pixel_size is None else None
        mask = None if options.mask is None else read_mask(options.mask, files.box, told)
        maps.check_halves(*halves)
        if mask is not None:
            maps.given_mask(mask, files.box)
        job.begin()
        job.expect({FINISHING: Expected(FINISHING_VOXEL * files.box**3)}, 1.0)
        job.phase(f"postprocess: {files.box} voxels a side of {files.pixel_size:g} angstrom", FINISHING)
        found = maps.postprocess(
            halves[0],
            halves[1],
            files.pixel_size,
            maps.Postprocessing(
                b_factor=options.b_factor,
                symmetry=options.symmetry,
                local_threshold=options.local_threshold,
                seed=options.seed,
                threads=torch.get_num_threads(),
            ),
            mask=mask,
        )
        job.warn(*found.warnings)
        return job.finish(write_finished(job.folder, found, (halves[0], halves[1])))


def _read_half(path: Path) -> Float32:
    volume, _ = read_volume(path)
    if fault := voxel_fault(volume):
        raise InputError(fault, path=path, fix="give a half map with density")
    return volume


def _record(options: PostprocessOptions, files: HalfMapFiles) -> dict[str, Any]:
    """For ``run.toml``: what changes the result."""
    return {"half1": str(options.half1), "half2": str(options.half2),
            "mask": None if options.mask is None else str(options.mask),
            "pixel_size": files.pixel_size, "symmetry": options.symmetry, "b_factor": options.b_factor,
            "local_threshold": options.local_threshold}  # fmt: skip
