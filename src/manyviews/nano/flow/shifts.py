"""Whole images: shift and, if wanted, in-plane rotation. Coarse by phase correlation, fine by
Gauss-Newton.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from manyviews.kernels.flow_rigid_cpu import rigid_flow, rigid_steps
from manyviews.kernels.warp_fit_cpu import misfits
from manyviews.nano.room import blocks
from manyviews.parallel.threads import each_in_threads

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_SMOOTH_CYCLES = 0.15  # of a pixel: beyond, the correlation is damped
_TAPER = 0.125


@dataclass(frozen=True)
class Shifts:
    """The flow of each view is a shift, or a shift and a rotation; the window does not matter.

    A rotation that all views share is a tilt of the rotation axis in the plane of the detector.
    """

    rotation: bool = False
    steps: int = 8

    def find(self, data: Float32, model: Float32, flow: Float32, window: float) -> Float32:
        """See `FlowEngine`."""
        motion = self.motions(data, model, rigid_part(flow) if self.rotation else mean_shift(flow))
        return rigid_flow(motion, *data.shape[1:])

    def motions(self, data: Float32, model: Float32, start: Float64 | None = None) -> Float64:
        """``(n, 3)`` along x, along z in pixels, rotation in radians; from ``start``, or else from
        nothing.
        """
        begin = coarse_shifts(data, model) if start is None else start
        return rigid_steps(data, model, begin, rotation=self.rotation, steps=self.steps)


def mean_shift(flow: Float32) -> Float64:
    """``(n, 3)`` the mean motion of flows, without rotation."""
    mean = flow.mean(axis=(2, 3), dtype=np.float64)
    return np.concatenate([mean, np.zeros((len(flow), 1))], axis=1)


def rigid_part(flow: Float32) -> Float64:
    """``(n, 3)`` the shift and the small rotation that are nearest to flows."""
    motion = mean_shift(flow)
    rows, columns = flow.shape[2:]
    across, down = np.arange(columns) - 0.5 * (columns - 1), np.arange(rows) - 0.5 * (rows - 1)
    turned = flow[:, 1].mean(axis=1, dtype=np.float64) @ across * rows
    turned -= flow[:, 0].mean(axis=2, dtype=np.float64) @ down * columns
    size = rows * (across @ across) + columns * (down @ down)
    motion[:, 2] = turned / max(size, 1e-30)
    return motion


def coarse_shifts(data: Float32, model: Float32) -> Float64:
    """``(n, 3)`` shifts by phase correlation, without rotation: how far the model must be read to be the
    data.

    The better of the peak and of no shift at all, by the misfit: a correlation of noise has a peak as well.
    """
    found = np.zeros((len(data), 3))
    window = _taper(data.shape[1])[:, None] * _taper(data.shape[2])

    def measure(n: int) -> None:
        found[n, :2] = _peak(data[n], model[n], window)

    each_in_threads(measure, len(data))
    there, here = (rigid_misfits(data, model, motion, order=1) for motion in (found, 0 * found))
    found[there > here] = 0
    return found


def rigid_misfits(data: Float32, model: Float32, motions: Float64, order: int = 3) -> Float64:
    """``(n,)`` sums of squares of what models, moved by ``motions (n, 3)``, differ from the data by."""
    found = np.empty(len(data))
    for part in blocks(len(data), 2 * data[0].size):
        flow = rigid_flow(motions[part], *data.shape[1:])
        found[part] = misfits(data[part], model[part], flow, order=order)
    return found


def _taper(length: int) -> Float32:
    """One inside, falling to nought as a cosine over an eighth at each end."""
    end = max(1, int(_TAPER * length))
    edge = 0.5 - 0.5 * np.cos(np.pi * (np.arange(end) + 0.5) / end)
    taper = np.ones(length, np.float32)
    taper[:end], taper[length - end :] = edge, edge[::-1]
    return taper


def _peak(data: Float32, model: Float32, window: Float32) -> tuple[float, float]:
    """Where the damped phase correlation is highest, between pixels by a parabola."""
    rows, columns = data.shape
    spectra = [scipy.fft.rfft2((image - image.mean()) * window) for image in (data, model)]
    cross = np.conj(spectra[0]) * spectra[1]
    size = np.abs(cross)
    frequency = np.hypot(scipy.fft.fftfreq(rows)[:, None], scipy.fft.rfftfreq(columns))
    damped = np.exp(-0.5 * (frequency / _SMOOTH_CYCLES) ** 2)
    # a floor under the amplitude keeps what is only noise from counting as much as the image
    whitened = cross * damped / np.sqrt(size * (size + 1e-2 * size.max() + 1e-30) + 1e-30)
    correlation = scipy.fft.irfft2(whitened, s=(rows, columns))
    z, x = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    along_z = _between(correlation[(z + np.arange(-1, 2)) % rows, x])
    along_x = _between(correlation[z, (x + np.arange(-1, 2)) % columns])
    wrapped_x = (x + columns // 2) % columns - columns // 2
    wrapped_z = (z + rows // 2) % rows - rows // 2
    return float(wrapped_x + along_x), float(wrapped_z + along_z)


def _between(three: Float64) -> float:
    """Where a parabola through three values is highest, from -1/2 to 1/2."""
    bend = float(three[0] - 2 * three[1] + three[2])
    return float(np.clip(0.5 * (three[0] - three[2]) / bend, -0.5, 0.5)) if bend < 0 else 0.0
