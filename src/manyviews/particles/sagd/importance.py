"""The sum over poses by importance sampling.

Section 3.4 of Punjani, Brubaker & Fleet 2017 (IEEE TPAMI 39:706). An image's posterior of the last time it
was seen, smoothed by kernels and mixed with a uniform distribution, says which directions, in-plane angles
and shifts are worth a look; the points evaluated are all combinations of the three draws, weighted so that
the estimate of the probability has no bias.

Two readings of the paper. The importance of a point here is proportional to its posterior *mass*, its own
quadrature weight included, since that is what it adds to the sum; equations (14) to (19) leave the weight of
the point itself out, which is the same where weights are equal, but not for Gauss-Hermite shifts. And the
kernels' reach, set by "the resolution of the quadrature schemes", is that of the coarser of the two lattices
where a posterior moves from one to another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.sagd.lattice import Indices, PoseLattice
from manyviews.particles.sagd.likelihood import ImageTerms, as_real_rows
from manyviews.particles.sagd.marginal import pose_weights, slice_slopes
from manyviews.particles.sagd.memory import FACTORS, PoseMemory, SparseRows

Float64 = NDArray[np.float64]
Floating = NDArray[np.floating[Any]]

CHUNK_BYTES = 2**27  # slices held at a time
LEAST_SHARE = 1e-4  # of an importance distribution's largest term; smaller ones are left out


@dataclass(frozen=True)
class Annealing:
    """How far an old posterior is trusted, by the iteration it is from (end of section 3.4.1).

    ``period`` iterations count as one. ``alpha = max(least_uniform, 2^(-uniform_rate n))`` is the share of
    the uniform distribution; ``T = max(least_temperature, 2^(temperature_rate / n))`` flattens the rest.
    """

    period: int = 50
    least_uniform: float = 0.05
    uniform_rate: float = 0.25
    least_temperature: float = 1.25
    temperature_rate: float = 10.0

    def uniform(self, iteration: int) -> float:
        """``alpha``."""
        return max(self.least_uniform, math.exp2(-self.uniform_rate * (iteration // self.period)))

    def temperature(self, iteration: int) -> float:
        """``T``; infinite in the first period."""
        periods = iteration // self.period
        found = math.exp2(self.temperature_rate / periods) if periods else math.inf
        return max(self.least_temperature, found)


@dataclass(frozen=True)
class Draw:
    """Points of one factor of a lattice, each once, their indices rising.

    ``log_weight`` is ``log(w_j n_j / (N q_j))``: of a point drawn ``n_j`` times of N, ``w_j`` its quadrature
    weight.
    """

    indices: Indices
    log_weight: Float64


@dataclass(frozen=True)
class PoseDraw:
    """Directions, in-plane angles and shifts of one image; all combinations are evaluated."""

    direction: Draw
    in_plane: Draw
    shift: Draw

    @property
    def factors(self) -> tuple[Draw, Draw, Draw]:
        """The three in order."""
        return self.direction, self.in_plane, self.shift

    @property
    def size(self) -> int:
        """Combinations."""
        return math.prod(len(factor.indices) for factor in self.factors)


@dataclass(frozen=True)
class SampledMarginal:
    """What a batch of images says about a volume, estimated.

    ``log_probability (N,)`` is float64; the probability has no bias, its logarithm is a little low.
    ``gradient`` is as of `Marginal`; ``memory`` has the posteriors found, for the next time.
    """

    log_probability: Float64
    gradient: torch.Tensor | None
    memory: PoseMemory


def effective_size(q: Float64) -> float:
    """``s(q) = 1 / sum q^2``."""
    return 1.0 / float(np.sum(q * q))


def importance_distribution(masses: Float64, kernel: Floating, temperature: float, uniform: float) -> Float64:
    """Equation (20), ``(M,)``, with ``temperature`` T and ``uniform`` alpha.

    ``masses (J,)`` are the last posterior where it was evaluated, up to a factor; ``kernel (J, M)`` is
    between those points and all of the present lattice.
    """
    count = kernel.shape[1]
    spread = np.power(masses, 1.0 / temperature).astype(kernel.dtype) @ kernel
    total = spread.sum()
    if not (np.isfinite(total) and total > 0):
        return np.full(count, 1.0 / count)
    return np.asarray((1.0 - uniform) / total * spread + uniform / count, dtype=np.float64)


def draw(
    q: Float64, log_weight: Float64, scale: float, rng: np.random.Generator, *, systematic: bool = True
) -> Draw:
    """``N = scale * s(q)`` points with replacement.

    The paper draws them one by one, so that a point that should come ten times comes ten times give or take
    three. ``systematic`` draws take every N-th part of the cumulative distribution, from one random start:
    ten times give or take one, still ``N q_j`` on average, so without bias, and at no cost (as Kitagawa 1996,
    J. Comput. Graph. Stat. 5:1, resamples).
    """
    samples = max(1, math.ceil(scale * effective_size(q)))
    edges = np.cumsum(q)
    places = (np.arange(samples) + rng.random()) / samples if systematic else rng.random(samples)
    drawn = np.searchsorted(edges, places * edges[-1], side="right")
    indices, counts = np.unique(np.minimum(drawn, len(q) - 1), return_counts=True)
    return Draw(indices, log_weight[indices] + np.log(counts / (samples * q[indices])))


def kernels(
    old: PoseLattice, new: PoseLattice, chosen: Sequence[Indices]
) -> tuple[Float64, Float64, Float64]:
    """Equations (21) to (23) between chosen points of an old lattice and all of a new one, 1 at distance 0.

    ``chosen`` are points of the three factors; the kernels have shapes ``(J, D)``, ``(J, K)``, ``(J, L)``.
    """
    direction, in_plane, shift = chosen
    reach = max(old.direction_spacing, new.direction_spacing)
    sharpness = math.log(4.0) / (1.0 - math.cos(reach))
    cosines = old.directions[direction] @ new.directions.T
    by_direction = np.exp((sharpness * (cosines - 1.0)).astype(np.float32))  # there may be very many
    reach = max(old.in_plane_spacing, new.in_plane_spacing)
    sharpness = math.log(2.0) / (1.0 - math.cos(reach))
    angles = np.deg2rad(old.in_plane[in_plane][:, None] - new.in_plane)
    by_in_plane = np.exp(sharpness * (np.cos(angles) - 1.0))
    reach = max(old.shift_spacing, new.shift_spacing)
    apart = np.sum((old.shifts[shift][:, None] - new.shifts) ** 2, axis=2)
    return by_direction, by_in_plane, np.exp(-apart / (2.0 * reach**2))


def draw_poses(
    memory: PoseMemory,
    image: int,
    old: PoseLattice,
    new: PoseLattice,
    scale: float,
    rng: np.random.Generator,
    annealing: Annealing | None = None,
    systematic: bool = True,
) -> PoseDraw:
    """Points to evaluate for an image of a batch, from what is remembered of it.

    ``old`` is the lattice of the memory, ``new`` the one to draw from; ``scale`` is ``s_0``, draws per
    effective sample; ``annealing``, left out, is the paper's; ``systematic`` is as of `draw`.
    """
    annealing = annealing or Annealing()
    uniform, temperature = annealing.uniform(memory.iteration), annealing.temperature(memory.iteration)
    rows = [_notable(*factor.row(image), temperature) for factor in memory.factors]
    near = kernels(old, new, [indices for indices, _ in rows])
    weights = (new.log_direction, new.log_in_plane, new.log_shift)
    draws = [
        draw(
            importance_distribution(masses, kernel, temperature, uniform),
            weight,
            scale,
            rng,
            systematic=systematic,
        )
        for (_, masses), kernel, weight in zip(rows, near, weights, strict=True)
    ]
    return PoseDraw(*draws)


def _notable(
    indices: NDArray[np.int32], masses: NDArray[np.float32], temperature: float
) -> tuple[Indices, Float64]:
    """The points of a posterior that show after annealing."""
    kept = masses >= (LEAST_SHARE**temperature * masses.max() if math.isfinite(temperature) else 0.0)
    return indices[kept].astype(np.int64), masses[kept].astype(np.float64)


def sampled_marginal(
    images: FourierImages,
    volume: torch.Tensor,
    lattice: PoseLattice,
    draws: Sequence[PoseDraw],
    *,
    iteration: int = 0,
    gradient: bool = True,
    padding: int = 2,
) -> SampledMarginal:
    """Equation (13) for each image, its gradient, and equations (17) to (19).

    ``draws``, one for each image, index the lattice; ``iteration`` is noted in the memory; the rest is as of
    `marginal`.
    """
    seen = FourierVolume.of(volume, images.radius, padding)
    slope = seen.empty() if gradient else None
    terms = ImageTerms.of(images)
    phases = torch.from_numpy(lattice.phases(np.arange(lattice.shape[2]), images.points, images.box))
    log_sums = np.empty(len(images))
    posteriors: list[tuple[Float64, Float64, Float64]] = []
    for chunk in _chunks(draws, images.values.itemsize * len(images.points)):
        poses = [lattice.rotations(d.direction.indices, d.in_plane.indices) for d in draws[chunk]]
        ends = np.cumsum([len(part) for part in poses])
        slices = seen.slices(np.concatenate(poses), images.points)
        pulled: list[torch.Tensor] = []
        turned: list[NDArray[np.float32]] = []
        for image, end, part in zip(range(chunk.start, chunk.stop), ends, poses, strict=True):
            own = slices[end - len(part) : end]
            posterior = _posterior(terms, image, draws[image], phases, own)
            log_sums[image] = posterior.log_sum
            posteriors.append(_masses(posterior, draws[image], lattice))
            if slope is not None:
                kept, slopes = _slopes(terms, image, posterior, own)
                pulled.append(slopes)
                turned.append(part[kept])
        if slope is not None:
            slope.add(np.concatenate(turned), images.points, torch.cat(pulled))
    factors = [
        SparseRows.pack([d.factors[f].indices for d in draws], [found[f] for found in posteriors])
        for f in range(FACTORS)
    ]
    memory = PoseMemory(images.radius, iteration, (factors[0], factors[1], factors[2]))
    found = None if slope is None else slope.gradient()
    return SampledMarginal(log_sums - terms.energy, found, memory)


def _chunks(draws: Sequence[PoseDraw], slice_bytes: int) -> list[slice]:
    """Runs of images whose slices fit into `CHUNK_BYTES`, at least one image each."""
    chunks: list[slice] = []
    first, used = 0, 0
    for image, one in enumerate(draws):
        needed = len(one.direction.indices) * len(one.in_plane.indices) * slice_bytes
        if used and used + needed > CHUNK_BYTES:
            chunks.append(slice(first, image))
            first, used = image, 0
        used += needed
    return [*chunks, slice(first, len(draws))]


@dataclass(frozen=True)
class _Posterior:
    """Of one image: ``weights (1, L, R)``, summing to 1, and their sums over the shifts and over the poses.

    ``rows (L, 2P)`` are the shifted image; ``log_sum`` is its log probability, less the energy.
    """

    log_sum: float
    rows: torch.Tensor
    weights: torch.Tensor
    by_pose: torch.Tensor
    by_shift: torch.Tensor


def _posterior(
    terms: ImageTerms, image: int, drawn: PoseDraw, phases: torch.Tensor, slices: torch.Tensor
) -> _Posterior:
    power = terms.power[image : image + 1]
    kind = power.numpy().dtype
    rows = as_real_rows(terms.matched[image] * phases[drawn.shift.indices].conj())
    log_pose = (drawn.direction.log_weight[:, None] + drawn.in_plane.log_weight).reshape(-1)
    weights, offset = pose_weights(
        rows,
        power,
        slices,
        torch.from_numpy(log_pose.astype(kind)),
        torch.from_numpy(drawn.shift.log_weight.astype(kind)),
    )
    total = float(weights.sum(dtype=torch.float64))
    weights.div_(total)
    return _Posterior(float(offset[0]) + math.log(total), rows, weights, weights[0].sum(0), weights[0].sum(1))


def _slopes(
    terms: ImageTerms, image: int, posterior: _Posterior, slices: torch.Tensor
) -> tuple[NDArray[np.int64], torch.Tensor]:
    """The poses an image may have, and the slopes of its log probability with respect to their slices."""
    kept = torch.nonzero(posterior.by_pose > torch.finfo(posterior.by_pose.dtype).eps / 8)[:, 0]
    slopes = slice_slopes(
        posterior.weights[:, :, kept],
        posterior.by_pose[None, kept],
        posterior.rows,
        terms.power[image : image + 1],
        slices[kept],
    )
    return kept.numpy(), slopes


def _masses(posterior: _Posterior, drawn: PoseDraw, lattice: PoseLattice) -> tuple[Float64, Float64, Float64]:
    """Estimated posterior mass of lattice points: how often a point was drawn does not count."""
    by_rotation = posterior.by_pose.reshape(len(drawn.direction.indices), -1)
    shares = by_rotation.sum(1), by_rotation.sum(0), posterior.by_shift
    weights = (lattice.log_direction, lattice.log_in_plane, lattice.log_shift)
    direction, in_plane, shift = (
        share.double().numpy() * np.exp(weight[factor.indices] - factor.log_weight)
        for share, weight, factor in zip(shares, weights, drawn.factors, strict=True)
    )
    return direction, in_plane, shift
