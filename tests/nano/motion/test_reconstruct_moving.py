"""A specimen that deforms in space comes out nearly as one that does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.nano.flow.gauge import remove_shift_gauge
from manyviews.nano.motion.basis import MotionBasis, time_functions
from manyviews.nano.motion.moving_radon import MovingRadon
from manyviews.nano.motion.reconstruct import (
    MotionOptions,
    MovingScan,
    begin_moving,
    is_done,
    reconstruct_moving,
    step_moving,
)
from manyviews.nano.motion.registration import register_smoothly
from manyviews.nano.motion.view_shifts import read_shifted
from manyviews.nano.solve.levels import finer_volume
from manyviews.operators.radon import Radon

N, VIEWS, CENTER = 16, 24, 7.5
OPTIONS = MotionOptions(
    cells=1, degree=2, intervals=12, joint_steps=5, inner_steps=6, volume_steps=5, levels=(1,), bending=1e-3
)


def specimen(rng):
    at = np.stack(np.meshgrid(*(np.arange(N) - N // 2,) * 3, indexing="ij")).astype(float)
    volume = np.zeros((N,) * 3)
    for place in rng.uniform(-4, 4, (9, 3)):
        volume += np.exp(-((at - place[:, None, None, None]) ** 2).sum(axis=0) / 2.0)
    return volume.astype(np.float32)


def scan(rng, volume, amount):
    theta = np.arange(VIEWS) * (360.0 * 3 / VIEWS) + np.repeat(np.arange(3) * 10.0, VIEWS // 3)
    times = time_functions(VIEWS, 2)
    basis = MotionBasis.of((N,) * 3, (N, N), 1, 1)
    radon = Radon(theta, N, N, CENTER)
    moving = MovingRadon.of(radon, [np.array([view]) for view in range(VIEWS)], times, basis)
    knots = np.zeros(moving.motion_shape)
    knots[0] = amount * rng.uniform(-1, 1, knots[0].shape)
    return MovingScan(moving.forward(volume, knots), theta, CENTER)


def error(found, volume):
    return float(np.linalg.norm(register_smoothly(found, volume, cells=1) - volume) / np.linalg.norm(volume))


def test_motion_in_depth_is_found(rng):
    volume = specimen(rng)
    moved = scan(rng, volume, 4.0)
    seen = []
    found = reconstruct_moving(moved, OPTIONS, seen.append)
    still = reconstruct_moving(moved, replace(OPTIONS, joint_steps=0))
    oracle = reconstruct_moving(scan(rng, volume, 0.0), replace(OPTIONS, joint_steps=0))
    errors = [error(state.volume, volume) for state in (still, found, oracle)]
    assert errors[0] > 0.2
    assert errors[0] - errors[1] > 0.65 * (errors[0] - errors[2]), errors
    assert found.misfit < 0.25 * still.misfit
    assert seen[-1] is found
    assert [state.level for state in seen][:5] == [0] * 5


def test_views_that_jitter_besides_are_shifted_back(rng):
    volume = specimen(rng)
    moved = scan(rng, volume, 2.0)
    jitter, _ = remove_shift_gauge(rng.normal(0, 0.8, (VIEWS, 2)), moved.theta_degrees)
    shaken = MovingScan(read_shifted(moved.projections, jitter), moved.theta_degrees, CENTER)
    ends = [reconstruct_moving(shaken, replace(OPTIONS, jitter=known)) for known in (False, True)]
    assert error(ends[1].volume, volume) < 0.75 * error(ends[0].volume, volume)
    # what is slow in them may go into the motion
    fast = np.diff(ends[1].shifts - jitter, axis=0)
    assert np.sqrt(np.mean(fast**2)) < 0.35 * np.sqrt(np.mean(np.diff(jitter, axis=0) ** 2))


def test_a_state_goes_on_to_the_same_bits(rng):
    moved = scan(rng, specimen(rng), 1.0)
    options = replace(OPTIONS, joint_steps=1, volume_steps=4, variation=0.01, jitter=True)
    first = begin_moving(moved, options)
    middle = step_moving(step_moving(first, moved, options), moved, options)
    ends = []
    for _ in range(2):
        state = middle
        while not is_done(state, moved, options):
            state = step_moving(state, moved, options)
        ends.append(state.volume)
    np.testing.assert_array_equal(*ends)
    assert np.isfinite(ends[0]).all()


def test_levels_follow_from_the_size():
    options = MotionOptions()
    assert options.factors(64) == (4, 2, 1)
    assert options.factors(256) == (16, 8, 1)
    assert MotionOptions(levels=(8, 4)).factors(64) == (8, 4, 1)


def test_a_volume_is_raised_about_its_axis():
    z, y, x = np.meshgrid(*(np.arange(8.0),) * 3, indexing="ij")
    volume = torch.from_numpy((z + 10 * (y - 4) + 100 * (x - 4)).astype(np.float32))
    raised = finer_volume(volume, 16, 16, 1.0, 2.0).numpy()
    assert raised[7, 8, 8] == pytest.approx(3.25, abs=1e-2)  # rows lie in pairs, the axis on voxel n // 2
    assert raised[7, 10, 8] == pytest.approx(13.25, abs=1e-2)
    assert raised[7, 8, 6] == pytest.approx(-96.75, abs=1e-2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cells": 0}, "is none"),
        ({"levels": (2, 4)}, "do not go from coarse to fine"),
        ({"levels": (8,)}, "8 x 8 pixels are too few to bin by 8"),
    ],
)
def test_options_that_cannot_be_are_refused(changed, said):
    images = np.zeros((9, 8, 8), np.float32)
    with pytest.raises(InputError, match=said):
        begin_moving(MovingScan(images, np.zeros(9), 3.5), replace(MotionOptions(), **changed))


def test_pixels_that_are_no_numbers_are_refused():
    images = np.full((9, 32, 32), np.nan, np.float32)
    with pytest.raises(InputError, match="are no numbers"):
        begin_moving(MovingScan(images, np.zeros(9), 3.5), MotionOptions())


def test_too_few_views_and_wrong_angles_are_refused():
    images = np.zeros((3, 32, 32), np.float32)
    with pytest.raises(InputError, match="do not tell a motion of degree 4"):
        begin_moving(MovingScan(images, np.zeros(3), 3.5), MotionOptions())
    with pytest.raises(InputError, match="2 angles are not those of 3"):
        begin_moving(MovingScan(images, np.zeros(2), 3.5), MotionOptions())


def test_volumes_are_laid_over_each_other_by_a_smooth_map(rng):
    volume = specimen(rng)
    moved = scan_moved(volume, 1.5 * rng.uniform(-1, 1, (3, 4, 4, 4)))
    before = np.linalg.norm(moved - volume) / np.linalg.norm(volume)
    assert before > 0.15
    assert error(moved, volume) < 0.2 * before


def scan_moved(volume, knots):
    from manyviews.kernels.warp_volume_cpu import pull_volume

    return pull_volume(volume, MotionBasis.of((N,) * 3, (N, N), 1, 1).expand(knots))
