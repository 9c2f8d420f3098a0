"""The files of a run that its report is made from: what is written is read again, and is right."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import fft

from added_solids import add_solids
from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.geometry.poses import direction_matrices, euler_to_matrices
from manyviews.geometry.views import tilt_rotation
from manyviews.operators.fourier_points import half_ball
from manyviews.operators.fourier_sums import FourierSums
from manyviews.report.planes import read_planes
from manyviews.report.sphere import COLUMNS, ROWS, count_directions, field_directions, read_fields
from manyviews.subtomo.coverage import (
    least_measured,
    measured_by_direction,
    sample_half_spectrum,
    weights_on_box,
    write_coverage,
)
from manyviews.subtomo.halves import best_of_halves
from manyviews.subtomo.iteration_files import (
    Iteration,
    read_iterations,
    write_iterations,
    write_slices,
)
from manyviews.subtomo.report_figures import over_ring_mean
from manyviews.subtomo.score_files import (
    Rejection,
    Scores,
    read_rejection,
    read_scores,
    write_rejection,
    write_scores,
)
from manyviews.subtomo.wedge.measure import mean_power, measure_wedge
from manyviews.subtomo.wedge_views import WedgeView, across_axis, read_wedges, wedge_view, write_wedges

BOX = 32


def wedge_of(low, high, axis_degrees=0.0, box=BOX):
    """What tilts of a range measure: planes whose normal is the beam, turned back; a plane at a time."""
    kz, ky, kx = np.meshgrid(
        *(fft.fftfreq(box) * box,) * 2, np.arange(box // 2 + 1.0), indexing="ij"
    )  # fmt: skip
    k = np.stack([kx, ky, kz], axis=-1)
    measured = np.zeros(kx.shape)
    for tilt in np.arange(low, high + 0.5, 1.0):
        normal = tilt_rotation(tilt, axis_degrees).T @ [0, 0, 1]
        measured[np.abs(k @ normal) <= 0.6] = 1
    return measured


def test_iterations_come_back(tmp_path):
    path = tmp_path / "iterations.csv"
    told = (
        Iteration(1, math.inf, 60.5, frequency_limit=1 / 80),
        Iteration(2, 41.25, 45.0, 12.5, 6.25, 0.375, 1 / 64),
    )
    write_iterations(path, told)
    assert path.read_text().splitlines()[0] == (
        "iteration,resolution_angstrom,fsc143_angstrom,median_angle_change_degrees,"
        "median_shift_change_angstrom,mean_score,frequency_limit"
    )
    first, second = read_iterations(path)
    assert second == told[1]
    assert (first.iteration, first.fsc143_angstrom, first.frequency_limit) == (1, 60.5, 1 / 80)
    assert math.isnan(first.resolution_angstrom)
    assert math.isnan(first.median_angle_change_degrees)
    assert read_iterations(tmp_path / "none.csv") == ()


def test_slices_grow_and_a_run_that_goes_on_replaces_its_own(tmp_path):
    path = tmp_path / "slices.mrc"
    volumes = np.random.default_rng(0).normal(size=(6, BOX, BOX, BOX)).astype(np.float32)
    for number in range(1, 6):
        write_slices(path, number, volumes[number], 3.0)
    found = dict(read_planes(path))
    assert list(found) == [1, 2, 3, 4, 5]
    for number, planes in found.items():
        volume, middle = volumes[number], BOX // 2
        expected = [volume[middle], volume[:, middle], volume[:, :, middle]]
        np.testing.assert_array_equal(planes, expected)
    assert [number for number, _ in read_planes(path, most=3)] == [1, 3, 5]
    write_slices(path, 3, volumes[0], 3.0)  # killed, and gone on from the second
    found = dict(read_planes(path))
    assert list(found) == [1, 2, 3]
    np.testing.assert_array_equal(found[3][0], volumes[0][BOX // 2])
    np.testing.assert_array_equal(found[2][0], volumes[2][BOX // 2])
    path.write_bytes(b"torn")
    write_slices(path, 5, volumes[5], 3.0)
    assert [number for number, _ in read_planes(path)] == [5]  # the others are gone
    write_slices(path, 6, volumes[5, :8, :8, :8], 3.0)
    assert [number for number, _ in read_planes(path)] == [6]
    assert read_planes(tmp_path / "none.mrc") == ()


def test_scores_come_back_and_tell_the_threshold(tmp_path):
    score = np.array([0.5, 0.25, math.nan, 0.125])
    scores = Scores(np.array([1, 2, 1, 0]), score, np.array([True, True, True, False]))
    write_scores(tmp_path / "scores.csv", scores)
    assert (tmp_path / "scores.csv").read_text().splitlines() == [
        "particle,half,score,kept", "1,1,0.5,1", "2,2,0.25,1", "3,1,,1", "4,0,0.125,0",
    ]  # fmt: skip
    read = read_scores(tmp_path / "scores.csv")
    np.testing.assert_array_equal(read.score, score)
    np.testing.assert_array_equal(read.half, scores.half)
    np.testing.assert_array_equal(read.kept, scores.kept)
    assert read.threshold == 0.1875
    assert math.isnan(Scores(scores.half, score, score > 9).threshold)
    assert math.isnan(Scores(scores.half, score, score < 0.4).threshold)  # the best is left out
    assert read_scores(tmp_path / "none.csv") is None


def test_the_rejection_curve_comes_back_in_order(tmp_path):
    path = tmp_path / "rejection.csv"
    write_rejection(path, Rejection(np.array([1, 0.5]), np.array([30.0, math.inf]), np.array([0.1, 0.2])))
    read = read_rejection(path)
    np.testing.assert_array_equal(read.fraction_kept, [0.5, 1])
    np.testing.assert_array_equal(read.resolution_angstrom, [math.nan, 30])
    path.write_text("fraction_kept,resolution_angstrom,lowest_score\n1.5,3,4\n")
    with pytest.raises(InputError, match="between 0 and 1"):
        read_rejection(path)
    assert read_rejection(tmp_path / "none.csv") is None


def test_the_best_of_each_half_are_kept():
    half, score = np.array([1, 1, 1, 1, 2, 2]), np.array([4.0, math.nan, 3, 2, 1, 0])
    assert best_of_halves(half, score, 0.5).tolist() == [True, False, True, False, True, False]
    assert best_of_halves(half, score, 0.01).tolist() == [True, False, False, False, True, False]
    assert best_of_halves(half, score, 1.0).all()


def test_fields_know_their_own_directions():
    directions = field_directions().reshape(-1, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert (count_directions(directions) == 1).all()


def test_half_spectra_are_read_on_both_sides():
    values = fft.rfftn(np.random.default_rng(1).normal(size=(BOX,) * 3))
    values = np.abs(values)
    whole = np.abs(fft.fftn(fft.irfftn(values, (BOX,) * 3)))
    at = np.array([[3, 4, 5], [-3, 4, 5], [-3, -4, -5], [0, -7, 2], [-1, 0, 0], [0, 0, 0]])
    expected = [whole[z, y, x] for x, y, z in at]
    np.testing.assert_allclose(sample_half_spectrum(values, at.astype(float)), expected, rtol=1e-9)
    middle = sample_half_spectrum(values, np.array([[2.5, 0.0, 0.0]]))
    assert middle == pytest.approx((values[0, 0, 2] + values[0, 0, 3]) / 2)


def test_the_wedge_is_empty_along_the_beam_only():
    measured = measured_by_direction(wedge_of(-60, 60))
    directions = field_directions()
    tilt = np.degrees(np.arctan2(np.abs(directions[..., 2]), np.abs(directions[..., 0])))
    assert measured[tilt < 52].min() > 0.95
    off_axis = np.abs(directions[..., 1]) < 0.8  # all tilts measure the axis
    assert measured[off_axis & (tilt > 70)].max() < 0.15
    assert measured.shape == (ROWS, COLUMNS)


def test_the_sign_of_a_tilt_is_that_of_the_views():
    """Tilts from 0 to 60 degrees measure what lies from +x towards +z."""
    measured = measured_by_direction(wedge_of(0, 60))
    x, y, z = np.moveaxis(field_directions(), -1, 0)
    in_plane = np.abs(y) < 0.3
    angle = np.degrees(np.arctan2(z * np.sign(x), np.abs(x)))
    assert measured[in_plane & (angle > 8) & (angle < 52)].min() > 0.95
    assert measured[in_plane & (angle < -15)].max() < 0.1


def test_the_direction_measured_least_is_the_middle_of_the_wedge():
    """Tilts from -60 to 30 degrees lack what is about 75 degrees from +x towards +z."""
    x, y, z = least_measured(wedge_of(-60, 30))
    assert abs(y) < 0.5
    assert math.degrees(math.atan2(z * np.sign(x), abs(x))) == pytest.approx(75, abs=15)


def test_weights_of_a_padded_grid_come_to_the_box():
    """A plane that two particles measured, and half of space that one did, in the order of rfftn."""
    half, padding = 2 * 12 + 1, 2
    q = np.arange(-half, half + 1)
    z, y, _ = np.meshgrid(q, q, np.arange(half + 2), indexing="ij")
    grid = np.where(np.abs(z) <= 3, 2.0, np.where(y > 0, 1.0, 0.0))
    grid[:, :, 0] = 0.5 * (grid[:, :, 0] + grid[::-1, ::-1, 0])  # its own mirror image
    weights = weights_on_box(grid, padding, BOX)
    assert weights.shape == (BOX, BOX, BOX // 2 + 1)
    np.testing.assert_allclose(weights[[0, 1, -1], 5, 3], 16)
    np.testing.assert_allclose(weights[[5, -5], 4, 6], 8)
    np.testing.assert_allclose(weights[[5, -5], -4, 6], 0)
    np.testing.assert_allclose(weights[0, 0, :12], 16)
    assert weights[7, 3, 0] == pytest.approx(weights[-7, -3, 0])
    assert weights[13, 3, 3] == weights[3, -13, 3] == weights[3, 3, 13] == 0
    assert weights_on_box(grid, padding, 16).shape == (16, 16, 9)


@pytest.mark.parametrize("turn", [np.eye(3), euler_to_matrices([40.0, 70, 20])])
def test_weights_of_sums_are_the_wedge_turned_into_the_map(turn):
    points = half_ball(12, BOX)
    sums = FourierSums.zeros(12)
    k = points.astype(float)
    own = (np.abs(k[:, 2]) <= np.abs(k[:, 0]) * math.tan(math.radians(60)) + 1e-6).astype(np.float32)[None]
    for _ in range(3):
        add_solids(sums, 0, turn[None], points, own.astype(np.complex64), own)
    weights = weights_on_box(sums.mirrored().denominator[0].numpy(), sums.padding, BOX)
    kz, ky, kx = np.meshgrid(*(fft.fftfreq(BOX) * BOX,) * 2, np.arange(BOX // 2 + 1.0), indexing="ij")
    x, _, z = np.moveaxis(np.stack([kx, ky, kz], axis=-1) @ turn.T, -1, 0)
    radius = np.sqrt(kx**2 + ky**2 + kz**2)
    tilt = np.degrees(np.arctan2(np.abs(z), np.abs(x)))
    there = (radius > 5) & (radius < 10) & (np.hypot(x, z) > 4)
    assert weights[there & (tilt < 45)].mean() == pytest.approx(3, rel=0.02)
    assert weights[there & (tilt < 45)].min() > 2
    assert weights[there & (tilt > 75)].max() < 0.3


def test_coverage_holds_both_maps(tmp_path):
    path = tmp_path / "coverage.csv"
    poses = np.concatenate([direction_matrices([[0, 0, 1.0]] * 5, 10.0), euler_to_matrices([[0.0, 90, 0]])])
    write_coverage(path, poses, wedge_of(-60, 60))
    assert path.read_text().splitlines()[0] == "z,longitude_degrees,particles,measured"
    particles = read_fields(path, "particles")
    assert particles.sum() == 6
    assert particles[-1].sum() == 5
    assert particles[ROWS // 2, COLUMNS // 2] == 1  # the beam came along +x
    expected = measured_by_direction(wedge_of(-60, 60))
    np.testing.assert_allclose(read_fields(path, "measured"), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("axis", "low", "high"), [("y", -60, 60), ("y", -20, 50), ("x", -50, 20), (30.0, -60, 30)]
)
def test_power_across_the_axis_shows_the_range(axis, low, high):
    scheme = TiltScheme.of_range(low, high, axis)
    power = 0.01 + wedge_of(low, high, scheme.axis_degrees)
    image = across_axis(power, scheme.axis, scheme.beam)
    along = np.arange(BOX) - BOX // 2
    beam, across = np.meshgrid(along, along, indexing="ij")
    tilt = np.degrees(np.arctan2(beam * np.where(across < 0, -1, 1), np.abs(across)))
    ring = np.hypot(beam, across)
    there = (ring > 8) & (ring < BOX // 2 - 1)
    assert image[there & (tilt > low + 8) & (tilt < high - 8)].min() > 0.9
    assert image[there & ((tilt < low - 8) | (tilt > high + 8))].max() < 0.1
    assert image[0, 0] == 0
    flat = over_ring_mean(np.where(ring > 0, 1 / np.maximum(ring.round(), 1), 1))
    np.testing.assert_allclose(flat, 1)


def test_what_was_measured_and_told_is_seen_along_one_axis():
    told, true = TiltScheme.of_range(-60, 60), TiltScheme.of_range(-50, 30, "x")
    rng = np.random.default_rng(5)
    wedge = wedge_of(true.low, true.high, true.axis_degrees)
    noise = [fft.irfftn(wedge * fft.rfftn(rng.normal(size=(BOX,) * 3)), (BOX,) * 3) for _ in range(12)]
    power, count = mean_power(noise)
    view = wedge_view(power, measure_wedge(power, count), wedge_of(-60, 60), told)
    assert view.particles == 12
    assert view.axis == (1, 0, 0)
    assert view.told == "-60 to 60 degrees about y"
    assert view.measured.endswith("about x, beam z")
    assert (view.lowest_degrees, view.highest_degrees) == (
        pytest.approx(-50, abs=4),
        pytest.approx(30, abs=4),
    )
    assert view.power.shape == view.transfer.shape == (BOX, BOX)
    unclear = replace(measure_wedge(power, count), scheme=None, found="unclear")
    view = wedge_view(power, unclear, wedge_of(-60, 60), None)
    assert view.axis == (0, 1, 0)
    assert math.isnan(view.lowest_degrees)
    assert (view.told, view.measured) == ("as its volume says", "no single wedge")


def test_wedges_come_back(tmp_path):
    y, z, x = (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)
    planes = np.arange(256.0, dtype=np.float32).reshape(4, 8, 8)
    views = [
        WedgeView(500, y, z, -57.5, 59.0, "-60 to 60", "-57 to 59", planes[0], planes[1]),
        WedgeView(20, x, z, math.nan, math.nan, "as, told", "no single wedge", planes[2], planes[3]),
    ]
    assert read_wedges(tmp_path) == ()
    write_wedges(tmp_path, views, 5.0)
    first, second = read_wedges(tmp_path)
    assert (first.particles, first.axis, first.lowest_degrees) == (500, y, -57.5)
    assert (second.axis, second.beam, second.told, second.measured) == (x, z, "as, told", "no single wedge")
    assert math.isnan(second.highest_degrees)
    np.testing.assert_array_equal(first.transfer, planes[1])
    np.testing.assert_array_equal(second.power, planes[2])
    text = (tmp_path / "wedge.csv").read_text().splitlines()
    (tmp_path / "wedge.csv").write_text("\n".join(text[:2]))
    with pytest.raises(InputError, match="2 square sections"):
        read_wedges(tmp_path)
