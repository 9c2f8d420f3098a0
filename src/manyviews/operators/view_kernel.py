"""The normal operator of a set of views as one convolution kernel, in Fourier space.

For parallel views ``W' L W`` depends, up to detector edges and the sub-pixel place of a voxel, on the
difference between two voxels only: a sum of one rod a view (`manyviews.kernels.rods_cpu`). Averaged over
sub-pixel places its profile across the tilt axis is the autocorrelation of the projector's footprint and
filter; a group whose slices are rotated also carries the response of the spline interpolation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from manyviews.kernels.rods_cpu import draw_rods
from manyviews.operators.axis_groups import AxisGroup

STEPS = 64
_RADIUS_U = 5.5
_RADIUS_W = 6.0
_SUB_PIXEL_PLACES = 24
_PLANE_BYTES = 128 * 2**20


@dataclass(frozen=True)
class ViewKernel:
    """Spectra of a kernel on a padded grid ``(z, y, x / 2 + 1)``, real because the kernel is even.

    Attributes
    ----------
    padded
        Size of the grid on which cyclic and linear convolution agree inside the volume.
    spectrum
        Transform of the kernel.
    circulant
        Transform of the kernel tapered by ``1 - |dz| / Z``: the best cyclic stand-in (T. Chan 1988), from
        which weights and preconditioners are made. Negative by 3e-5 of its largest value at most (profiles
        are tabulated): clamp it. None if not asked for.
    """

    padded: tuple[int, int, int]
    spectrum: torch.Tensor
    circulant: torch.Tensor | None


def make_kernel(
    groups: list[AxisGroup],
    weights: NDArray[np.float64],
    volume_shape: tuple[int, int, int],
    *,
    circulant: bool = False,
    padded: tuple[int, int, int] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> ViewKernel:
    """Kernel of ``W' L W`` for the views of ``groups``, l_v = ``weights (view,)``.

    Parameters
    ----------
    groups, weights
        Views by tilt axis, and one weight for every view index that occurs in them.
    volume_shape
        ``(z, y, x)``.
    circulant
        Whether the tapered spectrum is wanted too.
    padded
        Grid to use, at least `padded_shape`; None: the smallest good one.
    """
    size = padded or padded_shape(groups, volume_shape)
    planes = np.zeros((volume_shape[0], size[1], size[2] // 2 + 1), np.complex64)
    for rotated in (False, True):
        some = [group for group in groups if group.rotated == rotated]
        if some:
            _add_planes(planes, some, weights, volume_shape, size, rotated)
    numpy_dtype = np.float64 if dtype == torch.float64 else np.float32
    spectrum = _along_z(planes, size[0], None, numpy_dtype)
    taper = 1.0 - np.arange(volume_shape[0]) / volume_shape[0]
    tapered = _along_z(planes, size[0], taper, numpy_dtype) if circulant else None
    return ViewKernel(
        padded=size,
        spectrum=torch.from_numpy(spectrum).to(device),
        circulant=None if tapered is None else torch.from_numpy(tapered).to(device),
    )


def padded_shape(groups: list[AxisGroup], volume_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Grid on which the kernel does not wrap around into the volume: thin volumes need little padding."""
    depth, height, width = volume_shape
    reach = np.zeros(2)
    for group in groups:
        slope = np.abs(group.sines) / np.maximum(np.abs(group.cosines), 1e-6)
        length = float(np.max((depth - 1) * slope + _RADIUS_U / np.maximum(np.abs(group.cosines), 1e-6)))
        ends = np.abs(group.direction_across) * length + np.abs(group.direction_along) * _RADIUS_W
        reach = np.maximum(reach, ends)
    need_x = width + min(width - 1, math.ceil(reach[0]))
    need_y = height + min(height - 1, math.ceil(reach[1]))
    fast = scipy.fft.next_fast_len
    return fast(2 * depth - 1, real=False), fast(need_y, real=False), fast(need_x, real=True)


def _add_planes(
    total: NDArray[np.complex64],
    groups: list[AxisGroup],
    weights: NDArray[np.float64],
    volume_shape: tuple[int, int, int],
    size: tuple[int, int, int],
    rotated: bool,
) -> None:
    """Add the in-plane transforms of the rods, plane by plane in dz."""
    depth, height, width = volume_shape
    profiles = [profile_across(group) for group in groups]
    profile_w = _cardinal_autocorrelation() if rotated else np.array([1.0, 0.0])
    smoothing = _spline_response(size[1])[:, None] * _spline_response(size[2])[None, : size[2] // 2 + 1]
    block = max(1, _PLANE_BYTES // (4 * size[1] * size[2]))
    for first in range(0, depth, block):
        count = min(block, depth - first)
        planes = np.zeros((count, size[1], size[2]), np.float32)
        for group, profile in zip(groups, profiles, strict=True):
            draw_rods(
                planes, first, group.cosines, group.sines, weights[group.views], group.direction_across,
                group.direction_along, profile, profile_w, STEPS, (height - 1, width - 1),
            )  # fmt: skip
        spectra = scipy.fft.rfft2(planes, workers=torch.get_num_threads())
        if rotated:
            spectra *= smoothing.astype(np.float32)
        total[first : first + count] += spectra


def _along_z(
    planes: NDArray[np.complex64], size: int, taper: NDArray[np.float64] | None, dtype: Any
) -> NDArray[Any]:
    """Transform along dz of planes for dz >= 0; those below are their conjugates, so the result is real."""
    out = np.empty((size, *planes.shape[1:]), dtype)
    workers = torch.get_num_threads()
    rows = max(1, _PLANE_BYTES // (8 * size * planes.shape[2]))
    for first in range(0, planes.shape[1], rows):
        part = planes[:, first : first + rows]
        if taper is not None:
            part = part * taper.astype(np.float32)[:, None, None]
        out[:, first : first + rows] = scipy.fft.hfft(part, n=size, axis=0, workers=workers)
    return out


def profile_across(group: AxisGroup) -> NDArray[np.float64]:
    """Profile g of every view's rod across the axis, averaged over sub-pixel places: ``(view, steps)``."""
    distance = np.arange(int(_RADIUS_U * STEPS) + 1) / STEPS
    out = np.zeros((len(group.views), len(distance)))
    rng = np.random.default_rng(0)
    z = np.arange(4096) % 64 - 32
    s = rng.integers(-group.columns // 2, group.columns // 2, size=z.size)
    for k in range(len(group.views)):
        half = 0.5 * max(abs(group.cosines[k]), abs(group.sines[k]))
        t = group.cosines[k] * s + group.sines[k] * z + group.offsets[k]
        places = np.sort(t - np.floor(t))[:: max(1, t.size // _SUB_PIXEL_PLACES)]
        m = group.sharpening[k]
        taps = np.convolve([-m / 2, 1 + m, -m / 2], [-m / 2, 1 + m, -m / 2])
        for bin_ in (-1, 0, 1, 2):
            here = footprint(bin_ - places, half)
            for tap, lag in zip(taps, range(-2, 3), strict=True):
                there = footprint(bin_ + lag - places[:, None] - distance[None], half)
                out[k] += tap * (here[:, None] * there).mean(axis=0)
    return out


def footprint(distance: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """Footprint of a voxel on the detector: a triangle smoothed by a box ``2 half`` wide."""

    def square(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.square(np.maximum(x, 0.0))

    a = np.abs(distance)
    return (square(1 + half - a) - square(1 - half - a) - 2 * square(half - a)) / (4 * half)


def _cardinal_response(frequency: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Transform of the cubic cardinal spline at frequencies in cycles a sample (Unser 1999, table 1)."""
    response = 3.0 * np.sinc(frequency) ** 4 / (2.0 + np.cos(2.0 * np.pi * frequency))
    return np.asarray(response, dtype=np.float64)


def _spline_response(size: int) -> NDArray[np.float64]:
    return _cardinal_response(np.fft.fftfreq(size)) ** 2


def _cardinal_autocorrelation() -> NDArray[np.float64]:
    """Autocorrelation of the cubic cardinal spline at distances from 0, `STEPS` a sample."""
    frequency = np.linspace(-2.0, 2.0, 4097)
    distance = np.arange(int(_RADIUS_W * STEPS) + 1) / STEPS
    response = _cardinal_response(frequency) ** 2
    waves = np.cos(2.0 * np.pi * distance[:, None] * frequency[None])
    return np.asarray(np.trapezoid(waves * response, frequency, axis=1))
