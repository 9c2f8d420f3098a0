"""A map filtered everywhere as strongly as its halves ask for, judged by prediction of one from the other.

In every window each band of one half is multiplied by the number that makes it predict the other half, as it
is, with the least squared error, and the other way round: cross-validation, as in non-uniform refinement
(Punjani, Zhang and Fleet, Nature Methods 17 (2020) 1214), which chooses one cut-off by it. For one number a
band the best one need not be searched: it is the sum of products over the sum of squares. The mean of the
halves has half the noise of each, and gets ``2 g / (1 + g)`` where a half gets g.

Both halves share these numbers: halves filtered so say nothing of the resolution any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from manyviews.maps.bands import (
    WIDTH,
    Band,
    HalfSpectra,
    LocalMeans,
    add_cropped,
    apply,
    grid_places,
    linear,
    local_means,
)
from manyviews.maps.local_resolution import chance_level

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

_FIRST_RADIUS = 1.5  # Fourier pixels: the lowest band and all below it
_SILENT = 1  # bands without a place above chance that are still kept, before the rest is given up
_OUTSIDE = 0.01  # weight of the solvent beside the particle in a window
_INSIDE = 0.5
_SURELY = 0.5
_DAMPED = 3.0  # standard deviations of noise, below which a weight is damped
_SURE = 2.0  # standard deviations, of a band that is kept


@dataclass(frozen=True)
class LocallyFiltered:
    """A map filtered locally.

    Attributes
    ----------
    volume
        ``(D, D, D)`` float32.
    centres
        ``(band,)`` 1/angstrom; the first band holds all below it.
    lowest, middle, highest
        ``(band,)`` the 5 %, 50 % and 95 % quantile of the weight of the mean map inside the mask.
    predicted, predicted_by_one
        Part of the power inside the mask of one half that the other predicts, filtered locally and with one
        number a band everywhere; without the lowest band, which holds the mean.
    """

    volume: Float32
    centres: Float64
    lowest: Float64
    middle: Float64
    highest: Float64
    predicted: float
    predicted_by_one: float


def local_filter(halves: HalfSpectra, *, finest: float | None = None) -> LocallyFiltered:
    """Filter the mean of two half maps; no band beyond ``finest``, in angstrom, two pixels if left out."""
    centres = _centres(halves, finest or 2 * halves.pixel_size)
    box = halves.box
    total = np.zeros((box, box, box // 2 + 1), np.complex64)
    places = apply(linear(halves.places, box, 1.0), halves.mask) > _INSIDE
    quantiles, sums = [], np.zeros(3)
    begun, silent = False, 0
    for number, centre in enumerate(centres):
        band = Band(float(centre), lowest=number == 0)
        maps = halves.band_maps(band)
        means = local_means(halves, band, maps, _OUTSIDE)
        if is_heard(means, band, halves, places):
            begun, silent = True, 0
        elif begun:
            silent += 1
            if silent > _SILENT:
                break
        weight = prediction_weight(means)
        if number:
            sums += _predicted(means, band, weight, places)
        of_mean = 2 * weight / (1 + weight)
        quantiles.append(np.quantile(of_mean[places], (0.05, 0.5, 0.95)) if places.any() else np.zeros(3))
        points = len(maps[0])
        reader = linear(grid_places(points, box), len(halves.places), box / len(halves.places))
        product, other = maps
        product += other
        product *= np.float32(0.5 * (box / points) ** 3)
        product *= apply(reader, of_mean)
        add_cropped(total, fft.rfftn(product, workers=halves.threads or -1), points)
    volume = fft.irfftn(total, (box,) * 3, overwrite_x=True, workers=halves.threads or -1)
    lowest, middle, highest = np.array(quantiles).T
    power = max(sums[2], np.finfo(np.float64).tiny)
    return LocallyFiltered(
        np.asarray(volume, dtype=np.float32), centres[: len(quantiles)], lowest, middle, highest,
        float(sums[0] / power), float(sums[1] / power),
    )  # fmt: skip


def is_heard(means: LocalMeans, band: Band, halves: HalfSpectra, places: Bool) -> bool:
    """Whether a band has anything that noise has not, in some window or in the mask as a whole."""
    if bool((means.correlation > chance_level(means, band, halves))[places].any()):
        return True
    volume = float(halves.mask.sum(dtype=np.float64)) * halves.pixel_size**3
    return _one_weight(means, band, places) > _SURE / math.sqrt(max(1.0, band.fourier_volume * volume))


def prediction_weight(means: LocalMeans) -> Float32:
    """What a band of one half is multiplied by at each place to predict the other best, from 0 to 1.

    Weights below what windows of pure noise reach at times, three standard deviations, are made smaller, by
    their ratio to that squared: most of them are such noise. Those from a half on never are, for the lowest
    bands have few samples anywhere, and a map without them has dark halos.
    """
    power = (means.first + means.second) / 2
    best = np.divide(means.cross, power, out=np.zeros_like(power), where=power > 0)
    best = np.clip(best, 0.0, 1.0)
    chance = np.minimum(_SURELY, _DAMPED / np.sqrt(np.maximum(means.samples, 1.0)))
    return np.asarray(best * np.minimum(1.0, best / chance) ** 2, dtype=np.float32)


def _one_weight(means: LocalMeans, band: Band, places: Bool) -> float:
    """The weight that predicts best with the same everywhere in the mask."""
    cross, power = _over_volume(means, band, places)
    return max(0.0, float(cross.sum() / max(power.sum(), np.finfo(np.float64).tiny)))


def _over_volume(means: LocalMeans, band: Band, places: Bool) -> tuple[Float64, Float64]:
    """Products and squares in the mask over the volume of each window, so that places and bands compare."""
    scale = band.fourier_volume / np.maximum(means.samples[places].astype(np.float64), 1.0)
    return means.cross[places] * scale, (means.first[places] + means.second[places]) / 2 * scale


def _predicted(means: LocalMeans, band: Band, weight: Float32, places: Bool) -> Float64:
    """Power of a half inside the mask: predicted with these weights, with one weight, and all of it."""
    cross, power = _over_volume(means, band, places)
    own, one = weight[places].astype(np.float64), _one_weight(means, band, places)
    gain = np.sum(2 * own * cross - own**2 * power)
    return np.array([gain, 2 * one * cross.sum() - one**2 * power.sum(), power.sum()])


def _centres(halves: HalfSpectra, finest: float) -> Float64:
    highest = 1 / max(finest, 2 * halves.pixel_size)
    lowest = min(_FIRST_RADIUS / halves.side, highest)
    return np.asarray(
        lowest * WIDTH ** np.arange(1 + math.ceil(math.log(highest / lowest) / math.log(WIDTH)))
    )
