"""Known motion in given projections, and the share of it that comes back."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.kernels.warp_cpu import pull_back
from manyviews.nano.flow.engines import make_engine
from manyviews.nano.flow.gauge import Gauge
from manyviews.nano.injection import (
    composed,
    inject,
    measure_return,
    returned,
    telling_pixels,
)
from manyviews.nano.simulate import simulate_arrays
from manyviews.nano.simulate_options import SimulateOptions

OPTIONS = SimulateOptions(
    size=(40, 32), views=12, specimen="tubes", deformation_percent=4.0, noise_free=True, seed=5
)


@pytest.fixture(scope="module")
def scan():
    return simulate_arrays(OPTIONS)


def gauge(theta):
    z = np.linspace(-1, 1, 32)
    one = Gauge(2 * z, np.cos(z), 0.5 + z, 0.02 * z, 19.5)
    return one.flow(theta, 40)


def test_flows_one_after_the_other_are_their_composition(scan):
    injected = inject(scan.still, 1.5, seed=1)
    twice = pull_back(pull_back(scan.still, scan.flow), injected.flow)
    once = pull_back(scan.still, composed(scan.flow, injected.flow))
    assert np.linalg.norm(once - twice) < 0.03 * np.linalg.norm(twice)


def test_what_is_injected_grows_to_the_amount(scan):
    smooth = inject(scan.projections, 2.0)
    length = np.linalg.norm(smooth.flow, axis=1).max(axis=(1, 2))
    assert length[0] == 0
    assert (np.diff(length) > 0).all()
    assert length[-1] == pytest.approx(2.0, rel=0.03)
    np.testing.assert_allclose(
        smooth.projections, pull_back(scan.projections, smooth.flow), atol=0.03 * scan.projections.max()
    )
    drift, jitter = (inject(scan.projections, 2.0, motion=kind).flow for kind in ("drift", "jitter"))
    assert np.ptp(drift, axis=(2, 3)).max() == 0
    assert np.abs(drift).max() == pytest.approx(2.0)
    assert 0.8 < jitter.std() < 3.0
    np.testing.assert_array_equal(inject(scan.projections, 2.0).flow, smooth.flow)


def test_injected_motion_keeps_mass_where_it_is_told_to(scan):
    kept = inject(scan.projections, 2.0, kept="mass")
    mass = kept.projections.sum(axis=(1, 2))
    np.testing.assert_allclose(mass, scan.projections.sum(axis=(1, 2)), rtol=4e-3)
    # where mass goes, not where is read
    read = inject(scan.projections, 2.0).flow
    away = pull_back(np.ascontiguousarray(read[-1:, 0]), kept.flow[-1:])
    np.testing.assert_allclose(away[0, 4:-4, 4:-4], -kept.flow[-1, 0, 4:-4, 4:-4], atol=0.02)


def test_all_of_it_comes_back_whatever_gauge_it_comes_in(scan):
    injected = inject(scan.projections, 2.0, seed=2)
    theta = scan.theta_degrees
    perfect = composed(scan.flow, injected.flow)
    for after in (perfect, perfect + gauge(theta)):
        found = returned(scan.flow, after, injected, theta, center=19.5)
        assert found.share == pytest.approx(1, abs=1e-4)
        assert found.slope == pytest.approx(1, abs=1e-4)
        assert found.left_rms_pixels < 1e-3
    nothing = returned(scan.flow, scan.flow + gauge(theta), injected, theta, center=19.5)
    assert nothing.share == pytest.approx(0, abs=1e-4)
    assert nothing.slope == pytest.approx(0, abs=1e-4)
    half = returned(scan.flow, (perfect + scan.flow) / 2, injected, theta, center=19.5)
    assert (half.share, half.slope) == (pytest.approx(0.75, abs=1e-4), pytest.approx(0.5, abs=1e-4))
    assert half.left_rms_pixels == pytest.approx(half.injected_rms_pixels / 2, rel=1e-4)
    assert half.lines()[0].endswith("75 %")


def test_mass_that_moves_twice_comes_back(scan):
    injected = inject(scan.projections, 2.0, seed=2, kept="mass")
    # of mass, the motion that was there acts first
    perfect = composed(injected.flow, scan.flow)
    found = returned(scan.flow, perfect, injected, scan.theta_degrees, center=19.5, kept="mass")
    assert found.share == pytest.approx(1, abs=1e-4)


def test_a_solver_is_measured(scan):
    seen = []

    def solve(projections):
        seen.append(projections)
        return np.zeros((len(projections), 2, 32, 40), np.float32)

    found = measure_return(scan.still, scan.theta_degrees, solve, 1.0, motion="drift", center=19.5)
    assert found.share == pytest.approx(0, abs=1e-6)
    assert len(seen) == 2
    np.testing.assert_array_equal(seen[0], scan.still)
    before = np.zeros((12, 2, 32, 40), np.float32)
    measure_return(scan.still, scan.theta_degrees, solve, 1.0, motion="drift", before=before)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("engine", "motion", "least", "most"),
    [("shifts", "drift", 0.98, 1.0), ("shifts", "smooth", 0.0, 0.8), ("grid", "smooth", 0.95, 1.0)],
)
def test_engines_return_what_they_can_describe(engine, motion, least, most):
    """With projections of the true specimen to look in, so that nothing but the engine is measured."""
    made = simulate_arrays(SimulateOptions(size=(48,), views=6, specimen="tissue", photons=1e5, seed=3))

    def solve(projections):
        flow = np.zeros((6, 2, 48, 48), np.float32)
        for window in (48.0, 24.0, 16.0):
            flow = make_engine(engine).find(projections, made.still, flow, window)
        return flow

    found = measure_return(
        made.projections, made.theta_degrees, solve, 2.0, motion=motion, center=made.center
    )
    assert least < found.share <= most


def test_pixels_with_slopes_tell_of_motion(scan):
    where = telling_pixels(scan.projections)
    assert 0.05 < where.mean() < 0.7
    assert not where[:, :2, :2].any()


def test_what_cannot_be_measured_is_told(scan):
    injected = inject(scan.projections, 2.0)
    nowhere = np.zeros(scan.projections.shape, bool)
    with pytest.raises(InputError, match="no pixel tells"):
        returned(scan.flow, scan.flow, injected, scan.theta_degrees, where=nowhere)
    tiny = inject(scan.projections, 1e-5)
    with pytest.raises(InputError, match="projections can tell"):
        returned(scan.flow, scan.flow, tiny, scan.theta_degrees)
    with pytest.raises(InputError, match="folds"):
        inject(scan.projections, 30.0)
