import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.simulate.cell import cell_slab

SHAPE = (32, 96, 128)
PIXEL = 5.0


def test_same_seed_same_slab():
    one, two, other = (cell_slab(SHAPE, PIXEL, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.centre, two.centre)
    assert len(one) != len(other) or not np.array_equal(one.centre, other.centre)


def test_finest_detail_is_two_pixels():
    narrowest = np.sqrt(np.linalg.eigvalsh(cell_slab(SHAPE, PIXEL, 0).covariance).min())
    assert narrowest == pytest.approx(2 * PIXEL)


def test_slab_keeps_away_from_every_face():
    volume = cell_slab(SHAPE, PIXEL, 4).density(SHAPE, PIXEL)
    faces = [volume[0], volume[-1], volume[:, 0], volume[:, -1], volume[:, :, 0], volume[:, :, -1]]
    assert max(face.max() for face in faces) < 2e-3 * volume.max()
    assert volume.min() >= 0


@pytest.mark.parametrize("axis", [0.0, 22.5, 90.0])
def test_round_slab_stays_in_every_view(axis):
    shape = (24, 96, 96)
    slab = cell_slab(shape, PIXEL, 4, outline="circle")
    images = slab.project(TiltGeometry.from_tilt_axis([-60, -5, 0, 45], axis), shape[1:], PIXEL)
    masses = images.sum((1, 2), dtype=np.float64) * PIXEL**3
    np.testing.assert_allclose(masses, slab.mass().sum(), rtol=2e-3)


def test_extended_slab_goes_on_outside_the_field_but_not_above():
    slab = cell_slab(SHAPE, PIXEL, 4, lateral_extent=2.0)
    assert np.abs(slab.centre[:, 0]).max() > 0.7 * SHAPE[2] * PIXEL
    assert np.abs(slab.centre[:, 2]).max() < SHAPE[0] / 2 * PIXEL


def test_impossible_slabs_are_refused():
    with pytest.raises(InputError, match="too small"):
        cell_slab((8, 64, 64), PIXEL, 0)
    with pytest.raises(InputError, match="extent"):
        cell_slab(SHAPE, PIXEL, 0, lateral_extent=0.5)
