"""Fourier shell correlation of two volumes, and the resolution where it falls below a threshold."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from manyviews.errors import InputError
from manyviews.io.tables import read_numbers, read_table, require_ordinary, write_table
from manyviews.metrics.half_bit import half_bit, one_bit

Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]

_HIGHEST = 1e3  # 1/angstrom
_MOST_SAMPLES = 1e15
_LARGEST = 1.01  # correlation, with what rounding does to it


@dataclass(frozen=True)
class FscCurve:
    """A Fourier shell correlation.

    Attributes
    ----------
    frequency
        ``(shell,)`` 1/angstrom, middle of each shell, from 0 to the Nyquist frequency.
    correlation
        ``(shell,)`` between -1 and 1; 0 where either volume has no power.
    samples
        ``(shell,)`` independent complex samples in the shell (a sample and its Friedel mate count once); NaN
        where a file did not tell.
    pixel_size
        Angstrom.
    """

    frequency: Float64
    correlation: Float64
    samples: Float64
    pixel_size: float

    def resolution(self, threshold: float | Float64) -> float:
        """Where the curve falls below a threshold, in angstrom, by linear interpolation in frequency.

        It is the end of the longest run of shells above the threshold, without shell 0, the mean: slow
        backgrounds and the coarse first shells of a slab, half of them in its missing cones, often disagree
        where details do not, and a lone shell of noise may agree by chance. A curve that never falls gives
        the Nyquist limit, two pixels; one that is never above gives infinity. The threshold is a number, or
        one for each shell such as `half_bit`.
        """
        level = np.broadcast_to(np.asarray(threshold, dtype=np.float64), self.correlation.shape)
        margin = self.correlation - level
        margin[0] = -1.0
        if not np.any(margin >= 0):
            return math.inf
        edges = np.flatnonzero(np.diff(np.concatenate([[False], margin >= 0, [False]]).astype(np.int8)))
        starts, ends = edges[::2], edges[1::2]
        return self._fall(margin, int(ends[np.argmax(ends - starts)]))

    def first_crossing(self, threshold: float) -> float:
        """Where the curve falls below a threshold for the first time, in angstrom; shell 0 does not count.

        Nyquist's limit, two pixels, if it never does, and infinity if shell 1 is below. As RELION has it, but
        that it takes the last shell above, and here frequencies are interpolated.
        """
        margin = self.correlation[1:] - threshold
        if not len(margin) or margin[0] < 0:
            return math.inf
        below = np.flatnonzero(margin < 0)
        return self._fall(np.append(0.0, margin), int(below[0]) + 1 if len(below) else len(margin) + 1)

    def last_crossing(self, threshold: float) -> float:
        """Where the curve falls below a threshold for the last time, in angstrom; see `first_crossing`.

        It is finer than the first one where the curve dips and rises again.
        """
        margin = self.correlation - threshold
        above = np.flatnonzero(margin[1:] >= 0)
        return self._fall(margin, int(above[-1]) + 2) if len(above) else math.inf

    def _fall(self, margin: Float64, shell: int) -> float:
        """Angstrom, between the shell before this one, above, and this one, below; Nyquist's if none is."""
        if shell == len(margin):
            return 2 * self.pixel_size
        part = margin[shell - 1] / (margin[shell - 1] - margin[shell])
        crossing = self.frequency[shell - 1] + part * (self.frequency[shell] - self.frequency[shell - 1])
        return float(1 / crossing)

    def write_csv(self, path: Path, *, samples: bool = False, overwrite: bool = False) -> None:
        """Write ``frequency_per_angstrom,fsc``, with ``half_bit`` and ``samples`` too if asked for.

        `InputError` if the file cannot be written, or is there and must not be overwritten.
        """
        columns = [[f"{f:.8g}" for f in self.frequency], [f"{c:.6f}" for c in self.correlation]]
        if samples:
            columns += [[f"{h:.6f}" for h in self.half_bit()], [f"{n:.0f}" for n in self.samples]]
        names = ("frequency_per_angstrom", "fsc", "half_bit", "samples")[: len(columns)]
        write_table(path, names, zip(*columns, strict=True), overwrite=overwrite)

    @classmethod
    def read_csv(cls, path: Path) -> FscCurve | None:
        """A curve that was written, None if there is no such file; the last shell is taken for Nyquist's.

        `InputError` if it cannot be read.
        """
        table = read_numbers(path, ("frequency_per_angstrom", "fsc"))
        if not len(table):
            return None
        require_ordinary(table[:, :1], path, least=0.0, most=_HIGHEST)
        require_ordinary(np.nan_to_num(table[:, 1:], nan=0.0), path, least=-_LARGEST, most=_LARGEST)
        frequency, correlation = table.T
        if not frequency[-1] > 0 or (np.diff(frequency) < 0).any():
            raise InputError("the frequencies do not rise", path=path)
        samples = np.full(len(table), math.nan)
        if "samples" in read_table(path, ())[0]:
            samples = read_numbers(path, ("samples",))[:, 0]
            require_ordinary(samples[:, None], path, least=0.0, most=_MOST_SAMPLES)
        return cls(frequency, correlation, samples, 0.5 / float(frequency[-1]))

    def half_bit(self) -> Float64:
        """The half-bit threshold of every shell, ``(shell,)``; see `manyviews.metrics.half_bit`."""
        return half_bit(self.samples)

    def one_bit(self) -> Float64:
        """The one-bit threshold of every shell, ``(shell,)``."""
        return one_bit(self.samples)


def fsc(
    a: RealArray,
    b: RealArray,
    pixel_size: float,
    *,
    mask: RealArray | None = None,
    threads: int = 0,
) -> FscCurve:
    """Fourier shell correlation of two volumes of the same shape, cubic or not.

    Shells are shells in physical frequency, one reciprocal length of the longest axis wide, from zero to the
    Nyquist frequency; the corners beyond it are left out. A slab puts few planes of samples along its short
    axis into them, but every sample in the shell of its own frequency. Memory: the two transforms and one
    masked copy, three times one float32 volume, and the work space of one transform.

    Parameters
    ----------
    a, b
        ``(z, y, x)``.
    pixel_size
        Angstrom.
    mask
        ``(z, y, x)`` from 0 to 1 with soft edges, multiplied into both; its hard edges would correlate.
    threads
        Threads of the transforms; 0 is all cores.

    Raises
    ------
    ValueError
        If the shapes differ or are not three-dimensional.
    """
    if a.ndim != 3 or a.shape != b.shape or (mask is not None and mask.shape != a.shape):
        raise ValueError(f"fsc needs volumes of the same shape, got {a.shape} and {b.shape}")
    one, other = (transform(volume, mask=mask, threads=threads) for volume in (a, b))
    return fsc_of_transforms(one, other, a.shape, pixel_size)


def agreed_radius(correlation: Sequence[float], *, asked_from: int = 1) -> int:
    """The last shell before the halves' correlation falls below 0.143; from shell ``asked_from`` on."""
    for shell, value in enumerate(correlation):
        if shell >= asked_from and value < 0.143:
            return shell - 1
    return max(0, len(correlation) - 1)


def transform(volume: RealArray, *, mask: RealArray | None = None, threads: int = 0) -> NDArray[Any]:
    """Half-spectrum ``(z, y, x // 2 + 1)`` of a volume times a mask, complex64 for float32; see `fsc`."""
    masked = volume if mask is None else volume * mask.astype(volume.dtype, copy=False)
    return np.asarray(fft.rfftn(masked, workers=threads or os.cpu_count() or 1))


def fsc_of_transforms(
    a: NDArray[Any],
    b: NDArray[Any],
    shape: tuple[int, ...],
    pixel_size: float,
    *,
    weights: NDArray[Any] | None = None,
) -> FscCurve:
    """`fsc` of half-spectra of volumes of some shape, and of a part of all frequencies.

    ``weights`` from 0 on, of the shape of the half-spectra, say how much each sample counts; samples that do
    not count alike are told as the number of equal ones that scatter as much, ``(sum w)^2 / sum w^2``.
    """
    shell_count = max(shape) // 2 + 1
    cross, power_a, power_b, samples, squares = np.zeros((5, shell_count))
    mates = _friedel_weights(shape[2])
    for plane, shells in enumerate(shell_planes(shape)):
        fa, fb = a[plane].ravel(), b[plane].ravel()
        inside = shells < shell_count
        chosen = shells[inside]
        count = np.broadcast_to(mates, a.shape[1:]).ravel()[inside]
        weight = count if weights is None else count * weights[plane].ravel()[inside]
        fa, fb = fa[inside], fb[inside]
        cross += np.bincount(chosen, weight * (fa * fb.conj()).real, shell_count)
        power_a += np.bincount(chosen, weight * np.abs(fa).astype(np.float64) ** 2, shell_count)
        power_b += np.bincount(chosen, weight * np.abs(fb).astype(np.float64) ** 2, shell_count)
        samples += np.bincount(chosen, weight, shell_count)
        if weights is not None:
            squares += np.bincount(chosen, weight**2 / count, shell_count)
    norm = np.sqrt(power_a) * np.sqrt(power_b)
    correlation = np.divide(cross, norm, out=np.zeros(shell_count), where=norm > 0)
    frequency = np.arange(shell_count) / (max(shape) * pixel_size)
    if weights is not None:
        samples = np.divide(samples**2, squares, out=np.zeros(shell_count), where=squares > 0)
    return FscCurve(frequency, correlation, samples / 2, pixel_size)


def _friedel_weights(columns: int) -> Float64:
    """How many samples of the whole spectrum each column of the half-spectrum stands for."""
    weights = np.full(columns // 2 + 1, 2.0)
    weights[0] = 1.0
    if columns % 2 == 0:
        weights[-1] = 1.0
    return weights


def shell_planes(shape: tuple[int, ...]) -> Iterator[NDArray[np.int64]]:
    """For every z plane of the half-spectrum the shell of each sample, flat.

    Radii half-way between two shells go to the outer one; rounding errors must not decide that.
    """
    longest = max(shape)
    fz, fy = (fft.fftfreq(n) * longest for n in shape[:2])
    fx = fft.rfftfreq(shape[2]) * longest
    in_plane = fy[:, None] ** 2 + fx**2
    for z in fz:
        yield np.floor(np.sqrt(in_plane + z**2) + (0.5 + 1e-9)).astype(np.int64).ravel()
