"""Turn a map so that its symmetry axes lie where the point group has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from manyviews.alignment.map_alignment import move_map
from manyviews.geometry.poses import rotations_from_vectors, uniform_rotations
from manyviews.random import Stream, generator

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_TRIED = 6000  # rotations, 13 degrees apart
_AT_ONCE = 200
_REFINED = 5
_MOST_OPERATIONS = 4  # of the group, that are compared
_MOST_POINTS = 1000


@dataclass(frozen=True)
class AxesFound:
    """A map ``(D, D, D)``, float32, its axes as the group has them and its centre of mass in the middle.

    ``correlation`` is the mean correlation with itself after the operations of the group; 1 is perfect
    symmetry. ``rotation`` is how it was turned: what was at X is at ``rotation @ X``.
    """

    volume: Float32
    correlation: float
    rotation: Float64


def lay_on_axes(volume: Float32, group: Float64, seed: int = 0) -> AxesFound:
    """Find the axes of a map that is symmetric, nearly, and turn it onto those of a point group.

    Every axis of a point group passes through the centre of mass, so that is moved to the middle first. Then
    rotations R all over SO(3) are tried for the best mean correlation of ``V(x)`` with ``V(R'SR x)`` over the
    operations S, and the best few are refined. The map ``(D, D, D)`` is not negative, of low resolution: some
    20 to 60 voxels a side. ``group (n, 3, 3)`` has the identity; ``seed`` is of the choice of voxels and
    operations that are compared.
    """
    box = len(volume)
    density = np.maximum(np.asarray(volume, np.float64), 0)
    middle = np.array(ndimage.center_of_mass(density))[::-1] - box // 2
    centred = move_map(volume, np.eye(3), -middle)
    smooth = ndimage.gaussian_filter(centred.astype(np.float64), 0.7)
    rng = generator(seed, Stream.SYMMETRY_AXES)
    compared = _Compared(smooth, _points(box, rng), _operations(group, rng))
    tried = uniform_rotations(_TRIED)
    parts = [compared.correlation(tried[i : i + _AT_ONCE]) for i in range(0, _TRIED, _AT_ONCE)]
    best = np.argsort(-np.concatenate(parts))[:_REFINED]
    rotation, correlation = max((_refined(compared, tried[i]) for i in best), key=lambda found: found[1])
    return AxesFound(move_map(centred, rotation, np.zeros(3)), correlation, rotation)


def _operations(group: Float64, rng: np.random.Generator) -> Float64:
    """Some operations other than the identity."""
    others = group[np.abs(group - np.eye(3)).max(axis=(1, 2)) > 1e-6]
    if len(others) <= _MOST_OPERATIONS:
        return np.asarray(others)
    return np.asarray(others[rng.permutation(len(others))[:_MOST_OPERATIONS]])


def _points(box: int, rng: np.random.Generator) -> Float64:
    """``(P, 3)`` (x, y, z) voxels around the centre, in a ball that turns within the box."""
    along = np.arange(box) - box // 2
    grid = np.stack(np.meshgrid(along, along, along, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = grid[np.linalg.norm(grid, axis=1) < 0.42 * box]
    return np.asarray(inside[rng.permutation(len(inside))[:_MOST_POINTS]], dtype=np.float64)


class _Compared:
    """A map compared with itself under the operations of a group that was turned."""

    def __init__(self, volume: Float64, points: Float64, operations: Float64) -> None:
        self.volume = volume
        self.points = points
        self.operations = operations
        self.here = self._read(points[None])[0]

    def _read(self, places: Float64) -> Float64:
        """Mean-free, normalised values ``(n, P)`` at places ``(n, P, 3)`` from the centre."""
        index = np.moveaxis(places[..., ::-1] + len(self.volume) // 2, -1, 0)
        values = ndimage.map_coordinates(self.volume, index, order=1, mode="constant")
        values -= values.mean(axis=-1, keepdims=True)
        norm = np.linalg.norm(values, axis=-1, keepdims=True)
        return np.asarray(values / np.maximum(norm, 1e-30))

    def correlation(self, rotations: Float64) -> Float64:
        """``(n,)`` for rotations ``(n, 3, 3)``."""
        total = np.zeros(len(rotations))
        for operation in self.operations:
            turned = np.einsum("nji,jk,nkl->nil", rotations, operation, rotations)
            total += self._read(np.einsum("nij,pj->npi", turned, self.points)) @ self.here
        return total / len(self.operations)


def _refined(compared: _Compared, rotation: Float64) -> tuple[Float64, float]:
    """A rotation near a given one with the best correlation, and that."""

    def loss(vector: Any) -> float:
        return -float(compared.correlation((rotations_from_vectors(vector) @ rotation)[None])[0])

    start: Any = np.concatenate([np.zeros((1, 3)), 0.15 * np.eye(3)])
    options: Any = {"initial_simplex": start, "maxfev": 150, "xatol": 1e-3, "fatol": 1e-5}
    found: Any = optimize.minimize(loss, np.zeros(3), method="Nelder-Mead", options=options)
    return rotations_from_vectors(found.x) @ rotation, -float(found.fun)
