"""Slices by filtered back-projection, for any set of angles."""

from __future__ import annotations

import numpy as np
import scipy.fft
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.nano.room import Allocate, in_memory
from manyviews.operators.linear import require_shape
from manyviews.operators.radon import Radon
from manyviews.operators.slice_threads import each_block


def angle_shares(theta_degrees: ArrayLike) -> NDArray[np.float64]:
    """What each view stands for of half a turn: half the gaps to its neighbours, in radians; they sum to pi.

    A view and that from the other side are the same. So views of several turns are shared alike, and those of
    a missing wedge beside it count for it: an answer that is not right, and no better is known.
    """
    folded = np.mod(np.asarray(theta_degrees, np.float64), 180.0)
    # angles that are the same share what they stand for
    places, which, counts = np.unique(np.round(folded, 9) % 180.0, return_inverse=True, return_counts=True)
    gaps = np.diff(places, append=places[0] + 180.0)
    shares = 0.5 * (gaps + np.roll(gaps, 1)) / counts
    found: NDArray[np.float64] = np.deg2rad(shares)[which]
    return found


def filtered_back_projection(
    radon: Radon, projections: torch.Tensor, allocate: Allocate = in_memory
) -> torch.Tensor:
    """``(z, y, x)`` from ``(view, z, x)``, by the ramp filter of sampled lines (Kak & Slaney 1988, eq. 3.61).

    Beyond the detector its edge is taken to go on, so that specimens wider than it are not rimmed.
    ``allocate`` is room for filtered projections and the volume, where these are float32.
    """
    require_shape(projections, radon.range, "filtered back-projection")
    images = projections.detach().numpy()
    columns = images.shape[2]
    padded = scipy.fft.next_fast_len(2 * columns, real=True)
    before = (padded - columns) // 2
    ramp = _ramp(padded).astype(images.dtype)
    shares = angle_shares(radon.theta_degrees).astype(images.dtype)
    kept = images.dtype == np.float32
    filtered = allocate(images.shape) if kept else np.empty_like(images)

    def some(_: None, views: slice) -> None:
        wide = np.pad(images[views], ((0, 0), (0, 0), (before, padded - columns - before)), mode="edge")
        lines = scipy.fft.irfft(scipy.fft.rfft(wide, axis=2) * ramp, n=padded, axis=2)
        filtered[views] = lines[:, :, before : before + columns] * shares[views, None, None]

    each_block(len(images), 4, radon.threads, lambda: None, some)
    volume = torch.from_numpy(allocate(radon.domain)) if kept else None
    return radon.adjoint(torch.from_numpy(filtered), out=volume)


def _ramp(size: int) -> NDArray[np.float64]:
    """|frequency| of lines of ``size`` samples, from its samples in space: right at frequency zero too."""
    place = np.rint(scipy.fft.fftfreq(size, 1.0 / size)).astype(np.int64)
    odd = place % 2 == 1
    kernel = np.zeros(size)
    kernel[0] = 0.25
    kernel[odd] = -1.0 / (np.pi * place[odd]) ** 2
    return np.asarray(np.real(scipy.fft.rfft(kernel)), np.float64)
