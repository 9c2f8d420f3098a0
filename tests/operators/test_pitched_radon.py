"""Projections of views tilted towards the beam: of round blobs, of which they are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.operators.pitched_radon import PitchedRadon
from manyviews.operators.radon import Radon

SIZE, ROWS, VIEWS, WIDTH = 40, 30, 9, 2.5
CENTER, THETA = 18.6, np.arange(VIEWS) * 41.0
PITCH = np.linspace(-6.0, 9.0, VIEWS)
PLACES = np.array([[0.0, 0.0, 0.0], [4.0, 9.0, -5.0], [-3.0, -8.0, 7.0]])  # z, y, x


def volume():
    grids = [np.arange(length) - length // 2 for length in (ROWS, SIZE, SIZE)]
    blobs = [
        [np.exp(-0.5 * ((grid - middle) / WIDTH) ** 2) for grid, middle in zip(grids, place, strict=True)]
        for place in PLACES
    ]
    return torch.from_numpy(sum(z[:, None, None] * y[:, None] * x for z, y, x in blobs))


def projections(pitch_degrees):
    """A blob lies ``s tan(pitch)`` rows further, and is as much higher as its own depth makes it."""
    found = np.zeros((VIEWS, ROWS, SIZE))
    for view, (theta, pitch) in enumerate(zip(np.radians(THETA), np.radians(pitch_degrees), strict=True)):
        z, y, x = PLACES.T
        columns = np.arange(SIZE)[:, None] - (CENTER + x * np.cos(theta) + y * np.sin(theta))
        depth = y * np.cos(theta) - x * np.sin(theta)
        rows = np.arange(ROWS)[:, None] - ROWS // 2 - z - depth * np.tan(pitch)
        height = WIDTH / np.cos(pitch)
        shape = np.exp(-0.5 * (rows / height) ** 2) / height
        across = np.exp(-0.5 * (columns / WIDTH) ** 2) * WIDTH**2 * np.sqrt(2 * np.pi)
        found[view] = shape @ across.T
    return found


def apart(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_what_is_deep_is_seen_in_a_higher_row():
    level = Radon(THETA, ROWS, SIZE, CENTER, epsilon=1e-4)
    found = PitchedRadon(level, PITCH).forward(volume()).numpy()
    assert apart(found, projections(PITCH)) < 2e-3
    assert apart(level.forward(volume()).numpy(), projections(PITCH)) > 0.05
    assert apart(found, projections(-PITCH)) > 0.1


def test_without_pitch_it_is_the_projector_of_level_views():
    level = Radon(THETA, ROWS, SIZE, CENTER, epsilon=1e-4)
    x = volume() + 0.1 * torch.randn((ROWS, SIZE, SIZE), generator=torch.Generator().manual_seed(1))
    found = PitchedRadon(level, np.zeros(VIEWS)).forward(x)
    assert apart(found.numpy(), level.forward(x).numpy()) < 5e-4


def test_a_volume_goes_on_as_it_ends():
    level = Radon(THETA, ROWS, SIZE, CENTER, epsilon=1e-4)
    prism = volume()[ROWS // 2].expand(ROWS, SIZE, SIZE).contiguous()
    assert apart(PitchedRadon(level, PITCH).forward(prism).numpy(), level.forward(prism).numpy()) < 2e-3


@pytest.mark.parametrize("threads", [1, 3])
def test_what_a_result_is_written_into_does_not_count(threads):
    level = Radon(THETA, ROWS, SIZE, CENTER, threads=threads)
    operator, x = PitchedRadon(level, PITCH), volume().float()
    images = operator.forward(x, out=torch.full(operator.range, torch.nan))
    back = operator.adjoint(images, out=torch.full(operator.domain, torch.nan))
    alone = PitchedRadon(Radon(THETA, ROWS, SIZE, CENTER, threads=1), PITCH)
    assert torch.equal(images, alone.forward(x))
    assert torch.equal(back, alone.adjoint(images))


@pytest.mark.parametrize("pitch", [[1.0], [1.0, np.nan, 0.0], [0.0, 61.0, 0.0]])
def test_pitches_that_cannot_be_are_refused(pitch):
    with pytest.raises(InputError, match="pitch"):
        PitchedRadon(Radon([0.0, 50.0, 100.0], 4, 8, 3.5), pitch)
