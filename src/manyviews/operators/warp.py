"""Images deformed by a flow: read at moved places, or their mass moved. Each is the other's transpose."""

from __future__ import annotations

import numpy as np
import torch

from manyviews.errors import InputError
from manyviews.kernels.warp_cpu import ORDERS, Real, pull_back, push_forward
from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.random import Stream, generator

__all__ = ["PullBack", "PushForward"]


class _Warp(LinearOperator):
    """A flow, and images read or moved by it, on the CPU.

    Parameters
    ----------
    flow
        ``(n, 2, z, x)`` in pixels: along x (columns), then along z (rows). NumPy array, not copied.
    order
        Of the interpolation: 1 linear, 3 cubic.

    Raises
    ------
    InputError
        If the flow has another shape, or there is no such order.
    """

    def __init__(self, flow: Real, order: int = 3) -> None:
        if flow.ndim != 4 or flow.shape[1] != 2:
            raise InputError(f"a flow is (views, 2, z, x), not {flow.shape}")
        if order not in ORDERS:
            raise InputError(f"no interpolation of order {order}", fix="take 1 (linear) or 3 (cubic)")
        self.flow = np.ascontiguousarray(flow)
        self.order = order
        self.domain = self.range = (len(flow), *flow.shape[2:])

    def _pull(self, x: torch.Tensor) -> torch.Tensor:
        require_shape(x, self.domain, type(self).__name__)
        return torch.from_numpy(pull_back(x.detach().numpy(), self.flow, self.order))

    def _push(self, x: torch.Tensor) -> torch.Tensor:
        require_shape(x, self.domain, type(self).__name__)
        return torch.from_numpy(push_forward(x.detach().numpy(), self.flow, self.order))


class PullBack(_Warp):
    """``(D_f p)(z, x) = p(z + f_z, x + f_x)``: beyond the edge the edge is read."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Read images ``(n, z, x)`` at moved places."""
        return self._pull(x)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Move the mass of images ``(n, z, x)``."""
        return self._push(y)


class PushForward(_Warp):
    """The mass of every pixel moved to ``(z + f_z, x + f_x)``; what leaves the image lands on its edge."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Move the mass of images ``(n, z, x)``."""
        return self._push(x)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Read images ``(n, z, x)`` at moved places."""
        return self._pull(y)


def _test_flow(case: int) -> Real:
    rng = generator(case, Stream.TEST)
    shape = ((2, 9, 14), (3, 70, 11), (1, 16, 133))[case]
    return np.asarray(3 * rng.standard_normal((shape[0], 2, *shape[1:])), dtype=np.float32)


@register("pull-back, linear")
def _pull_back_linear(case: int) -> LinearOperator:
    return PullBack(_test_flow(case), order=1)


@register("pull-back, cubic")
def _pull_back_cubic(case: int) -> LinearOperator:
    return PullBack(_test_flow(case), order=3)


@register("push-forward")
def _push_forward(case: int) -> LinearOperator:
    return PushForward(_test_flow(case), order=(1, 3, 3)[case])
