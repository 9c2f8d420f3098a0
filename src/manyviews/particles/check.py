"""Look at particles before they are reconstructed: what is there, whether it will do, what it will take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.particle_images import ParticleImages, check_images
from manyviews.io.particle_table import ParticleTable
from manyviews.io.sizes import format_bytes
from manyviews.parallel.launch import local_threads
from manyviews.parallel.world import SingleWorld
from manyviews.particles.estimate import Cost, Stage, estimate_cost, expected_reach
from manyviews.particles.images.load import background_mask, noise_spectrum, read_fourier_images
from manyviews.particles.options import AbinitioOptions, ParticleOptions
from manyviews.particles.plan import Plan, load_table, resolve_plan
from manyviews.runs.memory import available_memory_bytes
from manyviews.runs.progress import format_seconds

Float64 = NDArray[np.float64]

_SAMPLE = 500
_SHOWN_SHELLS = 8
_MOST_GROUPS = 10
_FAR_DEFOCUS = 60_000.0  # angstrom
_SURE = 5.0  # standard errors
_LEAST_SIGNAL = 0.02
_UNEVEN_NOISE = 0.5  # spread of the images' noise over its mean
_PARALLEL_SHARE = 0.85  # of perfect, with a few threads


@dataclass(frozen=True)
class GreyLevels:
    """Of the images that were looked at, ``sampled`` many.

    Attributes
    ----------
    background, noise
        Median mean and median standard deviation outside the particle.
    noise_spread
        Spread of the standard deviations over their mean.
    brightness, brightness_error
        How much brighter than the background the middle is, in standard deviations of the noise, mean of the
        images, and its standard error.
    signal_to_noise, whole_ratio
        ``(radius + 1,)`` power of the signal over that of the noise in each shell, and of all coefficients.
    """

    sampled: int
    background: float
    noise: float
    noise_spread: float
    brightness: float
    brightness_error: float
    signal_to_noise: list[float]
    whole_ratio: float


@dataclass(frozen=True)
class Checked:
    """What `check` found.

    ``looked_at`` images were searched for blank ones and NaN. ``reach`` is where the halves would stop
    agreeing with known poses, Fourier pixels; the time is for so many ``threads``; ``warnings`` are
    sentences.
    """

    table: ParticleTable
    plan: Plan
    looked_at: int
    grey: GreyLevels
    reach: int
    cost: Cost
    threads: int
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """All of it in words, for a terminal."""
        return [
            *_data_lines(self.table, self.plan),
            "",
            *self._image_lines(),
            "",
            *self._plan_lines(),
            *self._cost_lines(),
            *([f"warning: {text}" for text in self.warnings] or ["no warnings"]),
        ]

    def _resolution(self, radius: int) -> str:
        return f"{self.plan.box * self.plan.pixel_size / radius:.3g} A"

    def _image_lines(self) -> Iterator[str]:
        grey, count = self.grey, len(self.table)
        rest = "" if self.looked_at == count else f" of {count} (--all-images for all)"
        yield f"images looked at: {self.looked_at}{rest}; none is blank or holds NaN"
        yield f"background: {grey.background:.3g}, noise {grey.noise:.3g} +- {grey.noise_spread:.0%}"
        yield f"signal to noise: {grey.whole_ratio:.3g} (power, all frequencies); by resolution"
        shells = np.unique(np.geomspace(2, len(grey.signal_to_noise) - 1, _SHOWN_SHELLS).round().astype(int))
        yield "  " + " ".join(f"{self._resolution(shell):>8}" for shell in shells.tolist())
        yield "  " + " ".join(f"{grey.signal_to_noise[shell]:8.2g}" for shell in shells.tolist())
        yield (
            "with all poses known exactly, halves of the images would agree to about "
            f"{self._resolution(self.reach)} (a guess)"
        )

    def _plan_lines(self) -> Iterator[str]:
        plan, options = self.plan, self.plan.options
        yield (
            f"plan: {options.method}, particle of {plan.diameter:.4g} A, shifts of "
            f"{plan.shift_sigma:.3g} A, {options.symmetry}, at most {self._resolution(plan.radius)}"
        )
        for stage in self.cost.stages:
            yield f"  {self._stage(stage)}"
        if not self.cost.stages:
            yield f"  {plan.iterations} iterations of {min(options.batch, len(self.table))} images"

    def _stage(self, stage: Stage) -> str:
        first, last = self._resolution(stage.first_radius), self._resolution(stage.last_radius)
        span = last if first == last else f"{first} to {last}"
        many = "iteration" if stage.iterations == 1 else "iterations"
        return f"{stage.name}: {stage.iterations} {many} of {stage.images} images, {span}"

    def _cost_lines(self) -> Iterator[str]:
        cost, free = self.cost, available_memory_bytes()
        room = "" if free is None else f"; {format_bytes(free)} is free"
        yield (
            f"memory: about {format_bytes(cost.images_bytes + cost.working_bytes)}, "
            f"of it {format_bytes(cost.images_bytes)} for the images{room}"
        )
        if cost.seconds is None:
            yield f"time: not estimated for {self.plan.options.method}"
        elif self.plan.device != "cpu":
            yield "time: not estimated on a GPU"
        else:
            share = 1 if self.threads == 1 else _PARALLEL_SHARE
            threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
            wall = cost.seconds / (self.threads * share)
            yield f"time: about {format_seconds(wall)} on {threads}, if the machine does nothing else"


def check(particles: ParticleOptions, options: AbinitioOptions, *, all_images: bool = False) -> Checked:
    """Read the table and a sample of the images, and plan a reconstruction without running it.

    Parameters
    ----------
    particles, options
        As for `manyviews.particles.abinitio.abinitio`.
    all_images
        Look at every image, not 500 of them.

    Raises
    ------
    InputError
        As a reconstruction would, also if an image that was looked at is blank or holds NaN.
    """
    table = load_table(particles)
    images = ParticleImages(table)
    plan = resolve_plan(options, len(table), images.box, table.pixel_size)
    symmetry_rotations(options.symmetry)
    chosen = _sample(len(table), all_images)
    check_images(images, chosen)
    threads = options.threads or local_threads(SingleWorld())
    grey = grey_levels(table, images, plan, threads)
    guess = expected_reach(grey.signal_to_noise, len(table), grey.sampled, plan.em.filled)
    reach = min(plan.radius, guess)
    return Checked(
        table=table,
        plan=plan,
        looked_at=len(chosen),
        grey=grey,
        reach=reach,
        cost=estimate_cost(plan, reach),
        threads=threads,
        warnings=(*table.warnings, *find_warnings(table, plan, grey)),
    )


def _sample(count: int, everyone: bool) -> NDArray[np.int64]:
    """Particles to look at, spread over the table."""
    size = count if everyone else min(count, _SAMPLE)
    return np.unique(np.linspace(0, count - 1, size).round().astype(np.int64))


def grey_levels(table: ParticleTable, images: ParticleImages, plan: Plan, threads: int) -> GreyLevels:
    """Noise, contrast and signal of a sample of the images."""
    chosen = _sample(len(table), False)
    mask = background_mask(plan.box, plan.diameter / plan.pixel_size)
    outside = mask / mask.sum()
    inside = (1 - mask) / (1 - mask).sum()
    figures = []
    for _, block in images.blocks(chosen):
        mean = np.einsum("nyx,yx->n", block, outside)
        spread = np.sqrt(np.einsum("nyx,nyx,yx->n", block, block, outside) - mean**2)
        middle = np.einsum("nyx,yx->n", block, inside) - mean
        figures.append(np.stack([mean, spread, middle, block.var(axis=(1, 2))]))
    background, noise, middle, variance = np.concatenate(figures, axis=1).astype(np.float64)
    usable = noise > 0
    brightness = middle[usable] / noise[usable]
    return GreyLevels(
        sampled=len(chosen),
        background=float(np.median(background)),
        noise=float(np.median(noise)),
        noise_spread=float(noise.std() / max(noise.mean(), 1e-30)),
        brightness=float(brightness.mean()),
        brightness_error=float(brightness.std() / math.sqrt(max(1, len(brightness)))),
        signal_to_noise=_shell_ratios(table, plan, chosen, threads),
        whole_ratio=max(0.0, float((variance[usable] / noise[usable] ** 2).mean() - 1)),
    )


def _shell_ratios(table: ParticleTable, plan: Plan, chosen: NDArray[np.int64], threads: int) -> list[float]:
    """Power of the images over that of their background in each shell, less 1."""
    images, spectra, counts = read_fourier_images(
        table, chosen, radius=plan.radius, diameter=plan.diameter, threads=threads
    )
    noise = noise_spectrum(spectra, counts, plan.box)
    shell = images.shells()
    power = (np.abs(images.values) ** 2 / noise[images.group][:, shell]).mean(axis=0)
    mean = np.bincount(shell, power) / np.maximum(np.bincount(shell), 1)
    return [max(0.0, float(value) - 1) for value in mean[: plan.radius + 1]]


# --- words ---


def _data_lines(table: ParticleTable, plan: Plan) -> Iterator[str]:
    box, pixel_size = plan.box, plan.pixel_size
    stacks = len(np.unique(table.stack_index))
    yield f"particles: {len(table)}, in {stacks} {'stack' if stacks == 1 else 'stacks'}"
    yield f"images: {box} x {box} pixels of {pixel_size:g} A, {box * pixel_size:.4g} A wide"
    groups, members = np.unique(table.optics_index, return_counts=True)
    yield f"optics groups: {len(groups)}"
    for group, count in list(zip(groups.tolist(), members.tolist(), strict=True))[:_MOST_GROUPS]:
        one = table.optics[group]
        if one.amplitude_contrast == 1 and one.spherical_aberration_mm == 0:
            yield f"  {one.name}: {count} particles, no CTF"
        else:
            yield (
                f"  {one.name}: {count} particles, {one.voltage_kv:g} kV, Cs "
                f"{one.spherical_aberration_mm:g} mm, amplitude contrast {one.amplitude_contrast:g}"
            )
    if len(groups) > _MOST_GROUPS:
        yield f"  ... and {len(groups) - _MOST_GROUPS} more"
    defocus = table.defocus.mean(axis=1)
    if np.any(defocus != 0):
        low, middle, high = (value / 1e4 for value in np.quantile(defocus, (0, 0.5, 1)))
        astigmatism = float(np.abs(np.diff(table.defocus, axis=1)).max())
        yield (
            f"defocus: {low:.2f} to {high:.2f} um, median {middle:.2f}; astigmatism up to {astigmatism:.0f} A"
        )
    if table.angles is not None:
        yield "poses: in the table, not used"


def _signal_lacks(grey: GreyLevels, first_radius: int) -> bool:
    """Whether a start's first frequencies hold less than a fiftieth of the noise, or what may be chance."""
    shells = np.arange(2, first_radius + 1)
    ratio = float(np.average(np.array(grey.signal_to_noise)[shells], weights=shells))
    return ratio < _LEAST_SIGNAL + 4 / math.sqrt(math.pi * shells.sum() * grey.sampled)


def find_warnings(table: ParticleTable, plan: Plan, grey: GreyLevels) -> Iterator[str]:
    """What a user should know of the particles, beside what was said when their table was read."""
    defocus = table.defocus.mean(axis=1)
    has_ctf = any(one.amplitude_contrast < 1 for one in table.optics)
    if has_ctf and np.any(defocus <= 0):
        yield f"{int((defocus <= 0).sum())} particles have no underfocus; is the CTF in angstrom, and there?"
    if np.any(defocus > _FAR_DEFOCUS):
        yield f"{int((defocus > _FAR_DEFOCUS).sum())} particles have a defocus above 6 um"
    if grey.brightness < -_SURE * grey.brightness_error:
        yield "the middle of the images is darker than their rim; if protein is dark, give --dark-protein"
    if grey.noise_spread > _UNEVEN_NOISE:
        yield (
            f"the noise differs by {grey.noise_spread:.0%} between images; each is scaled to noise of 1, "
            "as if grey levels were all that differs"
        )
    if _signal_lacks(grey, plan.em.first_radius):
        yield "hardly any signal at low resolution; are the particles in the middle of their boxes?"
    if plan.em.filled > 0.95:
        yield "the particle fills the box, so the background is taken from the corners only"
