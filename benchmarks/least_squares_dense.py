"""Where the printed Algorithm 1 and true consensus end, without iterating: for ``least_squares_limit.py``.

On a volume small enough for matrices, float64. With H_i = W_i' W_i, b_i = W_i' p_i and k inner steps of length
a, an agent of the printed algorithm answers ``A_i z + c_i`` with ``A_i = (1 - a H_i)^k``. Where all agents agree
on x while their offsets sum to zero (consensus equilibrium, Buzzard et al. 2018),

    sum_i (A_i^-1 - 1) x = sum_i g(H_i) b_i ,   g(h) = ((1 - a h)^-k - 1) / h .

Were g constant, this would be least squares, sum_i H_i x = sum_i b_i; it is not, so strong directions of every
subset count more than they should. A proximal map has ``A_i = s / (s + H_i)`` and ``g = 1 / s``: constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accuracy import PIXEL_SIZE, summary, tilt_geometry
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.operators.view_kernel import make_kernel
from manyviews.simulate.phantoms import Gaussians
from manyviews.solvers.consensus import Consensus
from manyviews.solvers.space import Space
from manyviews.tilt.solve.subsets import Subset, make_subsets

VOLUME_SHAPE = (5, 14, 14)
AXES = (0.0, 45.0, 90.0, 135.0)
TILTS = np.linspace(-60.0, 60.0, 25)
NOISE = 0.05
SEEDS = (1, 2, 3, 4, 5)
INNER, MANN, ANCHOR = 10, 0.8, 0.03
LOOKS = (100, 300, 1000, 3000)
CASES = ((0.3, 8, 0), (0.3, 8, 2), (0.3, 32, 2), (1.0, 8, 0), (1.0, 8, 2))  # relaxation, subsets, overlap
FOLLOWED = ((1.0, 8, 0), (0.3, 8, 0))

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Dense:
    """Projection matrix ``(view, pixel, voxel)``; truth ``(voxel, seed)``; images ``(view, pixel, seed)``."""

    matrix: Matrix
    truth: Matrix
    images: Matrix
    normal: Matrix
    answer: Matrix
    lowest: Matrix

    def distance(self, x: Matrix) -> Matrix:
        """``(f - f*) / f*`` of every seed."""
        off = x - self.answer
        return np.asarray(0.5 * np.sum(off * (self.normal @ off), axis=0) / self.lowest)

    def error(self, x: Matrix) -> Matrix:
        """Relative error of every seed."""
        return np.asarray(np.linalg.norm(x - self.truth, axis=0) / np.linalg.norm(self.truth, axis=0))


@dataclass(frozen=True)
class Part:
    """One subset: eigenvalues and vectors of H_i, and ``b_i`` in their basis."""

    values: Matrix
    vectors: Matrix
    target: Matrix

    def apply(self, spectrum: Matrix) -> Matrix:
        """The matrix with these eigenvalues."""
        return np.asarray((self.vectors * spectrum) @ self.vectors.T)

    def times_target(self, spectrum: Matrix) -> Matrix:
        """That matrix times ``b_i``."""
        return np.asarray(self.vectors @ (spectrum[:, None] * self.target))


def dense_problem() -> Dense:
    geometry = tilt_geometry(AXES, TILTS)
    projector = TiltProjector(geometry, VOLUME_SHAPE, VOLUME_SHAPE[1:], PIXEL_SIZE)
    voxels = int(np.prod(VOLUME_SHAPE))
    matrix = np.empty((len(geometry), VOLUME_SHAPE[1] * VOLUME_SHAPE[2], voxels))
    for voxel in range(voxels):
        one = torch.zeros(voxels, dtype=torch.float64)
        one[voxel] = 1.0
        matrix[:, :, voxel] = projector.forward(one.reshape(VOLUME_SHAPE)).reshape(len(geometry), -1).numpy()
    truth = np.stack([specimen(seed) for seed in SEEDS], axis=1)
    images = matrix @ truth
    for index, seed in enumerate(SEEDS):
        noise = np.random.default_rng(seed).standard_normal(images.shape[:2])
        images[:, :, index] += NOISE * images[:, :, index].std() * noise
    flat, data = matrix.reshape(-1, voxels), images.reshape(-1, len(SEEDS))
    normal, target = flat.T @ flat, flat.T @ data
    answer = np.asarray(np.linalg.lstsq(normal, target, rcond=1e-13)[0], np.float64)
    residual = data - flat @ answer
    return Dense(matrix, truth, images, normal, answer, 0.5 * np.sum(residual**2, axis=0))


def specimen(seed: int) -> Matrix:
    """Scattered Gaussians, ``(voxel,)``."""
    rng = np.random.default_rng(seed)
    reach = PIXEL_SIZE * np.array([4.5, 4.5, 1.0])
    phantom = Gaussians.isotropic(
        rng.uniform(0.5, 1.5, 20), rng.uniform(-1, 1, (20, 3)) * reach, 1.2 * PIXEL_SIZE
    )
    return phantom.density(VOLUME_SHAPE, PIXEL_SIZE).astype(np.float64).ravel()


def parts_of(dense: Dense, subsets: tuple[Subset, ...], *, weighted: bool) -> list[Part]:
    voxels = dense.matrix.shape[2]
    parts = []
    for subset in subsets:
        weights = np.sqrt(subset.weights if weighted else np.ones(len(subset.views)))[:, None, None]
        rows = (dense.matrix[subset.views] * weights).reshape(-1, voxels)
        data = (dense.images[subset.views] * weights).reshape(-1, len(SEEDS))
        values, vectors = np.linalg.eigh(rows.T @ rows)
        parts.append(Part(np.maximum(values, 0.0), vectors, vectors.T @ (rows.T @ data)))
    return parts


def step_lengths(subsets: tuple[Subset, ...], relaxation: float) -> list[float]:
    """The step of every agent as the program takes it: a fraction of 1 / the bound of its eigenvalue."""
    lengths = []
    for subset in subsets:
        geometry = tilt_geometry(AXES, TILTS).select(subset.views)
        projector = TiltProjector(geometry, VOLUME_SHAPE, VOLUME_SHAPE[1:], PIXEL_SIZE)
        kernel = make_kernel(projector.groups, np.ones(len(geometry)), VOLUME_SHAPE)
        lengths.append(relaxation / (1.02 * float(kernel.spectrum.max())))
    return lengths


def printed_limit(parts: list[Part], lengths: list[float]) -> Matrix:
    """The fixed point of the printed algorithm, ``(voxel, seed)``."""
    left, right = np.zeros_like(parts[0].vectors), np.zeros_like(parts[0].target)
    for part, length in zip(parts, lengths, strict=True):
        growth = (1.0 - length * part.values) ** -INNER - 1.0
        tiny = part.values < 1e-9 * part.values.max()
        share = np.where(tiny, INNER * length, growth / np.where(tiny, 1.0, part.values))
        left, right = left + part.apply(growth), right + part.times_target(share)
    return np.asarray(np.linalg.lstsq(left, right, rcond=1e-13)[0])


@dataclass(frozen=True)
class Affine:
    """The proximal map ``z -> M z + c`` of an agent."""

    matrix: torch.Tensor
    offset: torch.Tensor

    def prox(self, v: torch.Tensor, warm_start: torch.Tensor) -> torch.Tensor:
        """Exact, so that the start does not matter."""
        return torch.addmm(self.offset, self.matrix, v)


def follow(agents: list[tuple[Matrix, Matrix]], dense: Dense) -> Iterator[tuple[int, Matrix]]:
    """The program's own consensus loop with agents ``z -> M z + c``."""
    solver = Consensus(
        [Affine(torch.from_numpy(m), torch.from_numpy(c)) for m, c in agents],
        Space.like(torch.zeros(dense.truth.shape, dtype=torch.float64)),
        mann=MANN,
        objective=lambda x: 0.0,
        passes_per_iteration=1.0,
    )
    state = solver.init()
    for iteration in range(1, LOOKS[-1] + 1):
        state = solver.step(state)
        if iteration in LOOKS:
            yield iteration, state.iterate.numpy()


def limits() -> tuple[list[dict[str, Any]], str]:
    """Records and a markdown table of limits, and of iterations on the way there."""
    dense = dense_problem()
    rows: list[dict[str, Any]] = []

    def add(name: str, outer: str, x: Matrix) -> None:
        rows.append({"method": name, "outer": outer, "distance": dense.distance(x).tolist(), "error": dense.error(x).tolist()})  # fmt: skip
        print(
            f"  {name:50s} {outer:>6s}  {rows[-1]['distance'][0]:.5f}  {rows[-1]['error'][0]:.4f}", flush=True
        )

    geometry = tilt_geometry(AXES, TILTS)
    add("least squares", "", dense.answer)
    for relaxation, count, overlap in CASES:
        subsets = make_subsets(geometry, count, overlap, "adjacent")
        parts, lengths = parts_of(dense, subsets, weighted=False), step_lengths(subsets, relaxation)
        name = f"wang2020, relaxation {relaxation:g}, {count} subsets, overlap {overlap}"
        if (relaxation, count, overlap) in FOLLOWED:
            powers = [(1.0 - a * part.values) ** INNER for part, a in zip(parts, lengths, strict=True)]
            answers = [
                (part.apply(p), part.times_target((1.0 - p) / np.maximum(part.values, 1e-9)))
                for part, p in zip(parts, powers, strict=True)
            ]
            for outer, x in follow(answers, dense):
                add(name, str(outer), x)
        add(name, "limit", printed_limit(parts, lengths))
    subsets = make_subsets(geometry, 8, 2, "interleaved")
    parts = parts_of(dense, subsets, weighted=True)
    anchor = ANCHOR * float(np.linalg.eigvalsh(dense.normal)[-1]) / len(parts)
    resolvents = [1.0 / (part.values + anchor) for part in parts]
    answers = [
        (part.apply(anchor * r), part.times_target(r)) for part, r in zip(parts, resolvents, strict=True)
    ]
    for outer, x in follow(answers, dense):
        add("consensus, exact proximal maps, overlap 2", str(outer), x)
    return rows, table(rows)


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| method | outer iterations | (f − f*) / f* | error against the truth |", "|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['method']} | {row['outer']} | {summary(row['distance'], 5)} | {summary(row['error'], 3)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(limits()[1])
