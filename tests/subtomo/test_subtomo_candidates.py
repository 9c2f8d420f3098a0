"""Spherical harmonics, their correlation over all rotations, and both searches, against known rotations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from alignment_example import (
    BOX,
    DIAMETER,
    PHANTOM,
    angles_off,
    coefficients,
    density,
    reference,
    true_poses,
    wedge,
)
from scipy import special
from scipy.spatial.transform import Rotation

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.operators.fourier_points import extract_solid, half_ball, take_solid
from manyviews.simulate.phantoms import Gaussians
from manyviews.subtomo.candidates.joint_search import Candidates, PoseGrid, joint_search
from manyviews.subtomo.candidates.priors import OrientationPriors
from manyviews.subtomo.candidates.rotational_matching import grid_rotations, rotational_matching
from manyviews.subtomo.candidates.spherical import (
    RotationalCorrelation,
    degree_for,
    harmonics,
    quarter_turn,
)
from manyviews.subtomo.candidates.translational_matching import best_shifts
from manyviews.subtomo.refine.objective import PoseObjective, Poses

pytestmark = pytest.mark.usefixtures("one_thread")

NONE = np.eye(3)[None]


def harmonic(degree, order, directions):
    theta = np.arccos(np.clip(directions[:, 2], -1, 1))
    return special.sph_harm_y(degree, order, theta, np.arctan2(directions[:, 1], directions[:, 0]))


@pytest.mark.parametrize("parity", [0, 1])
def test_the_analysis_of_a_harmonic_is_that_harmonic(parity):
    basis = harmonics(8, parity)
    expected = np.eye(len(basis.degrees))
    samples = np.stack(
        [harmonic(j, m, basis.directions) for j, m in zip(basis.degrees, basis.orders, strict=True)]
    )
    np.testing.assert_allclose(basis.coefficients(samples), expected, atol=1e-12)
    assert set(basis.degrees % 2) == {parity}
    for j in range(parity, 9, 2):
        own = basis.of_degree(j) if parity == 0 else slice(None)
        if parity == 0:
            assert (basis.degrees[own] == j).all()
            np.testing.assert_array_equal(basis.orders[own], np.arange(-j, j + 1))


def test_odd_degrees_stand_where_they_are_said_to():
    basis = harmonics(7, 1)
    for j in range(1, 8, 2):
        own = basis.of_degree(j)
        assert (basis.degrees[own] == j).all()
        np.testing.assert_array_equal(basis.orders[own], np.arange(-j, j + 1))


def test_quarter_turns_are_those_of_the_tables():
    """d^1 and d^2 at 90 degrees (Edmonds, Varshalovich), rows m, columns n, both rising."""
    half, root = 0.5, math.sqrt(0.5)
    np.testing.assert_allclose(
        quarter_turn(1), [[half, root, half], [-root, 0, root], [half, -root, half]], atol=1e-12
    )
    six = math.sqrt(6) / 4
    expected = [
        [0.25, 0.5, six, 0.5, 0.25],
        [-0.5, -0.5, 0, 0.5, 0.5],
        [six, 0, -0.5, 0, six],
        [-0.5, 0.5, 0, -0.5, 0.5],
        [0.25, -0.5, six, -0.5, 0.25],
    ]
    np.testing.assert_allclose(quarter_turn(2), expected, atol=1e-12)
    for degree in (5, 20):
        turn = quarter_turn(degree)
        np.testing.assert_allclose(turn @ turn.T, np.eye(2 * degree + 1), atol=1e-10)


def spots(rotation=None, fold=1):
    """A function of directions, the same at k and -k, as a callable; ``fold`` copies about z."""
    rng = np.random.default_rng(7)
    axes = rng.normal(size=(5, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    heights = np.repeat(rng.uniform(0.5, 1.5, 5), fold)
    turns = Rotation.from_rotvec([[0, 0, 2 * np.pi * n / fold] for n in range(fold)]).as_matrix()
    axes = np.einsum("nij,aj->ani", turns, axes).reshape(-1, 3)
    if rotation is not None:
        axes = axes @ rotation.T
    return lambda directions: np.exp(6 * ((directions @ axes.T) ** 2 - 1)) @ heights


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_the_correlation_is_largest_at_the_true_rotation(fold):
    basis = harmonics(16)
    truth = Rotation.from_euler("zyz", [1.1, 0.7, -2.0]).as_matrix()
    f, g = spots(truth, fold)(basis.directions), spots(None, fold)(basis.directions)
    correlation = RotationalCorrelation(basis, basis.coefficients(g)[None], fold)
    found = correlation.correlate(basis.coefficients(f)[None, None])[0]
    a, b, c = correlation.grid()
    assert found.shape == (len(a), len(b), len(c))
    place = np.unravel_index(np.argmax(found), found.shape)
    turn = Rotation.from_euler("ZYZ", [a[place[0]], b[place[1]], c[place[2]]]).as_matrix()
    equal = symmetry_rotations(f"C{fold}")
    assert angles_off(turn[None], truth, equal)[0] < np.rad2deg(a[1])
    # the value is the integral of f(x) g(R^-1 x)
    area = basis.coefficients(np.ones(len(basis.directions)))[0].real * math.sqrt(4 * math.pi)
    assert area == pytest.approx(4 * math.pi)
    product = f * spots(turn, fold)(basis.directions)
    integral = basis.coefficients(product)[0].real * math.sqrt(4 * math.pi)
    assert found[place] == pytest.approx(integral, rel=0.02)


def test_a_fold_leaves_out_nothing():
    """The grid of a three-fold function is a third of the whole, with the same values."""
    basis = harmonics(12)
    f, g = (basis.coefficients(spots(turn, 3)(basis.directions)) for turn in (None, np.eye(3)))
    plain = RotationalCorrelation(basis, g[None]).correlate(f[None, None])[0]
    folded = RotationalCorrelation(basis, g[None], 3)
    found = folded.correlate(f[None, None])[0]
    assert found.size < plain.size / 2
    assert found.max() == pytest.approx(plain.max(), rel=1e-6)
    np.testing.assert_allclose(found[:, :, 0], plain[:, :, 0], rtol=1e-6)


def test_rotations_of_the_grid_are_poses():
    """The pose A turns the map's points into the particle's: (L g)(x) = g(A^T x)."""
    correlation = RotationalCorrelation(harmonics(4), np.zeros((1, len(harmonics(4).degrees)), complex))
    a, b, c = correlation.grid()
    rotations = grid_rotations(correlation).reshape(len(a), len(b), len(c), 3, 3)
    expected = Rotation.from_euler("ZYZ", [a[2], b[3], c[1]]).as_matrix()
    np.testing.assert_allclose(rotations[2, 3, 1], expected, atol=1e-12)


def test_the_degree_rises_with_the_detail():
    assert degree_for(9, 2 / 3) == 20
    assert degree_for(100, 1.0) == 32
    assert degree_for(1, 0.1) == 4


@pytest.mark.parametrize("count", [1, 4])
def test_rotational_matching_finds_the_pose(count):
    truth = true_poses(5, seed=11)
    found = rotational_matching(
        coefficients(truth), reference(), count, diameter=DIAMETER, shift_range=4.0, symmetry=NONE
    )
    own = [np.flatnonzero(found.poses.particle == n) for n in range(5)]
    assert [len(rows) for rows in own] == [count] * 5
    first = np.array([rows[0] for rows in own])
    assert (np.diff(found.scores)[found.poses.particle[1:] == found.poses.particle[:-1]] <= 0).all()
    assert angles_off(found.poses.rotations[first], truth.rotations).max() < 12  # cells of 8.6 degrees
    assert np.linalg.norm(found.poses.shifts[first] - truth.shifts, axis=1).max() < 1.0


def grid_for(radius=5.0, symmetry=NONE):
    return PoseGrid.of(radius, BOX, DIAMETER, 4.0, symmetry)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_joint_search_finds_the_pose(device):
    truth = true_poses(5, seed=12)
    grid = grid_for()
    found = joint_search(coefficients(truth).crop(5), reference(), grid, 3, symmetry=NONE, device=device)
    first = np.arange(0, 15, 3)
    np.testing.assert_array_equal(found.poses.particle, np.repeat(np.arange(5), 3))
    assert angles_off(found.poses.rotations[first], truth.rotations).max() < grid.spacing_degrees
    assert np.linalg.norm(found.poses.shifts[first] - truth.shifts, axis=1).max() < 1.2
    for n in range(5):  # candidates are apart
        first_one, *others = found.poses.rotations[3 * n : 3 * n + 3]
        assert angles_off(np.array(others), first_one).min() > grid.spacing_degrees


def test_the_score_is_the_constrained_correlation_written_out():
    """Of a shifted particle with a wedge, with the model as a volume: turned, shifted, cut by the wedge."""
    truth = true_poses(2, seed=3)
    data = coefficients(truth).crop(5)
    found = joint_search(data, reference(), grid_for(), 1, symmetry=NONE)
    points = half_ball(5, BOX)
    factor = take_solid(wedge(), points)
    for n in range(2):
        turn, shift = found.poses.rotations[n], found.poses.shifts[n]
        model = factor * extract_solid(density(PHANTOM.moved(turn, -shift)), points)
        y = data.values[n].astype(np.complex128)
        expected = np.sum(y.conj() * model).real / np.linalg.norm(model)
        assert found.scores[n] == pytest.approx(expected, rel=5e-3)
        fit = PoseObjective(data, reference()).fit(found.poses.select(np.array([n])))
        assert found.scores[n] == pytest.approx(math.sqrt(fit.gain[0]), rel=1e-4)
        assert fit.correlation[0] == pytest.approx(expected / np.linalg.norm(y), rel=5e-3)


def ring(fold):
    """Spots with an axis of ``fold`` along z, and no other symmetry."""
    places = np.array([[5.0, 0, 2], [3, 3, -3], [0, 0, 5]])
    turns = symmetry_rotations(f"C{fold}")
    spread = np.concatenate([places @ turn.T for turn in turns])
    return Gaussians.isotropic(np.tile([1.0, 0.7, 0.5], fold), spread, np.full(3 * fold, 1.5))


@pytest.mark.parametrize("search", ["joint", "rotational"])
def test_of_equal_poses_one_comes_back(search):
    fold = 4
    symmetry = np.asarray(symmetry_rotations(f"C{fold}"))
    truth, phantom = true_poses(3, seed=8), ring(fold)
    data, volume = coefficients(truth, phantom=phantom), reference(phantom)
    if search == "joint":
        grid = grid_for(symmetry=symmetry)
        assert len(grid.rotations) < 1.2 * len(grid_for().rotations) / fold
        found, near = joint_search(data.crop(5), volume, grid, 4, symmetry=symmetry), grid.spacing_degrees
    else:
        found, near = (
            rotational_matching(data, volume, 4, diameter=DIAMETER, shift_range=4.0, symmetry=symmetry), 12
        )  # fmt: skip
    for n in range(3):
        turns = found.poses.rotations[found.poses.particle == n]
        off = angles_off(turns, truth.rotations[n], symmetry)
        assert off[0] < near
        assert len(turns) == 4
        # no two are equal, so the true pose is there once
        for one in range(4):
            others = np.delete(turns, one, axis=0)
            assert angles_off(others, turns[one], symmetry).min() > 0.9 * near / 1.2


def test_priors_forbid_and_weigh():
    """Within three standard deviations of the expected angle only; nothing is expected of the others."""
    truth = true_poses(3, seed=12)
    data, grid = coefficients(truth).crop(5), grid_for()
    tilts = np.full((3, 3), np.nan)
    sigmas = np.full((3, 3), np.nan)
    tilts[0, 1], sigmas[0, 1] = 90.0, 1.0
    priors = OrientationPriors(tilts, sigmas)
    free = joint_search(data, reference(), grid, 4, symmetry=NONE)
    found = joint_search(data, reference(), grid, 4, symmetry=NONE, priors=priors)
    own = found.poses.rotations[found.poses.particle == 0]
    beam = np.rad2deg(np.arccos(own[:, 2, 2]))
    assert np.abs(beam - 90).max() <= 3 * math.hypot(1.0, grid.spacing_degrees / 2) + 1e-6
    rest = found.poses.particle > 0
    np.testing.assert_array_equal(found.poses.rotations[rest], free.poses.rotations[rest])
    log = priors.log(grid.rotations, NONE, 0.0)
    tilt = np.rad2deg(np.arccos(np.clip(grid.rotations[:, 2, 2], -1, 1)))
    expected = np.where(np.abs(tilt - 90) > 3, -np.inf, -0.5 * (tilt - 90) ** 2)
    np.testing.assert_allclose(log[0], expected, atol=1e-6)
    assert not log[1:].any()


def test_the_best_shift_is_between_voxels():
    truth = true_poses(6, seed=2, most=3.0)
    data = coefficients(truth)
    still = Poses(truth.rotations, np.zeros((6, 3)), truth.particle)
    found = best_shifts(data, reference(), Candidates(still, np.zeros(6)), 5.5)
    np.testing.assert_allclose(found.poses.shifts, truth.shifts, atol=0.15)
    fit = PoseObjective(data, reference()).fit(found.poses)
    np.testing.assert_allclose(found.scores, np.sqrt(fit.gain), rtol=0.02)
    near = best_shifts(data, reference(), Candidates(still, np.zeros(6)), 1.0)
    assert np.linalg.norm(near.poses.shifts, axis=1).max() < 2.0
