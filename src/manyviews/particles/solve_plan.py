"""From the options of a run from nothing to refined halves to what it does, every default resolved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from manyviews.options import check_options
from manyviews.particles.options import SolveOptions
from manyviews.particles.plan import MACHINE, Plan, resolve_plan
from manyviews.particles.refine.plan import RefinementPlan, resolve_refinement


@dataclass(frozen=True)
class SolvePlan:
    """What a run does: ab initio first, then the refinement of two halves."""

    options: SolveOptions
    abinitio: Plan
    refinement: RefinementPlan

    def record(self) -> dict[str, Any]:
        """For ``run.toml``: what changes the result."""
        given = {key: value for key, value in asdict(self.options).items() if key not in MACHINE}
        first, then = self.abinitio, self.refinement
        reference = self.options.reference
        return {
            **given,
            "batch": first.options.batch,
            "refinements": first.options.refinements,
            "diameter": then.diameter,
            "shift_sigma": then.shift_sigma,
            "radius": then.radius,
            "start_radius": then.start_radius,
            "device": then.device,
            "independent_halves": True,
            "reference": None if reference is None else str(reference),
        }


def resolve_solve(options: SolveOptions, count: int, box: int, pixel_size: float) -> SolvePlan:
    """Resolve every default for particles numbered below ``count`` in images of ``box`` pixels.

    Raises
    ------
    InputError
        If the options or the data make no sense.
    """
    check_options(options)
    return SolvePlan(
        options,
        resolve_plan(options.abinitio(), count, box, pixel_size),
        resolve_refinement(options.refinement(), count, box, pixel_size),
    )
