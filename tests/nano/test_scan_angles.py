"""Angles: which source wins, what is refused, and how the axis lies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.nano.scan.angles import fitted, looks_like_radians, returning_views
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.scan import open_scan
from manyviews.nano.scan.views import listed, parse_views
from scan_example import projections, write_data_exchange, write_tiffs

THETA = np.linspace(0.0, 180.0, 19)


def interlaced(views, turns, whole=360.0):
    return np.concatenate(
        [whole * turn + whole / views * (np.arange(views) + turn / turns) for turn in range(turns)]
    )


@pytest.mark.parametrize(
    "theta",
    [
        np.linspace(0, np.pi, 181), np.linspace(0, np.pi, 180, endpoint=False),
        np.linspace(-np.pi / 2, np.pi / 2, 91),
        np.linspace(0, 2 * np.pi, 720), np.linspace(np.pi, 0, 40), np.deg2rad(np.linspace(-70, 70, 71)),
        interlaced(180, 4, 2 * np.pi), np.linspace(0, 4 * np.pi, 721),
    ],
)  # fmt: skip
def test_what_looks_like_radians(theta):
    assert looks_like_radians(theta)
    assert not looks_like_radians(np.rad2deg(theta))


def test_what_does_not_look_like_radians():
    for theta in ([0.0, 3.1], np.linspace(0, 180, 1801), interlaced(96, 4), np.linspace(-15, 15, 31),
                  np.linspace(0, 30, 61), np.zeros(20)):  # fmt: skip
        assert not looks_like_radians(np.asarray(theta))


def test_radians_are_taken_when_asked_for(tmp_path):
    path = write_data_exchange(tmp_path / "a.h5", THETA, theta=np.deg2rad(THETA))
    with pytest.raises(InputError, match="give --angle-units radians, or degrees"):
        open_scan(path, ScanOptions())
    np.testing.assert_allclose(open_scan(path, ScanOptions(angle_units="radians")).theta_degrees, THETA)
    kept = open_scan(path, ScanOptions(angle_units="degrees")).theta_degrees
    np.testing.assert_allclose(kept, np.deg2rad(THETA))


def test_a_file_of_angles_wins_and_is_told(tmp_path):
    path = write_data_exchange(tmp_path / "a.h5", THETA)
    (tmp_path / "b.txt").write_text("# degrees\n" + "\n".join(map(str, THETA + 5)))
    scan = open_scan(path, ScanOptions(angles=tmp_path / "b.txt"))
    np.testing.assert_allclose(scan.theta_degrees, THETA + 5)
    assert any("b.txt, not a.h5:/exchange/theta" in note for note in scan.notes)
    (tmp_path / "b.txt").write_text(" ".join(map(str, THETA + 5)))  # all on one line
    np.testing.assert_allclose(
        open_scan(path, ScanOptions(angles=tmp_path / "b.txt")).theta_degrees, THETA + 5
    )
    (tmp_path / "b.txt").write_text("\n".join(f"{n} {angle}" for n, angle in enumerate(THETA)))
    with pytest.raises(InputError, match="line 1: the line holds 2 numbers where an angle was expected"):
        open_scan(path, ScanOptions(angles=tmp_path / "b.txt"))
    even = open_scan(path, ScanOptions(angle_range=(0.0, -720.0))).theta_degrees
    np.testing.assert_allclose(even, np.linspace(0, -720, 19))


def test_several_lists_of_angles_are_no_list(tmp_path):
    folder = write_tiffs(tmp_path / "scan", THETA)
    (folder / "theta.txt").write_text("1\n")
    with pytest.raises(InputError, match=r"no angles: it may be any of angles.txt, theta.txt; give --angles"):
        open_scan(folder, ScanOptions())


@pytest.mark.parametrize(("before", "after"), [(0, 0), (4, 0), (0, 3), (10, 10), (2, 5)])
def test_angles_of_flats_and_darks_at_the_ends(before, after):
    theta = np.concatenate([[THETA[0]] * before, THETA, [THETA[-1] + 0.001] * after])
    kept, told = fitted(theta, len(THETA), "file")
    np.testing.assert_allclose(kept, THETA, atol=0.0011)
    assert bool(told) == bool(before + after)
    if told:
        assert f"{before} at the beginning and {after} at the end" in told


def test_angles_that_are_too_many_for_another_reason():
    for theta in (np.linspace(0, 180, 25), np.concatenate([[0.0] * 9, THETA, [180.0] * 9])[:-3]):
        with pytest.raises(InputError, match="angles are more than the"):
            fitted(theta, len(theta) - 7, "file")


@given(st.integers(3, 40), st.integers(0, 6), st.integers(0, 6), st.floats(0.1, 30), st.floats(-360, 360))
@settings(max_examples=60, deadline=None)
def test_fitted_angles_are_as_many_as_views_or_refused(count, before, after, step, start):
    theta = start + step * np.arange(count)
    whole = np.concatenate([[theta[0]] * before, theta, [theta[-1]] * after])
    np.testing.assert_array_equal(fitted(whole, count, "file")[0], theta)
    with pytest.raises(InputError):
        fitted(theta, count + 1, "file")


@given(st.lists(st.text("0123456789,- x", max_size=6), max_size=4), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_lists_of_views_are_places_or_refused(texts, count):
    try:
        places = parse_views(texts, count, "--exclude")
    except InputError:
        return
    assert len(places) < count
    assert np.array_equal(places, np.unique(places))
    assert not len(places) or 0 <= places.min() <= places.max() < count


def test_views_are_counted_from_one():
    assert parse_views(["1,4-6", "9"], 9, "").tolist() == [0, 3, 4, 5, 8]
    assert listed(np.arange(10)) == "1, 2, 3, 4, 5, 6, 7, 8 and 2 more"


def test_views_that_return():
    scan = np.linspace(0, 180, 61)
    assert np.flatnonzero(returning_views(np.r_[scan, 90.0, 0.0])).tolist() == [61, 62]
    assert not returning_views(scan).any()
    assert not returning_views(interlaced(30, 3)).any()


@pytest.mark.parametrize("axis", ["vertical", "horizontal"])
def test_the_axis_of_an_mrc_stack_is_seen_in_its_images(tmp_path, axis):
    """As stored: an image turned by a quarter back is what `projections` makes, and nothing is mirrored."""
    theta = np.linspace(-70.0, 70.0, 15)
    images = projections(theta, rows=40, columns=56).astype(np.float32)
    stored = images if axis == "vertical" else np.rot90(images, -1, axes=(1, 2))
    write_mrc(tmp_path / "a.mrc", np.ascontiguousarray(stored), 10.0, is_volume=False)
    (tmp_path / "a.tlt").write_text("\n".join(map(str, theta)))
    scan = open_scan(tmp_path / "a.mrc", ScanOptions())
    assert scan.axis == axis
    assert any("rotation axis: horizontal" in note for note in scan.notes) == (axis == "horizontal")
    part = scan.projections.read(np.array([2, 14]), slice(3, 30))
    np.testing.assert_array_equal(part, images[[2, 14], 3:30])
    assert open_scan(tmp_path / "a.mrc", ScanOptions(axis="vertical")).shape[1:] == stored.shape[1:]
