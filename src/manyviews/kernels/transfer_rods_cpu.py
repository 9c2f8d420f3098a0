"""The point-spread of projecting and back-projecting with a transfer of each view's frequencies, on the CPU.

As `manyviews.kernels.rods_cpu`, in Fourier space: plane by plane in dz a view adds its profile across the
axis, along it, and the transfer, on its frequencies ``(u, w)``, with the phase of where its rod goes through
the plane. Voxels sample rods of all frequencies, so that those beyond a voxel's come in as aliases.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from manyviews.kernels.inner import inner
from manyviews.kernels.rods_cpu import lookup

Float64 = NDArray[np.float64]
Complex64 = NDArray[np.complex64]

_LEAST = 1e-4
_TOGETHER = 8


@inner()
def _add_line(line, first_dz, turn, size):  # type: ignore[no-untyped-def]
    """Add ``size exp(i turn dz)``; several planes at once, each from the one so many before."""
    real, imaginary = np.empty(_TOGETHER, np.float64), np.empty(_TOGETHER, np.float64)
    for plane in range(_TOGETHER):
        real[plane] = math.cos(turn * (first_dz + plane)) * size
        imaginary[plane] = math.sin(turn * (first_dz + plane)) * size
    step_real, step_imaginary = math.cos(turn * _TOGETHER), math.sin(turn * _TOGETHER)
    whole = len(line) // _TOGETHER * _TOGETHER
    for first in range(0, whole, _TOGETHER):
        for plane in range(_TOGETHER):
            line[first + plane] += complex(real[plane], imaginary[plane])
            turned = real[plane] * step_real - imaginary[plane] * step_imaginary
            imaginary[plane] = real[plane] * step_imaginary + imaginary[plane] * step_real
            real[plane] = turned
    for plane in range(whole, len(line)):
        line[plane] += complex(real[plane - whole], imaginary[plane - whole])


@inner()
def _mean_square(kx, ky, phase, rings, fading, steps, pixel_size):  # type: ignore[no-untyped-def]
    """Squared transfer at an image frequency in cycles a pixel, its defocus averaged."""
    kx -= np.round(kx)
    ky -= np.round(ky)
    radius = math.hypot(kx, ky)
    sx, sy = kx / pixel_size, ky / pixel_size
    squared = sx * sx + sy * sy
    angle = phase[0] + phase[1] * squared + phase[2] * (sx * sx - sy * sy)
    angle += phase[3] * 2.0 * sx * sy + phase[4] * squared * squared
    cosine = math.cos(2.0 * angle) * lookup(rings[0], steps, radius)
    cosine -= math.sin(2.0 * angle) * lookup(rings[1], steps, radius)
    return 0.5 * (1.0 - cosine) * lookup(fading, steps, radius)


@njit(parallel=True, nogil=True, cache=True)
def _add(out, first_dz, cosines, sines, weights, across, along, shear, aliases, g, g_steps, q, q_steps,  # type: ignore[no-untyped-def]
         to_image, phases, rings, fading, steps, pixel_size):  # fmt: skip
    height, columns = out.shape[:2]
    width = 2 * (columns - 1)
    for row in prange(height):
        ky = row / height if 2 * row < height else row / height - 1.0
        for column in range(columns):
            kx = column / width
            for view in range(len(cosines)):
                cosine = abs(cosines[view])
                for alias in range(len(aliases)):
                    fx, fy = kx + aliases[alias, 0], ky + aliases[alias, 1]
                    ks = across[0] * fx + across[1] * fy
                    u = ks / cosines[view]
                    w = along[0] * fx + along[1] * fy
                    size = weights[view] / cosine * lookup(g[view], g_steps, u) * lookup(q, q_steps, w)
                    if abs(size) < _LEAST * weights[view]:
                        continue
                    size *= _mean_square(
                        to_image[view, 0, 0] * u + to_image[view, 0, 1] * w,
                        to_image[view, 1, 0] * u + to_image[view, 1, 1] * w,
                        phases[view], rings[view], fading[view], steps, pixel_size,
                    )  # fmt: skip
                    turn = 2.0 * math.pi * (u * sines[view] - w * shear)
                    _add_line(out[row, column], first_dz, turn, size)


def add_transfer_rods(
    out: Complex64,
    first_dz: int,
    cosines: Float64,
    sines: Float64,
    weights: Float64,
    across: Float64,
    along: Float64,
    shear: float,
    aliases: Float64,
    profile_u: tuple[Float64, float],
    profile_w: tuple[Float64, float],
    to_image: Float64,
    phases: Float64,
    rings: Float64,
    fading: Float64,
    steps: float,
    pixel_size: float,
) -> None:
    """Add the spectra of views that share a tilt axis to some planes of a kernel.

    Parameters
    ----------
    out
        ``(y, x // 2 + 1, dz)``, of an even number of columns x, changed in place.
    first_dz, cosines, sines, weights, across, along, shear
        As of `manyviews.kernels.rods_cpu.draw_rods`.
    aliases
        ``(n, 2)``: multiples of the sampling frequency (x, y) that are added up.
    profile_u, profile_w
        Transforms ``(view, n)`` and ``(n,)`` of the even profiles, and entries a cycle per pixel, from 0.
    to_image
        ``(view, 2, 2)`` frequencies (u, w) to those of the image, cycles a pixel.
    phases
        ``(view, 5)`` phase of the CTF: factors of 1, s^2, s^2 cos 2a, s^2 sin 2a, s^4, s in 1/angstrom.
    rings
        ``(view, 2, n)``: real and imaginary part of what the mean over defocus leaves of ``exp(2i phase)``,
        by frequency.
    fading
        ``(view, n)``: a factor of the squared transfer by frequency.
    steps
        Entries of the last two tables a cycle per pixel.
    pixel_size
        Angstrom.
    """
    _add(
        out, first_dz, cosines, sines, weights, across, along, shear, aliases, *profile_u, *profile_w,
        to_image, phases, rings, fading, steps, pixel_size,
    )  # fmt: skip
