"""Simulate images of single particles of a known specimen and write them as RELION would, with the truth."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manyviews
from manyviews.errors import InputError
from manyviews.io.atomic import atomic_write
from manyviews.io.mrc import write_mrc
from manyviews.io.particle_images import write_particle_stack
from manyviews.io.particle_table import OpticsGroup, ParticleTable, table_of_stack
from manyviews.io.relion_particles import write_relion_particles
from manyviews.io.staging import staged_folder
from manyviews.operators.contrast_transfer import Optics
from manyviews.options import check_options
from manyviews.particles.options import SimulateOptions
from manyviews.runs.toml import dump_toml
from manyviews.simulate.particle_specimens import particle_specimen
from manyviews.simulate.particles import (
    GaussianProjector,
    Poses,
    Projector,
    VolumeProjector,
    draw_defocus,
    draw_poses,
    particle_images,
    particle_noise,
)

Progress = Callable[[str, int, int], None]
Float32 = NDArray[np.float32]

DEFAULT_SNR = 0.1
_OWN_FILES = ("particles.mrcs", "particles.star", "truth.star", "truth.mrc", "simulate.toml", "README.txt")
_IMAGES_AT_ONCE = 256
_IMAGES_MEASURED = 1000
# Where a specimen ends, of its peak; pixels around it that a mask leaves free.
_OUTLINE, _ROOM = 0.02, 2.0


@dataclass(frozen=True)
class Simulated:
    """What `simulate` wrote.

    ``particles`` is the STAR file without poses, ``truth_poses`` that with true poses and shifts. ``truth``
    is the specimen in the grey levels of the images: an image is its projection, CTF applied, plus noise of
    variance 1. ``signal_to_noise`` is the variance of the noise-free images over that of the noise, infinite
    without noise; ``command`` reconstructs them, as typed in a shell.
    """

    folder: Path
    particles: Path
    truth_poses: Path
    truth: Path
    command: str
    signal_to_noise: float


@dataclass(frozen=True)
class _Scene:
    """The specimen, how it is projected, and all that was drawn at random but the noise."""

    volume: Float32
    projector: Projector
    table: ParticleTable
    poses: Poses
    optics: Optics | None


@dataclass(frozen=True)
class _Levels:
    """Images are ``scale * clean + noisy * noise``."""

    scale: float
    noisy: bool
    signal_to_noise: float


def simulate(options: SimulateOptions, out: Path, progress: Progress | None = None) -> Simulated:
    """Write a stack, its STAR file without and with the true poses, and the specimen.

    The images are made and written a few at a time. ``simulate.toml`` holds all options and the levels that
    follow from them. The same options give the same files to the last bit. The folder appears when complete
    or not at all; ``progress`` is told a file name, images done and images to do.

    Raises
    ------
    InputError
        If an option is impossible, the specimen cannot be used, or the folder cannot be written.
    """
    _check(options)
    with staged_folder(out, _OWN_FILES, overwrite=options.overwrite) as folder:
        scene = _scene(options)
        levels = _levels(scene, options)
        write_mrc(folder / "truth.mrc", scene.volume * np.float32(levels.scale), options.pixel_size)
        write_particle_stack(
            folder / "particles.mrcs",
            _images(scene, levels, options, progress),
            options.count,
            options.pixel_size,
            labels=("manyviews: simulated particles",),
        )
        write_relion_particles(folder / "truth.star", scene.table)
        write_relion_particles(folder / "particles.star", replace(scene.table, angles=None, shifts=None))
        command = _command(out, mask_diameter(scene.volume, options.pixel_size))
        atomic_write(folder / "README.txt", _readme(command, options).encode())
        atomic_write(folder / "simulate.toml", dump_toml(_record(levels, options)).encode())
    return Simulated(
        folder=out,
        particles=out / "particles.star",
        truth_poses=out / "truth.star",
        truth=out / "truth.mrc",
        command=command,
        signal_to_noise=levels.signal_to_noise,
    )


def _check(options: SimulateOptions) -> None:
    check_options(options)
    if options.defocus_min > options.defocus_max:
        raise InputError(
            f"defocus from {options.defocus_min:g} to {options.defocus_max:g} A is not possible",
            where="--defocus-min",
            fix="give the smaller one first",
        )
    if options.snr is not None and options.noise is not None:
        raise InputError("noise was given in two ways", where="--snr", fix="give either --snr or --noise")


def _scene(options: SimulateOptions) -> _Scene:
    volume, projector = _specimen(options)
    poses = draw_poses(
        options.count,
        views=options.views,
        belt_width=options.belt_width,
        shift_sigma=options.shift_sigma,
        seed=options.seed,
    )
    if options.no_ctf:  # the group for which the CTF's formula is 1 at every frequency
        group = OpticsGroup("simulated", options.voltage, 0.0, 1.0, options.pixel_size, options.box)
        defocus, angle, optics = np.zeros((options.count, 2)), np.zeros(options.count), None
    else:
        defocus, angle = draw_defocus(
            options.count, options.defocus_min, options.defocus_max, options.astigmatism, options.seed
        )
        microscope = (options.voltage, options.spherical_aberration, options.amplitude_contrast)
        group = OpticsGroup("simulated", *microscope, options.pixel_size, options.box)
        optics = Optics.make(*microscope, defocus, angle, 0.0, options.b_factor)
    table = table_of_stack(
        Path("particles.mrcs"), group, defocus, defocus_angle=angle, angles=poses.angles, shifts=poses.shifts
    )
    b_factor = np.full(options.count, 0.0 if options.no_ctf else options.b_factor)
    return _Scene(volume, projector, replace(table, b_factor=b_factor), poses, optics)


def _specimen(options: SimulateOptions) -> tuple[Float32, Projector]:
    """The density on the grid of the box, and its projections."""
    volume, gaussians = particle_specimen(
        options.specimen, options.box, options.pixel_size, seed=options.seed, resolution=options.resolution
    )
    if gaussians is not None:
        return volume, GaussianProjector(gaussians, options.box, options.pixel_size)
    return volume, VolumeProjector(volume)


def _levels(scene: _Scene, options: SimulateOptions) -> _Levels:
    """Grey levels such that the noise has variance 1; from the first thousand images."""
    clean = [_clean(scene, options, start) for start in _starts(min(options.count, _IMAGES_MEASURED))]
    variance = float(np.concatenate(clean).var(dtype=np.float64))
    if options.noise == 0:
        return _Levels(scale=1.0, noisy=False, signal_to_noise=math.inf)
    if options.noise is not None:
        noise = options.noise * abs(float(scene.volume.sum(dtype=np.float64))) / options.mass
    else:
        noise = math.sqrt(variance / (DEFAULT_SNR if options.snr is None else options.snr))
    if not noise > 0:
        raise InputError(
            "the images are empty, so the noise has no measure",
            where="option specimen",
            fix="give a specimen with density inside the box",
        )
    return _Levels(scale=1 / noise, noisy=True, signal_to_noise=variance / noise**2)


def _starts(count: int) -> list[tuple[int, int]]:
    """First and one past the last image of every block."""
    return [(first, min(first + _IMAGES_AT_ONCE, count)) for first in range(0, count, _IMAGES_AT_ONCE)]


def _clean(scene: _Scene, options: SimulateOptions, span: tuple[int, int]) -> Float32:
    chosen = slice(*span)
    poses = Poses(scene.poses.angles[chosen], scene.poses.shifts[chosen])
    optics = None if scene.optics is None else scene.optics.select(chosen)
    return particle_images(scene.projector, poses, optics, options.pixel_size)


def _images(
    scene: _Scene, levels: _Levels, options: SimulateOptions, progress: Progress | None
) -> Iterator[Float32]:
    """All images, in blocks."""
    for first, stop in _starts(options.count):
        images = _clean(scene, options, (first, stop)) * np.float32(levels.scale)
        if levels.noisy:
            images += particle_noise(
                first, stop - first, options.box, options.pixel_size, options.noise_colour, options.seed
            )
        yield images
        if progress is not None:
            progress("particles.mrcs", stop, options.count)


def mask_diameter(volume: Float32, pixel_size: float) -> int:
    """Of a sphere about the middle with all of a specimen ``(D, D, D)`` in it and some room, in angstrom.

    Multiples of ten, but no more than the box, and no less than a fifth of it.
    """
    box = len(volume)
    size = np.abs(volume)
    inside = np.argwhere(size > _OUTLINE * size.max()) - box // 2
    reach = max(float(np.linalg.norm(inside, axis=1).max()) if len(inside) else 0.0, box / 10)
    return min(10 * math.ceil(2 * (reach + _ROOM) * pixel_size / 10), math.floor(box * pixel_size))


def _command(out: Path, diameter: int) -> str:
    words = ["manyviews", "particles", "abinitio", str(out / "particles.star"), "--diameter", str(diameter)]
    return shlex.join([*words, "--reference", str(out / "truth.mrc"), "--out", str(out / "reconstruction")])


def _readme(command: str, options: SimulateOptions) -> str:
    return f"""Simulated single particles, {options.count} images of {options.box} x {options.box} pixels.

particles.mrcs   the images, protein white; the noise has variance 1
particles.star   their optics and defocus, no poses: what a reconstruction starts from
truth.star       the same with the true poses and shifts
truth.mrc        the specimen, in the grey levels of the images
simulate.toml    all options and the levels that follow from them

Reconstruct with

{command}
"""


def _record(levels: _Levels, options: SimulateOptions) -> dict[str, Any]:
    """What ``simulate.toml`` holds."""
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    made = {"scale": levels.scale, "noise_std": float(levels.noisy)}
    if levels.noisy:
        made["signal_to_noise"] = levels.signal_to_noise
    return {"manyviews": manyviews.__version__, "options": given, "grey_levels": made}
