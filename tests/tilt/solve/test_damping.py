"""Damping by frequency: what images say of it, and what a problem with it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.slab_projector import SlabProjector
from manyviews.solvers.conjugate_gradient import ConjugateGradient
from manyviews.tilt.methods import make_cg
from manyviews.tilt.series.power import Power
from manyviews.tilt.solve.damping import noise_to_signal
from manyviews.tilt.solve.problem import TiltProblem

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE, ROUGHNESS = (8, 20, 20), (0.05, 0.4)
TILTS = np.linspace(-60.0, 60.0, 7)


def power(signal, noise=1.0):
    roughness = np.geomspace(0.01, 7.5, 24)
    return Power(roughness, np.full(24, 50.0), noise + signal(roughness), noise)


def value(coefficients, roughness):
    return sum(factor * roughness**number for number, factor in enumerate(coefficients))


def test_it_is_noise_over_signal_where_there_is_signal():
    found = noise_to_signal(power(lambda r: 1.0 / (0.001 + 0.02 * r + 0.1 * r**3)))
    at = np.array([0.02, 0.1, 0.5, 2.0])
    assert value(found, at) == pytest.approx(0.001 + 0.02 * at + 0.1 * at**3, rel=0.1)
    assert min(found) >= 0.0


def test_it_goes_on_rising_where_only_noise_is_left():
    found = noise_to_signal(power(lambda r: 1e4 * np.exp(-8.0 * r)))
    assert np.all(np.diff(value(found, np.geomspace(0.01, 12.0, 50))) > 0.0)
    assert value(found, 8.0) > 100.0


def test_noise_alone_is_damped_the_same_everywhere():
    (level,) = noise_to_signal(power(lambda r: 0.0 * r))
    assert level == 20.0


def test_what_the_level_takes_from_the_first_shells_is_not_the_noise():
    noise = power(lambda r: 0.0 * r)
    low = noise.power.copy()
    low[:3] *= 0.5
    assert noise_to_signal(replace(noise, power=low)) == (20.0,)


def test_images_without_noise_are_hardly_damped():
    found = noise_to_signal(power(lambda r: np.exp(-r), noise=0.0))
    assert max(found) < 1e-3


@pytest.fixture(scope="module")
def problem():
    geometry = TiltGeometry.concatenate(
        [TiltGeometry.from_tilt_axis(TILTS, axis, series=k) for k, axis in enumerate((0.0, 90.0))]
    )
    projector = SlabProjector(geometry, SHAPE, SHAPE[1:])
    images = torch.randn(14, 20, 20, generator=torch.Generator().manual_seed(0))
    weights = np.linspace(0.5, 1.5, 14)
    return TiltProblem(projector, lambda views: images[torch.from_numpy(views)], weights, damping=0.1)


def relative(found, expected):
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


@pytest.mark.parametrize("convolve", [True, False])
def test_normal_operator_gradient_and_energy_agree(problem, convolve):
    """All three with the same damping, beside what they are without."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    plain = replace(problem, convolve=convolve).least_squares()
    damped = replace(problem, convolve=convolve, roughness=ROUGHNESS).least_squares()
    extra = damped.normal(x) - plain.normal(x)
    assert float((x * extra).sum()) > 0.0
    gradient, energy = damped.exact_gradient(x)
    without, data = plain.exact_gradient(x)
    assert relative(without - gradient, extra) < 1e-4
    assert energy - data == pytest.approx(float((x * extra).sum()), rel=1e-4)
    assert torch.equal(damped.target, plain.target)
    if convolve:
        assert damped.quadratic(x) == pytest.approx(float((x * damped.normal(x)).sum()), rel=1e-5)
        assert damped.lipschitz > plain.lipschitz


def test_parts_share_the_damping_out(problem):
    from manyviews.tilt.solve.subsets import make_subsets

    rough = replace(problem, roughness=ROUGHNESS)
    subsets = make_subsets(problem.projector.geometry, 2, 0, "interleaved")
    parts = [rough.part(subset, weighted=True).roughness for subset in subsets]
    assert np.sum(parts, axis=0) == pytest.approx(ROUGHNESS)
    assert rough.union(list(subsets)).roughness == ()


def test_the_preconditioner_makes_the_way_shorter_and_not_another(problem):
    rough = replace(problem, roughness=ROUGHNESS)
    plain = ConjugateGradient(rough.least_squares())
    quick = make_cg(rough, 0)
    assert quick.precondition is not None
    assert make_cg(problem, 0).precondition is None

    def volumes(solver, count):
        state = solver.init()
        for _ in range(count):
            state = solver.step(state)
            yield state.iterate

    *_, answer = volumes(plain, 400)
    found = [relative(volume, answer) for volume in volumes(quick, 60)]
    slow = [relative(volume, answer) for volume in volumes(plain, 60)]
    assert found[-1] < 1e-3
    assert found[14] < slow[14]
