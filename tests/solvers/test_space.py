import math

import numpy as np
import pytest
import torch

from manyviews.parallel.world import SingleWorld
from manyviews.solvers.space import Space


class Three(SingleWorld):
    """This process and two more that hold the same values."""

    def sum(self, tensor):
        return 3 * tensor

    def gather(self, value):
        return [value, value - 1.0, value + 1.0]


def spaces(like):
    return Space.like(like), Space(lambda: torch.empty_like(like), Three())


def test_inner_product_of_volumes_in_any_memory_order():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 3, 4, 5))
    turned = torch.from_numpy(np.ascontiguousarray(b.T)).permute(2, 1, 0)
    one, three = spaces(turned)
    assert one.inner(torch.from_numpy(a), turned) == pytest.approx(float((a * b).sum()))
    assert three.inner(torch.from_numpy(a), turned) == pytest.approx(3 * float((a * b).sum()))


def test_inner_product_adds_up_in_double_precision():
    """A sum that float32 would lose: one plane large, the others small."""
    x = torch.ones(65, 1, 1)
    x[0] = 2.0**13
    assert Space.like(x).inner(x, x) == 2.0**26 + 64


def test_new_vectors_leave_the_old_ones():
    a, b = torch.arange(8.0).reshape(2, 2, 2), torch.ones(2, 2, 2)
    space = Space.like(a)
    assert torch.equal(space.add(a, b, -2.0), a - 2)
    assert torch.equal(space.lerp(a, b, 0.5), (a + b) / 2)
    assert torch.equal(space.copy(a), a)
    assert space.copy(a) is not a
    assert not space.zeros().any()
    assert torch.equal(a, torch.arange(8.0).reshape(2, 2, 2))


def test_norms_and_extremes_go_over_all_slabs():
    a = torch.tensor([[[3.0, -4.0]]])
    one, three = spaces(a)
    assert (one.norm(a), one.extremes(a)) == (5.0, (-4.0, 3.0))
    assert three.norm(a) == pytest.approx(math.sqrt(75))
    assert three.extremes(a) == (-5.0, 4.0)
    assert three.distance(a, torch.zeros_like(a)) == pytest.approx(math.sqrt(75))


@pytest.mark.parametrize("number", [0, 1])
def test_one_voxel_that_is_no_number_is_not_lost(number):
    a = torch.zeros(2, 2, 2)
    a[1, 1, 0] = math.nan
    assert all(math.isnan(value) for value in spaces(a)[number].extremes(a))
