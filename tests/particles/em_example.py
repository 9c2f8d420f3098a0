"""A small particle without symmetry and its images: as Fourier coefficients, or as files to reconstruct."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from manyviews.alignment.map_alignment import align_map
from manyviews.geometry.poses import random_rotations
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.jobs.run import JobResult
from manyviews.kernels.slices_cpu import gather_slices
from manyviews.operators.fourier_points import half_plane, shells
from manyviews.operators.fourier_slice import volume_to_grid
from manyviews.operators.image_shift import shift_phases
from manyviews.options import RunOptions
from manyviews.parallel.world import World
from manyviews.particles.abinitio import abinitio
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.options import (
    AbinitioOptions,
    ParticleOptions,
    RefineOptions,
    SimulateOptions,
    SolveOptions,
)
from manyviews.particles.refine.refine import refine
from manyviews.particles.simulate import simulate
from manyviews.particles.solve import solve
from manyviews.simulate.phantoms import Gaussians

BOX, RADIUS, PIXEL = 24, 8, 6.0
FILE_BOX, FILE_PIXEL = 20, 8.0
COUNT = 100  # images in files


@dataclass(frozen=True)
class Example:
    """Images, and the truth: ``rotations (N, 3, 3)`` and the ``shifts (N, 2)`` in pixels that centre them."""

    volume: torch.Tensor
    images: FourierImages
    rotations: np.ndarray
    shifts: np.ndarray

    def true_samples(self) -> PoseSamples:
        """The true poses, each with weight 1."""
        count = len(self.images)
        return PoseSamples(
            np.arange(count),
            self.rotations.astype(np.float32),
            self.shifts.astype(np.float32),
            np.ones(count, np.float32),
        )


def blobs(box: int, count: int, sigma: float, fold: int = 1) -> Gaussians:
    """Blobs narrow enough for power at all frequencies, and copies around the z axis; lengths in voxels."""
    rng = np.random.default_rng(8)
    places = rng.normal(size=(count, 3))
    places *= 0.32 * box * rng.random((count, 1)) ** (1 / 3) / np.linalg.norm(places, axis=1, keepdims=True)
    one = Gaussians.isotropic(rng.uniform(0.5, 1.5, count), places - places.mean(0) * (fold == 1), sigma)
    turns = [Rotation.from_euler("z", 360.0 * k / fold, degrees=True).as_matrix() for k in range(fold)]
    return Gaussians.concatenate([one.moved(turn, np.zeros(3)) for turn in turns])


def example(
    count: int = 80, *, noise: float = 0.3, groups: int = 1, shift_sigma: float = 0.6, seed: int = 0
) -> Example:
    """Random views; ``noise`` is the variance of a coefficient's noise over the mean power of the slices.

    Noise falls with frequency, and its variance is twice as high in every further group.
    """
    rng = np.random.default_rng(seed)
    volume = torch.from_numpy(blobs(BOX, 10, 1.1).density((BOX,) * 3, 1.0))
    points = half_plane(RADIUS, BOX)
    rotations, shifts = random_rotations(count, rng), shift_sigma * rng.normal(size=(count, 2))
    grid = volume_to_grid(volume, RADIUS, 2).numpy()
    slices = gather_slices(grid, rotations.astype(np.float32), points, 2)
    ctf = -np.cos(0.05 * np.sum(points**2, axis=1) * rng.uniform(0.5, 1.5, (count, 1)))
    level = noise * np.mean(np.abs(slices[:, 1:]) ** 2)
    spectrum = level * np.linspace(1.5, 0.5, RADIUS + 1)
    variance = spectrum * 2.0 ** np.arange(groups)[:, None]
    group = rng.integers(0, groups, count).astype(np.int32)
    errors = rng.normal(size=slices.shape) + 1j * rng.normal(size=slices.shape)
    errors[:, 0] = np.sqrt(2) * errors[:, 0].real
    errors *= np.sqrt(variance[group][:, shells(points)] / 2)
    clean = ctf * slices * shift_phases(-shifts, points, BOX).numpy()
    images = FourierImages(
        points,
        (clean + errors).astype(np.complex64),
        ctf.astype(np.float32),
        variance.astype(np.float32),
        group,
        BOX,
        PIXEL,
        RADIUS,
    )
    return Example(volume, images, rotations, shifts)


def likelihood(
    images: FourierImages, volume: torch.Tensor, image: int, rotation: np.ndarray, shift: np.ndarray
) -> float:
    """``-sum m |Y - C S|^2 / s`` in float64, and the image's own energy taken off, written out."""
    grid = volume_to_grid(volume.double(), images.radius, 2).numpy()
    seen = gather_slices(grid, rotation[None], images.points, 2)[0]
    moved = images.ctf[image] * seen * shift_phases(-shift[None], images.points, images.box).numpy()[0]
    weight = images.precision()[image].astype(np.float64)
    difference = np.abs(images.values[image] - moved) ** 2 - np.abs(images.values[image]) ** 2
    return float(-np.sum(weight * difference))


def write_example(folder: Path, fold: int = 1, **options: object) -> Path:
    """Simulate particle files; returns the STAR file, beside which is ``truth.mrc``."""
    density = blobs(FILE_BOX, 6 // fold, 1.3, fold).density((FILE_BOX,) * 3, 1.0)
    specimen = folder.parent / f"{folder.name}-specimen.mrc"
    write_mrc(specimen, density, FILE_PIXEL)
    given = SimulateOptions(
        specimen=str(specimen),
        box=FILE_BOX,
        pixel_size=FILE_PIXEL,
        count=COUNT,
        snr=4.0,
        shift_sigma=3.0,
        defocus_min=8000.0,
        defocus_max=16000.0,
        astigmatism=200.0,
    )
    return simulate(replace(given, **options), folder).particles


QUICK = AbinitioOptions(starts=1, batch=40, refinements=4, resolution=26.6, threads=1)


def reconstruct(
    particles: Path, out: Path, options: AbinitioOptions = QUICK, *, world: World | None = None, **run: object
) -> JobResult:
    """One ab initio run without progress."""
    return abinitio(ParticleOptions(particles), options, RunOptions(out, quiet=True, **run), world=world)


def refine_from_truth(particles: Path, out: Path, *, world: World | None = None, **run: object) -> JobResult:
    """One short refinement without progress, from the truth at low resolution."""
    options = RefineOptions(
        start=particles.with_name("truth.mrc"), start_resolution=60.0, threads=1, iterations=3
    )
    return refine(ParticleOptions(particles), options, RunOptions(out, quiet=True, **run), world=world)


SOLVED = SolveOptions(starts=2, resolution=26.6, start_resolution=60.0, iterations=3, threads=1)


def solve_example(
    particles: Path, out: Path, options: SolveOptions = SOLVED, *, world: World | None = None, **run: object
) -> JobResult:
    """One short run from nothing to refined halves, without progress."""
    return solve(ParticleOptions(particles), options, RunOptions(out, quiet=True, **run), world=world)


def likeness(run: Path, truth: Path) -> float:
    """Correlation of a run's map with the truth, aligned, either hand."""
    found, _ = read_mrc(run / "volume.mrc")
    return align_map(found, read_mrc(truth)[0], FILE_PIXEL).correlation
