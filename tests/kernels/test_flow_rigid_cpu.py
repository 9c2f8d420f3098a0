"""Shift and rotation of whole images found again."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from manyviews.kernels.flow_rigid_cpu import rigid_flow, rigid_steps
from manyviews.kernels.warp_cpu import pull_back

TRUE = np.array([[2.3, -1.4, 0.02], [-0.35, 0.6, -0.03], [0.0, 0.0, 0.0]])


def scene(rng, motion):
    model = np.stack([gaussian_filter(rng.standard_normal((60, 72)), 2.5) for _ in motion]).astype(np.float32)
    return pull_back(model, rigid_flow(motion, 60, 72)), model


def test_a_rigid_flow_turns_about_the_middle():
    flow = rigid_flow(np.array([[1.0, -2.0, np.pi / 2]]), 5, 7)[0]
    np.testing.assert_allclose(flow[:, 2, 3], [1, -2], atol=1e-6)
    # a quarter turn takes (x, z) = (2, 0) from the middle to (0, 2)
    np.testing.assert_allclose(flow[:, 2, 5], [1 - 2, -2 + 2], atol=1e-6)
    np.testing.assert_allclose(flow[:, 4, 3], [1 - 2, -2 - 2], atol=1e-6)


def test_motions_are_found(rng):
    data, model = scene(rng, TRUE)
    found = rigid_steps(data, model, np.zeros((3, 3)), rotation=True, steps=15)
    np.testing.assert_allclose(found[:, :2], TRUE[:, :2], atol=0.01)
    np.testing.assert_allclose(found[:, 2], TRUE[:, 2], atol=3e-4)


def test_without_rotation_the_angle_stays(rng):
    shifts = TRUE * [1, 1, 0]
    data, model = scene(rng, shifts)
    found = rigid_steps(data, model, np.zeros((3, 3)), steps=15)
    np.testing.assert_allclose(found, shifts, atol=0.01)
    np.testing.assert_array_equal(found[:, 2], 0)


def test_an_empty_image_stays_where_it_is(rng):
    data, model = scene(rng, TRUE)
    start = np.array([[0.5, 0.25, 0.0]] * 3)
    np.testing.assert_array_equal(rigid_steps(data, 0 * model, start), start)
