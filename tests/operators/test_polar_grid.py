"""Transforms at points on lines, beside another program's."""

import finufft
import numpy as np
import pytest
import scipy.fft

from manyviews.kernels import polar_cpu
from manyviews.operators.polar_grid import ERRORS, PolarGrid, even_fast_length, taps_for
from manyviews.random import Stream, generator

THETA = np.arange(48) * 7.7


def at_points(polar, slices):
    """``(views, line, 8)``: transforms of pairs of sixteen slices."""
    grid = np.zeros((polar.side, polar.side, 16))
    polar_cpu.pack(slices, polar.factors, polar.places, grid)
    inner = grid.view(complex)[polar.margin : -polar.margin, polar.margin : -polar.margin]
    inner[...] = scipy.fft.fft2(inner, axes=(0, 1))
    polar_cpu.wrap(grid, polar.margin)
    first, across, down = polar.points(slice(None))
    points = np.empty((len(first), 16))
    phases = np.tile([1.0, 0.0], (polar.line, 1))
    polar_cpu.gather(grid, first, across, down, phases, points)
    return points.view(complex).reshape(-1, polar.line, 8)


def reference(polar, image):
    number = scipy.fft.fftfreq(polar.line, 1.0 / polar.line)
    turns = 2.0 * np.pi * number / polar.line
    theta = np.deg2rad(polar.theta_degrees)[:, None]
    x, y = (np.cos(theta) * turns).ravel(), (np.sin(theta) * turns).ravel()
    found = finufft.nufft2d2(y, x, image, eps=1e-12, isign=-1).reshape(-1, polar.line)
    found[:, number == -polar.line // 2] = 0.0
    return found


@pytest.mark.parametrize("size", [64, 61])
@pytest.mark.parametrize("taps", ERRORS)
def test_errors_of_white_noise_are_as_told(size, taps):
    polar = PolarGrid(THETA, size, 96, taps)
    slices = generator(0, Stream.TEST, size).standard_normal((16, size, size))
    expected = reference(polar, slices[6] + 1j * slices[7])
    found = at_points(polar, slices)[:, :, 3]
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 0.1 * ERRORS[taps] < error <= ERRORS[taps]


def test_points_of_a_real_slice_are_mirror_images_exactly():
    """So two slices in one complex grid do not see each other; at 30 degrees taps meet the window's end."""
    polar = PolarGrid(np.array([0.0, 30.0, 90.0, 123.4]), 16, 20, 6)
    slices = generator(0, Stream.TEST, 1).standard_normal((16, 16, 16))
    slices[1] = 0.0
    first = at_points(polar, slices)[:, :, 0]
    mirrored = np.roll(first[:, ::-1], 1, axis=1)
    np.testing.assert_allclose(first, mirrored.conj(), atol=1e-12 * abs(first).max())


def test_the_fewest_taps_that_will_do():
    assert [taps_for(epsilon) for epsilon in (0.5, 1e-2, 1e-3, 1e-4, 1e-9)] == [4, 4, 6, 8, 8]


def test_even_fast_lengths():
    assert [even_fast_length(n) for n in (1, 7, 309, 320, 321)] == [2, 8, 320, 320, 324]
