"""The transform of a real volume as independent coordinates: adjoint, metric, and volumes that come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.operators.fourier_ball import FourierBall


@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("radius", [1, 4, 7])
def test_from_grid_is_the_adjoint_of_to_grid(rng, radius, padding):
    ball = FourierBall.of(radius, padding)
    vector = torch.from_numpy(rng.normal(size=ball.size))
    grid = torch.from_numpy(rng.normal(size=ball.shape) + 1j * rng.normal(size=ball.shape))
    left = float(torch.view_as_real(ball.to_grid(vector)).mul(torch.view_as_real(grid)).sum())
    right = float(vector @ ball.from_grid(grid))
    assert left == pytest.approx(right, rel=1e-12)


def test_the_length_is_that_of_all_coefficients_with_their_mirror_images(rng):
    ball = FourierBall.of(5)
    vector = torch.from_numpy(rng.normal(size=ball.size))
    grid = ball.to_grid(vector).numpy()
    whole = np.sum(np.abs(grid[:, :, 0]) ** 2) + 2 * np.sum(np.abs(grid[:, :, 1:]) ** 2)
    assert whole == pytest.approx(float(vector @ vector), rel=1e-12)
    # the plane x = 0 is its own mirror image
    np.testing.assert_array_equal(grid[:, :, 0], np.conj(grid[::-1, ::-1, 0]))
    # every point within the radius is there once, none beyond
    inside = np.abs(grid) > 0
    q = np.arange(-6, 7)
    squared = q[:, None, None] ** 2 + q[:, None] ** 2 + np.arange(8) ** 2
    np.testing.assert_array_equal(inside, squared <= 25)


@pytest.mark.parametrize("padding", [1, 2])
def test_a_volume_comes_back(rng, padding):
    box, radius = 16, 7
    ball = FourierBall.of(radius, padding)
    axis = np.arange(box) - box // 2
    blob = np.exp(-(axis**2) / 4.0)
    volume = torch.from_numpy(blob[:, None, None] * blob[:, None] * np.roll(blob, 1))
    vector = ball.from_volume(volume)
    back = ball.to_volume(vector, box)
    middle = slice(3, 13)
    # the blurring of interpolation is divided out on the way there and on the way back
    blur = np.sinc(axis / (padding * box)) ** 2
    corrected = volume / torch.from_numpy(blur[:, None, None] * blur[:, None] * blur)
    assert float(vector[-1]) == pytest.approx(float(corrected.sum()), rel=1e-12)
    expected = corrected.numpy() / (blur[:, None, None] * blur[:, None] * blur)
    np.testing.assert_allclose(back.numpy()[middle, middle, middle],
                               expected[middle, middle, middle], atol=2e-2)  # fmt: skip


def test_shells_count_coordinates():
    ball = FourierBall.of(3)
    shells = ball.shells().numpy()
    assert len(shells) == ball.size
    assert np.bincount(shells).tolist()[:2] == [1, 18]
    assert ball.size == 123  # integer points within a radius of 3
