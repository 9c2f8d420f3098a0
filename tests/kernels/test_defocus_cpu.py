"""The filters against the formula of the contrast transfer, and shares of pixels against their definition."""

import numpy as np
import pytest
import scipy.fft

from manyviews.kernels.defocus_cpu import SIGN, TRANSFER, WIENER, add_product, add_share, fill_transfer
from manyviews.operators.contrast_transfer import Optics, ctf_values
from manyviews.operators.dose import fading
from manyviews.operators.view_transfer import Response, TransferGrid, ViewTransfer

PIXEL, PADDED = 2.0, (46, 61)
GRID = TransferGrid(PADDED, PADDED, PIXEL)


def optics(**more):
    return Optics.make(300.0, 2.7, 0.07, [[31000.0, 29000.0]], 25.0, 10.0, **more)


@pytest.mark.parametrize("more", [{}, {"b_factor": 80.0}, {"scale": 1.7, "b_factor": -20.0}])
@pytest.mark.parametrize("dose", [0.0, 40.0])
def test_the_transfer_of_a_grid_is_that_of_its_points(more, dose):
    transfer = ViewTransfer(optics(**more), np.array([dose]), 0)
    found = transfer.at_defocus(0, np.zeros(1), GRID)[0].numpy()
    wanted = ctf_values(transfer.optics, GRID.points, 1, PIXEL)[0].double().numpy()
    if dose:
        wanted *= fading(np.linalg.norm(GRID.points, axis=1) / PIXEL, dose, 300.0)
    np.testing.assert_allclose(found.ravel(), wanted, atol=2e-6 * np.abs(wanted).max())
    assert found.shape == (PADDED[0], PADDED[1] // 2 + 1)


def test_phases_of_thousands_of_turns_are_as_exact():
    frequencies = scipy.fft.fftfreq(40), scipy.fft.rfftfreq(50)
    phase = np.array([0.3, 9e4, -2e3, 700.0, 3e4])
    out = np.empty((40, 26), np.float32)
    fill_transfer(frequencies, phase, np.empty(0), 0.0, out)
    y, x = np.meshgrid(*frequencies, indexing="ij")
    square = y**2 + x**2
    angle = (
        phase[0] + phase[1] * square + phase[2] * (x**2 - y**2) + phase[3] * 2 * x * y + phase[4] * square**2
    )
    assert np.abs(angle).max() > 1000 * 2 * np.pi
    np.testing.assert_allclose(out, -np.sin(angle), atol=2e-7)


def test_responses():
    transfer = ViewTransfer(optics(), np.zeros(1), 0)
    plain, sign, wiener = (
        transfer.at_defocus(0, np.array([50.0, -900.0]), GRID, response).numpy()
        for response in (Response(TRANSFER), Response(SIGN), Response(WIENER, 0.1))
    )
    assert np.array_equal(sign, np.where(plain < 0, -1.0, 1.0))
    np.testing.assert_allclose(wiener, plain / (plain**2 + 0.1), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shares_and_products(dtype, rng):
    plane = rng.normal(size=(7, 9)).astype(np.float32)
    image, total = rng.normal(size=(2, 7, 9)).astype(dtype)
    wanted = total + np.maximum(0, 1 - np.abs(plane + np.float32(0.4))) * image
    add_share(total, plane, 0.4, image)
    np.testing.assert_allclose(total, wanted, rtol=1e-5, atol=1e-6)
    spectrum = scipy.fft.rfft2(image)
    before, values = scipy.fft.rfft2(total), rng.normal(size=spectrum.shape).astype(np.float32)
    after = before.copy()
    add_product(after, spectrum, values)
    np.testing.assert_allclose(after, before + spectrum * values, rtol=1e-5)
