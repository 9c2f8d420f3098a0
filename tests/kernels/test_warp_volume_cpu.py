"""Volumes read at moved places, against SciPy, polynomials, the matrix written out and differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from manyviews.kernels.warp_volume_cpu import pull_volume, push_volume, read_slopes

SHAPE = (9, 11, 12)
AT = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")).astype(float)


def test_linear_is_that_of_scipy_with_the_edge_beyond_the_edge(rng):
    volume, moved = rng.standard_normal(SHAPE), 3 * rng.standard_normal((3, *SHAPE))
    expected = map_coordinates(volume, AT + moved, order=1, mode="nearest")
    np.testing.assert_allclose(pull_volume(volume, moved, 1), expected, atol=1e-12)


def test_cubic_reads_quadratic_volumes_exactly(rng):
    def value(z, y, x):
        return 2.0 + 0.3 * z - 0.7 * x + 0.05 * x * x - 0.02 * z * y + 0.01 * y * y

    moved = rng.uniform(-1, 1, (3, *SHAPE))
    inside = (slice(3, -3),) * 3
    found, expected = pull_volume(value(*AT), moved), value(*(AT + moved))
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-10)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (4, 1, 3)])
def test_the_transpose_is_the_matrix_turned(rng, shape, order):
    voxels = int(np.prod(shape))
    moved = 2 * rng.standard_normal((3, *shape))
    unit = np.eye(voxels).reshape(voxels, *shape)
    matrix, turned = (
        np.stack([act(part, moved, order).reshape(-1) for part in unit]) for act in (pull_volume, push_volume)
    )
    np.testing.assert_allclose(turned, matrix.T, atol=1e-14)


@pytest.mark.parametrize("order", [1, 3])
def test_slopes_are_differences_of_what_is_read(rng, order):
    volume, moved = rng.standard_normal(SHAPE), 2 * rng.standard_normal((3, *SHAPE))
    way, step = rng.standard_normal((3, *SHAPE)), 1e-6
    ahead, behind = (pull_volume(volume, moved + sign * step * way, order) for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    found = (read_slopes(volume, moved, order) * way).sum(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_displacement_of_another_shape_and_an_unknown_order_are_refused(rng):
    volume = np.zeros(SHAPE, np.float32)
    with pytest.raises(ValueError, match="is not that of a volume"):
        pull_volume(volume, np.zeros((2, *SHAPE), np.float32))
    with pytest.raises(ValueError, match="no interpolation of order 2"):
        push_volume(volume, np.zeros((3, *SHAPE), np.float32), 2)
