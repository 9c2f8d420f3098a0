"""Averages at true poses, and the alignment itself: it gets to the truth, settles, and keeps halves apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from alignment_example import (
    BOX,
    DIAMETER,
    PHANTOM,
    RADIUS,
    angles_off,
    coefficients,
    density,
    true_poses,
)

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.metrics.common_turn import common_turn
from manyviews.metrics.fsc import fsc
from manyviews.parallel.lanes import lane_of, own_particles
from manyviews.parallel.world import SingleWorld
from manyviews.simulate.phantoms import Gaussians
from manyviews.solvers.driver import iterate
from manyviews.subtomo.alignment import (
    Alignment,
    AlignmentProblem,
    AlignmentState,
    agreed_radius,
    has_settled,
    low_passed,
)
from manyviews.subtomo.averaging import add_up, particle_mask, solvent_flattened
from manyviews.subtomo.pose_search import SearchPlan
from manyviews.subtomo.refine.objective import Poses
from thread_world import run_ranks

pytestmark = pytest.mark.usefixtures("one_thread")

NONE = np.eye(3)[None]
COUNT = 24
PLAN = SearchPlan(DIAMETER, 3.0, 4, NONE)


@pytest.fixture(scope="module")
def truth():
    return true_poses(COUNT, seed=21, most=1.5)


@pytest.fixture(scope="module")
def data(truth):
    return coefficients(truth, noise=8.0)


def problem(data, **given):
    halves = np.arange(len(data)) % 2 + 1
    values = {"start": None, "start_radius": 4, "joined_radius": 0, "search": PLAN, **given}
    everyone = np.arange(len(data))
    return AlignmentProblem(data, everyone, lane_of(everyone), halves, **values)


def part_of(given, world):
    """The share of a rank."""
    everyone = np.arange(given.count)
    own = everyone[own_particles(everyone, world)]
    data = given.subtomograms.select(own)
    return replace(given, subtomograms=data, own=own, lanes=lane_of(own), world=world)


def added(data, poses, weights, halves, symmetry=NONE):
    """The sums of this process alone."""
    lanes = lane_of(np.arange(len(data)))
    return add_up(data, poses, weights, halves, lanes=lanes, symmetry=symmetry, world=SingleWorld())


def agreement(volume, phantom=PHANTOM):
    return fsc(np.asarray(volume), density(phantom), 1.0).correlation


def flat(volume):
    return solvent_flattened(volume, particle_mask(BOX, DIAMETER))


def test_the_average_at_true_poses_is_the_particle(truth):
    """The wedges of 24 particles fill each other; of one they do not."""
    clean = coefficients(truth)
    halves = np.arange(COUNT) % 2 + 1
    sums = added(clean, truth, np.ones(COUNT), halves)
    whole = sums.volume(np.full(RADIUS + 1, 0.999), BOX)
    assert agreement(flat(whole))[1:RADIUS].min() > 0.99
    for half in range(2):
        assert agreement(flat(sums.half_volume(half, BOX)))[1:RADIUS].min() > 0.97
    alone = added(clean, truth, (np.arange(COUNT) == 0).astype(float), halves)
    assert agreement(flat(alone.half_volume(0, BOX)))[3:RADIUS].min() < 0.95
    assert not alone.numerator[1].any()


def test_shared_poses_and_left_out_particles(truth):
    """Two poses of half a weight are one; weight 0 and no half are nothing."""
    clean = coefficients(truth)
    halves = np.ones(COUNT, np.int64)
    plain = added(clean, truth, np.ones(COUNT), halves)
    twice = np.repeat(np.arange(COUNT), 2)
    shared = added(clean, truth.select(twice), np.full(2 * COUNT, 0.5), halves)
    torch.testing.assert_close(shared.numerator, plain.numerator, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(shared.denominator, plain.denominator, rtol=1e-4, atol=1e-4)
    weights = np.r_[np.ones(COUNT - 4), np.zeros(4)]
    fewer = added(clean, truth, weights, halves)
    excluded = np.where(weights > 0, 1, 0)
    left = added(clean, truth, np.ones(COUNT), excluded)
    torch.testing.assert_close(fewer.numerator, left.numerator)


def test_symmetry_fills_the_wedge_of_one_particle():
    symmetry = np.asarray(symmetry_rotations("C4"))
    places = np.concatenate([np.array([[5.0, 0, 2], [3, 3, -3]]) @ turn.T for turn in symmetry])
    phantom = Gaussians.isotropic(np.tile([1.0, 0.7], 4), places, np.full(8, 1.6))
    truth = true_poses(1, seed=5)
    clean = coefficients(truth, phantom=phantom)
    one = np.ones(1, np.int64)
    plain, whole = (
        added(clean, truth, np.ones(1), one, symmetry=turns).half_volume(0, BOX) for turns in (NONE, symmetry)
    )
    assert agreement(flat(whole), phantom)[1:8].mean() > agreement(flat(plain), phantom)[1:8].mean() + 0.02
    assert agreement(flat(whole), phantom)[1:8].min() > 0.95


def test_the_solvent_is_zero():
    mask = particle_mask(BOX, DIAMETER)
    assert mask[BOX // 2, BOX // 2, BOX // 2] == 1
    assert mask[0, 0, 0] == 0
    volume = torch.from_numpy(density()).float() + 3.0
    found = solvent_flattened(volume, mask)
    assert float(found[0, 0, 0]) == 0
    inside = mask == 1
    torch.testing.assert_close(found[inside], volume[inside] - 3, rtol=0, atol=0.02)


def test_low_passed_ends_where_it_is_told():
    volume = torch.from_numpy(density()).float()
    low = np.abs(np.fft.rfftn(low_passed(volume, 4).numpy()))
    plain = np.abs(np.fft.rfftn(volume.numpy()))
    along = np.fft.fftfreq(BOX, 1 / BOX)
    length = np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + np.arange(BOX // 2 + 1) ** 2)
    np.testing.assert_allclose(low[length <= 4], plain[length <= 4], rtol=1e-3, atol=1e-3)
    assert low[length > 6.01].max() < 1e-3 * plain.max()


def run(given, iterations=8):
    state = None
    for state in iterate(Alignment(given), Alignment(given).init(), iterations):
        if has_settled(state):
            break
    return state


def test_a_blurred_reference_leads_to_the_truth(truth, data):
    start = torch.from_numpy(density()).float()
    state = run(problem(data, start=start, start_radius=3))
    assert state.iteration < 8  # settled
    assert has_settled(state)
    off = angles_off(state.rotations.numpy(), truth.rotations)
    assert np.median(off) < 1.5
    assert np.mean(off < 5) > 0.9
    near = off < 5
    assert np.linalg.norm(state.shifts.numpy() - truth.shifts, axis=1)[near].max() < 0.5
    assert agreement(state.iterate)[1:7].min() > 0.95
    assert state.radius > 6
    assert state.angle_change < 1
    measures = state.measures()
    assert measures["agreed_radius"] == agreed_radius(state.correlation)
    assert measures["score"] == pytest.approx(float(state.score.mean()))


def test_a_random_start_leads_to_the_truth(truth, data):
    """Without a reference the map comes out turned and moved as a whole."""
    state = run(problem(data, start_radius=4, joined_radius=4, seed=1), iterations=12)
    found = state.rotations.numpy()
    turn = common_turn(truth.rotations.transpose(0, 2, 1) @ found, NONE)
    off = angles_off(found, truth.rotations @ turn)
    assert np.median(off) < 2.5
    assert np.mean(off < 8) > 0.9
    assert state.radius > 5


def test_halves_do_not_mix(truth, data):
    """Other particles in half 2: in half 1 no pose changes, nor its map, where the halves share nothing."""
    start = torch.from_numpy(density()).float()
    given = problem(data, start=start, start_radius=4)
    second = np.flatnonzero(given.halves == 2)
    values = data.values.copy()
    values[second] = values[second[::-1]] * np.exp(1j * np.arange(values.shape[1])).astype(np.complex64)
    changed = problem(replace(data, values=values), start=start, start_radius=4)
    states, maps = [], []
    for one in (given, changed):
        state = Alignment(one).step(Alignment(one).init())
        poses = Poses(state.rotations.numpy(), state.shifts.numpy(), np.arange(COUNT))
        sums = added(one.subtomograms, poses, np.ones(COUNT), one.halves)
        states.append(state)
        maps.append([sums.half_volume(half, BOX) for half in range(2)])
    first = given.halves == 1
    for name in ("rotations", "shifts", "score", "gain"):
        own, other = (getattr(state, name)[torch.from_numpy(first)] for state in states)
        torch.testing.assert_close(own, other, rtol=0, atol=0)
    torch.testing.assert_close(maps[0][0], maps[1][0], rtol=0, atol=0)
    assert not torch.allclose(maps[0][1], maps[1][1], rtol=0.1)
    # what poses are looked for with next differs by the damping alone, which the correlation of both sets
    same = np.full(len(states[0].correlation), 0.5)
    searched = []
    for one, state in zip((given, changed), states, strict=True):
        poses = Poses(state.rotations.numpy(), state.shifts.numpy(), np.arange(COUNT))
        weights = np.ones(COUNT)
        sums = added(one.subtomograms, poses, weights, one.halves)
        searched.append(sums.damped_half(0, np.full(sums.radius + 1, same[0]), BOX).numpy())
    assert np.corrcoef(searched[0].ravel(), searched[1].ravel())[0, 1] > 0.99


@pytest.mark.parametrize(("merged", "joined"), [(False, 0), (False, 3), (True, 0)])
def test_the_maps_of_the_halves(data, merged, joined):
    """Apart; the same up to where they are joined; the same everywhere."""
    start = torch.from_numpy(density()).float()
    state = Alignment(problem(data, start=start, merged=merged, joined_radius=joined)).init()
    state = Alignment(problem(data, start=start, merged=merged, joined_radius=joined)).step(state)
    one, two = state.halves
    if merged:
        torch.testing.assert_close(one, two, rtol=0, atol=0)
        torch.testing.assert_close(one, state.iterate, rtol=0, atol=0)
        return
    correlation = fsc(one.numpy(), two.numpy(), 1.0).correlation
    assert correlation[8] < 0.9999
    plain = fsc(*(half.numpy() for half in Alignment(problem(data, start=start)).step(
        Alignment(problem(data, start=start)).init()).halves), 1.0).correlation  # fmt: skip
    if joined:
        assert 1 - correlation[1:3].min() < 0.3 * (1 - plain[1:3].min()) + 1e-6
    else:
        np.testing.assert_array_equal(correlation, plain)


def test_the_worst_of_each_half_are_left_out(data):
    given = problem(data, rejected=0.25, start=torch.from_numpy(density()).float())
    state = Alignment(given).init()
    score = torch.from_numpy(np.random.default_rng(4).permutation(COUNT) / COUNT)
    kept = Alignment(given).kept(replace(state, score=score))
    for half in (1, 2):
        own = given.halves == half
        worst = np.sort(score.numpy()[own])[:3]
        assert set(score.numpy()[own & ~kept]) == set(worst)
    assert kept.sum() == COUNT - 6
    assert Alignment(problem(data)).kept(replace(state, score=score)).all()


BAD = np.array([3, 8, 13, 18])


def with_noise(data):
    """Four of the particles are noise alone."""
    rng = np.random.default_rng(0)
    values = data.values.copy()
    measured = data.transfers[0] != 0
    drawn = rng.normal(size=(2, 4, values.shape[1])) / np.sqrt(2)
    values[BAD] = (drawn[0] + 1j * drawn[1]) * measured
    return replace(data, values=values)


def test_noise_among_the_particles_scores_lowest(truth, data):
    """Four volumes of noise are what a share of a sixth leaves out."""
    given = problem(
        with_noise(data),
        start=torch.from_numpy(density()).float(),
        start_radius=5,
        rejected=1 / 6,
    )
    state = Alignment(given).step(Alignment(given).init())
    np.testing.assert_array_equal(np.flatnonzero(~Alignment(given).kept(state)), BAD)


def test_an_average_in_known_poses_leaves_out_the_worst_not_the_first(truth, data):
    known = truth.rotations, truth.shifts
    given = problem(with_noise(data), known=known, rejected=1 / 6)
    state = Alignment(given).averaged()
    np.testing.assert_array_equal(np.flatnonzero(~Alignment(given).kept(state)), BAD)
    without = np.ones(COUNT)
    without[BAD] = 0
    expected = Alignment(problem(with_noise(data), known=known, weights=without)).averaged()
    np.testing.assert_array_equal(state.iterate.numpy(), expected.iterate.numpy())
    assert state.iteration == 1


def settled(before, now, angle):
    nothing = torch.zeros(2)
    return has_settled(
        AlignmentState(
            2, nothing, (), nothing, nothing, nothing, nothing, nothing, 5, 5, now, before, angle, 0, 0
        )
    )


def test_when_a_run_has_settled():
    good, better = [1.0, 1.0, 0.9, 0.1, 0.0], [1.0, 1.0, 0.9, 0.5, 0.1]
    assert settled(good, good, 0.5)
    assert settled(better, good, 0.5)
    assert not settled(good, better, 0.5)  # the halves agree further
    assert not settled(good, good, 1.5)  # particles still turn
    assert not settled([], good, 0.0)  # the first


def test_where_halves_agree():
    assert agreed_radius([1.0, 0.0, 0.9, 0.5, 0.1, 0.9]) == 3  # shell 1 is not asked
    assert agreed_radius([1.0, 0.9, 0.9]) == 2
    assert agreed_radius([1.0, 0.9, 0.1]) == 1
    assert agreed_radius([]) == 0


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_find_the_same_poses(data, size):
    start = torch.from_numpy(density()).float()
    expected = Alignment(problem(data, start=start)).step(Alignment(problem(data, start=start)).init())

    def of_rank(world):
        given = part_of(problem(data, start=start), world)
        return Alignment(given).step(Alignment(given).init())

    for found in run_ranks(size, of_rank):
        for name in ("rotations", "shifts", "iterate", "score"):
            one, other = getattr(found, name), getattr(expected, name)
            torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_ranks_without_particles_take_part():
    """Three particles on five ranks, and a rank whose particles are all in one half."""
    few = true_poses(3, seed=1)
    data = coefficients(few, noise=8.0)
    start = torch.from_numpy(density()).float()

    def of_rank(world):
        given = part_of(problem(data, start=start), world)
        return Alignment(given).step(Alignment(given).init())

    expected = Alignment(problem(data, start=start)).step(Alignment(problem(data, start=start)).init())
    for found in run_ranks(5, of_rank):
        torch.testing.assert_close(found.rotations, expected.rotations, rtol=0, atol=1e-4)
