import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.operators.view_kernel import make_kernel
from manyviews.operators.view_weighting import Overlap, weight_image

SHAPE = (8, 24, 23)


def overlap_of(geometry):
    projector = TiltProjector(geometry, SHAPE, SHAPE[1:])
    kernel = make_kernel(projector.groups, np.ones(len(geometry)), SHAPE, circulant=True)
    return Overlap(kernel.circulant.numpy(), kernel.padded)


def test_untilted_section_is_the_plane_without_z():
    overlap = overlap_of(TiltGeometry.from_tilt_axis([0.0, 20.0]))
    size = overlap.padded[1:]
    found = overlap.section(np.eye(4), size)
    np.testing.assert_allclose(found, overlap.spectrum[0], rtol=1e-5)


def test_section_is_even():
    geometry = TiltGeometry.from_tilt_axis(np.linspace(-60, 60, 9), 45.0)
    overlap = overlap_of(geometry)
    for matrix in geometry.matrices:
        turned = np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix  # looks at -frequency
        np.testing.assert_allclose(
            overlap.section(matrix, (32, 32))[1:16, 1:16],
            overlap.section(turned, (32, 32))[1:16, 1:16],
            rtol=1e-5,
        )


def test_a_view_alone_overlaps_with_itself_everywhere():
    overlap = overlap_of(TiltGeometry.from_tilt_axis([0.0]))
    assert overlap.section(np.eye(4), (48, 46))[:8, :8].min() > 0.5 * SHAPE[0]


@pytest.mark.parametrize("floor", [1.0, 1e6])
def test_weighting_divides_by_overlap_but_not_by_less_than_the_floor(floor):
    overlap = overlap_of(TiltGeometry.from_tilt_axis(np.linspace(-60, 60, 9)))
    image = torch.zeros(SHAPE[1:])
    image[12, 11] = 1.0
    weighted = weight_image(image, np.eye(4), overlap, floor)
    assert weighted.shape == image.shape
    expected = 1.0 / floor if floor > 1.0 else 1.0 / overlap.section(np.eye(4), (48, 48)).max()
    assert float(weighted.sum()) == pytest.approx(expected, rel=0.5)
    assert float(weighted.argmax()) == 12 * 23 + 11
