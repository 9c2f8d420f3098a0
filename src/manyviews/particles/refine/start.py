"""The map that a refinement begins with, and what each half of the particles gets of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.volume_files import read_volume, voxel_fault
from manyviews.operators.fourier_sums import HALVES, filter_shells
from manyviews.parallel.lanes import LANES
from manyviews.particles.em.expectation import sample_everywhere
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.fourier_resample import regrid_volume
from manyviews.particles.images.random_start import power_scale
from manyviews.random import Stream, generator
from manyviews.runs.map_names import VOLUME_FILE

Float32 = NDArray[np.float32]

_VIEW_TOLERANCE = 0.01  # of the field of view, by which two may differ
_FADES_OVER = 2  # shells
_PERTURBED = 0.1  # of the start's own strength, that each half's start gets of its own noise
_JUDGES = 200  # images


@dataclass(frozen=True)
class Start:
    """A map ``(box, box, box)`` for the images' field of view, and the file that it is from."""

    volume: Float32
    path: Path


def start_file(path: Path) -> Path:
    """The map of a run folder, or the map itself; `InputError` if there is none."""
    if not path.is_dir():
        return path
    found = path / VOLUME_FILE
    if not found.exists():
        raise InputError(f"the folder holds no {VOLUME_FILE}", path=path, where="--start",
                         fix="give a run folder that has one, or a map")  # fmt: skip
    return found


def read_start(path: Path, box: int, pixel_size: float) -> Start:
    """Read a start and bring it to the images' box.

    Voxels may be larger or smaller than the images' pixels; what lies beyond the images' field of view is cut
    off, and what it lacks is filled with the mean of its border.

    Raises
    ------
    InputError
        If it cannot be read, is no cube of finite voxels, has no pixel size, or its voxels do not divide the
        field of view.
    """
    file = start_file(path)
    volume, header = read_volume(file)
    fault = voxel_fault(volume)
    if fault:
        raise InputError(f"the start: {fault}", path=file, fix="give another map")
    if len(set(volume.shape)) != 1:
        shown = " x ".join(map(str, volume.shape[::-1]))
        raise InputError(f"the start has {shown} voxels, not a cube", path=file, fix="give a cube")
    if header.pixel_size is None:
        raise InputError("the start's header holds no pixel size", path=file, fix="write one into it")
    side = box * pixel_size
    count = round(side / header.pixel_size)
    if abs(count * header.pixel_size - side) > _VIEW_TOLERANCE * side or count < 2:
        raise InputError(
            f"voxels of {header.pixel_size:g} angstrom do not divide the images' {side:g} angstrom",
            path=file,
            fix="resample the start to the images' pixel size",
        )
    laid = torch.from_numpy(_with_side(volume, count))
    return Start(regrid_volume(laid, box).numpy(), file)


def _with_side(volume: Float32, count: int) -> Float32:
    """The middle ``count`` voxels along each axis, or as many with a border around; n // 2 stays n // 2."""
    old = len(volume)
    border = np.ones(volume.shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    found = np.full((count,) * 3, volume[border].mean(), np.float32)
    kept = min(old, count)
    here, there = (slice(size // 2 - kept // 2, size // 2 - kept // 2 + kept) for size in (old, count))
    found[there, there, there] = volume[here, here, here]
    return found


def starts_of_halves(problem: EmProblem, start: Start, radius: int) -> tuple[torch.Tensor, ...]:
    """What each half begins with.

    The start up to ``radius``, Fourier pixels, as bright as the images ask for, within the particle's sphere;
    and a little noise of each half's own, so that both do not begin alike. All ranks make this call.
    """
    low = low_passed(torch.from_numpy(start.volume), radius)
    shape = problem.constraint(problem.images.box)
    low = shape.applied(low - border_mean(low))
    few = np.flatnonzero(problem.numbers % LANES == 0)[:_JUDGES]
    known = problem.world.rank == 0 and len(few) > 0
    images = problem.images.crop(radius)
    scale = power_scale(low, images.select(few), problem.seed) if known else 1.0
    low = low * float(problem.world.broadcast(scale))
    likely = [_likelihood(problem, sign * low, radius, few) if known else 0.0 for sign in (1, -1)]
    bright, dark = problem.world.broadcast(likely)
    if dark > bright:
        problem.warn(
            f"the start {start.path.name} is dark where the particles are bright: it is used with its grey "
            f"levels turned over (log likelihood of an image {dark:.4g}, as it is {bright:.4g})"
        )
        low = -low
    strength = _PERTURBED * float(low.square().mean().sqrt())
    made = []
    for half in range(HALVES):
        rng = generator(problem.seed, Stream.HALF_START, half)
        noise = low_passed(torch.from_numpy(rng.standard_normal(low.shape).astype(np.float32)), radius)
        made.append(shape.applied(low + noise * (strength / float(noise.square().mean().sqrt()))))
    return tuple(made)


def low_passed(volume: torch.Tensor, radius: int) -> torch.Tensor:
    """Frequencies up to ``radius``, Fourier pixels, which fade over two shells."""
    shells = np.arange(len(volume))
    return filter_shells(volume, np.clip((radius + 1 - shells) / _FADES_OVER, 0.0, 1.0))


def border_mean(volume: torch.Tensor) -> float:
    """Mean of the outermost voxels: the solvent."""
    faces = [volume[0], volume[-1], volume[:, 0], volume[:, -1], volume[:, :, 0], volume[:, :, -1]]
    return float(torch.stack([face.mean() for face in faces]).mean())


def _likelihood(problem: EmProblem, volume: torch.Tensor, radius: int, few: NDArray[np.int64]) -> float:
    """Mean log likelihood of some images, looked for everywhere at low frequency."""
    rng = generator(problem.seed, Stream.HALF_START, HALVES)
    coarse = min(radius, problem.plan.last_start_radius)
    grid = problem.grid(volume, coarse, rng)
    images = problem.images.crop(coarse).select(few)
    _, logs = sample_everywhere(images, grid, problem.shift_sigma, rng.random(len(few)), 1)
    return float(logs.mean())
