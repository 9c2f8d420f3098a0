"""Sums of images against the adjoint of the slices in double precision."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch
from test_pose_scores_cpu import BOX, DEVICES, IMAGES, PADDING, RADIUS, complex_noise

from manyviews.geometry.poses import random_rotations
from manyviews.kernels import pose_scores_torch, pose_sums_torch
from manyviews.kernels.pose_sums_cpu import add_images
from manyviews.kernels.slices_cpu import splat_slices
from manyviews.operators.fourier_points import half_plane

LANES = 3
H = PADDING * RADIUS + 1
SHAPE = (2 * H + 1, 2 * H + 1, H + 2)


def sums_problem(seed=0, poses=25):
    rng = np.random.default_rng(seed)
    points, more = half_plane(RADIUS, BOX), len(half_plane(RADIUS + 1, BOX))
    image = np.sort(rng.integers(0, IMAGES, poses))
    return {
        "points": points,
        "box": BOX,
        "values": complex_noise(rng, IMAGES, more),
        "ctf": rng.normal(size=(IMAGES, more)).astype(np.float32),
        "precision": rng.uniform(0.5, 2, (2, more)).astype(np.float32),
        "group": rng.integers(0, 2, IMAGES).astype(np.int32),
        "image": image,
        "rotations": random_rotations(poses, rng).astype(np.float32),
        "shifts": rng.normal(size=(poses, 2)).astype(np.float32),
        "weights": rng.random(poses).astype(np.float32),
        "starts": np.array([0, 8, 8, poses]),  # the second lane is empty
    }


def zeros():
    return np.zeros((LANES, *SHAPE), np.complex64), np.zeros((LANES, *SHAPE), np.float32)


def centred(p):
    """Each pose's image moved by its shift, in float64, and its CTF and weight."""
    points = p["points"].astype(np.float64)
    image, count = p["image"], len(points)
    phases = np.exp(-2j * np.pi * (p["shifts"].astype(np.float64) @ points.T) / BOX)
    weight = p["weights"][:, None].astype(np.float64) * p["precision"][p["group"][image], :count]
    return p["values"][image, :count] * phases, p["ctf"][image, :count].astype(np.float64), weight


def test_sums_are_the_adjoint_of_the_slices():
    p = sums_problem()
    found = zeros()
    add_images(*found, PADDING, **p)
    data, ctf, weight = centred(p)
    for lane in range(LANES):
        own = slice(p["starts"][lane], p["starts"][lane + 1])
        turns = p["rotations"][own].astype(np.float64)
        for sums, values in zip(found, (weight * ctf * data, weight * ctf**2), strict=True):
            expected = np.zeros(SHAPE, np.complex128)
            splat_slices(expected, turns, p["points"], values[own] + 0j, PADDING)
            np.testing.assert_allclose(sums[lane], expected, atol=2e-6 * max(1, np.abs(expected).max()))
    assert not found[0][1].any()


def test_sums_do_not_depend_on_threads():
    p = sums_problem(1)
    made = []
    before = numba.get_num_threads()
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        made.append(zeros())
        add_images(*made[-1], PADDING, **p)
    numba.set_num_threads(before)
    for one, two in zip(*made, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("elements", [2**24, 300])
def test_sums_in_torch_are_the_same(device, elements, monkeypatch):
    monkeypatch.setattr(pose_scores_torch, "_ELEMENTS_AT_ONCE", elements)
    p = sums_problem(2)
    expected, found = zeros(), [torch.from_numpy(part).to(device) for part in zeros()]
    add_images(*expected, PADDING, **p)
    pose_sums_torch.add_images(*found, PADDING, **p)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.cpu().numpy(), theirs, atol=1e-5 * np.abs(theirs).max())
