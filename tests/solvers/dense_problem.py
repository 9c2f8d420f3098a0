"""Least-squares problems with dense matrices, whose answers are known."""

from __future__ import annotations

import numpy as np
import torch

from manyviews.solvers.least_squares import LeastSquares

SHAPE = (2, 3, 4)
VOXELS = 24


class Dense:
    """``1/2 sum_r l_r (W x - p)_r^2 + damping/2 |x|^2`` in float64; ``quick``: another normal matrix."""

    def __init__(self, matrix, data, weights=None, damping=0.0, quick=None):
        self.matrix, self.data, self.damping = matrix, data, damping
        self.weights = np.ones(len(data)) if weights is None else weights
        self.normal_matrix = matrix.T @ (self.weights[:, None] * matrix)
        self.back_projection = matrix.T @ (self.weights * data)
        self.quick = self.normal_matrix if quick is None else quick

    @property
    def lipschitz(self):
        return float(np.linalg.eigvalsh(self.normal_matrix)[-1])

    def answer(self):
        damped = self.normal_matrix + self.damping * np.eye(VOXELS)
        return np.linalg.solve(damped, self.back_projection)

    def energy(self, x):
        return float(np.sum(self.weights * (self.matrix @ flat(x) - self.data) ** 2))

    def objective(self, x):
        """Data term and damping term."""
        return 0.5 * self.energy(x) + 0.5 * self.damping * float(flat(x) @ flat(x))

    def gradient(self, x):
        return self.back_projection - self.normal_matrix @ flat(x)

    def least_squares(self, exact=True):
        return LeastSquares(
            normal=lambda x: volume(self.quick @ flat(x)),
            target=volume(self.back_projection),
            data_energy=float(np.sum(self.weights * self.data**2)),
            lipschitz=self.lipschitz,
            damping=self.damping,
            exact_gradient=(lambda x: (volume(self.gradient(x)), self.energy(x))) if exact else None,
        )


def flat(x):
    return x.numpy().reshape(-1) if isinstance(x, torch.Tensor) else np.asarray(x).reshape(-1)


def volume(x):
    return torch.from_numpy(np.array(x, dtype=np.float64).reshape(SHAPE))


def random_dense(seed=0, rows=60, damping=0.0, weighted=True, quick_error=0.0):
    """Noisy, overdetermined; ``quick_error``: how wrong the quick normal operator is, in every direction."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, VOXELS))
    data = matrix @ rng.normal(size=VOXELS) + 2.0 * rng.normal(size=rows)
    weights = rng.uniform(0.5, 1.5, size=rows) if weighted else None
    dense = Dense(matrix, data, weights, damping)
    if quick_error:
        values, vectors = np.linalg.eigh(dense.normal_matrix)
        root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
        turn, _ = np.linalg.qr(rng.normal(size=(VOXELS, VOXELS)))
        error = turn @ np.diag(rng.choice([-quick_error, quick_error], size=VOXELS)) @ turn.T
        dense.quick = root @ (np.eye(VOXELS) + error) @ root
    return dense


def states_of(solver, iterations):
    """All states from the first on."""
    states = [solver.init()]
    for _ in range(iterations):
        states.append(solver.step(states[-1]))
    return states
