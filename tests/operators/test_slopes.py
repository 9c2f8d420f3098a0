"""Slopes used at once, against the three volumes they stand for, whole and in slabs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.operators.differences import differences, divergence
from manyviews.operators.slopes import products_of_slopes, pull, pull_by_torch, shorten, shorten_by_torch
from manyviews.random import Stream, generator
from thread_world import run_ranks

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE, REACH = (7, 5, 6), 0.8
PARTS = [slice(0, 3), slice(3, 4), slice(4, 7)]


def noise(number):
    return torch.from_numpy(generator(0, Stream.TEST, number).standard_normal(SHAPE))


def some_duals():
    """No slope leads out of the volume."""
    return tuple(differences(0.3 * noise(5)))


def room():
    return torch.empty(SHAPE, dtype=torch.float64)


def test_products_are_those_of_the_gradients():
    u, v = noise(1), noise(2)
    a, b = differences(u), differences(v)
    expected = [float((one * other).sum()) for one, other in ((a, a), (a, b), (b, b))]
    np.testing.assert_allclose(products_of_slopes(u, v), expected, rtol=1e-12)


def test_slopes_are_shortened_and_pulled_back():
    u, duals = noise(1), some_duals()
    slopes = differences(u)
    both = slopes + torch.stack(duals)
    length = torch.sqrt((both**2).sum(dim=0))
    expected = both * (REACH / torch.clamp(length, min=REACH))
    found, lengths = shorten(u, duals, REACH, room)
    torch.testing.assert_close(torch.stack(found), expected)
    assert lengths == pytest.approx(float(torch.sqrt((slopes**2).sum(dim=0)).sum()))
    torch.testing.assert_close(
        pull(found, duals, room), -divergence(2 * expected - torch.stack(duals)), atol=1e-12, rtol=1e-12
    )


def test_slabs_are_parts_of_the_whole():
    u, v, duals = noise(1), noise(2), some_duals()
    new, lengths = shorten(u, duals, REACH, room)
    whole = pull(new, duals, room)

    def slab(world):
        own = PARTS[world.rank]
        part, old = u[own].clone(), tuple(one[own].clone() for one in duals)

        def allocate():
            return torch.empty_like(part)

        found, length = shorten(part, old, REACH, allocate, world)
        pulled = pull(found, old, allocate, world)
        return products_of_slopes(part, v[own].clone(), world), torch.stack(found), length, pulled

    products, parts, sums, pulled = zip(*run_ranks(3, slab), strict=True)
    np.testing.assert_allclose(np.sum(products, axis=0), products_of_slopes(u, v), rtol=1e-12)
    torch.testing.assert_close(torch.cat(parts, dim=1), torch.stack(new))
    assert sum(sums) == pytest.approx(lengths)
    torch.testing.assert_close(torch.cat(pulled), whole)


def test_torch_does_the_same_on_other_devices():
    u, duals = noise(1), some_duals()
    found, lengths = shorten(u, duals, REACH, room)
    other, others = shorten_by_torch(u, duals, REACH)
    torch.testing.assert_close(torch.stack(other), torch.stack(found))
    assert others == pytest.approx(lengths)
    torch.testing.assert_close(pull_by_torch(other, duals), pull(found, duals, room), atol=1e-12, rtol=1e-12)
