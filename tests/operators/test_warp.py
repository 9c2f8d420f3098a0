"""The two deformations of images; their dot test is in test_operators_registry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.kernels.warp_cpu import pull_back
from manyviews.operators.warp import PullBack, PushForward


def test_one_reads_and_the_other_moves(rng):
    flow = rng.standard_normal((2, 2, 8, 9))
    x = torch.from_numpy(rng.standard_normal((2, 8, 9)))
    read, moved = PullBack(flow), PushForward(flow)
    np.testing.assert_array_equal(read.forward(x).numpy(), pull_back(x.numpy(), flow))
    assert torch.equal(read.forward(x), moved.adjoint(x))
    assert torch.equal(read.adjoint(x), moved.forward(x))


def test_a_zero_flow_is_the_identity(rng):
    x = torch.from_numpy(rng.standard_normal((2, 8, 9)))
    for order in (1, 3):
        assert torch.equal(PullBack(np.zeros((2, 2, 8, 9)), order).forward(x), x)
        assert torch.equal(PushForward(np.zeros((2, 2, 8, 9)), order).forward(x), x)


def test_a_flow_of_another_shape_and_an_unknown_order_are_refused():
    with pytest.raises(InputError, match=r"a flow is \(views, 2, z, x\), not \(2, 8, 9\)"):
        PullBack(np.zeros((2, 8, 9)))
    with pytest.raises(InputError, match="order 2; take 1"):
        PushForward(np.zeros((1, 2, 8, 9)), order=2)
