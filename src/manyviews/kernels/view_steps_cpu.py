"""What an iteration does with each view while it is in the cache: deform, compare, sum; float32, on the CPU.

``D_f`` is the pull-back of `manyviews.kernels.warp_cpu`, or its transpose (``push``). A pull-back reads the
edge beyond an image: where it does, nothing is known, and what does not fit there does not count. Each
view is one thread's, and sums are of one view: the number of threads changes no bit.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from manyviews.kernels.warp_cpu import BORDER, pad_image, pull_padded, push_padded, work_arrays
from manyviews.parallel.threads import each_in_threads

__all__ = ["back_views", "deformed_squares", "keep_better", "rest_of_views"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(nogil=True, cache=True)
def _room(image):  # type: ignore[no-untyped-def]
    return work_arrays(image), np.empty((image.shape[0] + BORDER, image.shape[1] + BORDER), np.float32)


@njit(nogil=True, cache=True)
def _deform(image, flow, push, room, out):  # type: ignore[no-untyped-def]
    """``out`` may be the image itself where nothing is pushed."""
    work, padded = room
    if push:
        push_padded(image, flow, 3, work, padded, out)
    else:
        pad_image(image, padded)
        pull_padded(padded, flow, 3, work, out)


@njit(fastmath=_FAST, nogil=True, cache=True)
def _square_of_rest(data, model):  # type: ignore[no-untyped-def]
    total = 0.0
    for z in range(data.shape[0]):
        for x in range(data.shape[1]):
            apart = np.float64(data[z, x] - model[z, x])
            total += apart * apart
    return total


@njit(fastmath=_FAST, nogil=True, cache=True)
def _rest(data, flow, push, rest):  # type: ignore[no-untyped-def]
    """The deformed model in ``rest`` less the data, where it is seen; sums of squares of all, and of that."""
    rows, columns = data.shape
    right, bottom = np.float32(columns), np.float32(rows)
    total, of_seen = 0.0, 0.0
    for z in range(rows):
        for x in range(columns):
            apart = rest[z, x] - data[z, x]
            square = np.float64(apart) * np.float64(apart)
            total += square
            at_x, at_z = np.float32(x) + flow[0, z, x], np.float32(z) + flow[1, z, x]
            seen = push or (at_x > -1 and at_x < right and at_z > -1 and at_z < bottom)
            rest[z, x] = apart if seen else np.float32(0)
            of_seen += square if seen else 0.0
    return total, of_seen


@njit(fastmath=_FAST, nogil=True, cache=True)
def _square(image, flow, push):  # type: ignore[no-untyped-def]
    """Of a deformed image, where it is seen."""
    rows, columns = image.shape
    right, bottom = np.float32(columns), np.float32(rows)
    total = 0.0
    for z in range(rows):
        for x in range(columns):
            at_x, at_z = np.float32(x) + flow[0, z, x], np.float32(z) + flow[1, z, x]
            seen = push or (at_x > -1 and at_x < right and at_z > -1 and at_z < bottom)
            value = np.float64(image[z, x]) if seen else 0.0
            total += value * value
    return total


@njit(nogil=True, cache=True)
def _finite(flow):  # type: ignore[no-untyped-def]
    return np.isfinite(flow).all()


@njit(nogil=True, cache=True)
def _keep_better(data, model, old, new, push):  # type: ignore[no-untyped-def]
    """``new`` becomes the better of two flows: its misfit, and whether the new one was."""
    room, moved = _room(data), np.empty_like(data)
    _deform(model, old, push, room, moved)
    before = _square_of_rest(data, moved)
    after = before
    if _finite(new):
        _deform(model, new, push, room, moved)
        after = _square_of_rest(data, moved)
    if after < before:
        return after, True
    for part in range(2):  # by loops: to compile an assignment of arrays, and its error, takes seconds
        for z in range(new.shape[1]):
            for x in range(new.shape[2]):
                new[part, z, x] = old[part, z, x]
    return before, False


@njit(nogil=True, cache=True)
def _rest_of(data, flow, push, model):  # type: ignore[no-untyped-def]
    if push:
        given = model.copy()
        _deform(given, flow, push, _room(data), model)
    else:
        _deform(model, flow, push, _room(data), model)
    return _rest(data, flow, push, model)


@njit(fastmath=_FAST, nogil=True, cache=True)
def _back(rest, weight, flow, push, out):  # type: ignore[no-untyped-def]
    given = np.float32(weight) * rest
    room, padded = work_arrays(rest), np.empty((rest.shape[0] + BORDER, rest.shape[1] + BORDER), np.float32)
    if push:
        pad_image(given, padded)
        pull_padded(padded, flow, 3, room, out)
    else:
        push_padded(given, flow, 3, room, padded, out)


@njit(nogil=True, cache=True)
def _deformed_square(image, flow, push):  # type: ignore[no-untyped-def]
    moved = np.empty_like(image)
    _deform(image, flow, push, _room(image), moved)
    return _square(moved, flow, push)


def keep_better(
    data: Float32, model: Float32, old: Float32, new: Float32, *, push: bool = False
) -> tuple[Float64, NDArray[np.bool_]]:
    """In ``new (n, 2, z, x)``, of each view that flow which leaves less of ``|data - D_f model|^2``.

    Returns what it leaves, ``(n,)``, and where it is the new one. A flow that is not finite never is. Images
    are ``(n, z, x)``.
    """
    left, taken = np.empty(len(data)), np.empty(len(data), bool)

    def keep(n: int) -> None:
        left[n], taken[n] = _keep_better(data[n], model[n], old[n], new[n], push)

    each_in_threads(keep, len(data))
    return left, taken


def rest_of_views(
    data: Float32, model: Float32, flow: Float32, *, push: bool = False
) -> tuple[Float64, Float64]:
    """``D_f model - data`` in place of ``model (n, z, x)``, zero where nothing is seen.

    Returns the sums of squares ``(n,)`` of all pixels, and of those that are seen.
    """
    every, seen = np.empty(len(data)), np.empty(len(data))

    def measure(n: int) -> None:
        every[n], seen[n] = _rest_of(data[n], flow[n], push, model[n])

    each_in_threads(measure, len(data))
    return every, seen


def back_views(rest: Float32, weights: Float64, flow: Float32, out: Float32, *, push: bool = False) -> None:
    """``D_f' (w rest)`` into ``out (n, z, x)``, with a weight w ``(n,)`` of each view.

    ``out`` may be ``rest``.
    """
    each_in_threads(lambda n: _back(rest[n], weights[n], flow[n], push, out[n]), len(rest))


def deformed_squares(images: Float32, flow: Float32, *, push: bool = False) -> Float64:
    """``(n,)`` sums of squares of ``D_f image``, where it is seen."""
    found = np.empty(len(images))

    def measure(n: int) -> None:
        found[n] = _deformed_square(images[n], flow[n], push)

    each_in_threads(measure, len(images))
    return found
