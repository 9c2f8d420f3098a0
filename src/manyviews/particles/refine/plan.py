"""From the options of a refinement to what it does, every default resolved."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from manyviews.jobs.device import resolve_device
from manyviews.options import check_options, foreign_options
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.options import RefineOptions
from manyviews.particles.plan import (
    MACHINE,
    check_size,
    fourier_radius,
    resolve_diameter,
    resolve_shift_sigma,
)

PATIENCE = 2  # passes in which the halves agree no further, before it ends
_GROWTH, _AHEAD = 1.25, 3  # of the radius in a pass: a quarter; shells beyond where the halves agree no more


def next_radius(radius: int, agreed: int, start: int, most: int) -> int:
    """Frequencies of the pass after one to ``radius`` in which the halves ``agreed`` so far, Fourier pixels.

    They are those of the ``start`` at least and ``most`` at most.
    """
    grown = math.ceil(_GROWTH * radius)
    further = grown if agreed >= radius else min(grown, agreed + _AHEAD)
    return max(start, min(most, further))


@dataclass(frozen=True)
class RefinementPlan:
    """What a refinement does.

    Lengths are in angstrom; ``box`` is in pixels, ``radius`` the highest frequency that may be used and
    ``start_radius`` that of the start, both in Fourier pixels. ``em`` has what the search for poses needs.
    """

    options: RefineOptions
    box: int
    pixel_size: float
    diameter: float
    shift_sigma: float
    radius: int
    start_radius: int
    em: EmPlan
    device: str = "cpu"

    @property
    def start_resolution(self) -> float:
        """Angstrom, of the start's highest frequency."""
        return self.box * self.pixel_size / self.start_radius

    def next_radius(self, radius: int, agreed: int) -> int:
        """Frequencies of the pass after one to ``radius`` in which the halves ``agreed`` so far."""
        return next_radius(radius, agreed, self.start_radius, self.radius)

    def record(self) -> dict[str, Any]:
        """For ``run.toml``: what changes the result."""
        left_out = {*MACHINE, *foreign_options(RefineOptions, self.options.method)}
        given = {key: value for key, value in asdict(self.options).items() if key not in left_out}
        reference = self.options.reference
        return {
            **given,
            "start": str(self.options.start),
            "diameter": self.diameter,
            "shift_sigma": self.shift_sigma,
            "radius": self.radius,
            "start_radius": self.start_radius,
            "device": self.device,
            "independent_halves": True,
            "reference": None if reference is None else str(reference),
        }


def resolve_refinement(options: RefineOptions, count: int, box: int, pixel_size: float) -> RefinementPlan:
    """Resolve every default for particles numbered below ``count`` in images of ``box`` pixels.

    Raises
    ------
    InputError
        If the options or the data make no sense.
    """
    check_options(options)
    check_size(count, box)
    side = box * pixel_size
    diameter = resolve_diameter(options.diameter, side)
    shift_sigma = resolve_shift_sigma(options.shift_sigma, side)
    radius = fourier_radius(options.resolution, box, pixel_size)
    em = EmPlan(
        particles=count,
        starts=0,
        refinements=options.iterations,
        batch=count,
        filled=diameter / side,
        most_radius=radius,
    )
    start_radius = min(radius, max(em.last_start_radius, math.floor(side / options.start_resolution)))
    device = resolve_device(options.device, triton=False)
    return RefinementPlan(options, box, pixel_size, diameter, shift_sigma, radius, start_radius, em, device)
