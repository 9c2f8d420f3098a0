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
from typing import Any

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
RealArray = NDArray[np.floating[Any]]

_FIRST_RADIUS = 4.0  # Fourier pixels: the lowest band and all below it
_SILENT = 1  # bands without a place above chance that are still kept, before the rest is given up
_OUTSIDE = 0.01  # weight of the solvent beside the particle in a window
_INSIDE = 0.5


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
    quantiles, sums, silent = [], np.zeros(3), 0
    for number, centre in enumerate(centres):
        band = Band(float(centre), lowest=number == 0)
        maps = halves.band_maps(band)
        means = local_means(halves, band, maps, _OUTSIDE)
        weight = prediction_weight(means, band, halves)
        heard = bool((means.correlation > chance_level(means, band, halves))[places].any())
        silent = 0 if heard else silent + 1
        if silent > _SILENT:
            break
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


def prediction_weight(means: LocalMeans, band: Band, halves: HalfSpectra) -> Float32:
    """What a band of one half is multiplied by at each place to predict the other best, from 0 to 1.

    Weights below what windows of pure noise reach are made smaller, by their ratio to that squared, for
    sharpening would bring out what they let through.
    """
    power = (means.first + means.second) / 2
    best = np.divide(means.cross, power, out=np.zeros_like(power), where=power > 0)
    best = np.clip(best, 0.0, 1.0)
    chance = chance_level(means, band, halves)
    return np.asarray(best * np.minimum(1.0, best / chance) ** 2, dtype=np.float32)


def _predicted(means: LocalMeans, band: Band, weight: Float32, places: NDArray[np.bool_]) -> Float64:
    """Power of a half that is predicted with these weights, with one weight, and that there is, in the mask.

    Windows of one band weigh alike, and those of another band otherwise: all are divided by their volume.
    """
    if not places.any():
        return np.zeros(3)
    scale = band.fourier_volume / np.maximum(means.samples[places].astype(np.float64), 1.0)
    cross = means.cross[places] * scale
    power = (means.first[places] + means.second[places]) / 2 * scale
    own = weight[places].astype(np.float64)
    one = max(0.0, float(cross.sum() / max(power.sum(), np.finfo(np.float64).tiny)))
    gain = np.sum(2 * own * cross - own**2 * power)
    return np.array([gain, 2 * one * cross.sum() - one**2 * power.sum(), power.sum()])


def _centres(halves: HalfSpectra, finest: float) -> Float64:
    highest = 1 / max(finest, 2 * halves.pixel_size)
    lowest = min(_FIRST_RADIUS / halves.side, highest)
    return np.asarray(
        lowest * WIDTH ** np.arange(1 + math.ceil(math.log(highest / lowest) / math.log(WIDTH)))
    )
