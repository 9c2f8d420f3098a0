"""Shifts by phases against shifts of pixels."""

from __future__ import annotations

import numpy as np
import torch

from manyviews.operators.fourier_points import extract, half_plane, insert
from manyviews.operators.image_shift import shift_phases


def test_whole_pixels_roll_the_image(rng):
    box = 15
    points = half_plane(7, box)
    images = insert(extract(rng.normal(size=(2, box, box)), points), points, box)
    moved = (
        extract(images, points) * shift_phases([[3, -2], [0, 5]], points, box, dtype=torch.complex128).numpy()
    )
    back = insert(moved, points, box)
    np.testing.assert_allclose(back[0], np.roll(images[0], (-2, 3), (0, 1)), atol=1e-12)
    np.testing.assert_allclose(back[1], np.roll(images[1], (5, 0), (0, 1)), atol=1e-12)


def test_shifting_back_gives_the_image(rng):
    points, shifts = half_plane(6, 12), rng.normal(size=(3, 2)) * 4
    there, back = (shift_phases(sign * shifts, points, 12, dtype=torch.complex128) for sign in (1, -1))
    torch.testing.assert_close(back, there.conj())
    x = torch.from_numpy(rng.normal(size=(3, len(points))))
    torch.testing.assert_close(x * there * back, x.to(torch.complex128))


def test_single_precision_holds_for_large_shifts():
    points = half_plane(100, 200)
    double = shift_phases([[1234.25, -777.5]], points, 200, dtype=torch.complex128)
    single = shift_phases([[1234.25, -777.5]], points, 200)
    assert float(torch.max(torch.abs(double - single))) < 1e-6
