"""The gradient of volumes, and the Laplacian of slabs."""

import numpy as np
import torch

from manyviews.operators.differences import Differences, add_laplacian, differences
from manyviews.random import Stream, generator
from thread_world import run_ranks


def noise(shape):
    return torch.from_numpy(generator(0, Stream.TEST, len(shape)).standard_normal(shape))


def test_differences_are_those_of_numpy():
    x = noise((3, 4, 5))
    for axis, found in enumerate(differences(x)):
        expected = np.diff(x.numpy(), axis=axis)
        inside = tuple(slice(0, n) for n in expected.shape)
        np.testing.assert_array_equal(found.numpy()[inside], expected)
        assert torch.count_nonzero(found) == expected.size


def test_the_laplacian_of_slabs_is_that_of_the_whole():
    x = noise((7, 5, 4))
    whole = Differences(tuple(x.shape)).adjoint(differences(x))
    torch.testing.assert_close(Differences(tuple(x.shape)).normal(x), whole)
    parts = [slice(0, 3), slice(3, 4), slice(4, 7)]

    def slab(world):
        part = x[parts[world.rank]].clone()
        out = torch.ones_like(part)
        add_laplacian(part, 2.0, out, world)
        return out

    torch.testing.assert_close(torch.cat(run_ranks(3, slab)), 2.0 * whole + 1.0)
