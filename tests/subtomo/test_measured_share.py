"""The share of particles that measured a frequency, against a plain reading of the same definition."""

import numpy as np
import pytest

from manyviews.geometry.poses import random_rotations
from manyviews.subtomo.coverage import measured_share


class Known:
    """Transfers that are there already."""

    def __init__(self, values):
        self.values, self.box = values, values.shape[1]

    def __getitem__(self, number):
        return self.values[number]


def plainly(values, index, rotations):
    """Frequency by frequency, on the whole grid."""
    box = values.shape[1]
    half = box // 2
    found = np.zeros((box, box, half + 1), np.float32)
    signed = np.fft.fftfreq(box, 1 / box).astype(int)
    for place in np.ndindex(found.shape):
        k = np.array([place[2], signed[place[1]], signed[place[0]]], float)
        for number, turn in zip(index, rotations, strict=True):
            x, y, z = np.rint(turn @ k).astype(int)
            if max(abs(x), abs(y), abs(z)) < half:
                x, y, z = (-x, -y, -z) if x < 0 else (x, y, z)
                found[place] += values[number][z, y, x] > 0
    return found / len(index)


@pytest.mark.parametrize("box", [8, 9])
def test_it_is_what_the_definition_says(rng, box):
    values = (rng.random((2, box, box, box // 2 + 1)) > 0.5).astype(np.float32)
    rotations = random_rotations(7, rng)
    index = np.array([0, 1, 1, 0, 0, 1, 0])
    found = measured_share(Known(values), index, rotations)
    np.testing.assert_allclose(found, plainly(values, index, rotations), atol=1e-6)


def test_particles_as_they_lie_measure_what_each_of_them_does(rng):
    values = (rng.random((1, 8, 8, 5)) > 0.5).astype(np.float32)
    found = measured_share(Known(values), np.zeros(3, int), np.tile(np.eye(3), (3, 1, 1)))
    inside = np.zeros(found.shape, bool)
    near = [-3, -2, -1, 0, 1, 2, 3]
    inside[np.ix_(near, near, range(4))] = True
    np.testing.assert_array_equal(found[:, :, 1:], (values[0] * inside)[:, :, 1:])
    assert not found[~inside].any()
