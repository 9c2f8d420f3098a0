"""Every registered operator and its adjoint belong together."""

from __future__ import annotations

import pytest
import torch

from manyviews.operators.linear import dot_test, register, registered_operators

OPERATORS = registered_operators()
CASES = [(name, case) for name in sorted(OPERATORS) for case in range(3)]


def test_the_projectors_and_the_convolution_are_registered():
    assert {"tilt projector", "slab projector", "convolution"} <= set(OPERATORS)


@pytest.mark.parametrize(("name", "case"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_dot_test(name, case, dtype, tolerance):
    operator = OPERATORS[name](case)
    assert max(dot_test(operator, dtype=dtype, seed=seed) for seed in range(3)) <= tolerance


@pytest.mark.parametrize(("name", "case"), CASES)
def test_shapes_and_dtype_follow_the_argument(name, case):
    operator = OPERATORS[name](case)
    for dtype in (torch.float32, torch.float64):
        image = operator.forward(torch.zeros(operator.domain, dtype=dtype))
        assert (tuple(image.shape), image.dtype) == (tuple(operator.range), dtype)
        volume = operator.adjoint(torch.zeros(operator.range, dtype=dtype))
        assert (tuple(volume.shape), volume.dtype) == (tuple(operator.domain), dtype)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_normal_is_adjoint_of_forward(name):
    operator = OPERATORS[name](0)
    x = torch.randn(operator.domain, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    torch.testing.assert_close(operator.normal(x), operator.adjoint(operator.forward(x)))


def test_a_name_is_registered_once():
    name = next(iter(OPERATORS))
    with pytest.raises(ValueError, match="registered already"):
        register(name)(OPERATORS[name])
