"""A volume read at moved places, with its exact transpose."""

from __future__ import annotations

import numpy as np
import torch

from manyviews.errors import InputError
from manyviews.kernels.warp_cpu import ORDERS
from manyviews.kernels.warp_volume_cpu import Real, pull_volume, push_volume
from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.random import Stream, generator


class PullBackVolume(LinearOperator):
    """``(W_w u)(X) = u(X + w(X))`` on the CPU: beyond the edge the edge is read.

    Parameters
    ----------
    displacement
        ``(3, z, y, x)`` in voxels along z, y and x. NumPy array, not copied.
    order
        Of the interpolation: 1 linear, 3 cubic.

    Raises
    ------
    InputError
        If the displacement has another shape, or there is no such order.
    """

    def __init__(self, displacement: Real, order: int = 3) -> None:
        if displacement.ndim != 4 or displacement.shape[0] != 3:
            raise InputError(f"a displacement of a volume is (3, z, y, x), not {displacement.shape}")
        if order not in ORDERS:
            raise InputError(f"no interpolation of order {order}", fix="take 1 (linear) or 3 (cubic)")
        self.displacement = displacement
        self.order = order
        self.domain = self.range = displacement.shape[1:]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Read ``(z, y, x)`` at moved places."""
        require_shape(x, self.domain, "the pull-back of a volume")
        return torch.from_numpy(pull_volume(x.detach().numpy(), self.displacement, self.order))

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Move what is in each voxel of ``(z, y, x)``."""
        require_shape(y, self.domain, "the transpose of the pull-back of a volume")
        return torch.from_numpy(push_volume(y.detach().numpy(), self.displacement, self.order))


def _test_displacement(case: int) -> Real:
    shape = ((5, 6, 7), (1, 9, 4), (8, 3, 2))[case]
    moved = 2 * generator(case, Stream.TEST).standard_normal((3, *shape))
    return np.asarray(moved, dtype=np.float32)


@register("pull-back of a volume, linear")
def _linear(case: int) -> LinearOperator:
    return PullBackVolume(_test_displacement(case), order=1)


@register("pull-back of a volume, cubic")
def _cubic(case: int) -> LinearOperator:
    return PullBackVolume(_test_displacement(case), order=3)
