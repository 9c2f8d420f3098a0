"""Look at particles before they are reconstructed: what is there, whether it will do, what it will take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.particle_images import ParticleImages
from manyviews.io.particle_table import ParticleTable
from manyviews.io.sizes import format_bytes
from manyviews.parallel.launch import local_threads
from manyviews.parallel.world import SingleWorld
from manyviews.particles.estimate import (
    Cost,
    Stage,
    estimate_cost,
    estimate_refinement,
    estimate_solve,
    reach_of,
)
from manyviews.particles.grey_levels import (
    SAMPLE,
    GreyLevels,
    find_warnings,
    grey_levels,
    shell_ratios,
    spread_over,
)
from manyviews.particles.images.load import noise_spectrum, read_fourier_images
from manyviews.particles.images.look import look_at
from manyviews.particles.options import AbinitioOptions, ParticleOptions, RefineOptions
from manyviews.particles.plan import Plan, load_table, resolve_plan
from manyviews.particles.refine.plan import resolve_refinement
from manyviews.particles.selection import Selection
from manyviews.runs.memory import available_memory_bytes
from manyviews.runs.progress import format_seconds

_SHOWN_SHELLS = 8
_MOST_GROUPS = 10
_FEW_PIXELS = 2**26  # looked at in a few seconds


@dataclass(frozen=True)
class Checked:
    """What `check` found.

    ``looked_at`` images were searched for faults; ``aside`` particles are left out. ``reach`` is where the
    halves would stop agreeing with known poses, Fourier pixels. The times of ab initio, of a refinement of
    halves and of both in one run are for so many ``threads``; ``warnings`` are sentences.
    """

    table: ParticleTable
    plan: Plan
    looked_at: int
    aside: int
    grey: GreyLevels
    reach: int
    cost: Cost
    refined: Cost
    solved: Cost
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
            *self._further_lines(),
            *([f"warning: {text}" for text in self.warnings] or ["no warnings"]),
        ]

    def _resolution(self, radius: int) -> str:
        return f"{self.plan.box * self.plan.pixel_size / radius:.3g} A"

    def _image_lines(self) -> Iterator[str]:
        grey, count = self.grey, len(self.table)
        rest = "" if self.looked_at == count else f" of {count} (--all-images for all)"
        faulty = f"{self.aside} set aside" if self.aside else "none is blank or holds NaN"
        yield f"images looked at: {self.looked_at}{rest}; {faulty}"
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
            f"memory: about {format_bytes(cost.memory_bytes())}, "
            f"of it {format_bytes(cost.images_bytes)} for the images{room}"
        )
        wall = cost.wall_seconds(self.threads)
        if wall is None:
            yield f"time: not estimated for {self.plan.options.method}"
        elif self.plan.device != "cpu":
            yield "time: not estimated on a GPU"
        else:
            threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
            yield f"time: about {format_seconds(wall)} on {threads}, if the machine does nothing else"

    def _further_lines(self) -> Iterator[str]:
        on_gpu = self.plan.device != "cpu"
        passes = sum(stage.iterations for stage in self.refined.stages)
        told = self.refined.told(self.threads, on_gpu=on_gpu)
        yield f"then particles refine, some {passes} passes through all images: {told}"
        yield f"or particles solve, both in one run: {self.solved.told(self.threads, on_gpu=on_gpu)}"


def check(particles: ParticleOptions, options: AbinitioOptions, *, all_images: bool = False) -> Checked:
    """Read the table and a sample of the images, and plan a reconstruction without running it.

    Parameters
    ----------
    particles, options
        As for `manyviews.particles.abinitio.abinitio`.
    all_images
        Look at every image, not at 500 of them where there are many.

    Raises
    ------
    InputError
        As a reconstruction would, also if more than half of the images that were looked at have faults.
    """
    table = load_table(particles)
    images = ParticleImages(table)
    plan = resolve_plan(options, len(table), images.box, table.pixel_size)
    symmetry_rotations(options.symmetry)
    chosen = _looked_at(len(table), images.box, all_images)
    look = look_at(images, chosen, plan.diameter)
    found = Selection.of(table, look, plan.diameter, replaces=options.remove_outliers)
    plan = resolve_plan(options, len(found.order), images.box, table.pixel_size)
    threads = options.threads or local_threads(SingleWorld())
    grey = _sampled_levels(found, plan, threads)
    reach = reach_of(plan, grey.signal_to_noise, len(found.order), grey.sampled)
    refinement = resolve_refinement(_refined_alike(options), len(found.order), images.box, table.pixel_size)
    return Checked(
        table=table,
        plan=plan,
        looked_at=len(chosen),
        grey=grey,
        reach=reach,
        cost=estimate_cost(plan, reach, threads),
        refined=estimate_refinement(refinement, reach, threads),
        solved=estimate_solve(plan, refinement, reach, threads),
        threads=threads,
        aside=len(found.aside),
        warnings=(*table.warnings, *found.warnings(), *find_warnings(found.table, plan, grey)),
    )


def _refined_alike(options: AbinitioOptions) -> RefineOptions:
    """A refinement of the same particle."""
    return RefineOptions(
        diameter=options.diameter,
        resolution=options.resolution,
        symmetry=options.symmetry,
        shift_sigma=options.shift_sigma,
        device=options.device,
    )


def _looked_at(count: int, box: int, everyone: bool) -> NDArray[np.int64]:
    """Particles to look at: all where that takes a moment, else some spread over the table."""
    return spread_over(count, count if everyone or count * box**2 <= _FEW_PIXELS else SAMPLE)


def _sampled_levels(found: Selection, plan: Plan, threads: int) -> GreyLevels:
    """Of the images that a run would take its grey levels from, as far as they were looked at."""
    look, place = found.look, np.full(len(found.whole), -1)
    place[found.order] = np.arange(len(found.order))
    chosen = np.isin(look.looked, spread_over(len(found.whole))) & (place[look.looked] >= 0)
    numbers = np.sort(place[look.looked[chosen]])
    images, spectra, counts = read_fourier_images(
        found.table, numbers, radius=plan.radius, diameter=plan.diameter, mend=found.mend, threads=threads
    )
    images = replace(images, noise_variance=noise_spectrum(spectra, counts, plan.box))
    return grey_levels(look.select(chosen), shell_ratios(images, np.arange(len(images))))


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
