"""The parts of a group put together give back the geometry they were made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from manyviews.geometry.views import TiltGeometry, rotation_x, rotation_z
from manyviews.operators.axis_groups import frame_support, group_by_axis

VOLUME, IMAGE, PIXEL = (11, 150, 161), (140, 170), 2.5


def geometry_from(matrices):
    n = len(matrices)
    return TiltGeometry(
        matrices=np.asarray(matrices, dtype=np.float64),
        series=np.zeros(n, dtype=np.int64),
        sections=np.arange(n),
        tilt_degrees=np.zeros(n),
        axis_degrees=np.zeros(n),
    )


def beads_in_pixels(seed=0):
    """``(bead, 3)``: (x, y, z) from the centre of the volume."""
    return np.random.default_rng(seed).uniform(-1, 1, (20, 3)) * np.array([80, 75, 5])


def places_from_groups(groups, beads, views):
    """Image positions ``(view, bead, 2)``, (x, y) in pixels from the centre, from group quantities only."""
    out = np.full((views, len(beads), 2), np.nan)
    centre = np.array([IMAGE[1] // 2, IMAGE[0] // 2])
    for group in groups:
        s = beads[:, :2] @ group.direction_across
        w = beads[:, :2] @ group.direction_along - group.shear * beads[:, 2]
        for k, view in enumerate(group.views):
            t = group.cosines[k] * s + group.sines[k] * beads[:, 2] + group.offsets[k]
            if group.camera_maps is None:
                along = w - group.camera_shift
                if group.camera_transposed:
                    out[view] = np.stack([t - centre[0], along], axis=1)
                else:
                    out[view] = np.stack([along, t - centre[1]], axis=1)
                continue
            camera = group.camera_maps[0 if len(group.camera_maps) == 1 else k]
            detector = np.stack([t, w + group.width // 2])
            row, column = np.linalg.solve(camera[:, :2], detector - camera[:, 2:])
            out[view] = np.stack([column - centre[0], row - centre[1]], axis=1)
    return out


def worst_distance(geometry):
    groups = group_by_axis(geometry, VOLUME, IMAGE, PIXEL)
    assert sorted(np.concatenate([group.views for group in groups])) == list(range(len(geometry)))
    beads = beads_in_pixels()
    wanted = geometry.project(beads * PIXEL) / PIXEL
    return np.abs(places_from_groups(groups, beads, len(geometry)) - wanted).max()


@st.composite
def any_view(draw, mirrored=False):
    """A 4x4 matrix: any rotation, a well-conditioned in-plane transform, any shift."""
    number = st.floats(-1, 1)
    quaternion = np.array([draw(number) for _ in range(4)])
    if np.linalg.norm(quaternion) < 1e-3:
        quaternion = np.array([1.0, 0, 0, 0])
    turns = [
        Rotation.from_euler("z", draw(st.floats(-180, 180)), degrees=True).as_matrix()[:2, :2] for _ in "ab"
    ]
    stretch = np.diag([draw(st.floats(0.5, 2)), draw(st.floats(0.5, 2)) * (-1 if mirrored else 1)])
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    camera = np.eye(4)
    camera[:2, :2] = turns[0] @ stretch @ turns[1]
    matrix = camera @ matrix
    matrix[:2, 3] = [draw(st.floats(-500, 500)) for _ in range(2)]
    return matrix


@settings(max_examples=30, deadline=None)
@given(st.lists(any_view(), min_size=1, max_size=4))
def test_any_rotation_and_camera_keeps_its_beads(matrices):
    assert worst_distance(geometry_from(matrices)) < 2e-3


@settings(max_examples=10, deadline=None)
@given(st.lists(any_view(mirrored=True), min_size=1, max_size=2))
def test_mirrored_cameras_keep_their_beads(matrices):
    assert worst_distance(geometry_from(matrices)) < 2e-3


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-180, 180),
    st.lists(st.floats(-180, 180), min_size=1, max_size=5),
    st.tuples(*[st.floats(-99, 99)] * 2),
)
def test_any_tilt_axis_keeps_its_beads(axis, tilts, shift):
    geometry = TiltGeometry.from_tilt_axis(tilts, axis, shifts=np.tile(shift, (len(tilts), 1)))
    assert worst_distance(geometry) < 2e-3


def test_views_are_grouped_by_the_line_of_their_axis():
    parts = [
        TiltGeometry.from_tilt_axis([-30, 0, 30], axis) for axis in (0.0, 90.0, 180.0, -90.0, 22.5, -157.5)
    ]
    groups = group_by_axis(TiltGeometry.concatenate(parts), VOLUME, IMAGE, 1.0)
    assert [(group.axis_degrees, len(group.views)) for group in groups] == [(0.0, 6), (90.0, 6), (22.5, 6)]
    assert [group.rotated for group in groups] == [False, False, True]
    np.testing.assert_array_equal(groups[0].views, [0, 1, 2, 6, 7, 8])


@pytest.mark.parametrize(("axis", "transposed", "shift"), [(0.0, True, -2), (90.0, False, -3)])
def test_aligned_upright_views_need_no_resampling(axis, transposed, shift):
    """Whole pixels along the axis (5 or 7.5 angstrom) are a crop; across it any shift is free."""
    across = [7.1, 0.3, -2.2]
    shifts = np.stack([across, np.full(3, 5.0)] if transposed else [np.full(3, 7.5), across], axis=1)
    geometry = TiltGeometry.from_tilt_axis([-60, 3, 60], axis, shifts=shifts)
    (group,) = group_by_axis(geometry, VOLUME, IMAGE, PIXEL)
    assert (group.camera_maps, group.camera_transposed, group.camera_shift) == (None, transposed, shift)
    assert worst_distance(geometry) < 1e-9


@pytest.mark.parametrize("slip", [2e-5, 1e-3])
def test_small_differences_between_cameras_are_not_dropped(slip):
    """A magnification of 1 + 2e-5 moves the edge of an image by 1.6e-3 pixels: that is kept."""
    geometry = TiltGeometry.from_tilt_axis([-30, 0, 30], 0.0)
    transforms = np.tile(np.eye(3), (3, 1, 1))
    transforms[1, :2, :2] *= 1 + slip
    assert worst_distance(geometry.with_image_transform(transforms)) < 1e-3


def test_oblique_views_share_one_camera():
    (group,) = group_by_axis(TiltGeometry.from_tilt_axis([-60, 0, 60], 12.3456789), VOLUME, IMAGE, 1.0)
    assert group.camera_maps is not None
    assert len(group.camera_maps) == 1


def test_the_volume_map_follows_the_directions():
    (group,) = group_by_axis(TiltGeometry.from_tilt_axis([10.0], -37.0), VOLUME, IMAGE, 1.0)
    s, w = 3.25, -8.5
    row, column = group.volume_map @ (s + group.columns // 2, w + group.width // 2, 1.0)
    x, y = s * group.direction_across + w * group.direction_along
    np.testing.assert_allclose([row, column], [y + VOLUME[1] // 2, x + VOLUME[2] // 2], atol=1e-12)


@pytest.mark.parametrize("axis", [3.0, 45.0, -70.0, 89.0])
def test_support_holds_every_voxel_of_the_frame(axis):
    (group,) = group_by_axis(TiltGeometry.from_tilt_axis([10.0], axis), VOLUME, IMAGE, 1.0)
    support = frame_support(group, VOLUME)
    assert support.shape == (group.width, 2)
    s, w = np.meshgrid(np.arange(group.columns), np.arange(group.width))
    row, column = np.einsum("ij,jkl->ikl", group.volume_map, np.stack([s, w, np.ones_like(s)]))
    touched = (row > -2) & (row < VOLUME[1] + 1) & (column > -2) & (column < VOLUME[2] + 1)
    inside = (s >= support[:, :1]) & (s < support[:, 1:])
    assert not np.any(touched & ~inside)
    assert inside.sum() < 1.3 * touched.sum()
    assert not touched[0].any()  # the frame has room for everything
    assert not touched[-1].any()
    assert not touched[:, [0, -1]].any()


def leaning(tilts, axis, x_tilt, shifts=None):
    """A series about one axis of a specimen that is turned about the line across it first."""
    upright = TiltGeometry.from_tilt_axis(tilts, axis, shifts=shifts)
    turn = rotation_z(axis) @ rotation_x(x_tilt) @ rotation_z(-axis)
    matrices = upright.matrices.copy()
    matrices[:, :3, :3] = matrices[:, :3, :3] @ turn
    return replace(upright, matrices=matrices)


@settings(max_examples=40, deadline=None)
@given(st.floats(-90, 90), st.floats(-20, 20), st.tuples(*[st.floats(-9, 9)] * 2))
def test_a_specimen_that_leans_along_its_axis_is_one_group(axis, x_tilt, shift):
    tilts = [-60.0, -31.0, 0.0, 20.0, 57.0]
    geometry = leaning(tilts, axis, x_tilt, np.tile(shift, (5, 1)))
    groups = group_by_axis(geometry, VOLUME, IMAGE, PIXEL)
    assert len(groups) == 1
    assert worst_distance(geometry) < 2e-3


def test_how_a_specimen_leans_is_told():
    (group,) = group_by_axis(leaning([-50.0, 0.0, 50.0], 0.0, 10.0), VOLUME, IMAGE, 1.0)
    assert abs(group.shear) == pytest.approx(np.tan(np.deg2rad(10.0)))
    assert group.axis_degrees == 0.0
    assert group.rotated
    # the untilted view looks along the normal of the leaning specimen
    middle = int(np.argmin(np.abs(group.sines)))
    assert group.gains[middle] == pytest.approx(1.0 / np.cos(np.deg2rad(10.0)))
    assert np.all((group.gains >= 1.0) & (group.gains <= group.gains[middle]))
    high, low = (group.volume_maps(4, height)[0] for height in (7, 3))
    np.testing.assert_allclose(high - low, [[0, 0, 4 * group.shear], [0, 0, 0]], atol=1e-12)


def test_views_whose_beams_share_no_plane_stay_apart():
    tilts = np.array([40.0, 40.0, 40.0])
    parts = [TiltGeometry.from_tilt_axis(tilts[:1], axis) for axis in (0.0, 60.0, 120.0)]
    groups = group_by_axis(TiltGeometry.concatenate(parts), VOLUME, IMAGE, PIXEL)
    assert [group.shear for group in groups] == [0.0, 0.0, 0.0]
    assert len(group_by_axis(leaning([-50.0, 0.0, 50.0], 0.0, 40.0), VOLUME, IMAGE, PIXEL)) == 3


@pytest.mark.parametrize("axis", [0.0, 45.0, -70.0])
def test_support_holds_every_voxel_of_a_sheared_frame(axis):
    (group,) = group_by_axis(leaning([-40.0, 10.0, 60.0], axis, 15.0), VOLUME, IMAGE, 1.0)
    support = frame_support(group, VOLUME)
    s, w = np.meshgrid(np.arange(group.columns), np.arange(group.width))
    inside = (s >= support[:, :1]) & (s < support[:, 1:])
    for volume_map in group.volume_maps(VOLUME[0], 0):
        row, column = np.einsum("ij,jkl->ikl", volume_map, np.stack([s, w, np.ones_like(s)]))
        touched = (row > -2) & (row < VOLUME[1] + 1) & (column > -2) & (column < VOLUME[2] + 1)
        assert not np.any(touched & ~inside)
        assert not touched[0].any()
        assert not touched[-1].any()


def test_upright_groups_have_no_support():
    (group,) = group_by_axis(TiltGeometry.from_tilt_axis([10.0], 0.0), VOLUME, IMAGE, 1.0)
    assert frame_support(group, VOLUME) is None
