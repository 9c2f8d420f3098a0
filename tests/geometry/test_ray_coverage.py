"""Which part of a ray lies in the volume: against the projector, and where it can be said by hand."""

import numpy as np
import pytest
import torch

from manyviews.geometry.ray_coverage import ray_coverage
from manyviews.geometry.views import TiltGeometry
from manyviews.operators.tilt_projector import TiltProjector

SHAPE, IMAGE = (10, 40, 48), (40, 48)


def coverage(geometry, view=0, shape=SHAPE, pixel=3.0):
    return ray_coverage(geometry.matrices[view], shape, IMAGE, pixel)


def test_untilted_rays_stay_inside():
    assert (coverage(TiltGeometry.from_tilt_axis([0.0])) == 1.0).all()


@pytest.mark.parametrize(("tilt", "axis"), [(40.0, 0.0), (-55.0, 0.0), (35.0, 90.0), (50.0, 30.0)])
def test_it_is_what_the_projector_sees_of_a_full_volume_over_an_endless_one(tilt, axis):
    shifts = np.array([[4.0, -7.0]])
    geometry = TiltGeometry.from_tilt_axis([tilt], axis, shifts=shifts)
    pixel = 3.0
    wide = (SHAPE[0], 6 * SHAPE[1], 6 * SHAPE[2])
    seen, endless = (
        TiltProjector(geometry, shape, IMAGE, pixel).forward(torch.ones(shape))[0] for shape in (SHAPE, wide)
    )
    share = (seen / endless).numpy()
    found = coverage(geometry, pixel=pixel)
    assert np.abs(found - share)[3:-3, 3:-3].max() < 0.12  # voxels have corners
    assert np.abs(found - share).mean() < 0.02
    assert 0.0 < found.mean() < 1.0


def test_a_shift_moves_it_along():
    still, moved = (
        coverage(TiltGeometry.from_tilt_axis([50.0], shifts=[[by, 0.0]])) for by in (0.0, 3.0 * 5)
    )
    np.testing.assert_allclose(moved[:, 5:], still[:, :-5], atol=1e-6)


def test_views_along_the_slab_leave_it_nowhere():
    assert (coverage(TiltGeometry.from_tilt_axis([90.0])) == 1.0).all()
