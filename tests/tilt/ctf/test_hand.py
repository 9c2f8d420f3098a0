import functools

import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.view_transfer import ViewTransfer
from manyviews.simulate.phantoms import Gaussians
from manyviews.simulate.transferred import transferred_views
from manyviews.tilt.ctf.hand import HandTest, find_hand

SHAPE, PIXEL = (64, 288), 2.0
TILTS = [-60.0, -50.0, 0.0, 50.0, 60.0]


@functools.cache
def images(hand, noise=0.5, seed=0):
    """A thin layer of points that goes on outside of the images."""
    rng = np.random.default_rng(seed)
    geometry = TiltGeometry.from_tilt_axis(TILTS)
    transfer = ViewTransfer(Optics.make(300.0, 2.7, 0.07, [[7000.0, 6800.0]] * 5, 20.0), np.zeros(5), hand)
    places = rng.uniform(-1, 1, (2000, 3)) * [700.0, 110.0, 20.0]
    points = Gaussians.isotropic(rng.uniform(0.5, 1.5, len(places)), places, 2.0)
    made = np.stack(list(transferred_views(points, geometry, SHAPE, PIXEL, transfer)))
    made += noise * made.std() * rng.standard_normal(made.shape).astype(np.float32)
    return geometry, transfer, torch.from_numpy(made)


@pytest.mark.parametrize("hand", [1, -1])
def test_the_hand_is_told(hand):
    geometry, transfer, made = images(hand)
    found = find_hand(made.__getitem__, geometry, transfer, SHAPE, PIXEL)
    assert found.hand == hand
    assert found.views == 4  # the untilted one says nothing
    assert f"hand {hand:+d}" in found.words


def test_one_defocus_for_all_depths_has_no_hand():
    geometry, transfer, made = images(0)
    found = find_hand(made.__getitem__, geometry, transfer, SHAPE, PIXEL)
    assert found.hand is None
    assert "cannot be told" in found.words


def test_noise_has_no_hand():
    geometry, transfer, made = images(1)
    noise = torch.randn(made.shape, generator=torch.Generator().manual_seed(1))
    assert find_hand(noise.__getitem__, geometry, transfer, SHAPE, PIXEL).hand is None


def test_views_without_tilt_say_nothing():
    geometry, transfer, made = images(1)
    flat = geometry.select([2]), transfer.select(np.array([2]))
    found = find_hand(lambda views: made[views + 2], *flat, SHAPE, PIXEL)
    assert (found.views, found.hand) == (0, None)
    assert "too little" in found.words
    assert HandTest(0.0, 0).hand is None
