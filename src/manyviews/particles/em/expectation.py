"""The E step: where each image may have been seen from, given a volume.

Every pose of a coarse grid is scored by matrix products at low frequency (`score_everywhere`); around those
that are left, finer levels take in higher frequencies (`search`). What comes out are weighted samples of the
posterior, unbiased for the grid they were drawn from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.poses import uniform_rotations
from manyviews.kernels.pose_scores_cpu import sample_posterior
from manyviews.kernels.select import native, pose_scores
from manyviews.operators.fourier_points import half_plane
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.em.pose_grids import Level, rotations_within, shift_offsets_within, shifts_everywhere
from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples
from manyviews.particles.images.fourier_images import FourierImages

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_SCORES_AT_ONCE = 4_000_000
_LEAST_ROWS = 16  # of a matrix product; MKL's results with 5 to 11 rows were seen to depend on its threads
_MARGIN = 14.0  # natural logarithms: poses that are e^14 times less likely than the best are dropped
_MOST_KEPT = (24, 8, 6)  # poses an image that go on to the next level, from the coarse grid on


@dataclass(frozen=True)
class PoseGrid:
    """Rotations ``(M, 3, 3)`` and shifts ``(T, 2)`` in pixels to score, with the slices of a volume at them.

    ``slices`` are ``(M, P)``, ``strength`` their squared absolute values.
    """

    rotations: Float32
    shifts: Float32
    slices: torch.Tensor
    strength: torch.Tensor

    @classmethod
    def everywhere(
        cls, volume: FourierVolume, level: Level, box: int, shift_sigma: float, turn: Float32
    ) -> PoseGrid:
        """All rotations and shifts of a level, the whole grid turned by ``turn`` (3x3)."""
        rotations = (uniform_rotations(level.rotation_count) @ turn).astype(np.float32)
        slices = volume.slices(rotations, half_plane(level.radius, box))
        shifts = shifts_everywhere(level.shift_step, shift_sigma)
        return cls(rotations, shifts, slices, slices.real.square() + slices.imag.square())

    @property
    def size(self) -> int:
        """Number of poses."""
        return len(self.rotations) * len(self.shifts)


@dataclass(frozen=True)
class Scores:
    """Log posterior of every pose of a grid, ``2 cross - power + prior``, up to what all poses share.

    ``cross (N, T, M)`` is the likeness of image and slice, ``power (N, M)`` the strength of the slice as the
    image's transfer function lets it through, ``prior (T,)`` that of the shifts.
    """

    cross: torch.Tensor
    power: torch.Tensor
    prior: Float32


def score_everywhere(images: FourierImages, grid: PoseGrid, shift_sigma: float) -> Scores:
    """Score every pose of a grid with images cropped to its radius: two matrix products.

    ``shift_sigma`` is the prior standard deviation of a shift, pixels.
    """
    count, points = images.values.shape
    precision = images.precision()
    angle = (-2 * np.pi / images.box) * (grid.shifts @ images.points.T.astype(np.float32))
    data = images.values * (images.ctf * precision)
    moved = data[:, None] * np.exp(1j * angle).astype(np.complex64)
    device = grid.slices.device
    moved_parts = torch.from_numpy(moved.view(np.float32).reshape(-1, 2 * points)).to(device)
    cross = _product(moved_parts, torch.view_as_real(grid.slices).flatten(1))
    power = _product(torch.from_numpy(images.ctf**2 * precision).to(device), grid.strength)
    prior = np.sum(grid.shifts**2, axis=1) * (-0.5 / shift_sigma**2)
    return Scores(cross.view(count, len(grid.shifts), -1), power, prior.astype(np.float32))


def _product(few: torch.Tensor, many: torch.Tensor) -> torch.Tensor:
    """``few @ many.T``, never of a handful of rows: their last bits depend on the number of threads."""
    rows = len(few)
    if rows >= _LEAST_ROWS:
        return torch.mm(few, many.T)
    padded = torch.nn.functional.pad(few, (0, 0, 0, _LEAST_ROWS - rows))
    return torch.mm(padded, many.T)[:rows]


def chunks(lane: Int64, grid: PoseGrid) -> list[Int64]:
    """Which images are scored at once: few, so that their scores fit into the processor's cache, or nearly.

    Those of a lane keep to themselves. A matrix product's last bits may depend on its size, and lanes are the
    same however many processes share them.
    """
    size = max(1, _SCORES_AT_ONCE // grid.size)
    lanes = (np.flatnonzero(lane == number) for number in np.unique(lane))
    return [members[start : start + size] for members in lanes for start in range(0, len(members), size)]


def sample_everywhere(
    images: FourierImages,
    grid: PoseGrid,
    shift_sigma: float,
    offsets: NDArray[np.float64],
    draws: int,
    lane: Int64 | None = None,
) -> tuple[PoseSamples, NDArray[np.float64]]:
    """Samples of every image's posterior over a whole grid, ``draws`` an image, equal ones drawn together.

    ``offsets (N,)`` are uniform random numbers, one an image; ``lane (N,)`` is the lane of each image, see
    `chunks`; left out: all are in one. Otherwise as in `score_everywhere`.

    Returns
    -------
    tuple
        The samples, sorted by image, and ``(N,)`` log of the mean over the grid of ``exp(score)``.
    """
    found, logs = [NO_SAMPLES], np.empty(len(images))
    kernels = pose_scores(grid.slices.device)
    for part in chunks(_one_lane(images) if lane is None else lane, grid):
        scores = score_everywhere(images.select(part), grid, shift_sigma)
        chosen, log_sums = kernels.sample_posterior(
            native(scores.cross), native(scores.power), scores.prior, offsets[part], draws
        )
        rows, flat, weights = _merge(chosen)
        rotation, shift = flat % len(grid.rotations), flat // len(grid.rotations)
        found.append(PoseSamples(part[rows], grid.rotations[rotation], grid.shifts[shift], weights))
        logs[part] = log_sums - np.log(grid.size)
    return PoseSamples.concatenate(found).sorted(), logs


def _one_lane(images: FourierImages) -> Int64:
    return np.zeros(len(images), np.int64)


def _merge(chosen: Int64) -> tuple[Int64, Int64, Float32]:
    """Row, index and share of the different entries of each row of sorted indices."""
    new = np.ones(chosen.shape, bool)
    new[:, 1:] = chosen[:, 1:] != chosen[:, :-1]
    first = np.flatnonzero(new)
    counts = np.diff(np.append(first, chosen.size))
    rows = first // chosen.shape[1]
    return rows, chosen.reshape(-1)[first], (counts / chosen.shape[1]).astype(np.float32)


def best_everywhere(
    images: FourierImages, grid: PoseGrid, shift_sigma: float, lane: Int64 | None = None
) -> PoseSamples:
    """The best poses of every image on a whole grid, as candidates for `search`; all weights are 1."""
    found = [NO_SAMPLES]
    kernels = pose_scores(grid.slices.device)
    for part in chunks(_one_lane(images) if lane is None else lane, grid):
        scores = score_everywhere(images.select(part), grid, shift_sigma)
        index, count = kernels.best_rotations(
            native(scores.cross), native(scores.power), scores.prior, _MOST_KEPT[0], _MARGIN
        )
        rows, columns = np.nonzero(np.arange(index.shape[1]) < count[:, None])
        flat = index[rows, columns]
        rotation, shift = flat % len(grid.rotations), flat // len(grid.rotations)
        weights = np.ones(len(rows), np.float32)
        found.append(PoseSamples(part[rows], grid.rotations[rotation], grid.shifts[shift], weights))
    return PoseSamples.concatenate(found).sorted()


@dataclass(frozen=True)
class Neighbours:
    """Poses near candidates, scored: each candidate turned and moved in every way of a level.

    ``candidates`` are ``n`` poses, sorted by image, which ``rotations (R, 3, 3)`` turn and ``shift_offsets
    (S, 2)``, pixels, move; ``scores (n, R, S)`` are log posteriors, times two.
    """

    candidates: PoseSamples
    rotations: Float32
    shift_offsets: Float32
    scores: Float32

    @classmethod
    def scored(
        cls,
        images: FourierImages,
        volume: FourierVolume,
        candidates: PoseSamples,
        level: Level,
        shift_sigma: float,
    ) -> Neighbours:
        """Score the neighbours at the frequencies of a level."""
        rotations, shift_offsets = rotations_within(level.spacing), shift_offsets_within(level.shift_step)
        points = half_plane(level.radius, images.box)
        scores = pose_scores(volume.grid.device).score_around(
            native(volume.grid), volume.padding, points, images.box, images.values, images.ctf,
            images.group_precision(), images.group, candidates.image, candidates.rotations, candidates.shifts,
            rotations, shift_offsets, shift_sigma,
        )  # fmt: skip
        return cls(candidates, rotations, shift_offsets, scores)

    def _moved(self, pose: Int64, rotation: Int64, offset: Int64) -> tuple[Float32, Float32]:
        """Rotations and shifts of some neighbours."""
        return (
            self.rotations[rotation] @ self.candidates.rotations[pose],
            self.candidates.shifts[pose] + self.shift_offsets[offset],
        )

    def survivors(self, most: int, count: int) -> PoseSamples:
        """The best turned poses of each of ``count`` images, ``most`` at most, each with its best shift."""
        best_offset = self.scores.argmax(axis=2).reshape(-1)
        height = self.scores.max(axis=2).reshape(-1)
        image = np.repeat(self.candidates.image, len(self.rotations))
        order = np.lexsort((-height, image))
        image, height = image[order], height[order]
        starts = np.searchsorted(image, np.arange(count))
        place = np.arange(len(image)) - starts[image]
        keep = order[(place < most) & (height > height[starts[image]] - _MARGIN)]
        pose, rotation = keep // len(self.rotations), keep % len(self.rotations)
        moved = self._moved(pose, rotation, best_offset[keep])
        return PoseSamples(self.candidates.image[pose], *moved, np.ones(len(keep), np.float32))

    def draw(
        self, offsets: NDArray[np.float64], draws: int, count: int
    ) -> tuple[PoseSamples, NDArray[np.float64]]:
        """Systematic samples from all neighbours of each image's candidates, and logs of their sums."""
        starts = np.searchsorted(self.candidates.image, np.arange(count + 1))
        lengths = np.diff(starts)
        logs = np.empty(count)
        found = [NO_SAMPLES]
        shifts = len(self.shift_offsets)
        each = len(self.rotations) * shifts
        for length in np.unique(lengths):
            # images with as many candidates make one rectangular table
            rows = np.flatnonzero(lengths == length)
            members = starts[rows][:, None] + np.arange(length)
            table = 0.5 * self.scores[members].reshape(len(rows), 1, -1)
            flat_power = np.zeros((len(rows), table.shape[2]), np.float32)
            chosen, logs[rows] = sample_posterior(
                table, flat_power, np.zeros(1, np.float32), offsets[rows], draws
            )
            row, flat, weights = _merge(chosen)
            pose = members[row, flat // each]
            moved = self._moved(pose, flat % each // shifts, flat % shifts)
            found.append(PoseSamples(rows[row], *moved, weights))
        return PoseSamples.concatenate(found).sorted(), logs


def search(
    images: FourierImages,
    volume: FourierVolume,
    candidates: PoseSamples,
    levels: list[Level],
    shift_sigma: float,
    offsets: NDArray[np.float64],
    draws: int,
) -> tuple[PoseSamples, NDArray[np.float64], float]:
    """Samples of every image's posterior near its candidates.

    Parameters
    ----------
    images, volume
        Up to the last level's radius, the images at least.
    candidates
        Poses to begin with, sorted by image, at least one an image.
    levels
        The finer levels, the last of which is drawn from.
    shift_sigma, offsets, draws
        As in `sample_everywhere`.

    Returns
    -------
    tuple
        The samples, ``(N,)`` log of the sum over the last level's poses of ``exp(score)``, and the poses that
        were scored on average.
    """
    scored, kept = 0, _MOST_KEPT[1:]
    for depth, level in enumerate(levels[:-1]):
        near = Neighbours.scored(images, volume, candidates, level, shift_sigma)
        candidates = near.survivors(kept[min(depth, len(kept) - 1)], len(images))
        scored += near.scores.size
    near = Neighbours.scored(images, volume, candidates, levels[-1], shift_sigma)
    samples, logs = near.draw(offsets, draws, len(images))
    return samples, logs, (scored + near.scores.size) / max(1, len(images))
