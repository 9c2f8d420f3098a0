"""Fourier shell correlation inside a mask, less what the mask itself adds.

A mask multiplies both maps, and so carries what is the same in them, their low frequencies, into all others.
How much is measured: the phases of both halves are made random beyond the frequency where they agree anyway,
and what then still correlates is the mask's. Chen, McMullan, Faruqi, Murshudov, Short, Scheres and Henderson,
Ultramicroscopy 135 (2013) 24.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from manyviews.errors import InputError
from manyviews.io.tables import read_numbers, read_table, write_table
from manyviews.metrics.fsc import FscCurve, fsc_of_transforms, shell_planes, transform
from manyviews.random import Stream, generator

Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]

PAPER = (
    "Chen S, McMullan G, Faruqi AR, Murshudov GN, Short JM, Scheres SHW, Henderson R (2013) High-resolution "
    "noise substitution to measure overfitting and validate resolution in 3D structure determination by "
    "single particle electron cryomicroscopy. Ultramicroscopy 135:24-35."
)
_AGREED = 0.8  # halves that agree so well need no correction (Chen et al., section 3.1)
_DRAWS = 4  # of random phases, whose mean scatters half as much as one
_LEAKING = 2  # shells behind it that the kept ones leak into; RELION leaves as many uncorrected
_THRESHOLD = 0.143
_MOST_BY_MASK = 0.1  # of the random halves at the resolution, as RELION warns
_AROUND = 2  # shells each side of the resolution, so that one shell's scatter warns of nothing
_LARGEST = 1.01
_COLUMNS = ("frequency_per_angstrom", "fsc", "fsc_unmasked", "fsc_masked", "fsc_random_phases")


@dataclass(frozen=True)
class FscCurves:
    """Correlations of two halves by which a masked resolution can be trusted.

    Attributes
    ----------
    unmasked, masked
        As they are, and inside the mask.
    random
        Inside the mask, of halves whose phases are random from shell ``random_from`` on, the mean of four
        draws; what is left is the mask's.
    corrected
        ``(masked - random) / (1 - random)`` from two shells behind the last that agrees on, before it
        ``masked``. Random halves that disagree do so by chance, and add nothing: it is never above
        ``masked``.
    random_from
        The first shell where the halves do not agree; the number of shells where they agree to the end.
    """

    unmasked: FscCurve
    masked: FscCurve
    random: FscCurve
    corrected: FscCurve
    random_from: int

    def warning(self) -> str:
        """A sentence where the mask adds correlation at the resolution that it seems to give, else empty."""
        claimed, true = (curve.resolution(_THRESHOLD) for curve in (self.masked, self.corrected))
        first = self.random_from + _LEAKING
        last = len(self.random.correlation) - 1
        if math.isinf(claimed) or first > last:
            return ""
        shell = int(np.searchsorted(self.masked.frequency, 1 / claimed))
        window = slice(max(first, min(shell - _AROUND, last)), min(last, max(first, shell + _AROUND)) + 1)
        left = float(np.mean(self.random.correlation[window]))
        if left <= _MOST_BY_MASK:
            return ""
        truth = "no resolution is left" if math.isinf(true) else f"it is {true:.3g} angstrom"
        return (
            f"the mask is too tight or its edge too sharp: halves with random phases still correlate by "
            f"{left:.2f} at {claimed:.3g} angstrom, where the masked halves seem to agree; less what the "
            f"mask adds {truth}"
        )

    def write_csv(self, path: Path, *, overwrite: bool = False) -> None:
        """Write all four, ``fsc`` the corrected one; `InputError` as of `FscCurve.write_csv`."""
        curves = (self.corrected, self.unmasked, self.masked, self.random)
        rows = zip(self.corrected.frequency, *(curve.correlation for curve in curves), strict=True)
        texts = ((f"{row[0]:.8g}", *(f"{value:.6f}" for value in row[1:])) for row in rows)
        write_table(path, _COLUMNS, texts, overwrite=overwrite)

    @classmethod
    def read_csv(cls, path: Path) -> FscCurves | None:
        """What was written; None if there is no file, or one of a single curve.

        `InputError` if it cannot be read.
        """
        corrected = FscCurve.read_csv(path)
        if corrected is None or not set(_COLUMNS) <= read_table(path, ())[0].keys():
            return None
        found = read_numbers(path, _COLUMNS[2:]).T
        if not (np.abs(np.nan_to_num(found)) <= _LARGEST).all():
            raise InputError("a correlation is not between -1 and 1", path=path)
        unmasked, masked, random = (replace(corrected, correlation=values) for values in found)
        return cls(unmasked, masked, random, corrected, _random_from(unmasked))


def masked_fsc(
    a: RealArray,
    b: RealArray,
    pixel_size: float,
    mask: RealArray,
    *,
    seed: int = 0,
    shared: int | None = None,
    weights: NDArray[Any] | None = None,
    from_first_below: bool = False,
    threads: int = 0,
) -> FscCurves:
    """The correlation of two halves inside a mask, and how much of it is the mask's.

    Parameters
    ----------
    a, b
        ``(z, y, x)``, one shape.
    pixel_size
        Angstrom.
    mask
        ``(z, y, x)`` from 0 to 1.
    seed
        Of the random phases; the same seed gives the same curves.
    shared
        The last shell of what both halves were aligned to, if it was one map: even noise agrees so far, and
        the mask carries that further. So phases up to it are kept, and where the halves agree hardly further
        all shells behind it are corrected. None: the halves share nothing.
    weights
        How much each frequency counts, of the shape of the half-spectrum; see `fsc_of_transforms`.
    from_first_below
        Phases are random from the first shell below 0.8 on, as RELION has it; else from behind the longest
        run of shells above.
    threads
        Of the transforms; 0 is all cores.

    Raises
    ------
    ValueError
        If the shapes differ, or nothing is inside the mask.
    """
    if a.ndim != 3 or not a.shape == b.shape == mask.shape:
        raise ValueError(f"fsc needs volumes of the same shape, got {a.shape}, {b.shape} and {mask.shape}")
    if not (mask > 0).any():
        raise ValueError("nothing is inside the mask")

    def curve(one: RealArray, other: RealArray, within: RealArray | None) -> FscCurve:
        first, second = (transform(volume, mask=within, threads=threads) for volume in (one, other))
        return fsc_of_transforms(first, second, a.shape, pixel_size, weights=weights)

    unmasked, masked = curve(a, b, None), curve(a, b, mask)
    first = _first_below(unmasked) if from_first_below else _random_from(unmasked)
    corrected = first + _LEAKING
    if shared is not None and first <= shared + 1 + _LEAKING:
        first = corrected = max(first, shared + 1)

    def drawn(draw: int) -> FscCurve:
        one, other = (
            with_random_phases(volume, first, generator(seed, Stream.FSC_PHASES, half, draw), threads)
            for half, volume in enumerate((a, b))
        )
        return curve(one, other, mask)

    draws = np.mean([drawn(draw).correlation for draw in range(_DRAWS)], axis=0)
    random = replace(masked, correlation=draws)
    return FscCurves(unmasked, masked, random, _corrected(masked, random, corrected), first)


def with_random_phases(
    volume: RealArray, first_shell: int, rng: np.random.Generator, threads: int = 0
) -> RealArray:
    """The volume with its amplitudes, but the phases of white noise from a shell on, which is 1 or more."""
    spectrum = transform(volume, threads=threads)
    noise = rng.standard_normal(volume.shape, dtype=np.float32)
    phases = transform(noise, threads=threads)
    for plane, shells in enumerate(shell_planes(volume.shape)):
        beyond = shells.reshape(spectrum.shape[1:]) >= max(1, first_shell)
        drawn = phases[plane][beyond]
        length = np.maximum(np.abs(drawn), np.finfo(np.float32).tiny)
        spectrum[plane][beyond] = np.abs(spectrum[plane][beyond]) * (drawn / length)
    made: RealArray = fft.irfftn(spectrum, volume.shape, workers=threads or -1)
    return made


def _random_from(unmasked: FscCurve) -> int:
    """The first shell where the halves do not agree any more: 1 where they never do."""
    agreed = unmasked.resolution(_AGREED)
    if math.isinf(agreed):
        return 1
    if agreed <= 2 * unmasked.pixel_size and unmasked.correlation[-1] >= _AGREED:
        return len(unmasked.correlation)
    return int(np.searchsorted(unmasked.frequency, 1 / agreed))


def _first_below(unmasked: FscCurve) -> int:
    """The first shell below, without shell 0; behind the last one if there is none."""
    below = np.flatnonzero(unmasked.correlation[1:] < _AGREED)
    return int(below[0]) + 1 if len(below) else len(unmasked.correlation)


def _corrected(masked: FscCurve, random: FscCurve, first_shell: int) -> FscCurve:
    """Chen et al., equation 4; a shell that the mask alone explains to the full is left with nothing."""
    total, by_mask = masked.correlation, np.maximum(random.correlation, 0.0)
    true = np.divide(total - by_mask, 1 - by_mask, out=np.zeros(len(total)), where=by_mask < 1)
    shells = np.arange(len(total))
    return replace(masked, correlation=np.where(shells < first_shell, total, np.clip(true, -1, 1)))
