"""Moving images by a phase on their transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray


def shift_phases(
    shifts: ArrayLike,
    points: NDArray[Any],
    box: int,
    *,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Factors ``exp(-2 pi i k . t / box)`` that move images by ``t``: ``(M, P)`` complex.

    ``shifts (M, 2)`` are (x, y) in pixels; a particle at the origin moves to ``t``. RELION's ``rlnOriginX/Y``
    are what centres an image: pass them to undo, minus them to imitate. ``points (P, 2)`` are (kx, ky), whole
    cycles per box.
    """
    frequency = torch.as_tensor(np.asarray(points, dtype=np.int64), device=device)
    moved = torch.as_tensor(np.asarray(shifts, dtype=np.float64) / box, device=device)
    reach = int(frequency.abs().max()) if len(frequency) else 0
    # one factor for kx and one for ky, each a power that few frequencies have
    along = torch.arange(-reach, reach + 1, dtype=torch.float64, device=device)
    angles = -2 * torch.pi * moved[:, :, None] * along
    powers = torch.complex(torch.cos(angles), torch.sin(angles)).to(dtype)
    return powers[:, 0, frequency[:, 0] + reach] * powers[:, 1, frequency[:, 1] + reach]
