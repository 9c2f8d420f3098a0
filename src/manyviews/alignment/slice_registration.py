"""Two volumes laid over each other by a shift, and then slice by slice.

Projections of a parallel beam about z do not tell where a slice lies within itself: where flows were found
for two halves apart, each slice of one may have moved by some (x, y) against that of the other. A shift of
the whole does not undo that, so the halves are compared after slices have been registered too. Shifts vary
slowly along z, are short, and are looked for at coarse frequencies, where noise is laid over noise; beyond
them it is not, and a resolution read there is none of the registration's making.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from manyviews.metrics.fsc import FscCurve, fsc

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]
ComplexArray = NDArray[np.complexfloating[Any, Any]]

_COARSE = 0.125  # cycles a pixel: half amplitude of what shifts are found by
_FINEST = 0.3125  # of those that are looked at, by 1 % of the weight
_SMOOTH_SLICES = 2.0
_FARTHEST = 1 / 6  # of a side: noise would find a match anywhere
_NEWTON_STEPS = 8
_NEWTON_PIXELS = 1e-4
_PASSES = 3  # later ones find what smoothing and the edges of the mask hid from the first
_EDGE = 4.0


@dataclass(frozen=True)
class RegisteredFsc:
    """Correlations of two volumes: as they lie, with one shifted as a whole, and slice by slice beyond that.

    ``shift (3,)`` in pixels along x, y, z is what brought the second onto the first, ``slice_shifts (z, 2)``
    along x and y what did so with its slices afterwards.
    """

    unmoved: FscCurve
    rigid: FscCurve
    slicewise: FscCurve
    shift: Float64
    slice_shifts: Float64


def registered_fsc(first: RealArray, second: RealArray, pixel_size: float) -> RegisteredFsc:
    """Compare volumes ``(z, y, x)`` within a soft cylinder about z; ``pixel_size`` in angstrom.

    `ValueError` if their shapes differ.
    """
    if first.ndim != 3 or first.shape != second.shape:
        raise ValueError(f"volumes of the same shape are needed, not {first.shape} and {second.shape}")
    mask = soft_cylinder(first.shape)
    shift = np.zeros(3)
    for _ in range(_PASSES):
        shift = shift + find_shift(moved(second, shift), first, mask)
    rigid = moved(second, shift)
    slices = np.zeros((len(first), 2))
    for _ in range(_PASSES):
        slices = slices + find_slice_shifts(moved_slices(rigid, slices), first, mask)
    each = moved_slices(rigid, slices)
    unmoved, whole, slicewise = (fsc(first, other, pixel_size, mask=mask) for other in (second, rigid, each))
    return RegisteredFsc(unmoved, whole, slicewise, shift, slices)


def soft_cylinder(shape: tuple[int, int, int], edge: float = _EDGE) -> Float32:
    """``(z, y, x)``: 1 in the largest cylinder about z, falling to 0 over its last ``edge`` pixels."""
    along, disc = cylinder_factors(shape, edge)
    return np.asarray(along[:, None, None] * disc, dtype=np.float32)


def cylinder_factors(shape: tuple[int, int, int], edge: float = _EDGE) -> tuple[Float64, Float64]:
    """``(z,)`` and ``(y, x)``, whose product is `soft_cylinder`: of large volumes it is made in parts."""
    sides = [np.abs(np.arange(n) - (n - 1) / 2) for n in shape]
    radius = np.hypot(sides[1][:, None], sides[2])
    return _falling(shape[0] / 2 - sides[0], edge), _falling(min(shape[1:]) / 2 - radius, edge)


def _falling(left: Float64, edge: float) -> Float64:
    """A cosine from 0, where nothing is left, to 1."""
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(left / edge, 0, 1)))


def find_shift(moving: RealArray, reference: RealArray, mask: RealArray) -> Float64:
    """The shift ``(3,)`` along x, y, z in pixels that lays one volume best over the other."""
    coarse = _Coarse.of(moving.shape)
    return coarse.peak(coarse.cross_spectrum(moving * mask, reference * mask))[::-1]


def find_slice_shifts(
    moving: RealArray, reference: RealArray, mask: RealArray, smooth_slices: float = _SMOOTH_SLICES
) -> Float64:
    """Shifts ``(z, 2)`` along x and y in pixels that lay each slice of one volume over that of the other.

    A slice is found together with those around it, weighted by a Gaussian of sigma ``smooth_slices``.
    """
    coarse = _Coarse.of(moving.shape[1:])
    slices = zip(moving, reference, mask, strict=True)
    spectrum = np.stack([coarse.cross_spectrum(one * part, other * part) for one, other, part in slices])
    if smooth_slices > 0:
        parts = [
            ndimage.gaussian_filter1d(part, smooth_slices, axis=0, mode="constant")
            for part in (spectrum.real, spectrum.imag)
        ]
        spectrum = parts[0] + 1j * parts[1]
    return np.array([coarse.peak(one)[::-1] for one in spectrum])


@dataclass(frozen=True)
class _Coarse:
    """The coarse frequencies of arrays of a shape, by which shifts are found.

    ``kept`` are the places of the frequencies along each axis, ``frequencies`` their cycles a pixel,
    ``weight`` how much each counts: the mean and what is fine say nothing.
    """

    shape: tuple[int, ...]
    kept: tuple[NDArray[np.int64], ...]
    frequencies: tuple[Float64, ...]
    weight: Float64

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> _Coarse:
        whole = [fft.fftfreq(n) for n in shape]
        kept = tuple(np.flatnonzero(np.abs(values) <= _FINEST) for values in whole)
        frequencies = tuple(values[part] for values, part in zip(whole, kept, strict=True))
        squared = sum(values**2 for values in np.meshgrid(*frequencies, indexing="ij"))
        weight = 0.5 ** (np.asarray(squared) / _COARSE**2)
        weight.flat[0] = 0.0
        return cls(shape, kept, frequencies, weight)

    def cross_spectrum(self, moving: RealArray, reference: RealArray) -> ComplexArray:
        """Of two arrays, at the frequencies that are kept, weighted."""
        here = np.ix_(*self.kept)
        return np.asarray(fft.fftn(reference)[here] * fft.fftn(moving)[here].conj() * self.weight)

    def peak(self, spectrum: ComplexArray) -> Float64:
        """Where the correlation of this transform is highest, in pixels along the axes of the array.

        From the highest of a coarse grid of places on by Newton's steps on the trigonometric sum; zero where
        there is nothing.
        """
        correlation = fft.ifftn(spectrum).real
        if not correlation.max() > 0:
            return np.zeros(spectrum.ndim)
        sizes = np.array(correlation.shape)
        for axis, n in enumerate(sizes):
            away = np.abs((np.arange(n) + n // 2) % n - n // 2)
            np.moveaxis(correlation, axis, 0)[away > _FARTHEST * n] = -np.inf
        start = np.array(np.unravel_index(int(correlation.argmax()), correlation.shape))
        step = np.array(self.shape) / sizes
        return self._refined(spectrum, ((start + sizes // 2) % sizes - sizes // 2) * step, step)

    def _refined(self, spectrum: ComplexArray, place: Float64, longest: Float64) -> Float64:
        grids = np.meshgrid(*self.frequencies, indexing="ij")
        turns = 2 * np.pi * np.stack([grid.ravel() for grid in grids])
        values = spectrum.ravel()
        for _ in range(_NEWTON_STEPS):
            wave = values * np.exp(1j * (place @ turns))
            slope = -(turns * wave.imag).sum(axis=1)
            bend = -(turns * wave.real) @ turns.T
            if np.linalg.eigvalsh(bend).max() >= 0:
                break  # no peak between these places
            step = -np.linalg.solve(bend, slope)
            if (np.abs(step) > longest).any():
                break
            place = place + step
            if np.abs(step).max() < _NEWTON_PIXELS:
                break
        return np.asarray(place, dtype=np.float64)


def moved(volume: RealArray, shift: Float64) -> RealArray:
    """A volume moved by ``(x, y, z)`` pixels, by the phases of its transform; its edge goes on outside."""
    return _moved(volume, shift[::-1])


def moved_slices(volume: RealArray, shifts: Float64) -> RealArray:
    """Slices each moved by their own ``(x, y)`` pixels; see `moved`."""
    if not np.any(shifts):
        return volume
    return np.stack([_moved(one, shift[::-1]) for one, shift in zip(volume, shifts, strict=True)])


def _moved(values: RealArray, shift: Float64) -> RealArray:
    """Along the axes of the array."""
    if not np.any(shift):
        return values
    margin = [int(np.ceil(abs(part))) + 4 for part in shift]
    wide = np.pad(values, [(part, part) for part in margin], mode="edge")
    spectrum = ndimage.fourier_shift(fft.rfftn(wide), shift, n=wide.shape[-1])
    back = fft.irfftn(spectrum, wide.shape)
    inner = tuple(slice(part, part + n) for part, n in zip(margin, values.shape, strict=True))
    return np.asarray(back[inner], dtype=values.dtype)
