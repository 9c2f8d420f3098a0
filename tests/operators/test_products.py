"""Inner products and distances of volumes: of any layout and type, and the same for any number of threads."""

import numpy as np
import pytest
import torch

from manyviews.operators.products import inner_product, squared_distance


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def pair(rng, shape, dtype):
    return tuple(torch.from_numpy(rng.normal(size=shape).astype(dtype)) for _ in range(2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 30, 41), (1, 1, 1), (300, 40, 40), (4, 6), (0, 3, 3)])
def test_they_are_those_of_numpy_in_float64(rng, shape, dtype):
    a, b = pair(rng, shape, dtype)
    first, second = a.double().numpy(), b.double().numpy()
    scale = 1e-6 * max(1, first.size)
    assert inner_product(a, b) == pytest.approx(float((first * second).sum()), abs=scale)
    assert squared_distance(a, b) == pytest.approx(float(((first - second) ** 2).sum()), rel=1e-6)


def test_volumes_that_lie_apart_in_memory_give_the_same(rng):
    a, b = pair(rng, (6, 8, 10), np.float32)
    apart = torch.zeros(6, 8, 20)[:, :, ::2].copy_(b)
    assert inner_product(a, apart) == pytest.approx(inner_product(a, b), rel=1e-5)
    assert squared_distance(a, apart) == pytest.approx(squared_distance(a, b), rel=1e-5)


def test_the_number_of_threads_changes_no_bit(rng, threads):
    a, b = pair(rng, (70, 65, 130), np.float32)
    found = []
    for number in (1, 2, 5):
        threads(number)
        found.append((inner_product(a, b), squared_distance(a, b)))
    assert found[0] == found[1] == found[2]


def test_what_float32_would_lose_counts():
    a = torch.ones(2, 64, 64)
    a[:, 0, 0] = 2.0**13
    assert inner_product(a, a) == 2 * (2.0**26 + 64 * 64 - 1)


def test_volumes_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        inner_product(torch.ones(2, 3, 4), torch.ones(2, 4, 3))
