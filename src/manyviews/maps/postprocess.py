"""From two half maps to everything that the end of a refinement leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.maps.agreement import Agreement, agreement
from manyviews.maps.bands import HalfSpectra
from manyviews.maps.local_filter import LocallyFiltered, local_filter
from manyviews.maps.local_resolution import LOCAL_THRESHOLD, LocalResolution, local_resolution
from manyviews.maps.radial import gaussian_low_pass, radial_filter
from manyviews.maps.sharpening import Guinier, guinier, sharpen
from manyviews.maps.solvent_mask import SolventMask, automatic_mask
from manyviews.maps.symmetric import symmetric_mask, symmetry_correlation
from manyviews.metrics.correlation import ncc
from manyviews.metrics.fsc import fsc

Float32 = NDArray[np.float32]
RealArray = NDArray[np.floating[Any]]

LEAST_BOX = 16
_SAME = 1 - 1e-6  # correlation of halves that are one map
_MOST_OF_BOX, _LEAST_VOXELS = 0.95, 100
_WELL_AGREED, _COARSEST_DETAIL = 0.5, 15.0  # so far, in angstrom, a map is compared with its turned copies
_SYMMETRIC = 0.8
_FINEST_QUANTILE = 0.02


@dataclass(frozen=True)
class Postprocessing:
    """How maps are finished.

    ``b_factor`` in square angstrom, below zero to sharpen; None: fitted. ``symmetry`` is the point group of
    the maps, ``local_threshold`` the correlation of local resolution, ``seed`` draws random phases,
    ``threads`` 0 is all cores.
    """

    b_factor: float | None = None
    symmetry: str = "C1"
    local_threshold: float = LOCAL_THRESHOLD
    seed: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Finished:
    """What two half maps came to.

    Attributes
    ----------
    pixel_size
        Angstrom.
    mask
        The mask used.
    agreement
        What the halves agree in, and the resolution.
    mean
        ``(D, D, D)`` the mean of the halves, unfiltered.
    guinier
        The Guinier plot; None where there is no resolution.
    b_factor
        Square angstrom, that was applied; 0 for none.
    sharpened
        ``(D, D, D)`` weighted, sharpened and low-passed; None where there is no resolution.
    local
        Local resolution; None where there is no resolution.
    filtered
        The locally filtered map, not sharpened, and how it was filtered; None where there is no resolution.
    locally_filtered
        ``(D, D, D)`` the same sharpened by the B factor; None where there is no resolution.
    symmetry_correlation
        The least correlation of the map with its turned copies; 1 for C1.
    warnings
        Sentences for the user.
    """

    pixel_size: float
    mask: SolventMask
    agreement: Agreement
    mean: Float32
    guinier: Guinier | None
    b_factor: float
    sharpened: Float32 | None
    local: LocalResolution | None
    filtered: LocallyFiltered | None
    locally_filtered: Float32 | None
    symmetry_correlation: float
    warnings: tuple[str, ...]

    @property
    def resolution(self) -> float:
        """Angstrom, infinity where the halves do not agree."""
        return self.agreement.resolution


def postprocess(
    first: RealArray,
    second: RealArray,
    pixel_size: float,
    options: Postprocessing | None = None,
    *,
    mask: Float32 | None = None,
) -> Finished:
    """Mask, resolution, sharpened map, local resolution and locally filtered map of two half maps.

    Parameters
    ----------
    first, second
        ``(D, D, D)`` maps of independent halves, unfiltered, the particle positive.
    pixel_size
        Angstrom.
    options
        How.
    mask
        ``(D, D, D)`` from 0 to 1; None: found from the halves.

    Raises
    ------
    InputError
        If the halves are not two maps of one size, or the mask is nearly empty or nearly the whole box.
    """
    options = options or Postprocessing()
    one, other = (np.ascontiguousarray(half, dtype=np.float32) for half in (first, second))
    check_halves(one, other)
    threads = options.threads
    mean: Float32 = np.add(one, other) * np.float32(0.5)
    unmasked = fsc(one, other, pixel_size, threads=threads)
    chosen = (
        automatic_mask(one, other, pixel_size, unmasked, threads=threads)
        if mask is None
        else given_mask(mask, len(one))
    )
    warnings = list(chosen.warnings)
    detail = max(4 * pixel_size, min(_COARSEST_DETAIL, unmasked.first_crossing(_WELL_AGREED)))
    chosen, symmetry = _with_symmetry(chosen, mean, pixel_size, detail, options, warnings)
    found = agreement(one, other, pixel_size, chosen.volume, seed=options.seed, threads=threads)
    warnings += found.warnings
    bare = Finished(
        pixel_size, chosen, found, mean, None, 0.0, None, None, None, None, symmetry, tuple(warnings)
    )
    if math.isinf(found.resolution):
        return bare
    sharp = _sharpened(bare, options)
    halves = HalfSpectra(one, other, chosen.volume, pixel_size, threads)
    local = local_resolution(halves, found.resolution, threshold=options.local_threshold)
    filtered = local_filter(halves)
    finest = min([found.resolution, *filter(math.isfinite, local.quantiles((_FINEST_QUANTILE,)))])
    return replace(
        sharp,
        local=local,
        filtered=filtered,
        locally_filtered=sharpen(filtered.volume, pixel_size, sharp.b_factor, finest, threads=threads),
    )


def check_halves(first: Float32, second: Float32) -> None:
    """Refuse what cannot be two half maps with an `InputError`."""
    shapes = [" x ".join(map(str, one.shape[::-1])) for one in (first, second)]
    if first.shape != second.shape:
        raise InputError(f"the halves differ in size: {shapes[0]} and {shapes[1]} voxels", fix=_TWO)
    if first.ndim != 3 or len(set(first.shape)) != 1:
        raise InputError(f"the half maps are {shapes[0]} voxels, not cubes", fix=_TWO)
    if len(first) < LEAST_BOX:
        raise InputError(f"the half maps have {len(first)} voxels a side, fewer than {LEAST_BOX}", fix=_TWO)
    for number, half in enumerate((first, second), start=1):
        if not np.isfinite(half).all():
            raise InputError(f"half map {number} holds NaN or infinity", fix="mend the map")
        if half.min() == half.max():
            raise InputError(f"half map {number} is constant", fix=_TWO)
    if np.array_equal(first, second) or ncc(first, second) > _SAME:
        raise InputError(
            "the halves are the same map: their agreement says nothing", fix="give the maps of two halves"
        )


_TWO = "give two half maps of one refinement"


def given_mask(volume: Float32, box: int) -> SolventMask:
    """The user's mask; `InputError` where it is nearly empty or nearly the whole box."""
    if volume.shape != (box,) * 3:
        raise InputError(
            f"the mask is {volume.shape}, the half maps have {box} voxels a side", where="--mask"
        )
    inside = int(np.count_nonzero(volume > 0.5))
    if inside < _LEAST_VOXELS:
        raise InputError(
            f"the mask is nearly empty: {inside} voxels are inside",
            where="--mask",
            fix="give a mask of the whole particle",
        )
    if (share := float(volume.mean(dtype=np.float64))) > _MOST_OF_BOX:
        raise InputError(
            f"the mask is nearly the whole box ({100 * share:.0f} %), which hides nothing",
            where="--mask",
            fix="give a mask of the particle, or leave it out",
        )
    return SolventMask(np.ascontiguousarray(volume, dtype=np.float32), "given")


def _with_symmetry(
    mask: SolventMask,
    mean: Float32,
    pixel_size: float,
    detail: float,
    options: Postprocessing,
    warnings: list[str],
) -> tuple[SolventMask, float]:
    """The mask with the symmetry of the map, if the map has it."""
    if options.symmetry.upper() == "C1":
        return mask, 1.0
    coarse = radial_filter(
        mean, pixel_size, lambda f: gaussian_low_pass(f, 1 / detail), threads=options.threads
    )
    correlation = symmetry_correlation(coarse, mask.volume, options.symmetry)
    if correlation < _SYMMETRIC:
        warnings.append(
            f"the map has no symmetry {options.symmetry.upper()} about the axes of the box: turned by it, "
            f"its correlation with itself is {correlation:.2f} at {detail:.3g} angstrom; the mask stays as "
            "it is"
        )
        return mask, correlation
    if mask.kind != "automatic":
        return mask, correlation
    return replace(mask, volume=symmetric_mask(mask.volume, options.symmetry)), correlation


def _sharpened(bare: Finished, options: Postprocessing) -> Finished:
    curve, resolution = bare.agreement.curves.corrected, bare.agreement.resolution
    plot = guinier(bare.mean * bare.mask.volume, curve, resolution, threads=options.threads)
    warnings = bare.warnings
    if options.b_factor is not None:
        used = options.b_factor
    else:
        used = min(0.0, plot.b_factor) if plot.fitted else 0.0
        warnings = (*warnings, *plot.warnings)
    volume = sharpen(bare.mean, bare.pixel_size, used, resolution, curve=curve, threads=options.threads)
    return replace(bare, guinier=plot, b_factor=used, sharpened=volume, warnings=warnings)
