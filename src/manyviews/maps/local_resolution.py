"""Resolution of every place of a map: how far its two halves agree in soft windows, band by band.

Both halves are reduced to a band of frequencies first and looked at in windows then, so that a window,
however small, carries no frequency into another, as a mask does. A place is resolved up to the end of the
first run of bands whose local correlation is above 0.5, and above what windows of pure noise reach by chance.
The lowest bands may be below: their windows are wide, and hold solvent too. At 0.143, the threshold of whole
maps, a fiftieth of what lies near by, as the rim of a window lets in, is as good as a resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from manyviews.maps.bands import WINDOW_WAVELENGTHS, Band, HalfSpectra, LocalMeans, apply, linear, local_means

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
RealArray = NDArray[np.floating[Any]]

LOCAL_THRESHOLD = 0.5
_BY_CHANCE = 0.01  # of one window of pure noise somewhere in the mask, in any band, above its level
_BANDS = 50  # more than there are
_STEP = 1.08  # from one band to the next; each is zero three steps away
_FIRST_RADIUS = 3.0  # Fourier pixels: the lowest band
_COARSEST = 4.0  # times the resolution of the whole: the lowest band is no lower
_INSIDE = 0.5  # of the mask, where a resolution is told


@dataclass(frozen=True)
class LocalResolution:
    """Local resolution of a map.

    Attributes
    ----------
    resolution
        ``(D, D, D)`` angstrom; NaN outside the mask and where no band is above.
    coarsest, finest
        Angstrom, of the bands that were looked at.
    threshold
        Of the local correlation; the whole map's curve at the same threshold compares with it.
    """

    resolution: Float32
    coarsest: float
    finest: float
    threshold: float

    def quantiles(self, parts: tuple[float, ...]) -> tuple[float, ...]:
        """Quantiles over what is resolved, angstrom; NaN if nothing is."""
        known = self.resolution[np.isfinite(self.resolution)]
        if not known.size:
            return (math.nan,) * len(parts)
        return tuple(float(value) for value in np.quantile(known, parts))


def local_resolution(
    halves: HalfSpectra,
    resolution: float,
    *,
    threshold: float = LOCAL_THRESHOLD,
    finest: float | None = None,
) -> LocalResolution:
    """The local resolution of two half maps.

    Parameters
    ----------
    halves
        The half maps and their mask.
    resolution
        Of the whole, in angstrom; the lowest band is at four times this, the third Fourier pixel at least.
    threshold
        Of the local correlation.
    finest
        Angstrom: no band beyond. Left out: two pixels.
    """
    centres = _centres(halves, resolution, finest or 2 * halves.pixel_size)
    count = len(halves.places)
    mask = apply(linear(halves.places, halves.box, 1.0), halves.mask)
    inside = mask > _INSIDE
    alive, begun = inside.copy(), np.zeros_like(inside)
    found = np.full((count,) * 3, math.nan, np.float32)  # frequency
    before = np.zeros((count,) * 3, np.float32)
    for number, centre in enumerate(centres):
        band = Band(float(centre))
        means = local_means(halves, band, halves.band_maps(band), 0.0)
        margin = means.correlation - np.maximum(threshold, chance_level(means, band, halves))
        falls = alive & begun & (margin < 0)
        if number:
            part = before[falls] / (before[falls] - margin[falls])
            found[falls] = centres[number - 1] + part * (centre - centres[number - 1])
        alive &= ~falls
        begun |= margin >= 0
        before = margin
        if not alive.any():
            break
    found[alive & begun] = centres[-1]
    whole = _on_all_voxels(halves, found)
    whole[halves.mask < _INSIDE] = math.nan
    return LocalResolution(whole, float(1 / centres[0]), float(1 / centres[-1]), threshold)


def chance_level(means: LocalMeans, band: Band, halves: HalfSpectra) -> Float32:
    """The local correlation that windows of noise reach by chance at each place ``(m, m, m)``, one at most.

    Windows of pure noise scatter by one over the root of their independent samples. There are as many windows
    side by side as fit into the mask, and one of them in all bands may be above in a hundred maps of noise.
    """
    window = (4 * math.pi) ** 1.5 * (WINDOW_WAVELENGTHS / band.centre) ** 3
    inside = float(halves.mask.sum(dtype=np.float64)) * halves.pixel_size**3
    deviations = float(stats.norm.isf(_BY_CHANCE / _BANDS / max(1.0, inside / window)))
    level = deviations / np.sqrt(np.maximum(means.samples, 1.0))
    return np.asarray(np.minimum(level, 1.0), dtype=np.float32)


def _centres(halves: HalfSpectra, resolution: float, finest: float) -> NDArray[np.float64]:
    highest = 1 / max(finest, 2 * halves.pixel_size)
    lowest = max(_FIRST_RADIUS / halves.side, 1 / (_COARSEST * resolution))
    count = max(2, 1 + math.ceil(math.log(max(highest / lowest, 1.0)) / math.log(_STEP)))
    return np.asarray(np.minimum(lowest * _STEP ** np.arange(count), highest), dtype=np.float64)


def _on_all_voxels(halves: HalfSpectra, found: Float32) -> Float32:
    """Resolution in angstrom from frequencies at places; between places where there is one on all sides."""
    known = np.isfinite(found)
    step = halves.box / len(halves.places)
    reader = linear(np.arange(halves.box, dtype=np.float64), len(halves.places), step)
    values = apply(reader, np.where(known, found, 0.0).astype(np.float32))
    weight = apply(reader, known.astype(np.float32))
    good = weight > 0.5
    return np.divide(weight, values, out=np.full(values.shape, math.nan, np.float32), where=good)
