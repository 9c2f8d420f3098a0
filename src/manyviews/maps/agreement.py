"""What two half maps agree in: by shell, without and with a mask, less what the mask adds; by direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.quadrature import spiral_directions
from manyviews.maps.solvent_mask import halves_agree
from manyviews.metrics.directional_fsc import ConeFsc, directional_fsc
from manyviews.metrics.fsc import FscCurve
from manyviews.metrics.masked_fsc import FscCurves, masked_fsc

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]

THRESHOLD = 0.143
_DIRECTIONS = 24  # cones of 20 degrees about as many axes cover all directions
_ANISOTROPIC = 1.4  # of the worst resolution over the best
_LEAST_OF_FIRST = 0.98  # a last crossing finer than this many times the first one is told


@dataclass(frozen=True)
class Agreement:
    """How far two half maps agree.

    Attributes
    ----------
    curves
        By shell: unmasked, masked, with random phases, corrected. Phases are random from the first shell on
        where the unmasked correlation is below 0.8, and the curve is corrected from two shells further on, as
        RELION has it.
    cones
        In cones of 20 degrees about directions of half a sphere, inside the mask.
    resolution
        Angstrom: where the corrected curve falls below 0.143 for the first time; infinity where the halves
        agree in nothing that noise does not have.
    warnings
        Sentences for the user.
    """

    curves: FscCurves
    cones: tuple[ConeFsc, ...]
    resolution: float
    warnings: tuple[str, ...]

    @property
    def last_crossing(self) -> float:
        """Angstrom: where the corrected curve falls below 0.143 for the last time."""
        return self.curves.corrected.last_crossing(THRESHOLD)

    @property
    def directional(self) -> Float64:
        """Resolution of each cone in angstrom, ``(cone,)``; infinity where there is none.

        By the longest run of means of three shells above 0.143: the first shells of a cone hold few samples.
        """
        return np.array([one.resolution(THRESHOLD) for one in self.cones])


def agreement(
    first: RealArray,
    second: RealArray,
    pixel_size: float,
    mask: Float32,
    *,
    seed: int = 0,
    threads: int = 0,
) -> Agreement:
    """Compare two half maps ``(D, D, D)`` inside a mask from 0 to 1; ``seed`` draws the random phases.

    `ValueError` as of `masked_fsc`.
    """
    curves = masked_fsc(first, second, pixel_size, mask, seed=seed, from_first_below=True, threads=threads)
    share = float(np.mean(mask, dtype=np.float64))
    agree = halves_agree(curves.corrected, share)
    resolution = curves.corrected.first_crossing(THRESHOLD) if agree else math.inf
    cones: tuple[ConeFsc, ...] = ()
    if agree:
        axes = spiral_directions(2 * _DIRECTIONS)
        names = {f"{number + 1}": axis for number, axis in enumerate(axes[axes[:, 2] > 0])}
        cones = directional_fsc(first, second, pixel_size, names, mask=mask, threads=threads)
    found = Agreement(curves, cones, resolution, ())
    return Agreement(curves, cones, resolution, tuple(_warnings(found)))


def _warnings(found: Agreement) -> list[str]:
    if math.isinf(found.resolution):
        return ["the halves agree in nothing that pure noise would not have: there is no resolution"]
    told = [found.curves.warning()]
    last = found.last_crossing
    if last < _LEAST_OF_FIRST * found.resolution:
        told.append(
            f"the correlation of the halves falls below 0.143 at {found.resolution:.3g} angstrom, rises "
            f"again and falls for the last time at {last:.3g}: the first is taken for the resolution"
        )
    if found.resolution <= 2 * found.curves.corrected.pixel_size:
        told.append("the halves agree to the Nyquist limit: smaller pixels may show more")
    worst, best = float(found.directional.max()), float(found.directional.min())
    if worst > _ANISOTROPIC * best:
        told.append(
            f"the resolution depends on the direction, from {best:.3g} to "
            f"{'none' if math.isinf(worst) else f'{worst:.3g}'} angstrom: look at the view directions"
        )
    return [sentence for sentence in told if sentence]


def as_relion_counts(curve: FscCurve) -> float:
    """The resolution as RELION tells it, in angstrom: the last shell before the first below 0.143."""
    below = np.flatnonzero(curve.correlation[1:] < THRESHOLD)
    shell = int(below[0]) if len(below) else len(curve.correlation) - 1
    return float(1 / curve.frequency[shell]) if shell else math.inf
