"""Adding images to a volume's transform at weighted poses, on the CPU: the M step's hot loop."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from manyviews.kernels.pose_scores_cpu import fill_phases, reach_of
from manyviews.kernels.rows import in_a_row
from manyviews.kernels.slices_cpu import (
    BLOCK,
    SCRATCH,
    add_weighted_slice,
    float_view,
    split_points,
)

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(parallel=True, nogil=True, fastmath=_FAST, cache=True)
def _add_images(  # type: ignore[no-untyped-def]
    numerators, denominators, padding, kx, ky, count, values, value_row, ctf, ctf_row, precision, group,
    image, rotations, shifts, weights, starts, radian, reach,
):  # fmt: skip
    for lane in prange(len(numerators)):
        scratch = np.empty(SCRATCH, np.float32)
        cells = np.empty(BLOCK, np.int64)
        table = np.empty((4, 2 * reach + 1), np.float32)
        cosine = np.empty(count, np.float32)
        sine = np.empty(count, np.float32)
        turned = np.empty(2 * count, np.float32)
        power = np.empty(count, np.float32)
        for s in range(starts[lane], starts[lane + 1]):
            i = image[s]
            fill_phases(cosine, sine, kx, ky, count, -radian * shifts[s, 0], -radian * shifts[s, 1], table)
            own_values = values[i * value_row : i * value_row + 2 * count]
            own_ctf = ctf[i * ctf_row : i * ctf_row + count]
            for p in range(count):
                weight = weights[s] * own_ctf[p] * precision[group[i], p]
                real = own_values[2 * p]
                imaginary = own_values[2 * p + 1]
                turned[2 * p] = weight * (real * cosine[p] - imaginary * sine[p])
                turned[2 * p + 1] = weight * (real * sine[p] + imaginary * cosine[p])
                power[p] = weight * own_ctf[p]
            add_weighted_slice(
                numerators[lane], denominators[lane], rotations[s], kx, ky, count, padding, scratch, cells,
                turned, power,
            )  # fmt: skip


def add_images(
    numerators: NDArray[np.complex64],
    denominators: Float32,
    padding: int,
    points: NDArray[np.int32],
    box: int,
    values: NDArray[np.complex64],
    ctf: Float32,
    precision: Float32,
    group: NDArray[np.int32],
    image: Int64,
    rotations: Float32,
    shifts: Float32,
    weights: Float32,
    starts: Int64,
) -> None:
    """Add ``w C Y / s`` and ``w C^2 / s`` of weighted poses to numerators and denominators, in place.

    Parameters
    ----------
    numerators, denominators
        ``(L, 2h + 1, 2h + 1, h + 2)`` complex64 and float32: one half grid for each lane. A lane is worked on
        by one thread in the order given, so the result does not depend on the number of threads.
    padding, points, box, values, ctf, precision, group
        As in `manyviews.kernels.pose_scores_cpu.score_around`.
    image, rotations, shifts, weights
        ``(S,)``, ``(S, 3, 3)``, ``(S, 2)``, ``(S,)`` the poses; shifts in pixels centre the image.
    starts
        ``(L + 1,)``: poses ``starts[l]`` to ``starts[l + 1]`` belong to lane l.
    """
    kx, ky = split_points(points, np.float32)
    count = len(points)
    float_view(numerators[0])  # checks the shape
    _add_images(
        numerators.view(np.float32), denominators, padding, kx, ky, count,
        *in_a_row(np.asarray(values.view(np.float32))), *in_a_row(ctf), np.ascontiguousarray(precision),
        group, image, np.ascontiguousarray(rotations), np.ascontiguousarray(shifts), weights, starts,
        np.float32(2 * np.pi / box),
        reach_of(kx, ky),
    )  # fmt: skip
