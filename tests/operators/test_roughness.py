"""Powers of minus the Laplacian, in frequency and in space."""

import numpy as np
import torch

from manyviews.operators.convolution import Convolution
from manyviews.operators.differences import add_laplacian
from manyviews.operators.roughness import add_roughness

GRID = (9, 12, 15)


def rough(x, coefficients):
    """In space, on a ring of voxels."""
    out, power = torch.zeros_like(x), x
    for factor in coefficients:
        turned = [torch.roll(power, step, axis) for axis in range(3) for step in (1, -1)]
        power = 6.0 * power - sum(turned)
        out += factor * power
    return out


def test_the_spectrum_is_that_of_the_operator_on_a_ring():
    x = torch.randn(GRID, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spectrum = torch.zeros((9, 12, 8), dtype=torch.float64)
    add_roughness(spectrum, (0.5, 0.0, 2.0), GRID, np.arange(12))
    found = torch.fft.irfftn(torch.fft.rfftn(x) * spectrum, s=GRID)
    torch.testing.assert_close(found, rough(x, (0.5, 0.0, 2.0)))


def test_it_adds_to_what_is_there_in_some_rows():
    whole = add_roughness(torch.ones((9, 12, 8)), (3.0, 1.0), GRID, np.arange(12))
    rows = np.array([1, 5, 11])
    some = add_roughness(torch.ones((9, 3, 8)), (3.0, 1.0), GRID, rows)
    assert torch.equal(some, whole[:, rows])
    assert float(whole[0, 0, 0]) == 1.0


def test_inside_a_volume_it_is_minus_the_laplacian():
    x = torch.zeros((6, 7, 8))
    x[2:4, 3:5, 3:5] = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(1))
    grid = (11, 14, 16)
    spectrum = add_roughness(torch.zeros((11, 14, 9)), (2.0,), grid, np.arange(14))
    wanted = torch.zeros_like(x)
    add_laplacian(x, 2.0, wanted)
    torch.testing.assert_close(Convolution((6, 7, 8), grid, spectrum).forward(x), wanted, atol=1e-5, rtol=0)
