"""From the options that a user gave to the plan of a run, every default resolved."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from manyviews.errors import InputError
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.jobs.device import resolve_device
from manyviews.options import check_options
from manyviews.subtomo.align_options import AlignOptions
from manyviews.subtomo.pose_search import SearchPlan

_FILLED = 0.7  # of the box, where no diameter is given
_SHIFTS_OF_BOX = 0.1
_LEAST_PARTICLES = 2
_LEAST_BOX = 12
_LEAST_RADIUS = 3
_MACHINE = ("threads", "memory", "scratch")


@dataclass(frozen=True)
class Plan:
    """What a run does.

    ``box`` is in voxels, ``pixel_size``, ``diameter`` and ``shift_range`` in angstrom; ``radius``,
    ``start_radius`` and ``joined_radius`` are frequencies in cycles per box. The search computes on
    ``device``, ``cpu`` or ``cuda``.
    """

    options: AlignOptions
    box: int
    pixel_size: float
    diameter: float
    shift_range: float
    radius: int
    start_radius: int
    joined_radius: int
    device: str

    @property
    def search(self) -> SearchPlan:
        """How poses are looked for."""
        return SearchPlan(
            diameter=self.diameter / self.pixel_size,
            shift_range=self.shift_range / self.pixel_size,
            candidates=self.options.candidates,
            symmetry=np.asarray(symmetry_rotations(self.options.symmetry)),
            search=self.options.search,
            method=self.options.method,
            seed=self.options.seed,
            device=self.device,
        )

    @property
    def shared_radius(self) -> int | None:
        """The last shell of what both halves are aligned to, if they share that and no more; else None."""
        shared = self.start_radius if self.options.reference is not None else self.joined_radius
        return None if shared <= 0 or self.options.merged else shared

    @property
    def draws(self) -> int:
        """Random beginnings to choose from; 1 where a map, poses or a single draw is begun with."""
        known = self.options.reference is not None or self.options.known_poses
        return 1 if known else self.options.starts

    def resolution(self, radius: float) -> float:
        """Angstrom of a frequency in cycles per box."""
        return self.box * self.pixel_size / radius if radius > 0 else math.inf

    def record(self) -> dict[str, Any]:
        """For ``run.toml``: what changes the result."""
        given = {key: value for key, value in asdict(self.options).items() if key not in _MACHINE}
        maps = ("reference", "mask", "compare")
        paths = {name: None if given[name] is None else str(given[name]) for name in maps}
        resolved = {
            "diameter": self.diameter,
            "shift_range": self.shift_range,
            "radius": self.radius,
            "start_radius": self.start_radius,
            "joined_radius": self.joined_radius,
        }
        return {**given, **paths, **resolved}


def resolve_plan(options: AlignOptions, count: int, box: int, pixel_size: float) -> Plan:
    """Resolve every default for ``count`` subtomograms of ``box`` voxels of ``pixel_size`` angstrom.

    Raises
    ------
    InputError
        If the options or the data make no sense.
    """
    check_options(options)
    symmetry_rotations(options.symmetry)
    side = box * pixel_size
    if count < _LEAST_PARTICLES or box < _LEAST_BOX:
        raise InputError(
            f"{count} subtomograms of {box} voxels are too little for an average",
            fix=f"give at least {_LEAST_PARTICLES} of at least {_LEAST_BOX} voxels",
        )
    if options.hands == "both" and options.reference is None:
        raise InputError(
            "only a map that is given has a hand to compare",
            where="--hands both",
            fix="give --reference, or leave it out",
        )
    diameter = _FILLED * side if options.diameter is None else options.diameter
    if not 0.1 * side <= diameter <= side:
        raise InputError(
            f"a particle of {diameter:g} angstrom does not go with a box of {side:g} angstrom",
            where="--diameter",
            fix="give angstrom, between a tenth of the box and the box",
        )
    shift_range = _SHIFTS_OF_BOX * side if options.shift_range is None else options.shift_range
    if shift_range > side / 2:
        raise InputError(
            f"particles cannot lie {shift_range:g} angstrom from the middle of a box of {side:g} angstrom",
            where="--shift-range",
            fix=f"give {side / 2:g} or less",
        )
    radius = _radius(options.resolution, "--resolution", box, pixel_size)
    start = min(radius, max(_LEAST_RADIUS, math.floor(side / options.start_resolution + 1e-9)))
    return Plan(
        options=options,
        box=box,
        pixel_size=pixel_size,
        diameter=diameter,
        shift_range=shift_range,
        radius=radius,
        start_radius=start,
        joined_radius=_joined_radius(options, start, side),
        device=_device(options),
    )


def _device(options: AlignOptions) -> str:
    """Only the joint search has anything to do for a GPU."""
    if options.search == "joint":
        return resolve_device(options.device, triton=False)
    if options.device == "cuda":
        raise InputError(
            "--search rotational computes on the processor only",
            where="--device cuda",
            fix="take --search joint, or leave it out",
        )
    return "cpu"


def _radius(resolution: float | None, flag: str, box: int, pixel_size: float) -> int:
    """Of the finest detail, cycles per box."""
    most = math.ceil(box / 2) - 1
    if resolution is None:
        return most
    if resolution < 2 * pixel_size:
        raise InputError(
            f"voxels of {pixel_size:g} angstrom do not reach {resolution:g} angstrom",
            where=flag,
            fix=f"give {2 * pixel_size:g} or more",
        )
    radius = min(most, math.floor(box * pixel_size / resolution + 1e-9))
    if radius < _LEAST_RADIUS:
        raise InputError(f"{resolution:g} angstrom leaves nothing to see", where=flag, fix="give less")
    return radius


def _joined_radius(options: AlignOptions, start: int, side: float) -> int:
    if options.joined_resolution is None:
        return 0 if options.reference is not None else start
    if options.joined_resolution == 0:
        return 0
    return math.floor(side / options.joined_resolution + 1e-9)
