"""Misfits and fitted images against the operators they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from manyviews.kernels.warp_cpu import pull_back, push_forward
from manyviews.kernels.warp_fit_cpu import fit_images, misfits

SHAPE = (2, 14, 19)


def scene(rng):
    data, model = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    flow = np.stack(
        [[2 * gaussian_filter(rng.standard_normal(SHAPE[1:]), 3) * 6 for _ in range(2)] for _ in range(2)]
    )
    return data, model, flow.astype(np.float32)


@pytest.mark.parametrize(("mass", "deform"), [(False, pull_back), (True, push_forward)])
@pytest.mark.parametrize("order", [1, 3])
def test_misfits_are_sums_of_squares(rng, mass, deform, order):
    data, model, flow = scene(rng)
    expected = ((data - deform(model, flow, order)).astype(float) ** 2).sum((1, 2))
    np.testing.assert_allclose(misfits(data, model, flow, order=order, mass=mass), expected, rtol=1e-5)


@pytest.mark.parametrize(("mass", "deform"), [(False, pull_back), (True, push_forward)])
def test_the_fitted_image_solves_its_equations(rng, mass, deform):
    """``(w D'D + rho) p = w D'd + rho wanted``, the matrix written out."""
    data, wanted, flow = scene(rng)
    weights, rho, pixels = np.array([1.0, 0.3]), 0.5, SHAPE[1] * SHAPE[2]
    found = fit_images(data, flow, wanted, wanted, rho, weights=weights, steps=60, mass=mass)
    unit = np.eye(pixels).reshape(pixels, *SHAPE[1:])
    for n in range(2):
        matrix = deform(unit, np.repeat(flow[n : n + 1], pixels, axis=0)).reshape(pixels, pixels).T
        left = weights[n] * matrix.T @ matrix + rho * np.eye(pixels)
        right = weights[n] * matrix.T @ data[n].reshape(-1) + rho * wanted[n].reshape(-1)
        np.testing.assert_allclose(found[n].reshape(-1), np.linalg.solve(left, right), atol=2e-4)


def test_four_steps_do(rng):
    """From what the volume says, four steps leave a twentieth of the way, even of noise."""
    data, wanted, flow = scene(rng)
    best = fit_images(data, flow, wanted, wanted, 0.5, steps=60)
    near = fit_images(data, flow, wanted, wanted, 0.5, steps=4)
    assert np.linalg.norm(near - best) < 0.05 * np.linalg.norm(wanted - best)


def test_without_motion_it_is_the_weighted_mean(rng):
    data, wanted, flow = scene(rng)
    found = fit_images(data, 0 * flow, wanted, wanted, 2.0, steps=2)
    np.testing.assert_allclose(found, (data + 2 * wanted) / 3, atol=1e-6)
