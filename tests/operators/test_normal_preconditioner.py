"""The preconditioner is self-adjoint, positive, near the inverse, and the same in slabs."""

import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.convolution import Convolution
from manyviews.operators.differences import add_laplacian
from manyviews.operators.normal_preconditioner import normal_preconditioner, periodic_preconditioner
from manyviews.operators.roughness import add_roughness
from manyviews.operators.slab_projector import SlabProjector
from manyviews.operators.view_kernel import make_kernel
from manyviews.parallel.world import shares
from manyviews.random import Stream, generator
from thread_world import run_ranks

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE, SMOOTHNESS, SHIFT = (7, 12, 14), 30.0, 10.0
GEOMETRY = TiltGeometry.concatenate(
    [
        TiltGeometry.from_tilt_axis(np.linspace(-60, 60, 9), axis, series=k)
        for k, axis in enumerate((0.0, 90.0))
    ]
)


def kernel(exchange=None, **options):
    groups = SlabProjector(GEOMETRY, SHAPE, SHAPE[1:], exchange=exchange).groups
    return make_kernel(
        groups, np.ones(len(GEOMETRY)), SHAPE, circulant=True, periodic=True, exchange=exchange, **options
    )


def noise(number):
    return torch.from_numpy(generator(0, Stream.TEST, number).standard_normal(SHAPE))


def test_it_is_self_adjoint_and_positive():
    found = normal_preconditioner(kernel(dtype=torch.float64), SHAPE, SMOOTHNESS, SHIFT)
    x, y = noise(1), noise(2)
    assert float((found.forward(x) * y).sum()) == pytest.approx(float((x * found.forward(y)).sum()), rel=1e-9)
    assert float((x * found.forward(x)).sum()) > 0.0


def condition(operator):
    values = torch.linalg.eigvals(operator).real
    return float(values.max() / values.min())


def test_it_makes_the_hessian_nearly_a_unit_matrix():
    views = kernel(dtype=torch.float64)
    normal = Convolution.from_kernel(views, SHAPE)
    found = normal_preconditioner(views, SHAPE, SMOOTHNESS, SHIFT)
    unit = torch.eye(int(np.prod(SHAPE)), dtype=torch.float64).view(-1, *SHAPE)

    def bent(x):
        out = normal.forward(x).add_(x, alpha=SHIFT)
        add_laplacian(x, SMOOTHNESS, out)
        return out

    hessian = torch.stack([bent(x).flatten() for x in unit])
    both = torch.stack([found.forward(bent(x)).flatten() for x in unit])
    assert condition(both) < 0.4 * condition(hessian)


def test_slabs_are_parts_of_the_whole():
    x = noise(3).float()
    whole = normal_preconditioner(kernel(), SHAPE, SMOOTHNESS, SHIFT).forward(x)

    def slab(world):
        own = shares(SHAPE[0], world.size)[world.rank]
        found = normal_preconditioner(kernel(world), SHAPE, SMOOTHNESS, SHIFT, exchange=world)
        return found.forward(x[own].contiguous())

    for ranks in (2, 3):
        torch.testing.assert_close(torch.cat(run_ranks(ranks, slab)), whole, atol=1e-7, rtol=1e-4)


ROUGHNESS = (0.5, 2.0)


def test_the_periodic_one_is_self_adjoint_positive_and_near_the_inverse():
    views = kernel(dtype=torch.float64)
    found = periodic_preconditioner(views.periodic, SHAPE, ROUGHNESS, SHIFT)
    x, y = noise(1), noise(2)
    assert float((found.forward(x) * y).sum()) == pytest.approx(float((x * found.forward(y)).sum()), rel=1e-9)
    assert float((x * found.forward(x)).sum()) > 0.0
    spectrum = add_roughness(views.spectrum.clone(), ROUGHNESS, views.padded, np.arange(views.padded[1]))
    normal = Convolution(SHAPE, views.padded, spectrum)
    unit = torch.eye(int(np.prod(SHAPE)), dtype=torch.float64).view(-1, *SHAPE)
    hessian = torch.stack([normal.forward(x).add_(x, alpha=SHIFT).flatten() for x in unit])
    both = torch.stack([found.forward(row.view(SHAPE)).flatten() for row in hessian])
    assert condition(both) < 0.4 * condition(hessian)


def test_slabs_of_the_periodic_one_are_parts_of_the_whole():
    x = noise(3).float()
    whole = periodic_preconditioner(kernel().periodic, SHAPE, ROUGHNESS, SHIFT).forward(x)

    def slab(world):
        own = shares(SHAPE[0], world.size)[world.rank]
        found = periodic_preconditioner(kernel(world).periodic, SHAPE, ROUGHNESS, SHIFT, exchange=world)
        return found.forward(x[own].contiguous())

    for ranks in (2, 3):
        torch.testing.assert_close(torch.cat(run_ranks(ranks, slab)), whole, atol=1e-7, rtol=1e-4)


def test_what_it_cannot_be_made_of_is_refused():
    with pytest.raises(ValueError, match="positive shift"):
        normal_preconditioner(kernel(), SHAPE, SMOOTHNESS, 0.0)
    with pytest.raises(ValueError, match="positive shift"):
        periodic_preconditioner(kernel().periodic, SHAPE, (), 0.0)
