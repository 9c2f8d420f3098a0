"""A scan of a specimen that moves and deforms, view by view, with all that is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.interlaced import bit_reversed_angles, interlaced_angles, repeated_angles
from manyviews.geometry.views import TiltGeometry
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.options import check_options
from manyviews.random import Stream, generator
from manyviews.simulate.deformation import FlowPattern, Kept, deformed_specimen, growth, places_of, weighed
from manyviews.simulate.phantoms import Phantom
from manyviews.simulate.photon_counts import Detector, slow_background
from manyviews.simulate.scan_specimens import scan_specimen
from manyviews.simulate.smooth_fields import SmoothField
from manyviews.simulate.view_motion import ViewMotion, draw_motion, scan_geometry

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_FLOW, _OBJECT, _BLANK = 0, 1, 2
_NOTHING = 0.02  # of the strongest, below which no specimen is on a ray
_LEAST_DETERMINANT = 0.1  # the least that a flow may leave of an area


@dataclass(frozen=True, eq=False)
class View:
    """A view without noise, in minus logarithms of the transmission.

    ``still (z, x)`` is the specimen before it moved, ``image (z, x)`` what is measured but for the noise, and
    ``flow (2, z, x)`` by which ``still`` is read at moved places to give it (and brightened, where mass
    is kept). Where the specimen deforms no flow does that in full: it is the mean along rays then, by mass.
    """

    number: int
    still: Float32
    image: Float32
    flow: Float32


class SimulatedScan:
    """The specimen, its motion, and views of it.

    ``theta_degrees (view,)``, ``center`` in pixels, ``shape (z, x)`` of the detector, ``motion`` of whole
    views, ``growth (view,)`` of the deformation from 0 to 1 and ``amount`` in pixels at 1, ``blank`` the
    views without the specimen, ``scale`` by which the density was multiplied, ``signal_std`` of the first
    view. `InputError` if an option is impossible.
    """

    def __init__(self, options: SimulateOptions) -> None:
        check_options(options)
        self.options = options
        self.shape = _shape(options)
        self.theta_degrees = scan_angles(options)
        self.center = (self.shape[1] - 1) / 2 if options.center is None else options.center
        self.motion = _motion(options)
        self.amount = options.deformation_percent / 100 * self.shape[1]
        if options.deformation == "none":
            self.amount = 0.0
        self.growth = growth(np.linspace(0, 1, options.views))
        self.blank = _blank(options)
        specimen = scan_specimen(options.specimen, self.shape, self._reach(), options.seed)
        self.still_geometry = scan_geometry(
            self.theta_degrees, self.shape, self.center, draw_motion(options.views)
        )
        first = next(specimen.project_views(_one(self.still_geometry, 0), self.shape, 1.0))
        self.scale = options.absorption / float(first.max())
        self.signal_std = self.scale * float(first.std(dtype=np.float64))
        self._specimen = specimen
        photons = None if options.noise_free else options.photons
        self.detector = Detector.make(self.shape, photons, options.seed)
        self._pattern, self._field = self._deformation()

    def _reach(self) -> float:
        """How far the specimen must keep from the border of the detector."""
        drawn = float(np.abs(self.motion.shift).max())
        off_axis = abs(self.center - (self.shape[1] - 1) / 2)
        steepest = float(np.abs(self.motion.roll_degrees).max())
        turned = np.deg2rad(steepest) * max(self.shape) / 2
        return float(self.amount + drawn + off_axis + turned)

    def _deformation(self) -> tuple[FlowPattern | None, SmoothField | None]:
        options = self.options
        rows, columns = self.shape
        if self.amount and options.deformation == "flow":
            rng = generator(options.seed, Stream.SCAN_DEFORMATION, _FLOW)
            pattern = FlowPattern.random(rng, self.shape, options.control_points)
            self._require_unfolded(float(pattern.determinant(self.amount).min()))
            return pattern, None
        if self.amount and options.deformation == "object":
            rng = generator(options.seed, Stream.SCAN_DEFORMATION, _OBJECT)
            half = np.array([(columns - 1) / 2, (columns - 1) / 2, (rows - 1) / 2])
            return None, SmoothField.random(rng, half, options.control_points)
        return None, None

    def _require_unfolded(self, least: float) -> None:
        if least < _LEAST_DETERMINANT:
            raise InputError(
                f"a flow of {self.amount:.3g} pixels by {self.options.control_points} points folds images",
                where="--deformation-percent",
                fix="deform less, or give fewer --control-points",
            )

    @property
    def kept(self) -> Kept:
        """What stays where the specimen deforms."""
        return self.options.warp

    @property
    def pattern(self) -> FlowPattern | None:
        """The flow of projections at its end, in its own length; None where none deforms them."""
        return self._pattern

    @property
    def has_flow(self) -> bool:
        """Whether a flow says all that happens to the projections."""
        return self._field is None

    def specimen(self, grown: float = 0.0) -> Phantom:
        """The specimen when its deformation has ``grown`` so far, from 0 to 1; density not scaled yet."""
        if self._field is None or not grown:
            return self._specimen
        return deformed_specimen(self._specimen, self._field, self.amount * grown, self.kept)

    def density(self, grown: float = 0.0) -> Iterator[Float32]:
        """Its planes ``(y, x)``, in minus logarithms of transmission a pixel."""
        rows, columns = self.shape
        for plane in self.specimen(grown).density_planes((rows, columns, columns), 1.0):
            yield np.asarray(plane * self.scale, dtype=np.float32)

    def views(self) -> Iterator[View]:
        """All views, one after the other."""
        moved = scan_geometry(self.theta_degrees, self.shape, self.center, self.motion)
        for number in range(self.options.views):
            still = self._project(self._specimen, self.still_geometry, number)
            specimen = self.specimen(float(self.growth[number]))
            image = self._project(specimen, moved, number)
            if self._field is not None:
                flow = self.motion.flow(number, np.zeros((2, *self.shape)))
                flow -= self._mean_displacement(specimen, moved, number, image)
            else:
                length = self.amount * float(self.growth[number])
                inner = np.zeros((2, *self.shape))
                if self._pattern is not None:
                    inner = length * self._pattern.flow
                    image = self._pattern.deform(image, length, self.kept)
                flow = self.motion.flow(number, inner)
            if number in self.blank:
                image = np.zeros_like(image)
            yield View(number, still, image, flow.astype(np.float32))

    def _mean_displacement(
        self, specimen: Phantom, geometry: TiltGeometry, number: int, image: Float32
    ) -> Float64:
        """``(2, z, x)`` across the view, the mean along rays of all that is there; zero where nothing is."""
        assert self._field is not None
        theta = np.deg2rad(self.theta_degrees[number])
        along = self.amount * float(self.growth[number]) * self._field.at(places_of(self._specimen))
        across = (along[:, 0] * np.cos(theta) + along[:, 1] * np.sin(theta), along[:, 2])
        weighted = np.stack([self._project(weighed(specimen, part), geometry, number) for part in across])
        there = image > _NOTHING * image.max()
        return np.divide(weighted, image, out=np.zeros(weighted.shape), where=there)

    def measured(self, view: View) -> NDArray[np.generic]:
        """Grey values ``(z, x)`` of a view, with noise and background."""
        image = view.image.astype(np.float64)
        if self.options.background:
            level = self.options.background * self.signal_std
            image = image + level * slow_background(self.shape, view.number, self.options.seed)
        return self.detector.view(image, view.number)

    def _project(self, specimen: Phantom, geometry: TiltGeometry, view: int) -> Float32:
        image = next(specimen.project_views(_one(geometry, view), self.shape, 1.0))
        return np.asarray(self.scale * image, dtype=np.float32)


def scan_angles(options: SimulateOptions) -> Float64:
    """``(view,)`` degrees as acquired; `InputError` if the rotations do not suit the views."""
    make = {"interlaced": interlaced_angles, "timbir": bit_reversed_angles, "repeated": repeated_angles}
    return make[options.scan](options.views, options.rotations, options.arc)


def _shape(options: SimulateOptions) -> tuple[int, int]:
    if len(options.size) not in (1, 2):
        raise InputError(
            f"{len(options.size)} numbers are no size", where="--size", fix="give columns and rows"
        )
    return options.size[-1], options.size[0]


def _motion(options: SimulateOptions) -> ViewMotion:
    return draw_motion(
        options.views,
        jitter=options.jitter,
        drift=options.drift,
        jumps=options.jumps,
        jump_pixels=options.jump_pixels,
        roll=options.roll,
        roll_jitter=options.roll_jitter,
        seed=options.seed,
    )


def _blank(options: SimulateOptions) -> range:
    """A burst of views, not the first one."""
    if options.blank_views >= options.views:
        raise InputError(
            f"{options.blank_views} of {options.views} views are blank",
            where="--blank-views",
            fix="leave some with the specimen",
        )
    if not options.blank_views:
        return range(0)
    rng = generator(options.seed, Stream.SCAN_MOTION, 4 + _BLANK)
    first = int(rng.integers(1, options.views - options.blank_views + 1))
    return range(first, first + options.blank_views)


def _one(geometry: TiltGeometry, view: int) -> TiltGeometry:
    part = slice(view, view + 1)
    return TiltGeometry(
        geometry.matrices[part],
        geometry.series[part],
        geometry.sections[part],
        geometry.tilt_degrees[part],
        geometry.axis_degrees[part],
    )
