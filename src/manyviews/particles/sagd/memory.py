"""What is remembered of the poses of a mini-batch of images, in few numbers, as tensors for a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.particles.sagd.lattice import Indices

FACTORS = 3
LEAST_MASS = 1e-6  # of an image's largest; what is smaller is forgotten
MOST_POINTS = 1024  # of an image and factor


@dataclass(frozen=True)
class SparseRows:
    """Some entries of each row of a matrix: row i has those from ``offsets[i]`` to ``offsets[i + 1]``."""

    offsets: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]

    @classmethod
    def pack(cls, indices: Sequence[Indices], values: Sequence[NDArray[np.floating[Any]]]) -> SparseRows:
        """From the columns and values of each row; a row's values are scaled to a maximum of 1."""
        kept = [_largest(row, value) for row, value in zip(indices, values, strict=True)]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row, _ in kept])])
        return cls(
            offsets.astype(np.int64),
            np.concatenate([row for row, _ in kept]).astype(np.int32),
            np.concatenate([value for _, value in kept]).astype(np.float32),
        )

    @classmethod
    def of_dense(cls, matrix: NDArray[np.floating[Any]]) -> SparseRows:
        """The largest entries of each row of ``(N, M)``."""
        columns = np.arange(matrix.shape[1])
        return cls.pack([columns] * len(matrix), list(matrix))

    def row(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Columns and values of a row."""
        own = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
        return self.indices[own], self.values[own]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class PoseMemory:
    """Posterior masses of the images of a mini-batch: of directions, in-plane angles and shifts.

    The points are of the lattice of ``radius``, Fourier pixels, and were found in ``iteration``.
    """

    radius: int
    iteration: int
    factors: tuple[SparseRows, SparseRows, SparseRows]

    def to_tensors(self) -> tuple[torch.Tensor, ...]:
        """Flat, for the state of a solver."""
        head = torch.tensor([self.radius, self.iteration], dtype=torch.int64)
        arrays = [part for rows in self.factors for part in (rows.offsets, rows.indices, rows.values)]
        return head, *(torch.from_numpy(array) for array in arrays)

    @classmethod
    def from_tensors(cls, tensors: Sequence[torch.Tensor]) -> PoseMemory:
        """Back from `to_tensors`."""
        head, *parts = tensors
        rows = [SparseRows(*(part.numpy() for part in parts[3 * f : 3 * f + 3])) for f in range(FACTORS)]
        return cls(int(head[0]), int(head[1]), (rows[0], rows[1], rows[2]))


def _largest(
    indices: Indices, values: NDArray[np.floating[Any]]
) -> tuple[Indices, NDArray[np.floating[Any]]]:
    """The entries above `LEAST_MASS` of the largest, at most `MOST_POINTS`, scaled."""
    top = values.max()
    kept = np.flatnonzero(values > LEAST_MASS * top)
    if len(kept) > MOST_POINTS:
        kept = np.sort(np.argpartition(values, -MOST_POINTS)[-MOST_POINTS:])
    return indices[kept], values[kept] / top
