"""Shifts from views that look alike, and from reprojections of a volume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from manyviews.errors import InputError
from manyviews.kernels.flow_rigid_cpu import rigid_flow
from manyviews.kernels.warp_cpu import pull_back
from manyviews.nano.flow.gauge import remove_shift_gauge
from manyviews.nano.flow.prealign import Pairs, find_pairs, measure_pairs, mirror, prealign, shifts_of_pairs
from manyviews.nano.flow.reproject import align_joint, improve_volume
from manyviews.operators.linear import LinearOperator, dot_test

N, SLICES = 32, 20


class SmallRadon(LinearOperator):
    """Ray sums by bilinear interpolation, a matrix for all slices."""

    def __init__(self, theta_degrees, center):
        s, t = np.meshgrid(np.arange(N) - center, np.arange(N) - N // 2, indexing="ij")
        self.domain, self.range = (SLICES, N, N), (len(theta_degrees), SLICES, N)
        rows = []
        for theta in np.radians(theta_degrees):
            x, y = (
                s * np.cos(theta) - t * np.sin(theta) + N // 2,
                s * np.sin(theta) + t * np.cos(theta) + N // 2,
            )
            matrix = np.zeros((N, N, N))
            for dy in (0, 1):
                for dx in (0, 1):
                    ix, iy = np.floor(x).astype(int) + dx, np.floor(y).astype(int) + dy
                    weight = (1 - np.abs(x - ix)) * (1 - np.abs(y - iy))
                    inside = (ix >= 0) & (ix < N) & (iy >= 0) & (iy < N)
                    at = np.broadcast_to(np.arange(N)[:, None], (N, N))
                    np.add.at(matrix, (at[inside], iy[inside], ix[inside]), weight[inside])
            rows.append(matrix.reshape(N, -1))
        self.matrix = torch.from_numpy(np.concatenate(rows)).float()

    def forward(self, x):
        flat = x.reshape(SLICES, -1) @ self.matrix.T
        return flat.reshape(SLICES, -1, N).transpose(0, 1)

    def adjoint(self, y):
        return (y.transpose(0, 1).reshape(SLICES, -1) @ self.matrix).reshape(self.domain)


def phantom(rng):
    volume = gaussian_filter(rng.standard_normal((SLICES, N, N)), 1.2)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (SLICES, N, N)), indexing="ij")
    return (20 * (volume + 0.3) * np.exp(-3 * (x**2 + y**2 + z**2) ** 2)).astype(np.float32)


def test_the_radon_of_this_file_has_an_adjoint():
    assert dot_test(SmallRadon(np.arange(0, 180, 20.0), 15.5), dtype=torch.float32) < 1e-5


def test_pairs_of_an_interlaced_scan():
    theta = np.concatenate([np.arange(0, 360, 60.0), 360 + np.arange(0, 360, 60.0)])
    pairs = find_pairs(theta)
    direct = {(a, b) for a, b, m in zip(pairs.first, pairs.second, pairs.mirrored, strict=True) if not m}
    mirrored = {(a, b) for a, b, m in zip(pairs.first, pairs.second, pairs.mirrored, strict=True) if m}
    assert direct == {(n, n + 6) for n in range(6)}
    assert {(0, 3), (1, 4), (2, 5), (3, 6)} <= mirrored
    with pytest.raises(InputError, match="no two views look from the same or from opposite sides; align by"):
        find_pairs(np.arange(0, 120, 2.0))
    assert len(find_pairs(np.array([0.0, 181.0]), tolerance_degrees=2.0)) == 1
    with pytest.raises(InputError, match="no two views"):
        find_pairs(np.array([0.0, 181.0]))


def test_mirroring_is_about_the_axis(rng):
    image = rng.random((1, 3, 9)).astype(np.float32)
    np.testing.assert_array_equal(mirror(image, 4.0), image[:, :, ::-1])
    np.testing.assert_array_equal(mirror(image, 3.0)[:, :, :7], image[:, :, 6::-1])


def test_one_shift_a_view_explains_the_pairs(rng):
    """What pairs measured of known shifts, a few of them wrong: the shifts, but for what no pair can tell."""
    theta = np.concatenate([np.arange(0, 360, 30.0) + 360 * turn for turn in range(4)])
    pairs = find_pairs(theta)
    true = np.cumsum(rng.standard_normal((len(theta), 2)), axis=0)
    sign = np.where(pairs.mirrored, -1.0, 1.0)
    measured = true[pairs.second] - true[pairs.first]
    measured[:, 0] = sign * true[pairs.second, 0] - true[pairs.first, 0]
    measured[[30, 45]] += 20
    found = shifts_of_pairs(measured, pairs, len(theta))
    rest = found - true
    # along x: a direction's own share, the same in all turns, opposite on the opposite side
    np.testing.assert_allclose(rest[:12, 0], rest[12:24, 0], atol=0.1)
    np.testing.assert_allclose(rest[:6, 0], -rest[6:12, 0], atol=0.1)
    by_direction = rest[:6, 1]
    np.testing.assert_allclose(rest[:, 1], np.tile(by_direction, 8), atol=0.1)


def test_views_are_moved_onto_those_of_other_turns(rng):
    theta = np.concatenate([np.arange(0, 360, 45.0), 360 + np.arange(0, 360, 45.0)])
    center = 15.5
    straight = np.ascontiguousarray(SmallRadon(theta, center).forward(torch.from_numpy(phantom(rng))).numpy())
    shifts = np.zeros((16, 3))
    shifts[8:, :2] = [3.4, -2.3]
    projections = pull_back(straight, rigid_flow(shifts, SLICES, N))
    pairs = Pairs(np.arange(8), np.arange(8, 16), np.zeros(8, bool))
    np.testing.assert_allclose(
        measure_pairs(projections, pairs, center), np.tile([3.4, -2.3], (8, 1)), atol=0.15
    )
    found = prealign(projections, theta, center)
    np.testing.assert_allclose(found[8:] - found[:8], np.tile([3.4, -2.3], (8, 1)), atol=0.2)


def test_opposite_views_say_where_the_axis_is(rng):
    """A detector moved by 2 pixels: every view is, by as much, and opposite views see it twice."""
    theta = np.arange(0, 360, 30.0)
    straight = np.ascontiguousarray(SmallRadon(theta, 15.5).forward(torch.from_numpy(phantom(rng))).numpy())
    moved = pull_back(straight, rigid_flow(np.tile([2.0, 0.0, 0.0], (12, 1)), SLICES, N))
    found = prealign(moved, theta, 15.5)
    np.testing.assert_allclose(found[:, 0], 2.0, atol=0.1)
    np.testing.assert_allclose(found[:, 1], 0.0, atol=0.1)


def test_reprojection_finds_the_shifts(rng):
    theta = np.arange(0, 180, 9.0)
    radon = SmallRadon(theta, 15.5)
    straight = np.ascontiguousarray(radon.forward(torch.from_numpy(phantom(rng))).numpy())
    true = np.zeros((len(theta), 3))
    true[:, :2] = 1.5 * rng.standard_normal((len(theta), 2))
    projections = pull_back(straight, rigid_flow(true, SLICES, N))
    told = []
    found = align_joint(
        radon, projections, iterations=12, tell=lambda k, state: told.append(state.misfit.sum())
    )
    apart, _ = remove_shift_gauge(found.shifts - true[:, :2], theta)
    before, _ = remove_shift_gauge(true[:, :2], theta)
    assert np.sqrt(np.mean(apart**2)) < 0.3 * np.sqrt(np.mean(before**2))
    assert len(told) == 12
    assert told[-1] < 0.2 * told[0]


def test_steps_on_the_volume_lower_the_misfit(rng):
    radon = SmallRadon(np.arange(0, 180, 15.0), 15.5)
    data = radon.forward(torch.from_numpy(phantom(rng)))
    volume = improve_volume(radon, data, torch.zeros(radon.domain), 10)
    assert float((radon.forward(volume) - data).norm() / data.norm()) < 0.05
    assert torch.equal(
        improve_volume(radon, 0 * data, torch.zeros(radon.domain), 3), torch.zeros(radon.domain)
    )
