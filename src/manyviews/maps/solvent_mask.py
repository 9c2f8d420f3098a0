"""A soft mask around the particle, found from two half maps.

The mean of the halves is low-passed to where they agree well, and so is half of their difference, which holds
the noise of the mean and nothing of the particle. What stands above the solvent by more than noise does once
in the whole box belongs to the particle, if it hangs together and is not small beside the largest piece. The
mask reaches a little further, and ends in half a cosine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.maps.radial import gaussian_low_pass, radial_filter
from manyviews.metrics.fsc import FscCurve, fsc

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
RealArray = NDArray[np.floating[Any]]

_COARSEST_DETAIL = 15.0  # angstrom: finer detail than this does not shape a mask
_LEAST_PIXELS = 3.0  # of the low-pass
_LEAST_OF_PEAK = 0.15  # of the highest density: what is below may be ripples of what is above
_RIM_SHARE = 0.2  # of the voxels, those furthest out: solvent
_SMALL = 0.05  # of the largest piece
_EXTENDED, _LEAST_EXTENDED = 1 / 5, 2.0  # of the low-pass; pixels
_EDGE, _LEAST_EDGE = 1 / 2, 4.0
_INVERTED = 1.5  # times as far below the solvent as above
_MOST, _LEAST = 0.7, 1.0  # of the voxels that hold anything; of a ball as wide as the low-pass
_SPHERE_EDGE_PIXELS = 6.0
_AGREED, _WELL_AGREED = 0.143, 0.5
_SURE, _SURE_SHELLS = 4.0, 3  # standard deviations; so many shells
_ENOUGH, _FIRST_SHELLS = 20.0, 5  # samples of the first shell that can tell; so many shells behind it


@dataclass(frozen=True)
class SolventMask:
    """A mask and how it was found.

    Attributes
    ----------
    volume
        ``(D, D, D)`` from 0 outside to 1 inside.
    kind
        "automatic", "given", or "sphere", the largest in the box, where no mask could be found.
    low_pass_angstrom, threshold, noise, background
        Of the map that was thresholded; NaN where the mask was not found from one.
    pieces, dropped
        Pieces above the threshold, and how many of them were dropped as small.
    warnings
        Sentences for the user.
    """

    volume: Float32
    kind: str
    low_pass_angstrom: float = math.nan
    threshold: float = math.nan
    noise: float = math.nan
    background: float = math.nan
    pieces: int = 0
    dropped: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of the box that is inside, soft voxels in part."""
        return float(self.volume.mean(dtype=np.float64))


def halves_agree(curve: FscCurve, share: float = 1.0) -> bool:
    """Whether two maps have anything in common that noise has not.

    Three of the first shells must be above 0.143 and above four standard deviations of what shells of noise
    are by chance, ``1 / sqrt(2 n)``: up to the fifth behind the first one that has twenty samples. ``share``
    is that of the samples that a mask leaves independent.
    """
    samples = np.maximum(1.0, share * curve.samples[1:])
    last = int(np.argmax(samples >= _ENOUGH)) if samples[-1] >= _ENOUGH else len(samples)
    first = slice(0, last + _FIRST_SHELLS + 1)
    level = np.maximum(_AGREED, _SURE / np.sqrt(2 * samples))
    return int(np.count_nonzero((curve.correlation[1:] > level)[first])) >= _SURE_SHELLS


def automatic_mask(
    first: RealArray, second: RealArray, pixel_size: float, unmasked: FscCurve, *, threads: int = 0
) -> SolventMask:
    """The mask of two half maps, cubes of one size; the largest sphere, with a warning, where there is none.

    Where the low-pass was coarse because of the noise of the solvent, the mask is found once more with the
    low-pass that the halves allow inside it.

    Parameters
    ----------
    first, second
        ``(D, D, D)``, the particle positive.
    pixel_size
        Angstrom.
    unmasked
        Their correlation.
    threads
        Of the transforms; 0 is all cores.
    """
    if not halves_agree(unmasked):
        return sphere_mask(len(first), "no mask can be found from half maps that do not agree")
    low_pass = _low_pass(unmasked)
    found = _mask_at(first, second, pixel_size, low_pass, threads)
    if found.kind == "automatic" and low_pass > _finest(pixel_size):
        inside = fsc(first, second, pixel_size, mask=found.volume, threads=threads)
        finer = min(low_pass, _low_pass(inside))
        again = _mask_at(first, second, pixel_size, finer, threads) if finer < low_pass else found
        return again if again.kind == "automatic" else found
    return found


def _low_pass(curve: FscCurve) -> float:
    agreed = curve.first_crossing(_WELL_AGREED)
    return max(_finest(curve.pixel_size), agreed if math.isfinite(agreed) else 0.0)


def _finest(pixel_size: float) -> float:
    return max(_COARSEST_DETAIL, _LEAST_PIXELS * pixel_size)


def _mask_at(
    first: RealArray, second: RealArray, pixel_size: float, low_pass: float, threads: int
) -> SolventMask:
    box = len(first)
    mean, difference = (
        radial_filter(volume, pixel_size, lambda f: gaussian_low_pass(f, 1 / low_pass), threads=threads)
        for volume in ((first + second) / 2, (first - second) / 2)
    )
    live = (first != 0) | (second != 0)
    rim = mean[_rim(live)]
    background = float(np.median(rim))
    noise = max(float(difference[live].std()), 1.4826 * float(np.median(np.abs(rim - background))))
    # so many noises can lie side by side in the box: one of them is expected above this
    elements = max(10.0, (box * pixel_size) ** 3 * (2 * math.pi) ** 1.5 * (0.849 / low_pass) ** 3)
    above_noise = float(stats.norm.isf(1 / elements)) * noise
    peak = float(mean.max()) - background
    if background - float(mean.min()) > _INVERTED * peak:
        return sphere_mask(box, "the particle seems to be dark in the half maps, and should be light")
    threshold = background + max(above_noise, _LEAST_OF_PEAK * peak)
    core, pieces, dropped = _large_pieces(mean > threshold)
    if told := _fault(core, live, low_pass / pixel_size):
        return sphere_mask(box, told)
    volume = soft_edge(
        core,
        max(_LEAST_EXTENDED, _EXTENDED * low_pass / pixel_size),
        max(_LEAST_EDGE, _EDGE * low_pass / pixel_size),
    )
    return SolventMask(volume, "automatic", low_pass, threshold, noise, background, pieces, dropped)


def sphere_mask(box: int, reason: str) -> SolventMask:
    """The largest soft sphere in the box, and a warning why it has to do."""
    told = f"{reason}: the largest sphere in the box is taken instead; give a mask with --mask"
    return SolventMask(soft_sphere(box, box / 2, _SPHERE_EDGE_PIXELS), "sphere", warnings=(told,))


def soft_edge(core: Bool, extended_voxels: float, edge_voxels: float) -> Float32:
    """1 within a distance of a solid, half a cosine down to 0 over the edge; ``core`` has a voxel inside."""
    reach = math.ceil(extended_voxels + edge_voxels) + 1
    inside = ndimage.find_objects(core.astype(np.int8))[0]
    assert inside is not None
    near = tuple(
        slice(max(0, part.start - reach), min(size, part.stop + reach))
        for part, size in zip(inside, core.shape, strict=True)
    )
    distance = ndimage.distance_transform_edt(~core[near])
    edge = np.clip((distance - extended_voxels) / edge_voxels, 0.0, 1.0)
    mask = np.zeros(core.shape, np.float32)
    mask[near] = 0.5 + 0.5 * np.cos(np.pi * edge)
    return mask


def _rim(live: Bool) -> Bool:
    """The voxels that hold anything and lie furthest from the middle."""
    axes = [np.arange(size, dtype=np.float32) - size // 2 for size in live.shape]
    squared = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2
    return np.asarray(live & (squared >= np.quantile(squared[live], 1 - _RIM_SHARE)))


def _large_pieces(above: Bool) -> tuple[Bool, int, int]:
    """What hangs together and is not small, how many pieces there were and how many were dropped."""
    labels, count = ndimage.label(above)
    if count == 0:
        return above, 0, 0
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = sizes >= max(2.0, _SMALL * sizes.max())
    return np.asarray(kept[labels]), count, count - int(np.count_nonzero(kept))


def _fault(core: Bool, live: Bool, low_pass_voxels: float) -> str:
    """Why a solid is no particle, empty where it may be one."""
    inside, share = int(np.count_nonzero(core)), np.count_nonzero(core & live) / np.count_nonzero(live)
    if inside < _LEAST * math.pi / 6 * low_pass_voxels**3:
        return "the automatic mask would be nearly empty"
    if share > _MOST:
        return f"the automatic mask would be nearly the whole map ({100 * share:.0f} %)"
    return ""
