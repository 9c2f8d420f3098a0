"""The alignment step: its fixed point, and that both models are there."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.kernels.warp_cpu import pull_back, push_forward
from manyviews.nano.admm.alignment import align_step


@pytest.mark.parametrize(
    ("mass", "deform", "turned"), [(False, pull_back, push_forward), (True, push_forward, pull_back)]
)
def test_the_gradient_vanishes_at_the_end(rng, mass, deform, turned):
    """``w D'(D p - d) + rho (p - wanted) = 0``"""
    data, wanted = rng.standard_normal((2, 3, 17, 21)).astype(np.float32)
    flow = (0.7 * rng.standard_normal((3, 2, 17, 21))).astype(np.float32)
    weights = np.array([1.0, 0.5, 0.0])
    found = align_step(data, flow, wanted, wanted, 0.5, weights=weights, steps=80, mass=mass)
    pull = weights[:, None, None] * turned(deform(found, flow) - data, flow)
    np.testing.assert_allclose(pull + 0.5 * (found - wanted), 0, atol=1e-4)
    np.testing.assert_array_equal(found[2], wanted[2])  # a view without weight is what the volume says


def test_what_fits_already_stays(rng):
    model = rng.standard_normal((2, 17, 21)).astype(np.float32)
    flow = rng.standard_normal((2, 2, 17, 21)).astype(np.float32)
    found = align_step(pull_back(model, flow, 1), flow, model, model, 0.5, order=1)
    np.testing.assert_allclose(found, model, atol=1e-5)
