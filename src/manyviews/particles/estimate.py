"""What runs over particles will take, counted before they start: seconds of one core, and memory.

For what single iterations take see `manyviews.particles.cost`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from manyviews.io.sizes import format_bytes
from manyviews.jobs.run import Job, after
from manyviews.operators.fourier_slice import grid_half
from manyviews.operators.fourier_sums import HALVES, PADDING
from manyviews.parallel.lanes import LANES
from manyviews.particles.cost import (
    Planned,
    Step,
    comparing_seconds,
    finishing_seconds,
    half_maps_seconds,
    halves_steps,
    known_poses_seconds,
    refinement_steps,
    start_seconds,
)
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.images.fourier_resample import working_box
from manyviews.particles.images.load import image_bytes
from manyviews.particles.images.own_images import READING
from manyviews.particles.known_poses import ReconstructionPlan
from manyviews.particles.plan import Plan
from manyviews.particles.refine.plan import RefinementPlan
from manyviews.particles.sagd.sagd import gradient_bytes
from manyviews.particles.selection import LOOKING
from manyviews.runs.course import Expected
from manyviews.runs.progress import format_seconds

FINISHING = "finishing"
"""The phase in which half maps are made into what a refinement leaves."""

ADDING = "adding"
"""The phase in which images are added in known poses."""

_IMAGE_PIXEL = 2.5e-8  # seconds of one core: reading, transforming
_LOOKED_PIXEL = 6e-8  # seconds of one core: reading, looking for what is wrong
_START = 5.0  # seconds of one core: loading programs, the report
_PARALLEL_SHARE = 0.85  # of perfect, with a few threads
_FITTED_SHELLS = 8
# Of the slope before: spectra of proteins level off. Halves of 20,000 images of 128 pixels at a ratio of
# 0.014 agree to shell 45 (32 told with 1, 46 with 0.5), of 2,000 of 64 pixels at 0.1 to 22 (22 and 30).
_FALL_BEYOND = 0.75

# Measured: what is held after the stages of a run beside all that is counted here.
_ABINITIO_BYTES = 530 << 20
_REFINEMENT_BYTES = 610 << 20
_BOTH_BYTES = 720 << 20
_READING_BYTES = 130 << 20
_SCORES_BYTES = 60 << 20
_FINE_VOXEL_BYTES = 12


@dataclass(frozen=True)
class Stage:
    """Some iterations alike of a ``stage`` of a run, each of so many images.

    Frequencies go from ``first_radius`` to ``last_radius``, Fourier pixels; ``seconds`` are of one core, for
    all iterations. ``name`` is for people.
    """

    stage: str
    name: str
    iterations: int
    images: int
    first_radius: int
    last_radius: int
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What a run takes: seconds of one core, None if not known, and memory of all images and of the rest.

    ``ending`` are names and seconds of one core of what follows the stages, as `Job.expect` knows them.
    """

    stages: tuple[Stage, ...]
    seconds: float | None
    images_bytes: int
    working_bytes: int
    ending: tuple[tuple[str, float], ...] = ()

    def memory_bytes(self, ranks: int = 1) -> int:
        """Of each rank."""
        return self.images_bytes // ranks + self.working_bytes

    def wall_seconds(self, cores: int) -> float | None:
        """With so many threads in all ranks, if the machine does nothing else; None if not known."""
        return None if self.seconds is None else self.seconds * seconds_a_unit(cores)

    def of_phases(self) -> dict[str, Expected]:
        """Seconds of one core by stage, and of what follows, in their order."""
        found: dict[str, float] = {}
        for stage in self.stages:
            found[stage.stage] = found.get(stage.stage, 0.0) + stage.seconds
        ending, phases = dict(self.ending), {}
        for name, seconds in found.items():
            phases[name] = seconds
            if after(name) in ending:
                phases[after(name)] = ending.pop(after(name))
        return {name: Expected(seconds) for name, seconds in {**phases, **ending}.items()}

    def told(self, threads: int, ranks: int = 1, *, on_gpu: bool = False) -> str:
        """Memory and time in words."""
        memory = f"about {format_bytes(self.memory_bytes(ranks))} of memory"
        wall = self.wall_seconds(threads * ranks)
        each = " in each rank" if ranks > 1 else ""
        if wall is None or on_gpu:
            return f"{memory}{each}"
        cores = "1 thread" if threads * ranks == 1 else f"{threads * ranks} threads"
        return (
            f"{memory}{each}, and about {format_seconds(wall)} on {cores}, if the machine does nothing else"
        )


def seconds_a_unit(cores: int) -> float:
    """Of so many threads in all ranks, for one of a core."""
    return 1.0 / (cores * (1 if cores == 1 else _PARALLEL_SHARE))


def announce(job: Job, cost: Cost, *, on_gpu: bool) -> None:
    """Say what a run will take when it begins; its stages count for the time that is left."""
    cores = torch.get_num_threads() * job.world.size
    job.expect(cost.of_phases(), None if on_gpu else seconds_a_unit(cores))
    job.say(f"this takes {cost.told(torch.get_num_threads(), job.world.size, on_gpu=on_gpu)}")


def expect_reconstruction(job: Job, plan: ReconstructionPlan) -> None:
    """Tell a job what a map of images in known poses takes, reading them included."""
    pixels = len(plan.rotations) * plan.box**2 / job.world.size
    phases = {
        LOOKING: Expected(_LOOKED_PIXEL * pixels),
        READING: Expected(_IMAGE_PIXEL * pixels / torch.get_num_threads()),
        ADDING: Expected(known_poses_seconds(plan)),
    }
    job.expect(phases, 1.0)


def reach_of(plan: Planned, signal_to_noise: list[float], particles: int, sampled: int) -> int:
    """Where the halves are expected to stop agreeing, Fourier pixels; see `expected_reach`."""
    return min(plan.radius, expected_reach(signal_to_noise, particles, sampled, plan.em.filled))


def estimate_cost(plan: Plan, reach: int, threads: int = 1) -> Cost:
    """Count an ab initio run; the halves are expected to stop agreeing at ``reach``, Fourier pixels."""
    images = image_bytes(plan.em.particles, plan.radius)
    if plan.options.method == "sagd":
        size = plan.options.batch
        kept = gradient_bytes(plan.em.particles, plan.radius, plan.box, size)
        return Cost((), None, images, kept + _working_bytes(plan, plan.radius, threads))
    stages = (_starts(plan), *_joined("refinement", "refinement", refinement_steps(plan, reach)))
    last = max(stage.last_radius for stage in stages)
    compared = comparing_seconds(plan)
    seconds = _reading_seconds(plan) + sum(stage.seconds for stage in stages) + compared
    ending = ((after("refinement"), compared),)
    return Cost(stages, seconds, images, _working_bytes(plan, last, threads), ending)


def estimate_refinement(plan: RefinementPlan, reach: int, threads: int = 1) -> Cost:
    """Count a refinement of halves, alike."""
    stages = tuple(_joined("halves", "halves apart", halves_steps(plan, reach)))
    ending = ((after("halves"), half_maps_seconds(plan)), (FINISHING, finishing_seconds(plan)))
    last = sum(seconds for _, seconds in ending)
    seconds = _reading_seconds(plan) + sum(stage.seconds for stage in stages) + last
    images = image_bytes(plan.em.particles, plan.radius)
    return Cost(stages, seconds, images, _finishing_bytes(plan, threads) + _REFINEMENT_BYTES, ending)


def estimate_solve(first: Plan, then: RefinementPlan, reach: int, threads: int = 1) -> Cost:
    """Count a run from nothing to refined halves; images are read once."""
    found, refined = estimate_cost(first, reach, threads), estimate_refinement(then, reach, threads)
    seconds = None
    if found.seconds is not None and refined.seconds is not None:
        seconds = found.seconds + refined.seconds - _reading_seconds(then)
    working = max(found.working_bytes, _finishing_bytes(then, threads) + _BOTH_BYTES)
    ending = (*found.ending, *refined.ending)
    return Cost((*found.stages, *refined.stages), seconds, refined.images_bytes, working, ending)


def _starts(plan: Plan) -> Stage:
    em, each = plan.em, plan.em.start_iterations
    seconds = em.starts * sum(start_seconds(plan, index) for index in range(each))
    name = "1 random start" if em.starts == 1 else f"{em.starts} random starts, each"
    if plan.options.starts is None:
        most = em.with_more_starts().starts
        name = f"{em.starts} random starts (up to {most} where none agrees with the best), each"
    return Stage("starts", name, each - 1, em.batch, em.start_radius(0), em.start_radius(each - 2), seconds)


def _joined(stage: str, name: str, steps: Iterable[Step]) -> list[Stage]:
    """Iterations of a stage, joined where they see as many images at the same frequencies."""
    found: list[Stage] = []
    for step in steps:
        last = found[-1] if found else None
        count, seconds = 1, step.seconds
        if last is not None and (last.images, last.last_radius) == (step.images, step.radius):
            found.pop()
            count, seconds = last.iterations + 1, last.seconds + step.seconds
        found.append(Stage(stage, name, count, step.images, step.radius, step.radius, seconds))
    return found


def _reading_seconds(plan: Planned) -> float:
    return _START + _IMAGE_PIXEL * plan.em.particles * plan.box**2


def sums_bytes(radius: int, threads: int) -> int:
    """Most memory that sums of images at frequencies up to ``radius`` take while they are made.

    A point of the grid has 24 bytes in the sum of a half and 24 in those of both, as much again in their
    mirrored copy, 14 in passing, and 12 in each lane that is added up at once: as many as there are threads.
    """
    half = grid_half(radius, PADDING)
    points = (2 * half + 1) ** 2 * (half + 2)
    return points * (3 * 24 + 14 + 12 * min(threads, LANES // HALVES))


def _working_bytes(plan: Plan, radius: int, threads: int) -> int:
    fine = (PADDING * working_box(radius, plan.box)) ** 3 * _FINE_VOXEL_BYTES
    batch = _largest_part(plan.em, radius) * image_bytes(plan.em.particles, plan.radius)
    iterating = sums_bytes(radius, threads) + fine + int(batch) + _SCORES_BYTES
    return _ABINITIO_BYTES + max(iterating, _READING_BYTES)


def _finishing_bytes(plan: RefinementPlan, threads: int) -> int:
    """The half maps with all frequencies need most."""
    return sums_bytes(plan.radius, threads) + (PADDING * plan.box) ** 3 * _FINE_VOXEL_BYTES


def _largest_part(em: EmPlan, radius: int) -> float:
    """The largest batch that is copied, as a part of all images; a batch of all of them is not."""
    sizes = [em.refine_size(index, radius) for index in range(em.refinements)]
    copied = [size for size in sizes if size < em.particles]
    return max(copied, default=min(em.batch, em.particles)) / em.particles


def expected_reach(signal_to_noise: list[float], particles: int, sampled: int, filled: float) -> int:
    """Where two halves of the particles would stop agreeing (FSC 0.143) if all poses were known exactly.

    A shell of k pixels has ``2 pi k`` coefficients in an image and ``4 pi k^2`` in the box, of which a
    particle leaves only as many free as its sphere takes of the box. So each is seen ``N / (2 k share)``
    times, and half of ``N`` images with a signal-to-noise ratio s give it one of ``N s / (4 k share)``. Where
    s is too small to be measured it is taken to go on falling a quarter less steeply than before.

    Parameters
    ----------
    signal_to_noise
        Of an image's coefficients in each shell, from 0 on.
    particles
        ``N``.
    sampled
        Images that the ratios were measured with: those within three standard errors are not believed.
    filled
        Diameter of the particle over the side of the box.
    """
    shells = np.arange(len(signal_to_noise))
    ratio = np.maximum(np.array(signal_to_noise, dtype=np.float64), 1e-12)
    lost = ratio < 3 / np.sqrt(np.pi * np.maximum(shells, 1) * sampled)
    lost[:2] = False
    known = int(lost.argmax()) if lost.any() else len(shells)
    last = np.arange(max(2, known - _FITTED_SHELLS), known)
    if len(last) > 2:
        slope, start = np.polyfit(last, np.log(ratio[last]), 1)
        beyond = start + slope * (known + _FALL_BEYOND * (shells[known:] - known))
        ratio[known:] = np.exp(np.minimum(beyond, np.log(ratio[known - 1])))
    share = math.pi / 6 * filled**3
    agreed = particles * ratio / (4 * np.maximum(shells, 1) * share) >= 0.143 / (1 - 0.143)
    agreed[:2] = True
    return len(shells) - 1 if agreed.all() else int(agreed.argmin()) - 1
