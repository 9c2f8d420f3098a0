"""Moving images by a phase on their transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.operators.fourier_points import half_plane
from manyviews.operators.linear import LinearOperator, register
from manyviews.random import Stream, generator


def shift_phases(
    shifts: ArrayLike,
    points: NDArray[Any],
    box: int,
    *,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Factors ``exp(-2 pi i k . t / box)`` that move images by ``t``: ``(M, P)`` complex.

    Parameters
    ----------
    shifts
        ``(M, 2)`` (x, y) in pixels; a particle at the origin moves to ``t``. RELION's ``rlnOriginX/Y`` are
        what centres an image: pass them to undo, minus them to imitate.
    points
        ``(P, 2)`` (kx, ky), whole cycles per box.
    """
    frequency = torch.as_tensor(np.asarray(points, dtype=np.int64), device=device)
    moved = torch.as_tensor(np.asarray(shifts, dtype=np.float64) / box, device=device)
    reach = int(frequency.abs().max()) if len(frequency) else 0
    # one factor for kx and one for ky, each a power that few frequencies have
    along = torch.arange(-reach, reach + 1, dtype=torch.float64, device=device)
    angles = -2 * torch.pi * moved[:, :, None] * along
    powers = torch.complex(torch.cos(angles), torch.sin(angles)).to(dtype)
    return powers[:, 0, frequency[:, 0] + reach] * powers[:, 1, frequency[:, 1] + reach]


class ImageShift(LinearOperator):
    """Move images given by their transforms ``(M, P, 2)``; the adjoint moves them back.

    Parameters
    ----------
    shifts
        ``(M, 2)`` (x, y) in pixels.
    points
        ``(P, 2)`` (kx, ky) in cycles per box.
    """

    def __init__(self, shifts: ArrayLike, points: NDArray[Any], box: int) -> None:
        self.shifts = np.asarray(shifts, dtype=np.float64)
        self.points = np.asarray(points)
        self.box = box
        self.domain = self.range = (len(self.shifts), len(self.points), 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images moved by the shifts."""
        return torch.view_as_real(torch.view_as_complex(x.contiguous()) * self._phases(x))

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Images moved back."""
        return torch.view_as_real(torch.view_as_complex(y.contiguous()) * self._phases(y).conj())

    def normal(self, x: torch.Tensor) -> torch.Tensor:
        """The images themselves: a shift is unitary."""
        return x.clone()

    def _phases(self, like: torch.Tensor) -> torch.Tensor:
        kind = torch.complex64 if like.dtype == torch.float32 else torch.complex128
        return shift_phases(self.shifts, self.points, self.box, dtype=kind, device=like.device)


@register("image shift")
def _example(case: int) -> ImageShift:
    box = (9, 10, 12)[case]
    shifts = generator(0, Stream.TEST, case).normal(size=(4, 2)) * 3
    return ImageShift(shifts, half_plane(box // 2, box), box)
