"""Steps of an iteration view by view, against the warps and sums that they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from manyviews.kernels.flow_rigid_cpu import rigid_flow
from manyviews.kernels.view_steps_cpu import back_views, deformed_squares, keep_better, rest_of_views
from manyviews.kernels.warp_cpu import pull_back, push_forward

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (3, 14, 19)
KINDS = pytest.mark.parametrize(("push", "deform"), [(False, pull_back), (True, push_forward)])


def scene(rng):
    data, model = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    smooth = [[gaussian_filter(rng.standard_normal(SHAPE[1:]), 3) * 12 for _ in range(2)] for _ in range(3)]
    return data, model, np.asarray(smooth, np.float32)


def seen(flow):
    """Where a flow reads within the image, or less than a pixel beyond."""
    z, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    at_x, at_z = x + flow[:, 0], z + flow[:, 1]
    return (at_x > -1) & (at_x < SHAPE[2]) & (at_z > -1) & (at_z < SHAPE[1])


@KINDS
def test_what_does_not_fit_counts_where_it_is_seen(rng, push, deform):
    data, model, flow = scene(rng)
    apart = deform(model, flow) - data
    where = np.ones_like(seen(flow)) if push else seen(flow)
    assert push or 0 < np.count_nonzero(~where) < where.size / 2
    rest = model.copy()
    every, counted = rest_of_views(data, rest, flow, push=push)
    np.testing.assert_allclose(rest, apart * where, atol=1e-5)
    np.testing.assert_allclose(every, (apart.astype(float) ** 2).sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(counted, ((apart * where).astype(float) ** 2).sum((1, 2)), rtol=1e-5)
    moved = deform(model, flow) * where
    squares = deformed_squares(model, flow, push=push)
    np.testing.assert_allclose(squares, (moved.astype(float) ** 2).sum((1, 2)), rtol=1e-5)


def test_a_view_that_moves_out_is_not_seen_there():
    flow = rigid_flow(np.array([[3.0, -1.5, 0.0]]), 6, 8)
    rest = np.full((1, 6, 8), 2.0, np.float32)
    rest_of_views(np.zeros_like(rest), rest, flow)
    expected = np.zeros((6, 8))
    expected[1:, :5] = 2.0
    np.testing.assert_allclose(rest[0], expected, atol=1e-6)


@KINDS
def test_what_goes_back_is_the_transpose_times_the_weight(rng, push, deform):
    rest, other, flow = scene(rng)
    weights = np.array([1.0, 0.25, 3.0])
    found = np.empty_like(rest)
    back_views(rest, weights, flow, found, push=push)
    there = (weights[:, None, None] * rest.astype(float) * deform(other, flow)).sum((1, 2))
    np.testing.assert_allclose((found.astype(float) * other).sum((1, 2)), there, rtol=2e-5, atol=1e-3)


@KINDS
def test_of_two_flows_the_better_is_kept_view_by_view(rng, push, deform):
    _, model, flow = scene(rng)
    smooth = gaussian_filter(model, (0, 2, 2))
    data, none = deform(smooth, flow), np.zeros_like(flow)
    old, new = none.copy(), none.copy()
    new[0], old[1] = flow[0], flow[1]
    old[2], new[2] = flow[2], np.nan
    left, taken = keep_better(data, smooth, old, new, push=push)
    assert taken.tolist() == [True, False, False]
    np.testing.assert_array_equal(new, flow)
    np.testing.assert_allclose(left, 0.0, atol=1e-10)
