"""Tilts of views towards the beam are found; neither noise nor a deforming specimen makes any."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.nano.pitch import find_pitch
from manyviews.nano.rigid.angle_fit import RigidScan
from manyviews.nano.simulate import simulate_arrays
from manyviews.nano.simulate_options import SimulateOptions

pytestmark = pytest.mark.usefixtures("one_thread")

COLUMNS, ROWS, VIEWS = 24, 16, 48
CENTER, SIGMA = 0.5 * (COLUMNS - 1), 0.02
THETA = np.arange(VIEWS) * 180.0 / VIEWS
TURN = np.arange(VIEWS)
BOX = np.where((TURN >= 20) & (TURN < 29), 4.0, 0.0)
STEP = np.where(TURN < VIEWS // 2, 0.0, 4.0)


def images_pitched(pitch_degrees, seed=0, shift=None):
    """Round blobs, of which projections are known exactly, and noise."""
    rng = np.random.default_rng(seed)
    away, side = 7.0 * np.sqrt(rng.uniform(0, 1, 50)), rng.uniform(0, 2 * np.pi, 50)
    x, y, z = away * np.cos(side), away * np.sin(side), rng.uniform(-0.4 * ROWS, 0.4 * ROWS, 50)
    widths = rng.uniform(1.6, 2.2, 50)
    turns, pitch = np.radians(THETA)[:, None], np.radians(pitch_degrees)[:, None]
    depth = y * np.cos(turns) - x * np.sin(turns)
    rows = z * np.cos(pitch) + depth * np.sin(pitch) + 0.5 * (ROWS - 1)
    columns = x * np.cos(turns) + y * np.sin(turns) + CENTER
    columns = columns + (0.0 if shift is None else shift[:, None])
    across = np.exp(-0.5 * ((np.arange(COLUMNS) - columns[:, :, None]) / widths[:, None]) ** 2)
    down = np.exp(-0.5 * ((np.arange(ROWS) - rows[:, :, None]) / widths[:, None]) ** 2)
    images = np.einsum("vbz,vbx,b->vzx", down, across, widths)
    return (images + SIGMA * rng.standard_normal(images.shape)).astype(np.float32)


def found_in(images):
    return find_pitch(RigidScan(images, THETA, CENTER), np.zeros((VIEWS, 2)), SIGMA)


def jumps(pitch_degrees):
    """What a volume cannot make up for: how far neighbouring views are apart."""
    return np.diff(pitch_degrees)


@pytest.mark.parametrize("wrong", [BOX, STEP], ids=["a box", "a step"])
def test_pitch_is_found_from_what_no_volume_explains(wrong):
    shift = np.random.default_rng(2).uniform(-0.3, 0.3, VIEWS)
    found = found_in(images_pitched(wrong, shift=shift))
    assert found is not None
    assert found.taken
    assert np.linalg.norm(jumps(found.pitch_degrees - wrong)) < 0.3 * np.linalg.norm(jumps(wrong))


def test_views_that_are_level_stay():
    found = found_in(images_pitched(np.zeros(VIEWS)))
    assert found is None or not found.taken


@pytest.mark.parametrize("rotations", [1, 4])
def test_a_specimen_that_deforms_is_not_taken_to_be_pitched(rotations):
    made = simulate_arrays(
        SimulateOptions(
            size=(COLUMNS,), views=VIEWS, rotations=rotations, deformation="object",
            deformation_percent=12.0, noise_free=True,
        )
    )  # fmt: skip
    sigma = 0.005 * float(made.projections.max())
    noisy = made.projections + sigma * np.random.default_rng(4).standard_normal(made.projections.shape)
    scan = RigidScan(noisy.astype(np.float32), made.theta_degrees, made.center)
    found = find_pitch(scan, np.zeros((VIEWS, 2)), sigma)
    assert found is not None
    assert found.without > 2 * found.noise
    assert not found.taken


def test_too_few_views_tell_no_pitch():
    few = slice(None, None, 4)
    scan = RigidScan(images_pitched(STEP)[few], THETA[few], CENTER)
    assert find_pitch(scan, np.zeros((len(THETA[few]), 2)), 1e-6) is None
