"""Every registered operator and its adjoint belong together."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
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


@pytest.fixture(scope="module")
def made():
    """Every case of every operator, once: some take a moment to be made."""
    return {(name, case): OPERATORS[name](case) for name, case in CASES}


def other_shapes(shape):
    """Shapes that are not ``shape``: other sides, an axis more or less, another order, anything."""
    near = st.tuples(*(st.integers(max(0, side - 2), side + 2) for side in shape))
    fewer_or_more = st.sampled_from([shape[1:], shape[:-1], (1, *shape), (*shape, 1), ()])
    anything = st.lists(st.integers(0, 6), max_size=4).map(tuple)
    return st.one_of(near, fewer_or_more, st.permutations(shape).map(tuple), anything).filter(
        lambda other: other != shape
    )


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_other_shapes_and_arrays_are_refused_with_both_shapes(name, made):
    @settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @given(data=st.data())
    def refused(data):
        operator = made[name, data.draw(st.integers(0, 2))]
        apply, shape = data.draw(
            st.sampled_from(
                [
                    (operator.forward, tuple(operator.domain)),
                    (operator.normal, tuple(operator.domain)),
                    (operator.adjoint, tuple(operator.range)),
                ]
            )
        )
        other = data.draw(other_shapes(shape))
        dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
        with pytest.raises(InputError, match=re.escape(f"wants shape {shape}, not {other}")):
            apply(torch.zeros(other, dtype=dtype))
        with pytest.raises(
            InputError,
            match=re.escape(f"wants a torch tensor of shape {shape}, not ndarray; use torch.from_numpy"),
        ):
            apply(np.zeros(shape, np.float32))

    refused()


def test_a_name_is_registered_once():
    name = next(iter(OPERATORS))
    with pytest.raises(ValueError, match="registered already"):
        register(name)(OPERATORS[name])
