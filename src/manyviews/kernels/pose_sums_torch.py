"""Adding images to a volume's transform at weighted poses in torch, on any device.

The same function as in `manyviews.kernels.pose_sums_cpu`. On CUDA the order of atomic sums, and so the last
bits, may differ between runs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.pose_scores_torch import moving_phases, pieces
from manyviews.kernels.slices_torch import splat_weighted

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


def add_images(
    numerators: torch.Tensor,
    denominators: torch.Tensor,
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
    weights: Float32,
    starts: Int64,
) -> None:
    """Add poses in place; see `manyviews.kernels.pose_sums_cpu.add_images`. The grids are tensors."""
    device, count = numerators.device, len(points)
    frequencies = torch.from_numpy(points).to(device)
    noise_weight = torch.from_numpy(precision[:, :count]).to(device)
    for lane in range(len(numerators)):
        first, last = int(starts[lane]), int(starts[lane + 1])
        for piece in pieces(last - first, count):
            chosen = slice(first + piece.start, first + piece.stop)
            whose = image[chosen]
            pose, place, weight = (
                torch.from_numpy(np.ascontiguousarray(part[chosen])).to(device)
                for part in (rotations, shifts, weights)
            )
            seen_by = torch.from_numpy(ctf[whose, :count]).to(device)
            data = torch.from_numpy(values[whose, :count]).to(device)
            weighted = seen_by * noise_weight[torch.from_numpy(group[whose]).to(device).long()]
            weighted *= weight[:, None]
            centred = weighted * data * moving_phases(place, frequencies, box)
            splat_weighted(
                numerators[lane], denominators[lane], pose, frequencies, centred, weighted * seen_by, padding
            )
