"""The pruned transforms against sums written out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch

from manyviews.operators import convolution
from manyviews.operators.convolution import Convolution


def even_kernel(shape, rng):
    """``(2 z - 1, 2 y - 1, 2 x - 1)``, the same after a turn through the centre."""
    kernel = rng.normal(size=[2 * n - 1 for n in shape])
    return kernel + kernel[::-1, ::-1, ::-1]


def operator_for(kernel, shape, padded, dtype):
    grid = np.zeros(padded)
    depth, height, width = kernel.shape
    grid[:depth, :height, :width] = kernel
    spectrum = np.fft.rfftn(np.roll(grid, [1 - n for n in shape], axis=(0, 1, 2)))
    assert np.abs(spectrum.imag).max() < 1e-10 * np.abs(spectrum).max()
    return Convolution(shape, padded, torch.from_numpy(spectrum.real.astype(dtype)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("shape", [(3, 8, 9), (1, 7, 12), (5, 6, 1), (4, 4, 4)])
def test_it_is_the_linear_convolution(shape, dtype, tolerance, rng):
    kernel = even_kernel(shape, rng)
    padded = tuple(scipy.fft.next_fast_len(2 * n - 1, real=True) for n in shape)
    x = rng.normal(size=shape).astype(dtype)
    got = operator_for(kernel, shape, padded, dtype).forward(torch.from_numpy(x))
    wanted = scipy.signal.convolve(x.astype(np.float64), kernel, mode="full", method="direct")
    wanted = wanted[tuple(slice(n - 1, 2 * n - 1) for n in shape)]
    assert got.numpy().dtype == dtype
    assert np.linalg.norm(got.numpy() - wanted) < tolerance * np.linalg.norm(wanted)


def test_the_block_size_does_not_matter(rng, monkeypatch):
    shape, padded = (5, 12, 9), (9, 24, 18)
    operator = operator_for(even_kernel(shape, rng), shape, padded, np.float64)
    x = torch.from_numpy(rng.normal(size=shape))
    whole = operator.forward(x)
    monkeypatch.setattr(convolution, "_BLOCK_BYTES", 1)
    torch.testing.assert_close(operator.forward(x), whole, rtol=1e-13, atol=1e-13)


def test_odd_and_even_last_axis_and_the_argument_is_left_alone(rng):
    for width in (17, 18):
        shape = (3, 5, 9)
        operator = operator_for(even_kernel(shape, rng), shape, (5, 9, width), np.float64)
        x = torch.from_numpy(rng.normal(size=shape))
        before = x.clone()
        torch.testing.assert_close(operator.adjoint(x), operator.forward(x))
        assert torch.equal(x, before)
