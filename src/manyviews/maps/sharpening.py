"""Sharpening of a map by its B factor, weighted by how far its halves agree.

Rosenthal and Henderson, J. Mol. Biol. 333 (2003) 721: beyond 10 angstrom the logarithm of the amplitudes of a
protein falls as a line over the squared frequency (Guinier plot), and its slope is minus a quarter of the B
factor of all that blurs the map. The mean of two half maps of correlation FSC has sqrt(2 FSC / (1 + FSC)) of
its amplitude from the structure.

B factors have RELION's sign: a map is multiplied by exp(-B / 4 f^2), so that one below zero sharpens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.maps.radial import filtered_transform, low_pass_edge, shell_amplitudes
from manyviews.metrics.fsc import FscCurve, transform

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]

FIT_FROM, FALLBACK_FROM = 10.0, 15.0
"""Angstrom: where the fit begins; the second where the map does not reach far enough beyond the first."""
_LEAST_SHELLS = 5
_SHORT = 0.02  # 1/angstrom^2, of a line: from 10 to 5.8 angstrom
_LEAST_CORRELATION = 0.6  # of the points with a line, below which the fit is doubtful
_EDGE_SHELLS = 2.0  # of the low-pass, as RELION's


@dataclass(frozen=True)
class Guinier:
    """Amplitudes of a map by shell, and the B factor that its slope gives.

    Attributes
    ----------
    frequency
        ``(shell,)`` 1/angstrom.
    original, weighted
        ``(shell,)`` logarithm of the mean amplitude, as it is and times the FSC weight; NaN for none.
    fit_from, fit_to
        Angstrom, the shells that the line goes through; NaN where none was fitted.
    b_factor, intercept, correlation
        Of the line; NaN where none was fitted.
    warnings
        Sentences for the user.
    """

    frequency: Float64
    original: Float64
    weighted: Float64
    fit_from: float = math.nan
    fit_to: float = math.nan
    b_factor: float = math.nan
    intercept: float = math.nan
    correlation: float = math.nan
    warnings: tuple[str, ...] = ()

    @property
    def fitted(self) -> bool:
        """Whether there is a line."""
        return math.isfinite(self.b_factor)


def fsc_weights(curve: FscCurve, resolution: float) -> Float64:
    """``sqrt(2 FSC / (1 + FSC))`` of each shell up to a resolution in angstrom, then zero; 1 for shell 0."""
    correlation = np.clip(curve.correlation, 0.0, 1.0)
    correlation[0] = 1.0
    weights = np.sqrt(2 * correlation / (1 + correlation))
    return np.where(curve.frequency <= (1 + 1e-9) / resolution, weights, 0.0)


def guinier(volume: RealArray, curve: FscCurve, resolution: float, *, threads: int = 0) -> Guinier:
    """The Guinier plot of a map ``(D, D, D)``, and the line through it from 10 angstrom to its resolution.

    The map should be inside its mask: noise of the solvent would make it fall less. Where fewer than five
    shells lie between 10 angstrom and the resolution the line begins at 15 angstrom, and that is told; where
    there are not five then, none is fitted.
    """
    frequency = curve.frequency
    amplitude = shell_amplitudes(transform(volume, threads=threads))
    with np.errstate(divide="ignore"):
        original = np.log(amplitude)
        weighted = original + np.log(fsc_weights(curve, resolution))
    original, weighted = (np.where(np.isfinite(one), one, np.nan) for one in (original, weighted))
    bare = Guinier(frequency, original, weighted)
    told: list[str] = []
    for begin in (FIT_FROM, FALLBACK_FROM):
        chosen = (frequency >= 1 / begin) & (frequency <= (1 + 1e-9) / resolution) & np.isfinite(weighted)
        if np.count_nonzero(chosen) >= _LEAST_SHELLS:
            return _line(bare, chosen, begin, resolution, told)
        told.append(
            f"fewer than {_LEAST_SHELLS} shells lie between {begin:g} angstrom and the resolution, "
            f"{resolution:.3g}"
        )
    said = f"{told[-1]}: no B factor is fitted, and the map is not sharpened"
    return Guinier(frequency, original, weighted, warnings=(said,))


def _line(
    bare: Guinier, chosen: NDArray[np.bool_], begin: float, resolution: float, before: list[str]
) -> Guinier:
    squared, values = bare.frequency[chosen] ** 2, bare.weighted[chosen]
    slope, intercept = np.polyfit(squared, values, 1)
    scatter = values.std() * squared.std()
    correlation = float(np.corrcoef(squared, values)[0, 1]) if scatter > 0 else 0.0
    told = [
        f"{fault}: the B factor is fitted from {begin:g} on, where shapes still count, and may sharpen too "
        "much; --b-factor sets another"
        for fault in before
    ]
    b_factor = 4 * float(slope)
    if b_factor > 0:
        told.append(
            f"the amplitudes rise beyond {begin:g} angstrom, as of a map that was sharpened already: the fit "
            f"gives a B factor of {b_factor:.0f}, which is not applied"
        )
    elif not before and squared[-1] - squared[0] < _SHORT:
        told.append(
            f"the line is short, from {begin:g} to {resolution:.3g} angstrom, where helices make amplitudes "
            f"fall: the B factor, {b_factor:.0f}, may sharpen too much; --b-factor sets another"
        )
    elif abs(correlation) < _LEAST_CORRELATION:
        told.append(
            f"the amplitudes do not fall as a line (correlation {correlation:.2f}): look at the Guinier plot "
            f"before you believe the B factor, {b_factor:.0f}"
        )
    return Guinier(
        bare.frequency,
        bare.original,
        bare.weighted,
        begin,
        resolution,
        b_factor,
        float(intercept),
        correlation,
        tuple(told),
    )


def sharpen(
    volume: RealArray,
    pixel_size: float,
    b_factor: float,
    resolution: float,
    *,
    curve: FscCurve | None = None,
    threads: int = 0,
) -> Float32:
    """A map times ``exp(-b_factor / 4 f^2)``, the FSC weights of a curve if given, low-passed.

    The low-pass ends in half a cosine, two shells wide, behind the resolution in angstrom; ``b_factor`` is
    in square angstrom, below zero to sharpen. ``volume (D, D, D)``.
    """
    box = len(volume)
    width = _EDGE_SHELLS / (box * pixel_size)
    weights = None if curve is None else fsc_weights(curve, 1 / (1 / resolution + width))

    def weight(frequency: Float64) -> Float64:
        limited = low_pass_edge(frequency, 1 / resolution, width)
        # where it is zero anyway the exponential may overflow
        grown = np.exp(-b_factor / 4 * np.minimum(frequency, 1 / resolution + width) ** 2)
        by_halves = (
            1.0 if curve is None or weights is None else np.interp(frequency, curve.frequency, weights)
        )
        return np.asarray(limited * grown * by_halves)

    return filtered_transform(transform(volume, threads=threads), pixel_size, weight, threads=threads)
