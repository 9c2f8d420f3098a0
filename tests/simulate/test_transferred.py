import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.view_transfer import TransferGrid, ViewTransfer
from manyviews.simulate.phantoms import Ellipsoids, Gaussians
from manyviews.simulate.tilt_series import draw_defocus, recording_order
from manyviews.simulate.transferred import transferred_views

SHAPE, PIXEL = (32, 48), 2.0
PLACE = (-60.0, -10.0, 100.0)


@pytest.mark.parametrize("hand", [1, -1, 0])
def test_a_part_has_the_defocus_of_its_depth(hand):
    blob = Gaussians.isotropic([1.0], [PLACE], 3.0)
    geometry = TiltGeometry.from_tilt_axis([40.0])
    transfer = ViewTransfer(Optics.make(300.0, 2.7, 0.07, [[8000.0, 7000.0]], 25.0), np.zeros(1), hand)
    image = next(transferred_views(blob, geometry, SHAPE, PIXEL, transfer))
    depth = float((geometry.matrices[0] @ [*PLACE, 1.0])[2])
    canvas = (96, 112)
    grid = TransferGrid.of(canvas, PIXEL, 0)
    values = transfer.at_defocus(0, np.array([hand * depth]), grid)[0]
    projected = torch.from_numpy(blob.project(geometry, canvas, PIXEL)[0])
    exact = torch.fft.irfft2(torch.fft.rfft2(projected, s=grid.padded) * values, s=grid.padded).numpy()
    exact = exact[48 - 16 : 48 + 16, 56 - 24 : 56 + 24]
    assert np.linalg.norm(image - exact) < 0.03 * np.linalg.norm(exact)


def test_ellipsoids_can_be_selected():
    turn = np.tile(np.eye(3), (3, 1, 1))
    some = Ellipsoids(np.array([1.0, 2.0, 3.0]), np.eye(3), np.ones((3, 3)), turn).select([2, 0])
    assert some.value.tolist() == [3.0, 1.0]
    np.testing.assert_array_equal(some.centre, np.eye(3)[[2, 0]])


def test_defocus_is_drawn_by_its_own_stream():
    pairs, angle = draw_defocus(200, 20000.0, 300.0, 500.0, seed=3, series=1)
    np.testing.assert_allclose(pairs[:, 0] - pairs[:, 1], 500.0)
    assert pairs.mean() == pytest.approx(20000.0, abs=100.0)
    assert pairs.std(axis=0)[0] == pytest.approx(300.0, rel=0.2)
    assert 0 <= angle <= 180
    again, _ = draw_defocus(200, 20000.0, 300.0, 500.0, seed=3, series=1)
    np.testing.assert_array_equal(pairs, again)
    low, _ = draw_defocus(50, 1000.0, 5000.0, 0.0, seed=3, series=1)
    assert low.min() == 100.0


def test_views_are_recorded_from_zero_tilt_outwards():
    assert recording_order(np.array([-6.0, -3.0, 0.0, 3.0, 6.0])).tolist() == [3, 1, 0, 2, 4]
