"""How far a specimen moves in space: its displacement in a view, and figures of it over all views."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.motion.basis import MotionBasis, Splines

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_SAMPLES = 32  # along an axis


def basis_of(knots: Float64, shape: tuple[int, int, int]) -> MotionBasis:
    """Splines of ``knots (m, 3, kz, ky, kx)`` at the voxels of a volume of any size over the detector.

    Displacements are in pixels of the detector, whatever the voxels.
    """
    cells = knots.shape[2] - 3, knots.shape[4] - 3
    return MotionBasis.over(shape, (shape[0], shape[2]), cells, 1)


def displacement_at(knots: Float64, functions: Float64, shape: tuple[int, int, int]) -> Float32:
    """``(3, z, y, x)`` along z, y, x in pixels of the detector, where time has ``functions (m,)``.

    A voxel of the specimen in that view is that of the volume so much further.
    """
    return basis_of(knots, shape).expand(np.tensordot(functions, knots, axes=1))


@dataclass(frozen=True)
class ViewMotion:
    """Of each view, over what is in the specimen: the mean displacement ``(view, 3)`` along z, y and x, its
    rms length ``(view,)`` and the ``longest (view,)``, all in pixels.
    """

    mean: Float64
    rms: Float64
    longest: Float64

    def seen(self, theta_degrees: Float64) -> Float64:
        """``(view, 2)`` the mean along x and z of the detector."""
        theta = np.radians(theta_degrees)
        z, y, x = self.mean.T
        return np.stack([x * np.cos(theta) + y * np.sin(theta), z], axis=1)


def view_motion(knots: Float64, functions: Float64, volume: Float32) -> ViewMotion:
    """At some voxels of a volume, each as much as its squared grey level; the longest of those that count."""
    steps = [max(1, side // _SAMPLES) for side in volume.shape]
    whole = basis_of(knots, _shape(volume))
    along = [_every(part, step) for part, step in zip(whole.along, steps, strict=True)]
    basis = replace(whole, along=(along[0], along[1], along[2]))
    places = tuple(slice(step // 2, None, step) for step in steps)
    weights = volume[places].astype(np.float64) ** 2
    total = max(float(weights.sum()), np.finfo(float).tiny)
    counts = weights > weights.mean()
    mean, rms, longest = (np.zeros((len(functions), *shape)) for shape in ((3,), (), ()))
    for view, at in enumerate(functions):
        field = basis.expand(np.tensordot(at, knots, axes=1)).astype(np.float64)
        squares = np.sum(field**2, axis=0)
        mean[view] = np.einsum("azyx,zyx->a", field, weights) / total
        rms[view] = np.sqrt(np.vdot(squares, weights) / total)
        longest[view] = np.sqrt(squares[counts].max(initial=0.0))
    return ViewMotion(mean, rms, longest)


def _every(part: Splines, step: int) -> Splines:
    first = step // 2
    return Splines(part.values[first::step], part.slopes[first::step])


def _shape(volume: Float32) -> tuple[int, int, int]:
    depth, rows, columns = volume.shape
    return depth, rows, columns
