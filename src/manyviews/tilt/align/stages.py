"""The stages of an alignment: each series by itself from coarse on, then all of them together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.jobs.run import Job
from manyviews.solvers.space import Space
from manyviews.tilt.align.axis import axis_turned, first_alignment, scanned_axis
from manyviews.tilt.align.expected import ALONE, expected_phases, placing
from manyviews.tilt.align.frames import LevelImages, frame_shape, read_level
from manyviews.tilt.align.gauge import moved_volume, slab_offset, without_common_shift
from manyviews.tilt.align.join import joined, register
from manyviews.tilt.align.level import Fitted, Freedom, Level
from manyviews.tilt.align.plan import AlignPlan, LevelPlan
from manyviews.tilt.align.rotation import rotation_test
from manyviews.tilt.align.solver import AlignState, LevelSolver
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import ResolvedSeries

Float64 = NDArray[np.float64]

_LEAST_DAMPING, _DAMPING_OF_NOISE = 0.02, 0.3
_ITERATIONS = 12  # of conjugate gradients in a step


@dataclass(frozen=True)
class Aligned:
    """Poses in unbinned pixels, weights and correlations ``(view,)``, and the last volume with its binning.

    ``misfits`` are the part of the images' energy that was left by level.
    """

    geometry: TiltGeometry
    weights: Float64
    correlation: Float64
    volume: torch.Tensor
    bin: int
    misfit: float


class Stages:
    """One alignment at work: its images by binning, and its stages in the job."""

    def __init__(self, job: Job, plan: AlignPlan, series: ResolvedSeries) -> None:
        self.job = job
        self.plan = plan
        self.series = series
        self._images: dict[int, LevelImages] = {}
        matrices = series.geometry.matrices.copy()
        matrices[:, :2, 3] /= series.pixel_size
        self.given = replace(series.geometry, matrices=matrices)

    def images(self, bin: int) -> LevelImages:
        """All images of a binning; those of the last one are kept."""
        if bin not in self._images:
            source = ImageSource(self.series, bin, remove_outliers=self.plan.remove_outliers)
            self._images = {bin: read_level(source, bin)}
        return self._images[bin]

    def run(self) -> Aligned:
        """All stages."""
        count = len(self.series.stacks)
        views = np.bincount(self.given.series, minlength=count).tolist()
        cores = torch.get_num_threads()
        self.job.expect(expected_phases(self.plan, views, self.series.image_shape), 1.0 / cores)
        if count == 1:
            geometry, weights = self.first(0)
            freedom = Freedom(axis=self._axes(1))
            return self._turned(self.levels(geometry, weights, self.plan.levels, "", freedom), freedom)
        parts = [self.alone(number) for number in range(count)]
        geometry = self._join(parts)
        weights = np.concatenate([part.weights for part in parts])
        freedom = Freedom(
            axis=self._axes(count),
            turn=tuple(number > 0 for number in range(count)),
            offset=(True,) * count,
        )
        last_alone = len(self.plan.levels[:ALONE]) - 1  # small images have one level
        aligned = self.levels(geometry, weights, self.plan.levels[last_alone:], "all-", freedom)
        return self._turned(aligned, freedom)

    def _turned(self, aligned: Aligned, freedom: Freedom) -> Aligned:
        """With a rotation of each view, if rows kept apart want it."""
        if self.plan.rotation == "never":
            return aligned
        plan = next(one for one in self.plan.levels if one.bin == self.plan.coarse_bin)
        images = self.images(plan.bin)
        level = self.level(plan, images, aligned.geometry)
        test = rotation_test(level, images.geometry(aligned.geometry), aligned.weights, freedom)
        verdict = "are turned one by one" if test.helps else "are not turned one by one"
        self.job.say(
            f"views {verdict}: of rows kept apart {test.with_rotation:.4g} is left with rotations, "
            f"{test.without:.4g} without"
        )
        if not test.helps:
            return aligned
        single = replace(freedom, rotation=True)
        levels = tuple(dict.fromkeys((plan, self.plan.levels[-1])))
        return self.levels(aligned.geometry, aligned.weights, levels, "turned-", single, scan=False)

    def _axes(self, count: int) -> tuple[bool, ...]:
        return (not self.plan.keep_axis,) * count

    def first(self, stack: int) -> tuple[TiltGeometry, Float64]:
        """Coarse poses of a series in unbinned pixels, and which views have a place, as weights."""
        self.job.phase(f"stack {stack + 1}: where its views lie", placing(stack))
        mine = self.given.series == stack
        images = self.images(self.plan.coarse_bin).select(mine)
        # what varies slowly hardly depends on the axis
        level_images = self.images(self.plan.levels[0].bin).select(mine).without_slow()
        own = _alone(self.given.select(mine))
        level = self.level(self.plan.levels[0], level_images, own)
        coarse = first_alignment(
            images, level, images.geometry(own), self.plan.axis_search, stack, self.job.say
        )
        weights = coarse.placed.astype(np.float64)
        return without_common_shift(images.full_geometry(coarse.geometry), own, weights), weights

    def alone(self, stack: int) -> Aligned:
        """A series by itself, on the coarse levels."""
        geometry, weights = self.first(stack)
        levels = self.plan.levels[:ALONE]
        name = f"stack-{stack + 1}-"
        return self.levels(geometry, weights, levels, name, Freedom(axis=self._axes(1)), stack)

    def levels(
        self, geometry: TiltGeometry, weights: Float64, levels: tuple[LevelPlan, ...], name: str,
        freedom: Freedom, stack: int | None = None, *, scan: bool = True,
    ) -> Aligned:  # fmt: skip
        """Fit level by level, from coarse to fine; of one stack of several, or of all."""
        found = None
        for plan in levels:
            images = self.images(plan.bin)
            if stack is not None:
                images = images.select(self.given.series == stack)
            level = self.level(plan, images, geometry)
            state = self._solve(LevelSolver(level, images.geometry(geometry), weights, freedom), plan, name)
            fitted = state.fitted(geometry)
            geometry = self._gauged(images.full_geometry(fitted.geometry), fitted, plan, stack)
            weights = fitted.weights
            if scan and plan.bin == self.plan.coarse_bin and len(np.unique(geometry.series)) == 1:
                geometry = self._scanned(level, geometry, weights, stack or 0)
            found = Aligned(geometry, weights, fitted.correlation, fitted.volume, plan.bin, fitted.misfit)
        assert found is not None
        return found

    def _scanned(self, level: Level, geometry: TiltGeometry, weights: Float64, stack: int) -> TiltGeometry:
        """With the axis of one series where a scan finds it."""
        if self.plan.keep_axis:
            return geometry
        degrees = scanned_axis(level, level.images.geometry(geometry), weights, stack)
        self.job.say(f"the axis is turned by {degrees:+.2f} degrees, where a scan leaves least")
        return axis_turned(geometry, degrees)

    def _solve(self, solver: LevelSolver, plan: LevelPlan, name: str) -> AlignState:
        if self.plan.keep_views:
            solver = replace(solver, judge=False)
        state, _ = self.job.solve(
            solver,
            plan.steps,
            stage=f"{name}bin-{plan.bin}",
            settled=lambda state: state.settled,
            space=Space.like(torch.empty(plan.volume_shape)),
        )
        return state

    def level(self, plan: LevelPlan, images: LevelImages, geometry: TiltGeometry) -> Level:
        """Some images with the volume that they are explained by; of ``geometry`` only axes matter."""
        shape = frame_shape(geometry, plan.volume_shape[1:])
        damping = max(_LEAST_DAMPING, _DAMPING_OF_NOISE * images.noise_to_signal)
        return Level(images, plan.volume_shape, shape, damping, _ITERATIONS)

    def _gauged(
        self, geometry: TiltGeometry, fitted: Fitted, plan: LevelPlan, stack: int | None
    ) -> TiltGeometry:
        """No common shift against the given poses, and the specimen in the middle of the slab."""
        given = self.given if stack is None else self.given.select(self.given.series == stack)
        profile = slice_energies(fitted.volume)
        offset = plan.bin * slab_offset(profile, max(1, round(self.plan.thickness / plan.bin)))
        centred = moved_volume(geometry, np.array([0.0, 0.0, -offset]))
        return without_common_shift(centred, given, fitted.weights)

    def _join(self, parts: list[Aligned]) -> TiltGeometry:
        """The series in the frame of the first."""
        found = [parts[0].geometry]
        for number, part in enumerate(parts[1:], 1):
            registration = register(parts[0].volume, part.volume, number)
            scaled = replace(registration, shift=registration.shift * part.bin)
            self.job.say(
                f"stack {number + 1} is laid on the first: turned by {registration.degrees:.3g} degrees, "
                f"moved by {', '.join(f'{value:.3g}' for value in scaled.shift)} pixels in x, y, z; "
                f"seen along the beam the two correlate at {registration.correlation:.3f}"
            )
            found.append(joined(part.geometry, scaled))
        whole = TiltGeometry.concatenate(found)
        return replace(whole, series=self.given.series)


def _alone(geometry: TiltGeometry) -> TiltGeometry:
    """The views of one stack as if there were no other."""
    return replace(geometry, series=np.zeros(len(geometry), np.int64))


def slice_energies(volume: torch.Tensor) -> Float64:
    """``(z,)`` what each slice holds of details, above the emptiest: squares of slopes in the plane."""
    along_y, along_x = torch.gradient(volume.double(), dim=(1, 2))
    energies = np.asarray((along_y**2 + along_x**2).sum(dim=(1, 2)).numpy())
    return np.asarray(energies - energies.min())
