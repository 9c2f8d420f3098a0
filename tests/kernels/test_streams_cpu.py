"""The CPU streams against a dense matrix built from the definition of the footprint."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch

from manyviews.kernels import streams_cpu
from manyviews.kernels.stream_shares_cpu import footprint_variance
from manyviews.kernels.streams_cpu import (
    back_project_streams,
    pack_frame,
    project_streams,
)

# (z, s, w): odd and even, one element, a row piece (64) less one, exact and more, two column blocks (64)
FRAMES = [(5, 9, 7), (4, 16, 63), (1, 6, 64), (6, 1, 65), (3, 70, 17), (2, 5, 130)]
TILTS = [-60.0, 0.0, 45.0, 89.0, 90.0, 120.0, -37.5, 61.3, 180.0, -45.0]
TOLERANCES = [(np.float32, 1e-6), (np.float64, 1e-14)]


def triangle_integral(u):
    """Integral of the triangle max(0, 1 - |u|) from minus infinity."""
    u = np.clip(u, -1, 1)
    return np.where(u < 0, 0.5 * (1 + u) ** 2, 1 - 0.5 * (1 - u) ** 2)


def dense_matrix(views, frame, bins):
    """The projection as a ``(view, t, z, s)`` float64 array."""
    depth, columns, _ = frame
    cosines, sines, offsets, sharpening = (values.numpy()[:, None, None, None] for values in views)
    s = np.arange(columns) - columns // 2
    z = (np.arange(depth) - depth // 2)[:, None]
    distance = cosines * s + sines * z + offsets - np.arange(bins)[:, None, None]
    width = np.maximum(abs(cosines), abs(sines))
    footprint = (triangle_integral(distance + width / 2) - triangle_integral(distance - width / 2)) / width
    filtered = (1 + sharpening) * footprint
    filtered[:, 1:] -= sharpening / 2 * footprint[:, :-1]
    filtered[:, :-1] -= sharpening / 2 * footprint[:, 1:]
    return filtered


def make_views(bins, rng, tilts=TILTS, sharpening=None):
    angles = np.deg2rad(tilts)
    offsets = bins // 2 + rng.uniform(-3, 3, len(angles))
    strength = rng.uniform(0, 0.4, len(angles)) if sharpening is None else np.full(len(angles), sharpening)
    return tuple(torch.from_numpy(v) for v in (np.cos(angles), np.sin(angles), offsets, strength))


def project(volume, views, bins):
    out = torch.full((len(views[0]), bins, volume.shape[2]), torch.nan, dtype=volume.dtype)
    return project_streams(pack_frame(volume), *views, out)


def back_project(detector, views, frame):
    return back_project_streams(detector, *views, torch.zeros(frame, dtype=detector.dtype))


def relative(got, wanted):
    return np.linalg.norm(np.asarray(got, dtype=np.float64) - wanted) / max(np.linalg.norm(wanted), 1e-30)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("extra_bins", [-4, 0, 9])
@pytest.mark.parametrize("frame", FRAMES)
def test_both_directions_equal_the_dense_matrix(frame, extra_bins, dtype, tolerance, rng):
    bins = max(1, frame[1] + extra_bins)
    views = make_views(bins, rng)
    matrix = dense_matrix(views, frame, bins)
    volume = rng.normal(size=frame).astype(dtype)
    detector = rng.normal(size=(len(TILTS), bins, frame[2])).astype(dtype)
    forward = project(torch.from_numpy(volume), views, bins)
    back = back_project(torch.from_numpy(detector), views, frame)
    assert forward.numpy().dtype == back.numpy().dtype == dtype
    assert relative(forward, np.einsum("vtzs,zsw->vtw", matrix, volume.astype(np.float64))) < tolerance
    assert relative(back, np.einsum("vtzs,vtw->zsw", matrix, detector.astype(np.float64))) < tolerance


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)])
def test_any_strides_give_the_same(order, rng):
    frame, bins = (4, 11, 70), 13
    views = make_views(bins, rng)
    volume = torch.from_numpy(rng.normal(size=frame).astype(np.float32))
    detector = torch.from_numpy(rng.normal(size=(len(TILTS), bins, frame[2])).astype(np.float32))

    def stored(x):
        """The same values, with the axes in another order and gaps in memory."""
        roomy = torch.zeros([2 * x.shape[axis] for axis in order], dtype=x.dtype)
        view = roomy[::2, 1::2, ::2].permute([order.index(axis) for axis in range(3)])
        return view.copy_(x)

    out = stored(torch.full_like(detector, torch.nan))
    project_streams(pack_frame(stored(volume)), *views, out)
    assert torch.equal(out, project(volume, views, bins))
    out = stored(torch.zeros_like(volume))
    back_project_streams(stored(detector), *views, out)
    assert torch.equal(out, back_project(detector, views, frame))


def test_support_leaves_out_only_empty_columns(rng):
    frame, bins = (3, 90, 150), 95
    views = make_views(bins, rng)
    support = np.stack([np.clip(np.arange(150) - 60, 0, 90), np.clip(np.arange(150) + 10, 0, 90)], axis=1)
    support[140:] = 90  # nothing there at all
    inside = np.zeros(frame[1:], dtype=bool)
    for w, (first, last) in enumerate(support):
        inside[first:last, w] = True
    volume = torch.from_numpy(rng.normal(size=frame) * inside)
    out = torch.full((len(TILTS), bins, frame[2]), torch.nan, dtype=torch.float64)
    got = project_streams(pack_frame(volume), *views, out, support)
    torch.testing.assert_close(got, project(volume, views, bins), rtol=1e-12, atol=1e-12)
    detector = torch.from_numpy(rng.normal(size=out.shape))
    whole = back_project(detector, views, frame).numpy()
    part = torch.zeros(frame, dtype=torch.float64)
    back_project_streams(detector, *views, part, support)
    np.testing.assert_allclose(part.numpy()[:, inside], whole[:, inside], rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads to compare with one")
def test_the_number_of_threads_does_not_change_a_bit(rng):
    frame, bins = (5, 80, 200), 90
    views = make_views(bins, rng)
    volume = torch.from_numpy(rng.normal(size=frame).astype(np.float32))
    detector = torch.from_numpy(rng.normal(size=(len(TILTS), bins, frame[2])).astype(np.float32))
    before = numba.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            results.append((project(volume, views, bins), back_project(detector, views, frame)))
    finally:
        numba.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("tilt", [0.0, 26.565051177, 45.0, -60.0, 89.9, 90.0, 135.0])
def test_mass_is_conserved_on_a_wide_detector(tilt, rng):
    """The weights of a voxel sum to one, with the sharpening filter too."""
    frame, bins = (7, 12, 5), 40
    views = make_views(bins, rng, [tilt, -tilt], sharpening=0.3)
    volume = torch.from_numpy(rng.uniform(size=frame))
    mass = project(volume, views, bins).sum(dim=1)
    torch.testing.assert_close(mass, volume.sum(dim=(0, 1)).expand(2, -1), rtol=1e-13, atol=0)


@pytest.mark.parametrize("tilt", [0.0, 30.0, 45.0, -63.4, 90.0])
def test_a_point_keeps_its_place_and_the_sharpening_its_width(tilt, rng):
    """First moments are exact; with the mean variance as the filter's strength the second one cancels."""
    frame, bins = (31, 31, 1), 61
    cosine, sine = np.cos(np.deg2rad([tilt])), np.sin(np.deg2rad([tilt]))
    offset = np.array([bins // 2 + 0.37])
    strength = footprint_variance(cosine, sine, offset, *frame[:2])
    matrix = dense_matrix([torch.from_numpy(v) for v in (cosine, sine, offset, strength)], frame, bins)[0]
    views = tuple(torch.from_numpy(v) for v in (cosine, sine, offset, strength))
    t = np.arange(bins)
    second = []
    for z, s in [(0, 0), (15, 15), (30, 4), (7, 22)]:
        volume = torch.zeros(frame, dtype=torch.float64)
        volume[z, s, 0] = 1
        row = project(volume, views, bins).numpy()[0, :, 0]
        np.testing.assert_allclose(row, matrix[:, z, s], atol=1e-14)
        place = cosine[0] * (s - 15) + sine[0] * (z - 15) + offset[0]
        assert row @ t == pytest.approx(place, abs=1e-11)
    for z in range(31):
        for s in range(31):
            place = cosine[0] * (s - 15) + sine[0] * (z - 15) + offset[0]
            second.append(matrix[:, z, s] @ (t - place) ** 2)
    assert np.mean(second) == pytest.approx(0.0, abs=1e-9)


def test_back_projection_adds_and_views_may_be_split(rng):
    frame, bins = (3, 10, 66), 11
    views = make_views(bins, rng)
    detector = torch.from_numpy(rng.normal(size=(len(TILTS), bins, frame[2])))
    parts = torch.zeros(frame, dtype=torch.float64)
    for chosen in (slice(0, 4), slice(4, None)):
        result = back_project_streams(detector[chosen], *(values[chosen] for values in views), parts)
        assert result is parts
    torch.testing.assert_close(parts, back_project(detector, views, frame), rtol=1e-13, atol=1e-13)


def test_views_far_off_the_detector_and_no_views_give_zero():
    volume = torch.ones((2, 4, 3))
    views = (torch.ones(3), torch.zeros(3), torch.tensor([1e12, -1e12, 1e6]), torch.full((3,), 0.3))
    assert project(volume, views, 5).abs().max() == 0
    assert back_project(torch.ones(3, 5, 3), views, (2, 4, 3)).abs().max() == 0
    none = (torch.zeros(0),) * 4
    assert project(volume, none, 5).shape == (0, 5, 3)
    assert back_project(torch.ones(0, 5, 3), none, (2, 4, 3)).abs().max() == 0


@pytest.mark.parametrize("tilt", [45.0, -45.0, 35.0])
def test_the_lattice_leaves_no_ripple(tilt):
    """A uniform slab projects to a flat line: linear interpolation alone ripples by 9 % at 45 degrees."""
    frame, bins = (40, 160, 1), 81
    angle = np.deg2rad([tilt])
    views = tuple(torch.from_numpy(v) for v in (np.cos(angle), np.sin(angle), np.array([40.2]), np.zeros(1)))
    flat = project(torch.ones(frame, dtype=torch.float64), views, bins).numpy()[0, 25:56, 0]
    assert np.ptp(flat) / flat.mean() < 0.01
    triangle = np.zeros(bins)
    for z in range(40):
        t = np.cos(angle) * (np.arange(160) - 80) + np.sin(angle) * (z - 20) + 40.2
        for below, share in ((0, 1 - t % 1), (1, t % 1)):
            place = np.floor(t).astype(int) + below
            on = (place >= 0) & (place < bins)
            np.add.at(triangle, place[on], share[on])
    assert np.ptp(triangle[25:56]) / triangle[25:56].mean() > (0.05 if abs(tilt) == 45 else 0.0)


def test_more_views_than_tables_are_made_for(rng, monkeypatch):
    frame, bins = (5, 20, 70), 17
    views = make_views(bins, rng)
    volume, detector = (
        torch.from_numpy(rng.normal(size=frame)),
        torch.from_numpy(rng.normal(size=(10, bins, 70))),
    )
    images, slices = project(volume, views, bins), back_project(detector, views, frame)
    monkeypatch.setattr(streams_cpu, "TABLE_VIEWS", 3)
    assert torch.equal(project(volume, views, bins), images)
    torch.testing.assert_close(back_project(detector, views, frame), slices, rtol=1e-13, atol=1e-13)
