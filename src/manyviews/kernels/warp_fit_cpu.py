"""How well deformed images are like data, and images that are fitted to data, on the CPU in float32.

``D_f`` is the pull-back of `manyviews.kernels.warp_cpu`, or its transpose (``mass``). A view is worked on
as a whole while it is in the cache, and is one thread's.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from manyviews.kernels.inner import inner
from manyviews.kernels.warp_cpu import BORDER, pad_image, pull_padded, push_padded, work_arrays
from manyviews.parallel.threads import each_in_threads

__all__ = ["fit_images", "misfits"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@inner(nogil=True, cache=True)
def _deform(image, flow, order, push, work, padded, out):  # type: ignore[no-untyped-def]
    if push:
        push_padded(image, flow, order, work, padded, out)
    else:
        pad_image(image, padded)
        pull_padded(padded, flow, order, work, out)


@njit(fastmath=_FAST, nogil=True, cache=True)
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for z in range(a.shape[0]):
        for x in range(a.shape[1]):
            total += np.float64(a[z, x]) * np.float64(b[z, x])
    return total


@inner(fastmath=_FAST, nogil=True, cache=True)
def _sum_of(one, a, other, b, out):  # type: ignore[no-untyped-def]
    """``out = one a + other b``"""
    first, second = np.float32(one), np.float32(other)
    for z in range(a.shape[0]):
        for x in range(a.shape[1]):
            out[z, x] = first * a[z, x] + second * b[z, x]


@njit(nogil=True, cache=True)
def _misfit(data, model, flow, order, mass):  # type: ignore[no-untyped-def]
    padded = np.empty((data.shape[0] + BORDER, data.shape[1] + BORDER), np.float32)
    rest = np.empty_like(data)
    _deform(model, flow, order, mass, work_arrays(data), padded, rest)
    _sum_of(1.0, data, -1.0, rest, rest)
    return _dot(rest, rest)


@njit(nogil=True, cache=True)
def _fit(data, flow, wanted, weight, rho, steps, order, mass, image):  # type: ignore[no-untyped-def]
    """Conjugate gradients for ``(weight D'D + rho) image = weight D' data + rho wanted`` from ``image``
    on.
    """
    work = work_arrays(data)
    padded = np.empty((data.shape[0] + BORDER, data.shape[1] + BORDER), np.float32)
    rest, way, deformed, back = (
        np.empty_like(data),
        np.empty_like(data),
        np.empty_like(data),
        np.empty_like(data),
    )
    _deform(image, flow, order, mass, work, padded, deformed)
    _sum_of(weight, data, -weight, deformed, deformed)
    _deform(deformed, flow, order, not mass, work, padded, rest)
    _sum_of(rho, wanted, -rho, image, way)
    _sum_of(1.0, rest, 1.0, way, rest)
    _sum_of(1.0, rest, 0.0, rest, way)
    square = _dot(rest, rest)
    least = 1e-12 * square
    for _ in range(steps):
        if not square > least:
            break
        _deform(way, flow, order, mass, work, padded, deformed)
        curvature = weight * _dot(deformed, deformed) + rho * _dot(way, way)
        length = square / curvature
        _sum_of(1.0, image, length, way, image)
        _deform(deformed, flow, order, not mass, work, padded, back)
        _sum_of(weight, back, rho, way, back)
        _sum_of(1.0, rest, -length, back, rest)
        before, square = square, _dot(rest, rest)
        _sum_of(1.0, rest, square / before, way, way)


def misfits(data: Float32, model: Float32, flow: Float32, *, order: int = 3, mass: bool = False) -> Float64:
    """``(n,)`` the sums of squares ``|data - D_f model|^2`` of every view, in float64."""
    found = np.empty(len(data))

    def measure(n: int) -> None:
        found[n] = _misfit(data[n], model[n], flow[n], order, mass)

    each_in_threads(measure, len(data))
    return found


def fit_images(
    data: Float32, flow: Float32, wanted: Float32, start: Float32, rho: float, *,
    weights: Float64 | None = None, steps: int = 4, order: int = 3, mass: bool = False,
) -> Float32:  # fmt: skip
    """Images ``(n, z, x)`` nearest to ``w |D_f p - data|^2 + rho |p - wanted|^2``, by so many steps from
    ``start``.

    ``weights (n,)`` are the views' w, None: 1.
    """
    result = start.copy()
    own = np.ones(len(data)) if weights is None else np.asarray(weights, dtype=np.float64)

    def fit(n: int) -> None:
        _fit(data[n], flow[n], wanted[n], float(own[n]), float(rho), steps, order, mass, result[n])

    each_in_threads(fit, len(data))
    return result
