"""Log likelihoods of poses and samples of their posterior in torch, on any device.

The same functions as in `manyviews.kernels.pose_scores_cpu`, with the same meaning and arithmetic; they work
where the grid or the scores lie. What they go through is cut into pieces, so that memory stays bounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.slices_torch import gather_slices

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
_ELEMENTS_AT_ONCE = 2**24


def pieces(count: int, elements: int) -> Iterator[slice]:
    """Slices of ``count`` things of so many elements each, as many at once as memory is meant for."""
    step = max(1, _ELEMENTS_AT_ONCE // max(1, elements))
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def moving_phases(shifts: torch.Tensor, points: torch.Tensor, box: int) -> torch.Tensor:
    """``(M, P)`` complex64: what moves images by ``(M, 2)`` pixels, at ``(P, 2)`` frequencies."""
    angle = (-2 * math.pi / box) * (shifts.double() @ points.double().T)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def score_around(
    grid: torch.Tensor,
    padding: int,
    points: NDArray[np.int32],
    box: int,
    values: NDArray[np.complex64],
    ctf: Float32,
    precision: Float32,
    group: NDArray[np.int32],
    image: Int64,
    rotations: Float32,
    shifts: Float32,
    turns: Float32,
    steps: Float32,
    shift_sigma: float,
) -> Float32:
    """Scores ``(Q, J, K)``; see `manyviews.kernels.pose_scores_cpu.score_around`. The grid is a tensor."""
    device, count = grid.device, len(points)
    out = np.empty((len(image), len(turns), len(steps)), np.float32)
    frequencies, turn, step = (torch.from_numpy(part).to(device) for part in (points, turns, steps))
    waves = moving_phases(step, frequencies, box).T
    weight = torch.from_numpy(precision[:, :count]).to(device)
    for chosen in pieces(len(image), len(turns) * count):
        whose = image[chosen]
        seen_by = torch.from_numpy(ctf[whose, :count]).to(device)
        data = torch.from_numpy(values[whose, :count]).to(device)
        weighted = seen_by * weight[torch.from_numpy(group[whose]).to(device).long()]
        place = torch.from_numpy(np.ascontiguousarray(shifts[chosen])).to(device)
        pose = torch.from_numpy(np.ascontiguousarray(rotations[chosen])).to(device)
        data = weighted * data * moving_phases(place, frequencies, box)
        turned = (turn @ pose[:, None]).reshape(-1, 3, 3)
        seen = gather_slices(grid, turned, frequencies, padding).view(len(whose), len(turns), count)
        strength = seen.real.square() + seen.imag.square()
        norm = (strength @ (weighted * seen_by)[:, :, None])[..., 0]
        cross = ((data[:, None] * seen.conj()) @ waves).real
        distance = (place[:, None] + step).square().sum(-1)
        score = 2 * cross - norm[..., None] - (0.5 / shift_sigma**2) * distance[:, None]
        out[chosen] = score.cpu().numpy()
    return out


def sample_posterior(
    cross: torch.Tensor, power: torch.Tensor, prior: Float32, offsets: NDArray[np.float64], draws: int
) -> tuple[Int64, NDArray[np.float64]]:
    """Systematic samples; see `manyviews.kernels.pose_scores_cpu.sample_posterior`. Scores are tensors."""
    device = cross.device
    chosen = np.empty((len(cross), draws), np.int64)
    log_sums = np.empty(len(cross), np.float64)
    heights = torch.from_numpy(prior).to(device)[:, None]
    for part in pieces(len(cross), cross[0].numel() if len(cross) else 1):
        score = (2 * cross[part] - power[part, None] + heights).flatten(1)
        best = score.amax(1, keepdim=True)
        total = (score - best).exp_().cumsum(1, dtype=torch.float64)
        start = torch.from_numpy(offsets[part]).to(device)[:, None]
        wanted = (torch.arange(draws, device=device) + start) * (total[:, -1:] / draws)
        found = torch.searchsorted(total, wanted, right=True)
        # rounding may lead beyond the last pose that has any weight
        last = torch.searchsorted(total, total[:, -1:].contiguous())
        chosen[part] = torch.minimum(found, last).cpu().numpy()
        log_sums[part] = (best[:, 0].double() + total[:, -1].log()).cpu().numpy()
    return chosen, log_sums


def best_rotations(
    cross: torch.Tensor, power: torch.Tensor, prior: Float32, most: int, margin: float
) -> tuple[Int64, Int64]:
    """The best rotations; see `manyviews.kernels.pose_scores_cpu.best_rotations`. Scores are tensors."""
    index = np.zeros((len(cross), most), np.int64)
    count = np.zeros(len(cross), np.int64)
    rotations = cross.shape[2]
    heights = torch.from_numpy(prior).to(cross.device)[:, None]
    for part in pieces(len(cross), cross[0].numel() if len(cross) else 1):
        highest, shift = (2 * cross[part] + heights).max(1)
        height, rotation = (highest - power[part]).topk(min(most, rotations), dim=1)
        flat = shift.gather(1, rotation) * rotations + rotation
        valid = (height >= height[:, :1] - margin).sum(1)
        index[part, : flat.shape[1]] = flat.cpu().numpy()
        count[part] = valid.cpu().numpy()
    return index, count
