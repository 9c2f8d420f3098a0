"""The parts of an alignment by themselves: gauges, frames, slopes, coarse shifts, bad views."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.simulate.phantoms import Gaussians
from manyviews.tilt.align import axis
from manyviews.tilt.align.axis import axis_turned, images_turned, lowest_between
from manyviews.tilt.align.bad_views import judged
from manyviews.tilt.align.coarse import Pairs, shifts_of_pairs
from manyviews.tilt.align.fit import AXIS, COMPONENTS, OFFSET, SHIFT_U, SHIFT_V, TURN, Slopes, shift_slopes
from manyviews.tilt.align.frames import LevelImages, make_frames, upright
from manyviews.tilt.align.gauge import (
    common_translation,
    moved_volume,
    slab_offset,
    without_common_shift,
)
from manyviews.tilt.align.join import joined, register
from manyviews.tilt.align.level import Freedom, Level, moved_geometry, own_shifts, turned
from manyviews.tilt.align.rotation import rotation_test

TILTS = np.arange(-60.0, 61.0, 6.0)


def geometry_of(axes=(0.0,), seed=0, spread=3.0):
    rng = np.random.default_rng(seed)
    parts = [
        TiltGeometry.from_tilt_axis(TILTS, axis, shifts=spread * rng.normal(size=(len(TILTS), 2)), series=k)
        for k, axis in enumerate(axes)
    ]
    return TiltGeometry.concatenate(parts)


def blobs(places, sigmas):
    """Round Gaussians of amplitudes 1, 2, ..."""
    return Gaussians.isotropic(1.0 + np.arange(len(places)), places, sigmas)


def test_a_moved_volume_gives_the_same_images():
    geometry, move = geometry_of((20.0, 110.0)), np.array([3.0, -2.0, 5.0])
    points = np.random.default_rng(1).normal(size=(7, 3))
    moved = moved_volume(geometry, move)
    np.testing.assert_allclose(moved.project(points + move), geometry.project(points), atol=1e-12)
    np.testing.assert_allclose(common_translation(geometry, moved), move, atol=1e-10)


def test_no_common_shift_is_left_and_the_place_along_the_beam_stays():
    given = geometry_of(spread=0.0)
    found = moved_volume(geometry_of(), np.array([8.0, 3.0, 4.0]))
    fixed = without_common_shift(found, given)
    rows = fixed.matrices[:, :2, :2].reshape(-1, 2)
    np.testing.assert_allclose(rows.T @ fixed.matrices[:, :2, 3].reshape(-1), 0, atol=1e-9)
    move = common_translation(found, fixed)
    assert move[2] == pytest.approx(0, abs=1e-9)
    again = without_common_shift(fixed, given)
    np.testing.assert_allclose(again.matrices, fixed.matrices, atol=1e-10)


def test_the_slab_is_put_where_most_of_the_specimen_is():
    profile = np.zeros(40)
    profile[22:32] = 1.0
    assert slab_offset(profile, 10) == pytest.approx(22 + 5 - 20)
    assert slab_offset(profile, 16) == pytest.approx(7, abs=1)


def test_frames_bring_a_turned_and_shifted_image_back():
    points = blobs([[9.0, -6.0, 0.0], [-7.0, 11.0, 2.0]], [2.5, 3.0])
    geometry = geometry_of((25.0,))
    raw = images_turned(geometry, 4.0)
    images = np.stack(list(points.project_views(raw, (48, 52), 1.0)))
    wanted_geometry, cameras = upright(raw)
    np.testing.assert_allclose(cameras @ wanted_geometry.matrices, raw.matrices, atol=1e-12)
    wanted = np.stack(list(points.project_views(wanted_geometry, (56, 56), 1.0)))
    level = LevelImages(images, 1, (48, 52), np.zeros(len(images), bool))
    frames = make_frames(level, raw, (56, 56))
    inside = frames.weights.numpy() > 0.99
    assert inside.mean() > 0.3
    np.testing.assert_allclose(frames.images.numpy()[inside], wanted[inside], atol=0.01 * wanted.max())


def test_binned_geometry_goes_there_and_back():
    geometry = geometry_of((33.0,))
    level = LevelImages(
        np.zeros((len(geometry), 12, 13), np.float32), 4, (50, 53), np.zeros(len(geometry), bool)
    )
    back = level.full_geometry(level.geometry(geometry))
    np.testing.assert_allclose(back.matrices, geometry.matrices, atol=1e-12)


@pytest.mark.parametrize("component", [SHIFT_U, SHIFT_V, TURN, OFFSET, AXIS])
def test_slopes_are_what_projections_change_by(component):
    """Of a phantom that is known exactly: the difference of two projections."""
    points = blobs([[8.0, -6.0, 3.0], [-9.0, 5.0, -4.0]], [4.0, 5.0])
    frames, _ = upright(geometry_of((0.0,), spread=0.0))
    shape, step = (64, 64), 0.01
    seen = {}
    for sign in (-1, 1):
        motions = np.zeros((len(frames), COMPONENTS))
        motions[:, component] = sign * step / 2
        moved = moved_geometry(frames, np.tile(np.eye(4), (len(frames), 1, 1)), frames, motions)
        seen[sign] = np.stack(list(points.project_views(moved, shape, 1.0)))
    wanted = (seen[1] - seen[-1]) / step
    model = torch.from_numpy(np.stack(list(points.project_views(frames, shape, 1.0))))
    slopes = shift_slopes(model)
    if component in (SHIFT_U, SHIFT_V, TURN):
        found = slopes[:, component].numpy()
    else:
        probe = []
        for sign in (1, -1):
            other = turned(frames, component, sign * 0.5)
            probe.append(np.stack(list(points.project_views(other, shape, 1.0))))
        found = (probe[0] - probe[1]) / np.deg2rad(1.0)
        if component == AXIS:
            found = found + slopes[:, TURN].numpy()
    assert np.abs(found - wanted).max() < 0.03 * np.abs(wanted).max()


def test_motions_and_their_adjoint():
    rng = np.random.default_rng(0)
    unknown = np.array([[0, 1, -1], [2, 3, 4], [5, 6, 4]])
    slopes = Slopes(torch.from_numpy(rng.normal(size=(3, 3, 8, 9))), unknown, (0, 1, 2), 7)
    values, images = rng.normal(size=7), torch.from_numpy(rng.normal(size=(3, 8, 9)))
    forward = float((slopes.moved(values) * images).sum())
    assert forward == pytest.approx(float(values @ slopes.force(images)), rel=1e-12)
    ones = torch.ones((3, 8, 9), dtype=torch.float64)
    unit = np.zeros(7)
    unit[4] = 1.0
    assert slopes.diagonal(ones)[4] == pytest.approx(float((slopes.moved(unit) ** 2).sum()))


def test_a_shifted_image_is_found_by_its_slopes():
    points = blobs([[4.0, -6.0, 0.0]], [5.0])
    geometry = geometry_of(spread=0.0)
    moved = moved_volume(geometry, np.array([-0.3, 0.2, 0.0]))  # images move by (0.3 cos, -0.2)
    model, images = (
        torch.from_numpy(np.stack(list(points.project_views(one, (50, 50), 1.0))))
        for one in (geometry, moved)
    )
    found = own_shifts(images, model, torch.ones_like(model))
    wanted = np.stack([0.3 * np.cos(np.deg2rad(TILTS)), np.full(len(TILTS), -0.2)], axis=1)
    np.testing.assert_allclose(found, wanted, atol=0.02)


def test_an_axis_that_turns_keeps_its_place_in_the_volume_and_the_untilted_view():
    geometry = geometry_of((10.0,), spread=0.0)
    other = axis_turned(geometry, 3.0)
    np.testing.assert_allclose(other.axis_degrees, geometry.axis_degrees)
    flat = int(np.argmin(np.abs(TILTS)))
    np.testing.assert_allclose(other.matrices[flat, :3, :3], rotation_z(3.0), atol=1e-12)
    along = rotation_z(10.0) @ np.array([0.0, 1.0, 0.0])
    seen = np.einsum("vij,j->vi", other.matrices[:, :3, :3], along)
    np.testing.assert_allclose(seen, np.tile(rotation_z(13.0)[:, 1], (len(TILTS), 1)), atol=1e-12)


def test_the_lowest_point_of_a_parabola():
    places = np.array([-1.0, 0.0, 1.0])
    assert lowest_between((places - 0.3) ** 2) == pytest.approx(0.3)
    assert lowest_between(-(places**2)) == 0.0


def test_pairs_that_do_not_agree_lose_their_say():
    rng = np.random.default_rng(0)
    truth = 10 * rng.normal(size=(30, 2))
    first = np.concatenate([np.arange(30 - step) for step in (1, 2, 3)])
    second = np.concatenate([np.arange(step, 30) for step in (1, 2, 3)])
    shift = truth[second] - truth[first]
    shift[(first == 11) | (second == 11)] = 40 * rng.normal(size=(6, 2))
    pairs = Pairs(first, second, shift, np.ones(len(first), bool))
    found, placed = shifts_of_pairs(pairs, np.ones(30, bool))
    assert not placed[11]
    assert placed.sum() == 29
    rest = (found - truth)[placed]
    np.testing.assert_allclose(rest, rest.mean(axis=0) * np.ones_like(rest), atol=0.01)


def test_views_that_the_others_do_not_explain_are_bad():
    geometry = replace(geometry_of(), series=np.zeros(len(TILTS), np.int64))
    correlation = 0.98 - 0.0005 * np.abs(TILTS)
    weights = np.ones(len(TILTS))
    assert judged(correlation, weights, geometry).all()
    correlation[[3, 12]] = 0.2, 0.75
    found = judged(correlation, weights, geometry)
    assert np.flatnonzero(found == 0).tolist() == [3, 12]
    # one that is well explained without having a part in the volume counts again
    correlation[12] = 0.97
    assert np.flatnonzero(judged(correlation, found, geometry) == 0).tolist() == [3]
    assert (judged(np.linspace(-1, 1, len(TILTS)), weights, geometry) == 0).mean() < 0.35


def test_volumes_are_laid_on_each_other():
    rng = np.random.default_rng(3)
    places = rng.uniform(-12, 12, (14, 3)) * (1.4, 1.4, 0.4)
    sigmas = rng.uniform(1.5, 2.5, 14)
    points = blobs(places, sigmas)
    first = torch.from_numpy(points.density((24, 60, 64), 1.0))
    turn, shift = 5.0, np.array([2.0, -3.0, 1.5])
    other_places = (places - shift) @ rotation_z(turn).T
    other = blobs(other_places, sigmas)
    found = register(first, torch.from_numpy(other.density((24, 60, 64), 1.0)), 1)
    assert found.degrees == pytest.approx(turn, abs=0.6)
    np.testing.assert_allclose(found.shift, shift, atol=0.4)
    own = geometry_of((30.0,), spread=0.0)
    seen = joined(own, replace(found, degrees=turn, shift=shift))
    np.testing.assert_allclose(seen.project(places), own.project(other_places), atol=1e-9)
    np.testing.assert_allclose(seen.axis_degrees, 25.0)


def test_projectors_see_frames_without_a_camera():
    frames, _ = upright(geometry_of((35.0,)))
    projector = TiltProjector(frames, (8, 30, 30), (36, 36))
    assert [group.camera_maps for group in projector.groups] == [None]


@pytest.mark.parametrize("turned_by", [0.0, 2.0])
def test_rotations_of_views_are_taken_where_they_are_true(turned_by):
    rng = np.random.default_rng(5)
    places = rng.uniform(-20, 20, (25, 3)) * (1.0, 1.0, 0.3)
    points = blobs(places, rng.uniform(1.5, 2.5, 25))
    nominal = geometry_of(spread=0.0)
    turns = turned_by * rng.choice([-1.0, 1.0], len(nominal))
    turns -= turns.mean()
    true = replace(nominal, matrices=np.stack([rotation_of(turn) for turn in turns]) @ nominal.matrices)
    images = np.stack(list(points.project_views(true, (56, 56), 1.0)))
    images += 0.05 * images.std() * rng.normal(size=images.shape).astype(np.float32)
    images /= images.std()
    read = LevelImages(images, 1, (56, 56), np.zeros(len(images), bool))
    level = Level(read, (20, 60, 60), (60, 60), 0.02, 8)
    weights = np.ones(len(images))
    test = rotation_test(level, nominal, weights, Freedom(axis=(True,)))
    assert test.helps == (turned_by > 0)
    if turned_by:
        fitted = level.start(nominal, weights)
        for _ in range(6):
            fitted = level.step(fitted, Freedom(axis=(True,), rotation=True))
        _, cameras = upright(fitted.geometry)
        found = np.rad2deg(np.arctan2(cameras[:, 1, 0], cameras[:, 0, 0]))
        assert np.std(found - turns) < 0.5


def rotation_of(degrees):
    """4 x 4, about the beam."""
    turn = np.eye(4)
    turn[:3, :3] = rotation_z(degrees)
    return turn


def test_coarse_images_that_tell_nothing_of_the_axis_leave_the_given_one(monkeypatch):
    """It is told, and a scan of finer images refuses what is as flat."""
    told: list[str] = []
    kept = object()
    monkeypatch.setattr(axis, "coarse_alignment", lambda images, geometry, stack: kept)
    monkeypatch.setattr(
        axis, "_search", lambda tried, reach: (np.array([-4.0, 0.0, 4.0]), np.array([1.0, 1.0, 0.999]))
    )
    assert axis.first_alignment(None, None, None, 8.0, 0, told.append) is kept
    assert "next to nothing" in told[-1]
    monkeypatch.setattr(axis, "axis_turned", lambda geometry, degrees: geometry)
    monkeypatch.setattr(axis, "left_over", lambda *_: 1.0)
    with pytest.raises(InputError, match="stack 2: the direction of the tilt axis cannot be found"):
        axis.scanned_axis(None, None, None, 1)
