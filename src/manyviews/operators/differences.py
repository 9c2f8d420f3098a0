"""Differences of neighbouring voxels along z, y and x, their transpose, and the two at once.

``slabs`` are ranks that share a volume, of whose slices each has some.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.columns_cpu import add_laplacian as _add_laplacian
from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.operators.slice_threads import each_block
from manyviews.parallel.world import World

Array = NDArray[np.floating[Any]]


def differences(x: torch.Tensor, slabs: World | None = None) -> torch.Tensor:
    """Forward differences along z, y, x: ``(3, z, y, x)``, zero at the far ends of the whole volume."""
    out = x.new_zeros((3, *x.shape))
    out[0, :-1] = x[1:] - x[:-1]
    out[1, :, :-1] = x[:, 1:] - x[:, :-1]
    out[2, :, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    after = None if slabs is None else slabs.shift(x[0].contiguous(), -1)
    if after is not None:
        out[0, -1] = after - x[-1]
    return out


def divergence(d: torch.Tensor, slabs: World | None = None) -> torch.Tensor:
    """Minus the adjoint of `differences`; differences at the far ends are zero, or lead to the next slab."""
    out = d[0].clone()
    out[1:] -= d[0, :-1]
    before = None if slabs is None else slabs.shift(d[0, -1].contiguous(), 1)
    if before is not None:
        out[0] -= before
    out[:, :-1] += d[1, :, :-1]
    out[:, 1:] -= d[1, :, :-1]
    out[:, :, :-1] += d[2, :, :, :-1]
    out[:, :, 1:] -= d[2, :, :, :-1]
    return out


def add_laplacian(x: torch.Tensor, scale: float, out: torch.Tensor, slabs: World | None = None) -> None:
    """Add ``-scale div grad x`` to ``out`` in place: ``(z, y, x)`` both."""
    if x.is_cuda:
        out.sub_(divergence(differences(x, slabs), slabs), alpha=scale)
        return
    first, last = neighbour_slices(x, slabs)
    volume, written = x.detach().numpy(), out.detach().numpy()
    factor = volume.dtype.type(scale)

    def some(_: None, z: slice) -> None:
        _add_laplacian(volume, first, last, factor, z.start, z.stop, written)

    each_block(len(volume), 16, 0, lambda: None, some)


def neighbour_slices(x: torch.Tensor, slabs: World | None) -> tuple[Array, Array]:
    """The slices ``(0 or 1, y, x)`` in front of and behind this rank's part of a volume."""
    if slabs is None:
        return x[:0].detach().numpy(), x[:0].detach().numpy()
    before, after = slabs.shift(x[-1].contiguous(), 1), slabs.shift(x[0].contiguous(), -1)
    front, behind = (x[:0] if end is None else end[None] for end in (before, after))
    return front.detach().numpy(), behind.detach().numpy()


class Differences(LinearOperator):
    """The gradient of a volume ``(z, y, x)``: `differences` of a whole one; ``range`` is ``(3, z, y, x)``."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.domain = shape
        self.range = (3, *shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(3, z, y, x)``."""
        require_shape(x, self.domain, "the gradient")
        return differences(x)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Minus the divergence, of what `forward` can give: what lies at the far ends does not count."""
        require_shape(y, self.range, "the divergence")
        inside = y.clone()
        inside[0, -1] = 0.0
        inside[1, :, -1] = 0.0
        inside[2, :, :, -1] = 0.0
        return divergence(inside).neg_()

    def normal(self, x: torch.Tensor) -> torch.Tensor:
        """Minus the Laplacian, in one pass."""
        require_shape(x, self.domain, "the Laplacian")
        out = torch.zeros_like(x, memory_format=torch.contiguous_format)
        add_laplacian(x, 1.0, out)
        return out


@register("differences")
def _test_instance(case: int) -> LinearOperator:
    return Differences(((3, 5, 7), (4, 6, 2), (1, 9, 4))[case])
