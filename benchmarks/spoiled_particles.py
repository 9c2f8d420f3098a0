"""Sets of particle images with what real ones have: faults, junk, coloured noise, contrast that varies.

Made for `refinement_robustness.py`: images of known maps by `particles simulate` without noise, then spoiled here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.particle_images import ParticleImages, read_particles, write_particle_stack
from manyviews.io.particle_table import ParticleTable
from manyviews.io.relion_particles import write_relion_particles
from manyviews.particles.options import SimulateOptions
from manyviews.particles.simulate import simulate
from manyviews.simulate.particles import particle_noise

Float32 = NDArray[np.float32]
JUNK_KINDS = ("noise", "another object", "ice")
PER_MICROGRAPH = 50


@dataclass(frozen=True)
class Spoiled:
    """A set in a folder: ``particles.star``, ``truth.star`` of the good images only, ``truth.mrc``.

    ``kind (N,)`` says what each image is: ``good``, a kind of junk, or a fault; ``scale (N,)`` is its contrast,
    ``micrograph (N,)`` the number of that which it shares it with.
    """

    folder: Path
    kind: NDArray[np.str_]
    scale: NDArray[np.float64]
    micrograph: NDArray[np.int64]

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which images show the particle as they should."""
        return np.asarray(self.kind == "good")


@dataclass(frozen=True)
class Recipe:
    """What is done to the images; ``junk`` and ``faults`` are shares of them, ``spread`` that of the contrast."""

    snr: float = 0.1
    junk: float = 0.0
    junk_kinds: tuple[str, ...] = JUNK_KINDS
    faults: float = 0.0
    colour: float = 0.0
    spread: float = 0.0
    leave_out_junk: bool = False
    noise_only: bool = False


def clean_images(
    specimen: Path, folder: Path, box: int, pixel_size: float, count: int, seed: int
) -> ParticleTable:
    """Noise-free images with all there is to know of them; made once."""
    if not (folder / "truth.mrc").exists():
        options = SimulateOptions(
            specimen=str(specimen), box=box, pixel_size=pixel_size, count=count, noise=0.0, seed=seed
        )
        simulate(options, folder)
    return read_particles(folder / "truth.star")


def spoiled(
    clean: Path, other: Path, out: Path, recipe: Recipe, seed: int, noise_seed: int | None = None
) -> Spoiled:
    """Write a set by a recipe from noise-free images in two folders, of the particle and of another object.

    ``noise_seed`` gives the same set other noise.
    """
    table, strangers = read_particles(clean / "truth.star"), read_particles(other / "truth.star")
    count, rng = len(table), np.random.default_rng(seed + 100)
    images, wrong = ParticleImages(table).read(), ParticleImages(strangers).read()
    level = np.sqrt(float(images.var(dtype=np.float64)) / recipe.snr)
    images /= np.float32(level)
    wrong /= np.float32(np.sqrt(float(wrong.var(dtype=np.float64)) / recipe.snr))
    box, kind = images.shape[1], np.full(count, "good", dtype="U20")
    order = rng.permutation(count)
    junk = order[: round(recipe.junk * count)]
    for number, rows in enumerate(np.array_split(junk, len(recipe.junk_kinds))):
        kind[rows] = recipe.junk_kinds[number]
    scale = np.repeat(1 + recipe.spread * rng.uniform(-1, 1, -(-count // PER_MICROGRAPH)), PER_MICROGRAPH)[
        :count
    ]
    images *= scale[:, None, None].astype(np.float32)
    images[kind == "noise"] = 0
    stranger = np.flatnonzero(kind == "another object")
    images[stranger] = wrong[stranger % len(wrong)]
    for row in np.flatnonzero(kind == "ice"):
        images[row] = _ice(box, rng)
    if recipe.noise_only:
        images[:], kind[:] = 0, "noise"
    noise_seed = seed if noise_seed is None else noise_seed
    images += particle_noise(0, count, box, table.pixel_size, recipe.colour, noise_seed)
    _put_faults(images, kind, order[len(junk) :][: round(recipe.faults * count)], rng)
    chosen = np.flatnonzero((kind == "good") | (not recipe.leave_out_junk))
    return _write(out, table, images, kind, scale, chosen)


def _ice(box: int, rng: np.random.Generator) -> Float32:
    """A soft blob in no particular place, as strong as contamination is: a tenth to half the noise's power."""
    along = np.arange(box) - box // 2
    place, width = rng.uniform(-0.3 * box, 0.3 * box, 2), rng.uniform(0.08, 0.2) * box
    blob = np.exp(-((along[:, None] - place[0]) ** 2 + (along - place[1]) ** 2) / (2 * width**2))
    strength = np.sqrt(rng.uniform(0.1, 0.5) / blob.var()) * rng.choice([-1, 1])
    return np.asarray(blob * strength, np.float32)


def _put_faults(
    images: Float32, kind: NDArray[np.str_], rows: NDArray[np.int64], rng: np.random.Generator
) -> None:
    """Hot pixels, empty images, NaN, and images whose contrast is turned over, in turns."""
    for turn, row in enumerate(rows):
        y, x = rng.integers(4, images.shape[1] - 4, 2)
        if turn % 4 == 0:
            kind[row] = "hot pixels"
            images[row, y : y + 2, x] += 500.0
        elif turn % 4 == 1:
            kind[row] = "empty"
            images[row] = 3.0
        elif turn % 4 == 2:
            kind[row] = "NaN"
            images[row, y, x] = np.nan
        else:
            kind[row] = "wrong contrast"
            images[row] *= -1


def without_phases(given: Spoiled, out: Path, start_radius: int, seed: int) -> Spoiled:
    """The same set with the phases of the images beyond a radius, in Fourier pixels, at random: nothing to agree in.

    Each image keeps its power; the test of Chen et al., Ultramicroscopy 135 (2013) 24, on images.
    """
    table = read_particles(given.folder / "particles.star")
    images, rng = ParticleImages(table).read(), np.random.default_rng(seed + 200)
    box = images.shape[1]
    frequency = np.hypot(np.fft.fftfreq(box, 1 / box)[:, None], np.fft.rfftfreq(box, 1 / box))
    beyond = (frequency > start_radius + 0.5)[None]
    found = np.fft.rfft2(images)
    noise = np.fft.rfft2(rng.standard_normal(images.shape))
    found = np.where(beyond, np.abs(found) * noise / np.abs(noise), found)
    changed = np.fft.irfft2(found, s=(box, box)).astype(np.float32)
    truth = read_particles(given.folder / "truth.star")
    out.mkdir(parents=True, exist_ok=True)
    write_particle_stack(out / "particles.mrcs", [changed], len(changed), table.pixel_size, overwrite=True)
    write_relion_particles(out / "particles.star", table, overwrite=True)
    write_relion_particles(out / "truth.star", truth, overwrite=True)
    write_mrc(out / "truth.mrc", read_mrc(given.folder / "truth.mrc")[0], table.pixel_size, overwrite=True)
    return replace(given, folder=out)


def _write(
    out: Path,
    table: ParticleTable,
    images: Float32,
    kind: NDArray[np.str_],
    scale: NDArray[np.float64],
    chosen: NDArray[np.int64],
) -> Spoiled:
    """The stack and its tables: the true poses are of good images, whose true contrast they tell."""
    out.mkdir(parents=True, exist_ok=True)
    truth, _ = read_mrc(table.stacks[0].with_name("truth.mrc"))
    write_mrc(out / "truth.mrc", truth, table.pixel_size, overwrite=True)
    images, kind, scale = images[chosen], kind[chosen], scale[chosen]
    stack = out / "particles.mrcs"
    write_particle_stack(stack, [np.nan_to_num(images)], len(images), table.pixel_size, overwrite=True)
    broken = np.isnan(images)
    if broken.any():  # which the writer refuses
        np.memmap(stack, np.float32, "r+", 1024, images.shape)[broken] = np.nan
    micrograph = [f"micrograph{row // PER_MICROGRAPH:03d}.mrc" for row in chosen]
    own = replace(
        table.select(chosen),
        stacks=(stack,), stack_names=("particles.mrcs",), section=np.arange(len(chosen)),
        extra={"rlnMicrographName": micrograph},
    )  # fmt: skip
    write_relion_particles(out / "particles.star", replace(own, angles=None, shifts=None), overwrite=True)
    known = (
        replace(own, scale=scale).select(np.flatnonzero(kind == "good")) if (kind == "good").any() else own
    )
    write_relion_particles(out / "truth.star", known, overwrite=True)
    return Spoiled(out, kind, scale, chosen // PER_MICROGRAPH)
