"""What `pose_search.py` holds its methods against: a sum over fine poses, and measures of the difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from manyviews.alignment.map_alignment import move_map
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.sagd.importance import PoseDraw
from manyviews.particles.sagd.lattice import PoseLattice
from manyviews.particles.sagd.likelihood import ImageTerms, as_real_rows
from manyviews.particles.sagd.marginal import Marginal, pose_weights

FOLD = 7
EVERY_POSE = 4096  # draws, so many that all that is worth anything comes
NEAR = 1.5  # spacings
LEAST = 1e-7  # of an image's largest direction or rotation: smaller ones are not looked at
HEAVY, CORE = 1e-4, 1e-2  # of an image's largest rotation
AT_ONCE = 8192  # rotations
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rotations:
    """Those that matter for an image: numbers on the lattice ``(R,)``, ``(R, 3, 3)``, posterior ``(R,)``."""

    direction: NDArray[np.int64]
    in_plane: NDArray[np.int64]
    rotations: NDArray[np.float32]
    masses: Floats

    def select(self, chosen: NDArray[Any]) -> Rotations:
        return Rotations(
            self.direction[chosen], self.in_plane[chosen], self.rotations[chosen], self.masses[chosen]
        )

    def drawn(self, draw: PoseDraw) -> Rotations:
        """Those of them that were drawn and weigh something; the least of all if none was."""
        some = np.isin(self.direction, draw.direction.indices) & np.isin(self.in_plane, draw.in_plane.indices)
        if not some.any():
            return self.select(np.array([self.masses.argmin()]))
        own = self.select(some)
        return own.select(own.masses > own.masses.sum() / EVERY_POSE)


@dataclass(frozen=True)
class Case:
    """One radius: images, map, lattice and what its full sum has found, the paper's lattice, the reference."""

    images: FourierImages
    volume: torch.Tensor
    lattice: PoseLattice
    log_p: Floats
    joint: list[Rotations]
    turns: Floats
    truth: Floats
    base: PoseLattice
    exact_log_p: Floats
    exact: list[Rotations]
    exact_spread: list[Floats]


@dataclass(frozen=True)
class Answer:
    """What a method says of the images: ``log p``, directions with weights, the best rotation, those kept."""

    log_p: Floats
    directions: list[Floats]
    weights: list[Floats]
    best: NDArray[np.float32]
    kept: list[NDArray[np.float32]]
    points: float


def sevenfold(truth: NDArray[np.float32]) -> tuple[Floats, float]:
    """Turns ``(7, 3, 3)`` about the axis of inertia that is unlike the others, and how well they fit."""
    axis = np.arange(len(truth)) - len(truth) // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    places = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(float)
    density = np.maximum(truth, 0).ravel().astype(float)
    centre = density @ places / density.sum()
    away = places - centre
    moments, axes = np.linalg.eigh((away * density[:, None]).T @ away)
    own = axes[:, 2 if moments[2] - moments[1] > moments[1] - moments[0] else 0]
    turns = Rotation.from_rotvec(own * (2 * np.pi / FOLD * np.arange(FOLD)[:, None])).as_matrix()
    turned = move_map(truth, turns[1], centre - turns[1] @ centre)
    return turns, float(np.corrcoef(turned.ravel(), truth.ravel())[0, 1])


def by_direction(lattice: PoseLattice, found: Rotations) -> tuple[Floats, Floats]:
    """Directions that have some mass, and their masses."""
    numbers, place = np.unique(found.direction, return_inverse=True)
    return lattice.directions[numbers], np.asarray(np.bincount(place, found.masses), np.float64)


def degrees(a: NDArray[Any], b: NDArray[Any], turns: Floats) -> Floats:
    """``(M, N)`` angles between rotations ``(M, 3, 3)`` and ``(N, 3, 3)``, modulo turns of the specimen."""
    flat = b.reshape(len(b), 9).T.astype(float)
    traces = [(a.astype(float) @ turn).reshape(len(a), 9) @ flat for turn in turns]
    return np.asarray(np.rad2deg(np.arccos(np.clip((np.max(traces, axis=0) - 1) / 2, -1, 1))))


def full_posterior(
    images: FourierImages,
    volume: torch.Tensor,
    lattice: PoseLattice,
    candidates: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[Floats, list[Rotations]]:
    """``log p`` and the posterior of rotations, shifts summed, over some directions and angles of each image."""
    seen, terms = FourierVolume.of(volume, images.radius), ImageTerms.of(images)
    phases = torch.from_numpy(lattice.phases(np.arange(lattice.shape[2]), images.points, images.box))
    log_shift = torch.from_numpy(lattice.log_shift.astype(np.float32))
    found, log_p = [], []
    for image, (direction, in_plane) in enumerate(candidates):
        poses = rotations_of(lattice, direction, in_plane)
        log_pose = (lattice.log_direction[direction] + lattice.log_in_plane[in_plane]).astype(np.float32)
        rows = as_real_rows(terms.matched[image] * phases.conj())
        power, parts = terms.power[image : image + 1], []
        for first in range(0, len(poses), AT_ONCE):
            own = slice(first, first + AT_ONCE)
            slices = seen.slices(poses[own], images.points)
            weights, offset = pose_weights(rows, power, slices, torch.from_numpy(log_pose[own]), log_shift)
            mass = weights.reshape(len(log_shift), -1).sum(0, dtype=torch.float64).numpy()
            parts.append(np.log(mass) + float(offset[0]))
        logs = np.concatenate(parts)
        masses = np.exp(logs - logs.max())
        log_p.append(logs.max() + np.log(masses.sum()) - terms.energy[image])
        some = masses > LEAST
        found.append(Rotations(direction[some], in_plane[some], poses[some], masses[some] / masses.sum()))
    return np.array(log_p), found


def rotations_of(
    lattice: PoseLattice, direction: NDArray[np.int64], in_plane: NDArray[np.int64]
) -> NDArray[np.float32]:
    """``(R, 3, 3)`` of pairs."""
    order = np.argsort(direction, kind="stable")
    found = np.empty((len(direction), 3, 3), np.float32)
    every = np.arange(lattice.shape[1])
    for number in np.split(order, np.flatnonzero(np.diff(direction[order])) + 1):
        found[number] = lattice.rotations(direction[number[:1]], every)[in_plane[number]]
    return found


def that_matter(lattice: PoseLattice, found: Marginal) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All angles of directions that have some mass."""
    every = np.arange(lattice.shape[1])
    kept = [np.flatnonzero(row > LEAST * row.max()) for row in found.direction]
    return [(np.repeat(one, len(every)), np.tile(every, len(one))) for one in kept]


def near_by(
    lattice: PoseLattice, seeds: list[Rotations], spacing: float
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Directions and angles of a lattice within three spacings (radians) of rotations that have some mass."""
    reach, found = 3 * spacing, []
    every = np.arange(lattice.shape[1])
    for one in seeds:
        heavy = one.select(one.masses > HEAVY * one.masses.max()).rotations.astype(float)
        views = lattice.directions @ heavy[:, 2].T
        direction = np.flatnonzero(views.max(axis=1) > np.cos(reach))
        pairs = []
        for number in direction:
            own = heavy[views[number] > np.cos(reach)].reshape(-1, 9)
            poses = lattice.rotations(np.array([number]), every).reshape(-1, 9)
            close = (poses @ own.T).max(axis=1) > 1 + 2 * np.cos(reach)
            pairs.append((np.full(close.sum(), number), every[close]))
        found.append((np.concatenate([d for d, _ in pairs]), np.concatenate([k for _, k in pairs])))
    return found


def spread(directions: Floats, masses: Floats, lattice: PoseLattice, turns: Floats) -> Floats:
    """``(D,)`` a direction posterior spread over the lattice, modulo the specimen's turns, summing to 1."""
    sharpness = np.log(4.0) / (1.0 - np.cos(lattice.direction_spacing))
    total = np.zeros(lattice.shape[0])
    some = masses > 1e-4 * masses.max()
    for turn in turns:
        cosines = (directions[some] @ turn @ lattice.directions.T - 1.0).astype(np.float32)
        total += masses[some] @ np.exp(sharpness * cosines)
    return np.asarray(total / total.sum())


def judge(case: Case, answer: Answer) -> dict[str, float]:
    """An answer against the full sum and the true poses."""
    error = answer.log_p - case.exact_log_p
    centred = error - error.mean()
    near = NEAR * np.rad2deg(case.base.direction_spacing)
    variation: list[float] = []
    kept: list[float] = []
    from_truth: list[float] = []
    for image, every in enumerate(case.exact):
        own = every.select(every.masses > CORE * every.masses.max())
        theirs = spread(answer.directions[image], answer.weights[image], case.base, case.turns)
        variation.append(0.5 * np.abs(case.exact_spread[image] - theirs).sum())
        distance = degrees(own.rotations, answer.kept[image], case.turns).min(axis=1)
        kept.append(own.masses[distance < near].sum() / own.masses.sum())
        best = answer.best[image][None]
        from_truth.append(degrees(best, case.truth[image][None], case.turns)[0, 0])
    return {
        "points": answer.points,
        "nats_rms": float(np.sqrt(np.mean(centred**2))),
        "nats_worst": float(np.abs(centred).max()),
        "nats_mean": float(error.mean()),
        "sampling_rms": float(np.sqrt(np.mean((answer.log_p - case.log_p) ** 2))),
        "posterior_error": float(np.mean(variation)),
        "posterior_error_worst": float(np.max(variation)),
        "mass_kept": float(np.mean(kept)),
        "mass_kept_least": float(np.min(kept)),
        "best_degrees_median": float(np.median(from_truth)),
        "best_degrees_above_10": float(np.mean(np.array(from_truth) > 10)),
    }
