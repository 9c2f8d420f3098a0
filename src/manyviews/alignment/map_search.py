"""Find how a map lies best over another, from nothing, on their Fourier transforms.

The search is exhaustive at low resolution, over a grid of all rotations, both hands, and all shifts at once
by FFT. The best candidates climb to the nearest maximum of the correlation, with more and more frequencies,
each shell weighted by how well the maps agree in it. Every shell of both transforms is scaled to the same
power, so that slow densities do not drown what tells rotations apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from manyviews.geometry.poses import angular_distance, rotations_from_vectors, uniform_rotations
from manyviews.operators.fourier_points import shells
from manyviews.operators.fourier_slice import volume_to_grid

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex64 = NDArray[np.complex64]

_PADDING = 2
_LARGEST_BOX = 96  # 47 shells fix a pose well enough
_ROTATIONS = 3000  # 17 degrees apart, so all are within 0.7 speckles at the radius of the search
_SHIFT_SAMPLES = 3  # per radius: a shift between two samples costs 10 % of the peak at most
_CHUNK = 64  # rotations at once
_KEPT = (24, 12, 8)  # candidates that climb at each radius, at most
_HOPEFUL = 0.8  # of the best score; nearly equal turns of a pseudo-symmetric particle are within 2 %
_DISTINCT_DEGREES = 10.0


@dataclass(frozen=True)
class Placement:
    """How a map may lie over another: ``moved(X) = moving(h R^T (X - t))``.

    ``score`` is the mean correlation of the shells that were compared, weighted; only good to compare
    placements. ``rotation`` is ``R``, 3x3, on (x, y, z), ``shift`` is ``t (3,)`` (x, y, z) in voxels;
    ``mirrored``: ``h = -1``, the other hand.
    """

    score: float
    rotation: Float64
    shift: Float64
    mirrored: bool


def find_placement(moving: Float32, reference: Float32, *, hands: bool = True) -> Placement:
    """The best place of all, of maps ``(D, D, D)`` that are zero around the particle, in either hand."""
    box = len(moving)
    last = (min(box, _LARGEST_BOX) - 1) // 2 - 1
    coarse = min(last, _coarse_radius(reference))
    radii = sorted({coarse, min(2 * coarse, last), last})
    turned = _Spectrum.of(moving, last)
    points = _half_ball(last)
    shell = shells(points)
    target = _target(reference, points)
    weights = np.arange(last + 2, dtype=np.float64)
    inside = shell <= coarse
    candidates = _all_rotations(turned, target[inside], points[inside], coarse, box, hands)
    for stage, radius in enumerate(radii):
        inside = shell <= radius
        comparison = _Comparison.of(turned, target[inside], points[inside], box, weights)
        climbed = [comparison.climb(candidate, radius) for candidate in candidates]
        best = _best(climbed, _KEPT[min(stage + 1, len(_KEPT) - 1)])
        candidates = [one for one in best if one.score >= _HOPEFUL * best[0].score]
        weights = _agreement(turned, target, points, box, candidates[0])
    final = _Comparison.of(turned, target, points, box, weights)
    return final.settle(candidates[0], last)


def _coarse_radius(reference: Float32) -> int:
    """Radius in shells of the first search: the speckles of a transform are as wide as its object is small.

    A ball of diameter d has speckles of about 1/d; five of them are looked at.
    """
    dense = np.maximum(reference - 2 * reference.std(), 0)
    box = len(reference)
    axis = (np.arange(box) - box // 2.0) ** 2
    marginals = (dense.sum(axis=tuple({0, 1, 2} - {k})) for k in range(3))
    gyration = np.sqrt(sum(float(marginal @ axis) for marginal in marginals) / max(float(dense.sum()), 1e-9))
    diameter = 2 * gyration / np.sqrt(0.6)
    return int(np.clip(round(5 * box / max(diameter, 1.0)), 6, 10))


@dataclass(frozen=True)
class _Spectrum:
    """A volume's transform around the origin, every shell scaled to the same power, for interpolation.

    ``values`` is ``(2h + 1)^3``, axes (z, y, x), index h is zero frequency; `_PADDING` samples a shell.
    """

    values: Complex64

    @classmethod
    def of(cls, volume: Float32, radius: int) -> _Spectrum:
        """At frequencies up to ``radius`` + 1 cycles per box."""
        half = volume_to_grid(torch.from_numpy(volume), radius + 1, _PADDING).numpy()
        positive = half[:, :, :-1]
        return cls(_flattened(np.concatenate([positive[::-1, ::-1, :0:-1].conj(), positive], axis=2)))

    def interpolate(self, points: NDArray[Any]) -> Complex64:
        """Values ``(...)`` at ``(..., 3)`` frequencies (x, y, z) in shells, trilinear."""
        return self._blend(points, slopes=False)[0]

    def interpolate_with_slopes(self, points: NDArray[Any]) -> tuple[Complex64, Complex64]:
        """The same and the derivatives ``(..., 3)`` to x, y, z per shell."""
        value, slope = self._blend(points, slopes=True)
        return value, slope

    def _blend(self, points: NDArray[Any], *, slopes: bool) -> tuple[Complex64, Complex64]:
        side = len(self.values)
        place = points.astype(np.float32) * np.float32(_PADDING) + np.float32(side // 2)
        corner = np.clip(place.astype(np.int32), 0, side - 2)
        part = np.moveaxis(place - corner, -1, 0)
        first = corner[..., 0] + side * (corner[..., 1] + side * corner[..., 2])
        flat = self.values.ravel()

        def row(step: int) -> tuple[Complex64, Complex64]:
            low, high = flat.take(first + step), flat.take(first + (step + 1))
            rise = high - low
            return low + part[0] * rise, rise

        (v00, x00), (v01, x01) = row(0), row(side)
        (v10, x10), (v11, x11) = row(side * side), row(side * side + side)
        near, far = v00 + part[1] * (v01 - v00), v10 + part[1] * (v11 - v10)
        value = near + part[2] * (far - near)
        if not slopes:
            return value, value
        y_slope = (v01 - v00) * (1 - part[2]) + (v11 - v10) * part[2]
        x_near, x_far = x00 + part[1] * (x01 - x00), x10 + part[1] * (x11 - x10)
        slope = np.stack([x_near + part[2] * (x_far - x_near), y_slope, far - near], axis=-1)
        return value, np.asarray(slope * np.float32(_PADDING), dtype=np.complex64)


def _flattened(values: Complex64) -> Complex64:
    """A transform with the same mean power in every shell."""
    reach = len(values) // 2
    axis = np.arange(-reach, reach + 1, dtype=np.float32) ** 2
    shell = np.sqrt(axis[:, None, None] + axis[:, None] + axis) / _PADDING
    number = np.rint(shell).astype(np.int64)
    power = np.bincount(number.ravel(), (values.real**2 + values.imag**2).ravel())
    mean = power / np.bincount(number.ravel())
    scale = np.sqrt(np.maximum(mean, 1e-12 * mean.max()))
    return np.asarray(values / np.interp(shell, np.arange(len(scale)), scale), dtype=np.complex64)


def _half_ball(radius: int) -> Float64:
    """Integer frequencies ``(n, 3)`` (x, y, z) in half of a ball, the origin left out."""
    axis = np.arange(-radius, radius + 1)
    z, y, x = (grid.ravel() for grid in np.meshgrid(axis, axis, axis[radius:], indexing="ij"))
    half = (x > 0) | (y > 0) | ((y == 0) & (z > 0))
    inside = half & (x**2 + y**2 + z**2 <= radius**2)
    return np.stack([x[inside], y[inside], z[inside]], axis=1).astype(np.float64)


def _phases(points: Float64, shift: Float64, box: int) -> Complex64:
    """``exp(-2 pi i k t / box)``."""
    angle = (points @ (-2 * np.pi / box * shift)).astype(np.float32)
    phases = np.empty(len(points), dtype=np.complex64)
    phases.real, phases.imag = np.cos(angle), np.sin(angle)
    return phases


def _target(reference: Float32, points: Float64) -> Complex64:
    """The reference's transform at points of `_half_ball`, every shell scaled to the same power."""
    box, shell = len(reference), shells(points)
    x, y, z = points.astype(np.intp).T
    values = fft.rfftn(fft.ifftshift(reference))[z % box, y % box, x]
    power = np.bincount(shell, np.abs(values) ** 2) / np.maximum(np.bincount(shell), 1)
    scale = np.sqrt(np.maximum(power, 1e-12 * power.max()))
    return np.asarray(values / scale[shell], dtype=np.complex64)


def _all_rotations(
    turned: _Spectrum, target: Complex64, points: Float64, radius: int, box: int, hands: bool
) -> list[Placement]:
    """The best shift of every rotation of a grid, and of them the best that differ."""
    rotations = uniform_rotations(_ROTATIONS)
    size = fft.next_fast_len(_SHIFT_SAMPLES * radius, real=True)
    weighted = (target.conj() * np.sqrt((points**2).sum(axis=1)) ** -1).astype(np.complex64)
    x, y, z = points.astype(np.intp).T
    found: list[Placement] = []
    for start in range(0, len(rotations), _CHUNK):
        chunk = rotations[start : start + _CHUNK]
        samples = turned.interpolate(points.astype(np.float32) @ chunk.astype(np.float32))
        for mirrored in (False, True)[: 1 + hands]:
            cross = np.zeros((len(chunk), size, size, size // 2 + 1), dtype=np.complex64)
            cross[:, z, y, x] = (samples if not mirrored else samples.conj()) * weighted
            plane = x == 0  # both halves of the plane x = 0 are kept in a half-spectrum
            cross[:, -z[plane], -y[plane], 0] = cross[:, z[plane], y[plane], 0].conj()
            peaks = fft.irfftn(cross, (size,) * 3, axes=(1, 2, 3)).reshape(len(chunk), -1)
            best = peaks.argmax(axis=1)
            places = np.stack(np.unravel_index(best, (size,) * 3)[::-1], axis=1)
            # sum_k c_k exp(+2 pi i k s / N) peaks at s; the model below has exp(-2 pi i k t / box).
            shifts = -((places + size // 2) % size - size // 2) * (box / size)
            found += [
                Placement(float(peaks[n, best[n]]), chunk[n], shifts[n], mirrored) for n in range(len(chunk))
            ]
    return _best(found, _KEPT[0])


def _best(candidates: list[Placement], count: int) -> list[Placement]:
    """The best so many that are not nearly the same, best first."""
    chosen: list[Placement] = []
    for candidate in sorted(candidates, key=lambda one: -one.score):
        same = [one.rotation for one in chosen if one.mirrored == candidate.mirrored]
        if not same or angular_distance(np.array(same), candidate.rotation).min() > _DISTINCT_DEGREES:
            chosen.append(candidate)
        if len(chosen) == count:
            break
    return chosen


@dataclass(frozen=True)
class _Comparison:
    """The weighted correlation of a moved spectrum with a target, and its slopes.

    ``sum_k w_k Re(conj(G_k) F(R^T k) exp(-2 pi i k t / box))``, F conjugated for the other hand.
    """

    turned: _Spectrum
    weighted: Complex64
    points: Float64
    box: int

    @classmethod
    def of(
        cls, turned: _Spectrum, target: Complex64, points: Float64, box: int, shell_weights: Float64
    ) -> _Comparison:
        """With a weight for every shell, shared out over its points."""
        shell = shells(points)
        share = shell_weights[shell] / np.bincount(shell)[shell]
        share /= share.sum()
        return cls(turned, (target.conj() * share).astype(np.complex64), points, box)

    def score(self, candidate: Placement) -> tuple[float, Float64, Float64]:
        """Value, slope ``(3,)`` to a further small rotation (radians), slope ``(3,)`` to the shift."""
        seen = self.points @ candidate.rotation
        value, slope = self.turned.interpolate_with_slopes(seen)
        if candidate.mirrored:
            value, slope = value.conj(), slope.conj()
        factor = self.weighted * _phases(self.points, candidate.shift, self.box)
        product = factor * value
        pull = (factor[:, None] * slope).real.astype(np.float64)
        moments = self.points.T @ pull @ candidate.rotation.T  # sum of k_a (R pull)_b
        turn_slope = -np.array([moments[i, j] - moments[j, i] for i, j in ((1, 2), (2, 0), (0, 1))])
        shift_slope = 2 * np.pi / self.box * (product.imag.astype(np.float64) @ self.points)
        return float(product.real.sum(dtype=np.float64)), turn_slope, shift_slope

    def climb(self, start: Placement, radius: int) -> Placement:
        """The maximum nearest to a candidate."""
        angle_unit, shift_unit = 1 / radius, self.box / (2 * np.pi * radius)

        def place(parameters: Float64) -> Placement:
            turn = rotations_from_vectors(parameters[:3] * angle_unit)
            shift = start.shift + parameters[3:] * shift_unit
            return Placement(0.0, turn @ start.rotation, shift, start.mirrored)

        def loss(parameters: Float64) -> tuple[float, Float64]:
            value, turn_slope, shift_slope = self.score(place(parameters))
            along = _left_jacobian(parameters[:3] * angle_unit).T @ turn_slope
            return -value, -np.concatenate([along * angle_unit, shift_slope * shift_unit])

        best = _minimise(loss, 6)
        end = place(best)
        return Placement(-loss(best)[0], end.rotation, end.shift, end.mirrored)

    def settle(self, start: Placement, radius: int) -> Placement:
        """The best shift at a placement's rotation.

        Where the grids of both maps fall on each other the score has a cusp in the rotation, from
        interpolation, at which `climb` may stop before the shift is done.
        """
        shift_unit = self.box / (2 * np.pi * radius)

        def loss(parameters: Float64) -> tuple[float, Float64]:
            shift = start.shift + parameters * shift_unit
            value, _, slope = self.score(Placement(0.0, start.rotation, shift, start.mirrored))
            return -value, -slope * shift_unit

        best = _minimise(loss, 3)
        return Placement(-loss(best)[0], start.rotation, start.shift + best * shift_unit, start.mirrored)


def _minimise(loss: Callable[[Float64], tuple[float, Float64]], count: int) -> Float64:
    """Of ``count`` parameters, from zero."""
    from scipy import optimize  # takes long to import, and many who import this search nothing

    result = optimize.minimize(
        loss, np.zeros(count), jac=True, method="L-BFGS-B", options={"maxiter": 30, "ftol": 1e-7}
    )
    return np.asarray(result.x, dtype=np.float64)


def _left_jacobian(vector: Float64) -> Float64:
    """J with ``exp(v + d) = exp(J d) exp(v)`` for small d (Chirikjian 2011, 10.86)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-6:
        return np.eye(3) + cross / 2
    first, second = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.asarray(np.eye(3) + first * cross + second * cross @ cross, dtype=np.float64)


def _agreement(
    turned: _Spectrum, target: Complex64, points: Float64, box: int, candidate: Placement
) -> Float64:
    """Weight of every shell for the next climb: its number times its correlation as the maps lie now.

    Three shells are averaged, so that no single shell of noise counts; where nothing agrees, nothing pulls.
    """
    value = turned.interpolate(points @ candidate.rotation)
    value = value.conj() if candidate.mirrored else value
    phase = _phases(points, candidate.shift, box)
    shell = shells(points)
    size = int(shell.max()) + 2
    cross = np.bincount(shell, (value * phase * target.conj()).real, size)
    power = np.bincount(shell, np.abs(value) ** 2, size) * np.bincount(shell, np.abs(target) ** 2, size)
    correlation = cross / np.sqrt(np.maximum(power, 1e-30))
    smooth = np.convolve(correlation, np.ones(3) / 3, mode="same")
    return np.asarray(np.arange(size) * np.clip(smooth, 1e-3, 1.0), dtype=np.float64)
