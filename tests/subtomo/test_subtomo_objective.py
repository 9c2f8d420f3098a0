"""The fit of a pose: gradient and curvature against finite differences, and the methods that use them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from alignment_example import DIAMETER, angles_off, coefficients, reference, true_poses, wedge
from scipy.spatial.transform import Rotation

from manyviews.subtomo.align_options import Method
from manyviews.subtomo.pose_search import SearchPlan, refinement
from manyviews.subtomo.refine.objective import PoseObjective, Poses, step_length

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 4
FAR = Poses(
    Rotation.from_rotvec([[0.8, -0.5, 0.3], [-1.0, 2.0, 0.4], [0.2, 0.1, -2.0], [1.5, 0, 1.5]]).as_matrix(),
    np.array([[2.9, -2.0, 1.9], [-1.0, 3.6, 1.5], [-2.4, 2.2, -2.3], [0.5, -4.0, 0]]),
    np.arange(COUNT),
)


def off(poses, degrees, voxels, seed=3):
    """The poses turned by so many degrees about random axes, and moved by so many voxels."""
    rng = np.random.default_rng(seed)
    axes, moves = rng.normal(size=(2, len(poses), 3))
    turn = np.deg2rad(degrees) * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    move = voxels * moves / np.linalg.norm(moves, axis=1, keepdims=True)
    return poses.moved(np.concatenate([turn, move], axis=1))


@pytest.fixture(scope="module")
def problem():
    """Two wedges, one of them with a factor below zero, and poses far from none."""
    factors = [wedge(), -0.7 * wedge(-40, 55)]
    return PoseObjective(coefficients(FAR, transfers=factors, index=[0, 1, 0, 1], noise=3.0), reference())


def test_the_gradient_is_that_of_the_gain(problem):
    """At shifts of 4 voxels and turns of more than 30 degrees; the map is linear between grid points."""
    assert np.rad2deg(Rotation.from_matrix(FAR.rotations).magnitude()).min() > 30
    assert np.linalg.norm(FAR.shifts, axis=1).min() > 3.9
    poses = off(FAR, 5.0, 0.8)
    fit = problem.fit(poses)
    for axis in range(6):
        size = 2e-3 if axis < 3 else 1e-2
        step = np.zeros((COUNT, 6))
        step[:, axis] = size
        ahead, behind = problem.fit(poses.moved(step)), problem.fit(poses.moved(-step))
        expected = -(ahead.gain - behind.gain) / 2 / (2 * size)
        scale = np.abs(fit.gradient).max(axis=1)
        np.testing.assert_allclose(fit.gradient[:, axis] / scale, expected / scale, atol=0.02)


def test_a_rotation_slope_without_the_shift_would_be_wrong(problem):
    """-(x - T) x grad g, not -x x grad g: the difference is the shift's own slope times T."""
    poses = off(FAR, 5.0, 0.8)
    fit = problem.fit(poses)
    without = fit.gradient[:, :3] - np.cross(poses.shifts, fit.gradient[:, 3:])
    assert (
        np.linalg.norm(without - fit.gradient[:, :3], axis=1) > 0.3 * np.linalg.norm(without, axis=1)
    ).all()


def test_correlation_amplitude_and_gain(problem):
    """Of data that are the model: all of them is explained, up to the map's interpolation."""
    truth = problem.subtomograms
    clean = PoseObjective(coefficients(FAR, transfers=[2.5 * wedge()], noise=0.0), reference())
    fit = clean.fit(FAR)
    assert (fit.correlation > 0.998).all()
    np.testing.assert_allclose(fit.amplitude, 1, rtol=0.02)
    np.testing.assert_allclose(fit.gain, fit.data, rtol=0.005)
    upside_down = PoseObjective(coefficients(FAR, transfers=[wedge()]), reference())
    negative = upside_down.subtomograms.values * -1
    turned = PoseObjective(type(truth)(**{**vars(upside_down.subtomograms), "values": negative}), reference())
    np.testing.assert_allclose(turned.fit(FAR).correlation, -upside_down.fit(FAR).correlation, rtol=1e-5)
    np.testing.assert_allclose(turned.fit(FAR).gain, -upside_down.fit(FAR).gain, rtol=1e-5)
    worse = clean.fit(off(FAR, 20.0, 1.5))
    assert (worse.gain < fit.gain).all()


def test_the_curvature_is_positive_and_that_of_the_gain_at_the_truth(problem):
    eigenvalues = np.linalg.eigvalsh(problem.fit(off(FAR, 5, 1)).hessian)
    assert (eigenvalues > 0).all()
    clean = PoseObjective(coefficients(FAR), reference())
    hessian = clean.fit(FAR).hessian
    for axis in range(6):
        size = 0.05 if axis < 3 else 0.3
        step = np.zeros((COUNT, 6))
        step[:, axis] = size
        ahead, middle, behind = (clean.fit(FAR.moved(s * step)).gain for s in (1, 0, -1))
        expected = -(ahead - 2 * middle + behind) / 2 / size**2
        np.testing.assert_allclose(hessian[:, axis, axis], expected, rtol=0.15)


def test_parts_of_the_frequencies_add_up(problem):
    order = np.random.default_rng(0).permutation(problem.point_count).astype(np.int32)
    fits = [problem.fit(FAR, np.broadcast_to(part, (COUNT, len(part)))) for part in np.array_split(order, 3)]
    whole = problem.fit(FAR)
    for name in ("data", "cross", "model", "data_slope", "model_slope", "curvature"):
        total, expected = sum(getattr(fit, name) for fit in fits), getattr(whole, name)
        np.testing.assert_allclose(total, expected, atol=1e-4 * np.abs(expected).max())


# degrees and voxels that are left at most; of the paper's printed steps the shift alone gains, and slowly
WALKED = {
    "levenberg-marquardt": (0.6, 0.15),
    "newton-marching": (1.0, 0.3),
    "sag": (1.0, 0.3),
    "alternation": (3.5, 0.3),
    "sag-slices": (6.05, 0.9),
    "sag-slices-optimized": (6.05, 0.9),
}


def test_all_methods_are_walked():
    assert set(WALKED) == set(get_args(Method))


@pytest.mark.parametrize("name", WALKED)
def test_every_method_goes_towards_the_truth(name):
    """From 6 degrees and a voxel off, without noise, through a wedge of 60 degrees."""
    truth = true_poses(COUNT, seed=5, most=1.5)
    objective = PoseObjective(coefficients(truth), reference())
    start = off(truth, 6.0, 1.0)
    plan = SearchPlan(DIAMETER, 4.0, 1, np.eye(3)[None], method=name)
    found = refinement(plan).refine(objective, start)
    degrees, voxels = WALKED[name]
    angle = angles_off(found.poses.rotations, truth.rotations)
    shift = np.linalg.norm(found.poses.shifts - truth.shifts, axis=1)
    assert angle.max() < degrees
    assert shift.max() < voxels
    assert (found.fit.gain >= objective.fit(start).gain * (1 - 1e-6)).all()
    np.testing.assert_allclose(found.fit.gain, objective.fit(found.poses).gain, rtol=1e-6)
    np.testing.assert_array_equal(found.poses.particle, truth.particle)
    assert (found.touched > 0).all()


def test_the_length_of_a_step():
    step = np.array([[0.1, 0, 0, 0, 3, 0], [0, 0, 0, 0, 0, 2]])
    np.testing.assert_allclose(step_length(step, 40.0), [5, 2])
