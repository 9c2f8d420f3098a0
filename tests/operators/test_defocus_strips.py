import numpy as np
import pytest
import torch

from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry
from manyviews.operators.contrast_transfer import Optics, ctf_values
from manyviews.operators.defocus_strips import DefocusStrips, Levels
from manyviews.operators.view_transfer import TransferGrid, ViewTransfer, defocus_levels

SHAPE, PIXEL = (40, 96), 2.0


def transfer(hand, defocus=9000.0, dose=0.0):
    return ViewTransfer(Optics.make(300.0, 2.7, 0.07, [[defocus, defocus]]), np.array([dose]), hand)


def strips(hand, tilt=60.0, heights=(0.0,)):
    made = transfer(hand)
    depth = DepthPlane.of(TiltGeometry.from_tilt_axis([tilt]).matrices[0])
    grid = TransferGrid.of(SHAPE, PIXEL, made.spread_pixels(PIXEL))
    return DefocusStrips(made, 0, depth, np.array(heights), grid)


def test_shares_of_all_levels_add_up_to_one():
    levels = strips(1, heights=(-150.0, 0.0, 150.0)).levels
    total = torch.zeros(3, *SHAPE)
    for level in range(len(levels.change)):
        for slab, share in levels.shares(level):
            total[slab] += torch.from_numpy(share)
    torch.testing.assert_close(total, torch.ones_like(total))
    assert levels.occupancy().sum() == pytest.approx(1.0, abs=1e-5)


def test_levels_are_near_enough_and_cover_the_range():
    levels = defocus_levels(-310.0, 290.0, 100.0)
    assert levels[[0, -1]].tolist() == [-310.0, 290.0]
    assert np.diff(levels).max() <= 100.0
    assert defocus_levels(5.0, 5.0, 100.0).tolist() == [5.0]


def test_without_a_hand_it_is_one_filter():
    operator = strips(0)
    image = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    values = ctf_values(transfer(0).optics, operator.grid.points, 1, PIXEL)[0]
    spectrum = torch.fft.rfft2(image[0], s=operator.grid.padded) * values.reshape(
        operator.grid.spectrum_shape
    )
    expected = torch.fft.irfft2(spectrum, s=operator.grid.padded)[: SHAPE[0], : SHAPE[1]]
    torch.testing.assert_close(operator.forward(image)[0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("hand", [1, -1])
def test_a_point_gets_the_defocus_of_its_place(hand):
    """A point far out at 60 degrees, against the CTF at its own depth; the other hand is far off."""
    column = 80
    point = torch.zeros(1, *SHAPE)
    point[0, SHAPE[0] // 2, column] = 1.0
    found = strips(hand).forward(point)[0]
    change = -hand * np.tan(np.deg2rad(60.0)) * (column - SHAPE[1] // 2) * PIXEL
    grid = strips(hand).grid
    values = transfer(0, 9000.0 + change).at_defocus(0, np.zeros(1), grid)[0]
    exact = torch.fft.irfft2(torch.fft.rfft2(point[0], s=grid.padded) * values, s=grid.padded)
    exact = exact[: SHAPE[0], : SHAPE[1]]
    wrong = strips(-hand).forward(point)[0]
    assert (found - exact).norm() < 0.06 * exact.norm()
    assert (wrong - exact).norm() > 0.15 * exact.norm()


def test_a_high_slab_has_the_defocus_of_its_height():
    image = torch.zeros(2, *SHAPE)
    image[1, 20, 48] = 1.0  # in the middle of the image, of the slab 300 angstrom up
    operator = strips(1, tilt=0.0, heights=(0.0, 300.0))
    grid = operator.grid
    values = transfer(0, 9300.0).at_defocus(0, np.zeros(1), grid)[0]
    exact = torch.fft.irfft2(torch.fft.rfft2(image[1], s=grid.padded) * values, s=grid.padded)
    torch.testing.assert_close(
        operator.forward(image)[0], exact[: SHAPE[0], : SHAPE[1]], atol=1e-4, rtol=1e-3
    )


def test_dose_is_in_the_transfer():
    grid = TransferGrid.of(SHAPE, PIXEL, 0)
    fresh, used = (transfer(0, dose=dose).at_defocus(0, np.zeros(1), grid)[0] for dose in (0.0, 30.0))
    assert used[0, 0] == fresh[0, 0]
    assert used.abs().sum() < 0.7 * fresh.abs().sum()


def test_levels_of_a_slab_that_lies_elsewhere_are_left_out():
    levels = Levels(np.array([0.0, 100.0, 200.0]), np.zeros(SHAPE, np.float32), np.array([0.0, 2.0]))
    assert [slab for slab, _ in levels.shares(0)] == [0]
    assert [slab for slab, _ in levels.shares(1)] == []
    assert [slab for slab, _ in levels.shares(2)] == [1]
