"""The best fit of small slices to their projections, in closed form: what any volume at all would explain.

All slices of a scan have the same matrix, from ``n`` pixels to ``views x columns`` numbers. With some 32
columns it is small enough to be factored, so that the volume is eliminated instead of iterated for
(variable projection: Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973) 413).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.radon import Radon

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_RIDGE = 1e-3  # of the mean square of a column of the matrix
EPSILON = 1e-4
_REACH = 0.95  # of half the detector: where the specimen may be


@dataclass(frozen=True)
class SliceFit:
    """``fitted = B B' data`` for weighted data of one row of all views.

    Attributes
    ----------
    theta_degrees, center
        Of the views; the column of the axis.
    weights
        ``(view,)`` of the views.
    basis
        B, float32 ``(view, column, n)``.
    unfold
        ``(n, n)`` from ``B' data`` to pixels ``places (n,)`` of a slice.
    """

    theta_degrees: Float64
    center: float
    weights: Float64
    basis: Float32
    unfold: Float32
    places: NDArray[np.int64]

    @classmethod
    def of(cls, theta_degrees: Float64, columns: int, center: float, weights: Float64) -> SliceFit:
        """The matrix of slices of ``columns`` pixels a side, factored."""
        across = np.arange(columns) - columns // 2
        inside = np.hypot(across[:, None], across) <= _REACH * 0.5 * columns
        places = np.flatnonzero(inside)
        count, views = len(places), len(theta_degrees)
        unit = np.zeros((count, columns * columns), np.float32)
        unit[np.arange(count), places] = 1.0
        seen = project(unit.reshape(count, columns, columns), theta_degrees, center)
        seen *= np.sqrt(weights).astype(np.float32)[:, None, None]
        matrix = np.ascontiguousarray(seen.transpose(0, 2, 1)).reshape(views * columns, count)
        square = (matrix.T @ matrix).astype(np.float64)
        square[np.diag_indices(count)] += _RIDGE * np.trace(square) / count
        unfold = np.linalg.inv(np.linalg.cholesky(square)).T.astype(np.float32)
        basis = (matrix @ unfold).reshape(views, columns, count)
        return cls(theta_degrees, center, weights, basis, unfold, places)

    def fit(self, images: Float32) -> tuple[Float32, Float32]:
        """The volume ``(z, y, x)`` of images ``(view, z, x)``, and what it projects to."""
        views, rows, columns = images.shape
        root = np.sqrt(self.weights).astype(np.float32)[:, None, None]
        flat = self.basis.reshape(views * columns, -1)
        found = flat.T @ (images * root).transpose(0, 2, 1).reshape(views * columns, rows)
        volume = np.zeros((columns * columns, rows), np.float32)
        volume[self.places] = self.unfold @ found
        volume = np.ascontiguousarray(volume.T).reshape(rows, columns, columns)
        return volume, project(volume, self.theta_degrees, self.center)

    def freedom(self) -> float:
        """The square of the norm of what white noise of deviation 1 leaves of a row, where weights are 1."""
        flat = self.basis.reshape(-1, self.basis.shape[2]).astype(np.float64)
        square = flat.T @ flat
        return float(len(flat) - 2 * np.trace(square) + np.sum(square**2))


def project(volume: Float32, theta_degrees: Float64, center: float) -> Float32:
    """Sums along rays ``(view, z, column)`` of slices ``(z, y, x)``."""
    rows, _, columns = volume.shape
    radon = Radon(theta_degrees, rows, columns, center, epsilon=EPSILON, threads=1)
    found: Float32 = radon.forward(torch.from_numpy(volume)).numpy()
    return found
