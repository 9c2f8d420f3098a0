"""Which frequencies of an image or of a small volume count, and in what order.

The transform of real numbers is its own mirror image, so half of it is enough; sorted by frequency, so that a
smaller radius is the beginning of the list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.int32]


def half_plane(radius: float, box: int) -> Points:
    """Integer frequencies ``(P, 2)`` (kx, ky) of half the image plane up to a radius in cycles per box.

    All points with ``kx^2 + ky^2 <= radius^2`` and ``kx > 0``, or ``kx == 0`` and ``ky >= 0``: zero frequency
    first, then by increasing ``kx^2 + ky^2``, ties by ky, then kx. `ValueError` if the radius is negative or
    beyond the Nyquist frequency, ``box / 2``.
    """
    if not 0 <= radius <= box / 2:
        raise ValueError(f"a radius of {radius} does not fit a box of {box} pixels (0 to {box / 2})")
    reach = int(radius)
    ky, kx = np.mgrid[-reach : reach + 1, 0 : reach + 1].reshape(2, -1)
    squared = kx**2 + ky**2
    kept = (squared <= radius**2) & ((kx > 0) | (ky >= 0))
    kx, ky, squared = kx[kept], ky[kept], squared[kept]
    order = np.lexsort((kx, ky, squared))
    return np.stack([kx, ky], axis=1)[order].astype(np.int32)


def half_ball(radius: float, box: int) -> Points:
    """Integer frequencies ``(P, 3)`` (kx, ky, kz) of half of space up to a radius in cycles per box.

    All points but zero with ``|k| <= radius`` and ``kx > 0``, or ``kx == 0`` and ``ky > 0``, or both 0 and
    ``kz > 0``; by increasing length, ties by kz, ky, kx. `ValueError` if the radius is not below
    the Nyquist frequency, ``box / 2``.
    """
    if not 0 < radius < box / 2:
        raise ValueError(f"a radius of {radius} does not fit a box of {box} voxels (below {box / 2})")
    reach = int(radius)
    kz, ky, kx = np.mgrid[-reach : reach + 1, -reach : reach + 1, 0 : reach + 1].reshape(3, -1)
    squared = kx**2 + ky**2 + kz**2
    kept = (squared <= radius**2) & ((kx > 0) | (ky > 0) | ((ky == 0) & (kz > 0)))
    kx, ky, kz, squared = kx[kept], ky[kept], kz[kept], squared[kept]
    order = np.lexsort((kx, ky, kz, squared))
    return np.stack([kx, ky, kz], axis=1)[order].astype(np.int32)


def shells(points: NDArray[Any]) -> NDArray[np.int64]:
    """``(P,)`` the shell of each integer point of a plane or of space: its length, rounded.

    The length of a point is never half-way between two whole numbers: ``(k + 1/2)^2`` is not whole.
    """
    squared = np.sum(np.asarray(points, np.float64) ** 2, axis=1)
    return np.asarray(np.floor(np.sqrt(squared) + 0.5), dtype=np.int64)


def extract(images: NDArray[Any], points: NDArray[Any], *, threads: int = 1) -> NDArray[Any]:
    """Transforms ``(N, P)`` of real images ``(N, box, box)`` (y, x) at the points.

    Unnormalised, with the origin at pixel ``n // 2``; complex64 for float32 images, complex128 for float64.
    """
    from scipy import fft

    box = images.shape[-1]
    if images.ndim != 3 or images.shape[1] != box:
        raise ValueError(f"images are a stack of squares, got {images.shape}")
    spectrum = fft.rfft2(images, workers=threads)
    kx, ky = np.asarray(points, np.int64).T
    values = spectrum[:, ky % box, kx]
    return np.asarray(values * _origin_phase(points, box).astype(spectrum.dtype))


def extract_solid(volume: NDArray[Any], points: NDArray[Any], *, threads: int = 1) -> NDArray[Any]:
    """The transform ``(P,)`` of a real volume ``(box, box, box)`` at points ``(P, 3)``, kx from 0 on.

    Unnormalised, with the origin at voxel ``n // 2``; complex64 for float32 volumes, complex128 for float64.
    """
    from scipy import fft

    box = volume.shape[0]
    if volume.shape != (box, box, box):
        raise ValueError(f"a cube is wanted, got {volume.shape}")
    spectrum = fft.rfftn(volume, workers=threads)
    return np.asarray(take_solid(spectrum, points) * _origin_phase(points, box).astype(spectrum.dtype))


def take_solid(spectrum: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """What an array in the layout of ``rfftn``, ``(box, box, box // 2 + 1)``, holds at points ``(P, 3)``."""
    box = spectrum.shape[0]
    kx, ky, kz = np.asarray(points, np.int64).T
    return np.asarray(spectrum[kz % box, ky % box, kx])


def insert(values: NDArray[Any], points: NDArray[Any], box: int, *, threads: int = 1) -> NDArray[Any]:
    """Real images ``(N, box, box)`` with the given transforms at the points and nothing elsewhere."""
    from scipy import fft

    spectrum = np.zeros((len(values), box, box // 2 + 1), values.dtype)
    kx, ky = np.asarray(points, np.int64).T
    centred = values * _origin_phase(points, box).conj().astype(values.dtype)
    spectrum[:, ky % box, kx] = centred
    edge = kx == 0
    spectrum[:, -ky[edge] % box, 0] = centred[:, edge].conj()
    return np.asarray(fft.irfft2(spectrum, s=(box, box), workers=threads))


def _origin_phase(points: NDArray[Any], box: int) -> NDArray[np.complex128]:
    """What moves the origin from the corner to pixel ``box // 2``: ``exp(2 pi i k . centre / box)``."""
    turns = np.sum(np.asarray(points, np.int64), axis=1) * (box // 2) % box
    return np.asarray(np.exp(2j * np.pi * turns / box))
