"""Angles other than given are found, and only those: neither noise nor a deforming specimen makes any."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.nano.angles import find_angles
from manyviews.nano.rigid.angle_fit import ANGLE, RigidScan, fit_rigid
from manyviews.nano.rigid.slice_fit import SliceFit, project
from manyviews.nano.simulate import simulate_arrays
from manyviews.nano.simulate_options import SimulateOptions

pytestmark = pytest.mark.usefixtures("one_thread")

COLUMNS, ROWS, VIEWS = 24, 8, 48
CENTER, SIGMA = 0.5 * (COLUMNS - 1), 0.02
THETA = np.arange(VIEWS) * 180.0 / VIEWS
STEP = np.where(np.arange(VIEWS) < VIEWS // 2, 0.0, 3.0)


def images_at(theta_degrees, seed=0, shift=None):
    """Round blobs, of which projections are known exactly, and noise."""
    rng = np.random.default_rng(seed)
    away, side = 6.0 * np.sqrt(rng.uniform(0, 1, 40)), rng.uniform(0, 2 * np.pi, 40)
    places = away[:, None] * np.stack([np.cos(side), np.sin(side)], axis=1)
    widths, phases = rng.uniform(1.5, 2.0, 40), rng.uniform(0, 2 * np.pi, 40)
    heights = 1.0 + np.sin(0.6 * np.arange(ROWS)[:, None] + phases)
    turns = np.radians(theta_degrees)[:, None]
    at = places[:, 0] * np.cos(turns) + places[:, 1] * np.sin(turns) + CENTER
    at = at + (0.0 if shift is None else shift[:, None])
    blobs = np.exp(-0.5 * ((np.arange(COLUMNS) - at[:, :, None]) / widths[:, None]) ** 2) * widths[:, None]
    images = np.einsum("zb,vbx->vzx", heights, blobs)
    return (images + SIGMA * rng.standard_normal(images.shape)).astype(np.float32)


def apart(change):
    """Less what all angles have in common, which turns the specimen."""
    return change - change.mean()


def test_slices_are_fitted_as_well_as_any_volume_can_be():
    rng = np.random.default_rng(1)
    fit = SliceFit.of(THETA, COLUMNS, CENTER, np.ones(VIEWS))
    volume = np.zeros((2, COLUMNS, COLUMNS), np.float32)
    volume[:, 6:18, 6:18] = rng.standard_normal((2, 12, 12))
    images = project(volume, THETA, CENTER)
    found, fitted = fit.fit(images)
    assert np.linalg.norm(fitted - images) < 0.05 * np.linalg.norm(images)
    assert np.allclose(project(found, THETA, CENTER), fitted)
    noise = rng.standard_normal((VIEWS, 200, COLUMNS)).astype(np.float32)
    left = np.square(noise - fit.fit(noise)[1], dtype=np.float64).sum() / 200
    assert left == pytest.approx(fit.freedom(), rel=0.02)


@pytest.mark.parametrize("wrong", [STEP, 3.0 * np.sin(np.radians(THETA))], ids=["a step", "an arch"])
def test_angles_are_found_from_what_no_volume_explains(wrong):
    shift = np.random.default_rng(2).uniform(-0.3, 0.3, VIEWS)
    scan = RigidScan(images_at(THETA + wrong, shift=shift), THETA, CENTER)
    found = find_angles(scan, np.zeros((VIEWS, 2)), SIGMA)
    assert found is not None
    assert found.taken
    assert np.std(apart(found.change_degrees - wrong)) < 0.3 * np.std(wrong)


def test_a_view_of_half_the_beam_turns_no_other():
    images = images_at(THETA + STEP)
    images[7] *= 0.5
    scan = RigidScan(images, THETA, CENTER)
    motion, weights = fit_rigid(scan, np.zeros((VIEWS, 4)), np.ones(ROWS, bool), 8, angles=True)
    others = np.arange(VIEWS) != 7
    assert weights[7] < 0.5
    assert np.std(apart((motion[:, ANGLE] - STEP)[others])) < 0.5


def test_angles_as_given_stay():
    found = find_angles(RigidScan(images_at(THETA), THETA, CENTER), np.zeros((VIEWS, 2)), SIGMA)
    assert found is None or not found.taken


def test_a_specimen_that_deforms_is_not_taken_to_turn():
    made = simulate_arrays(
        SimulateOptions(
            size=(COLUMNS,), views=VIEWS, rotations=4, deformation="object", deformation_percent=12.0,
            noise_free=True,
        )
    )  # fmt: skip
    sigma = 0.005 * float(made.projections.max())
    noisy = made.projections + sigma * np.random.default_rng(4).standard_normal(made.projections.shape)
    scan = RigidScan(noisy.astype(np.float32), made.theta_degrees, made.center)
    found = find_angles(scan, np.zeros((VIEWS, 2)), sigma)
    assert found is not None
    assert found.without > 2 * found.noise
    assert not found.taken


def test_too_few_views_tell_no_angles():
    few = slice(None, None, 4)
    scan = RigidScan(images_at(THETA)[few], THETA[few], CENTER)
    assert find_angles(scan, np.zeros((len(THETA[few]), 2)), 1e-6) is None
