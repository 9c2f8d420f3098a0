"""Filtered back-projection gives the values of the specimen, whatever the order and number of turns."""

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.nano.fbp import angle_shares, filtered_back_projection
from manyviews.operators.radon import Radon

SIZE = 64


def blob():
    position = np.arange(SIZE) - SIZE // 2
    x, y = position - 7.0, position[:, None] + 4.0
    return torch.from_numpy(np.exp(-0.5 * (x**2 + y**2) / 16.0))[None].float()


@pytest.mark.parametrize(
    "theta",
    [
        np.arange(120) * 1.5,
        np.arange(120) * 3.0 + 17.0,
        np.concatenate([np.arange(60) * 6.0, np.arange(60) * 6.0 + 363.0]),
        np.arange(120) * 222.492236,
    ],
    ids=["half a turn", "a turn", "two interlaced turns", "golden"],
)
def test_a_blob_comes_back(theta):
    truth = blob()
    radon = Radon(theta, 1, SIZE, 30.0)
    found = filtered_back_projection(radon, radon.forward(truth))
    position = np.arange(SIZE) - SIZE // 2
    inside = torch.from_numpy(np.hypot(position, position[:, None]) < 29)
    assert float(((found - truth) * inside).norm() / truth.norm()) < 0.01
    assert float(found.max()) == pytest.approx(1.0, abs=0.02)


def test_a_specimen_wider_than_the_detector_is_not_rimmed():
    position = np.arange(SIZE) - SIZE // 2
    truth = torch.from_numpy((np.hypot(position, position[:, None]) < 30).astype(np.float32))[None]
    radon = Radon(np.arange(90) * 2.0, 1, 36, 17.5, size=SIZE)
    found = filtered_back_projection(radon, radon.forward(truth))[0].numpy()
    distance = np.hypot(position, position[:, None])
    rings = [found[(distance >= r) & (distance < r + 2)].mean() for r in range(0, 16, 2)]
    assert max(rings) < 1.05 * rings[0]
    assert min(rings) > 0.75 * rings[0]


def test_shares_of_angles_sum_to_half_a_turn():
    np.testing.assert_allclose(angle_shares([0.0, 45.0, 90.0, 135.0]), np.pi / 4)
    np.testing.assert_allclose(angle_shares([0.0, 180.0, 90.0]), np.pi * np.array([0.25, 0.25, 0.5]))
    np.testing.assert_allclose(angle_shares([10.0, 370.0, 20.0, 100.0]).sum(), np.pi)
    np.testing.assert_allclose(angle_shares([33.0]), np.pi)


def test_projections_of_another_shape_are_refused():
    with pytest.raises(InputError, match="filtered back-projection wants shape"):
        filtered_back_projection(Radon([0.0], 1, 8, 3.5), torch.zeros((1, 2, 8)))
