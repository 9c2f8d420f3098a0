"""How stiff a motion is, and nearly the inverse of what the misfit says of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.motion.basis import MotionBasis
from manyviews.nano.motion.moving_radon import Linearised
from manyviews.random import Stream, generator

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_STAYING = 1e-2  # share of knots that are held where they are, beside their bending
_POOLED = 2  # voxels an axis over which products of slopes are summed


def bending_matrix(knots: tuple[int, int, int]) -> Float64:
    """``(k, k)`` the squares of all second differences of knots, and a little of themselves."""
    still = [np.eye(count) for count in knots]
    once, twice = (
        [np.diff(np.eye(count), order, axis=0) for count in knots] for order in (1, 2)
    )  # rows of differences
    first, second = ([part.T @ part for part in parts] for parts in (once, twice))
    total = _STAYING * np.eye(int(np.prod(knots)))
    for a in range(3):
        for b in range(a, 3):
            parts = [second[i] if i == a == b else first[i] if i in (a, b) else still[i] for i in range(3)]
            total += (1.0 if a == b else 2.0) * np.kron(np.kron(parts[0], parts[1]), parts[2])
    return np.asarray(total)


def slope_products(slopes: Float32) -> Float64:
    """``(6, z, y, x)``: products zz, zy, zx, yy, yx, xx of slopes, summed over pools of voxels."""
    return np.stack([_pooled(slopes[a] * slopes[b]) for a in range(3) for b in range(a, 3)])


def normal_matrix(products: Float64, basis: MotionBasis) -> Float64:
    """``(3k, 3k)``: sums over voxels of `slope_products` times two splines."""
    shape = products.shape[1:]
    along = [
        part.values[: side * _POOLED].reshape(side, _POOLED, -1).mean(axis=1)
        for part, side in zip(basis.along, shape, strict=True)
    ]
    splines = np.einsum("za,yb,xc->zyxabc", *along, optimize=True).reshape(int(np.prod(shape)), -1)
    splines /= basis.voxel
    count = splines.shape[1]
    found = np.zeros((3, count, 3, count))
    pairs = [(a, b) for a in range(3) for b in range(a, 3)]
    for (a, b), product in zip(pairs, products, strict=True):
        found[a, :, b] = splines.T @ (product.reshape(-1, 1) * splines)
        found[b, :, a] = found[a, :, b].T
    return found.reshape(3 * count, 3 * count)


def _pooled(values: Float32) -> Float64:
    z, y, x = (side // _POOLED for side in values.shape)
    cut = values[: z * _POOLED, : y * _POOLED, : x * _POOLED]
    return np.asarray(cut.reshape(z, _POOLED, y, _POOLED, x, _POOLED).sum(axis=(1, 3, 5), dtype=np.float64))


@dataclass(frozen=True)
class Stiffness:
    """The penalty of a motion and the preconditioner that goes with it.

    ``penalty (m, 3k, 3k)`` and ``inverse (m, 3k, 3k)``, one of each function of time.
    """

    penalty: Float64
    inverse: Float64

    @classmethod
    def of(cls, linear: Linearised, weight: float, bending: float) -> Stiffness:
        """At some volume and motion.

        ``weight`` multiplies the squares of the misfit. ``bending`` is a part of the mean that the misfit
        says of a knot; functions of time that vary faster count more, by the square of their number.
        """
        moving = linear.moving
        own = [len(moving.groups[i]) * slope_products(slopes) for i, slopes in linear.slopes.items()]
        shape = (6, *(side // _POOLED for side in moving.domain))
        products = moving.total(np.asarray(sum(own, start=np.zeros(shape))))
        mean = normal_matrix(products / sum(map(len, moving.groups)), moving.basis)
        scale = _seen(linear, mean, weight)
        bent = np.kron(np.eye(3), bending_matrix(moving.basis.knots))
        each = bending * scale * np.trace(mean) / np.trace(bent)
        faster = (1.0 + np.arange(moving.times.shape[1])) ** 2
        penalty = (each * faster)[:, None, None] * bent
        return cls(penalty, np.linalg.inv(scale * mean + penalty))

    def bend(self, knots: Float64) -> Float64:
        """Half the gradient of the penalty, like ``knots``."""
        return _times(self.penalty, knots)

    def precondition(self, knots: Float64) -> Float64:
        """Nearly the inverse of what misfit and penalty say."""
        return _times(self.inverse, knots)


def _times(matrices: Float64, knots: Float64) -> Float64:
    flat = knots.reshape(len(knots), -1, 1)
    return np.asarray((matrices @ flat).reshape(knots.shape))


def _seen(linear: Linearised, mean: Float64, weight: float) -> float:
    """By how much projections see a motion drawn at random, as a factor of ``mean``."""
    shape = linear.moving.motion_shape
    drawn = generator(0, Stream.EIGENVALUE).standard_normal(shape)
    images = linear.forward(None, drawn).astype(np.float64)
    flat = drawn.reshape(shape[0], -1)
    expected = np.einsum("mi,ij,mj", flat, mean, flat, optimize=True)
    seen = weight * float(np.vdot(images, images))
    return seen / float(expected) if expected > 0.0 and seen > 0.0 else 1.0
