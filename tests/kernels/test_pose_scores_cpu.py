"""Scores against sums written out in double precision; samples against the posterior they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from manyviews.kernels import pose_scores_cpu, pose_scores_torch
from manyviews.kernels.pose_scores_cpu import best_rotations, sample_posterior, score_around
from manyviews.kernels.slices_cpu import gather_slices
from manyviews.operators.fourier_points import half_plane

BOX, RADIUS, PADDING, IMAGES, SIGMA = 20, 6, 2, 7, 1.5
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def complex_noise(rng, *shape):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def search_problem(seed=0, poses=11):
    """All arguments of `score_around`, of images that have more frequencies than are looked at."""
    rng = np.random.default_rng(seed)
    points, more = half_plane(RADIUS, BOX), len(half_plane(RADIUS + 1, BOX))
    h = PADDING * RADIUS + 1
    return {
        "grid": complex_noise(rng, 2 * h + 1, 2 * h + 1, h + 2),
        "padding": PADDING,
        "points": points,
        "box": BOX,
        "values": complex_noise(rng, IMAGES, more),
        "ctf": rng.normal(size=(IMAGES, more)).astype(np.float32),
        "precision": rng.uniform(0.5, 2, (2, more)).astype(np.float32),
        "group": rng.integers(0, 2, IMAGES).astype(np.int32),
        "image": np.sort(rng.integers(0, IMAGES, poses)),
        "rotations": Rotation.random(poses, random_state=seed).as_matrix().astype(np.float32),
        "shifts": rng.normal(size=(poses, 2)).astype(np.float32),
        "turns": Rotation.from_rotvec(0.2 * rng.normal(size=(4, 3))).as_matrix().astype(np.float32),
        "steps": rng.normal(size=(5, 2)).astype(np.float32),
        "shift_sigma": SIGMA,
    }


def written_out(p):
    """The same in float64: ``|m Y|^2 - |m (Y e - C S)|^2`` and the prior, pose by pose."""
    points = p["points"].astype(np.float64)
    count = len(points)
    out = np.empty((len(p["image"]), len(p["turns"]), len(p["steps"])))
    for q, j, k in np.ndindex(out.shape):
        i = p["image"][q]
        rotation = p["turns"][j].astype(np.float64) @ p["rotations"][q]
        seen = gather_slices(p["grid"].astype(np.complex128), rotation[None], p["points"], PADDING)[0]
        shift = p["shifts"][q].astype(np.float64) + p["steps"][k]
        centred = p["values"][i, :count] * np.exp(-2j * np.pi * (points @ shift) / BOX)
        weight = p["precision"][p["group"][i], :count].astype(np.float64)
        misfit = np.abs(centred - p["ctf"][i, :count] * seen) ** 2 - np.abs(centred) ** 2
        out[q, j, k] = -np.sum(weight * misfit) - np.sum(shift**2) / (2 * SIGMA**2)
    return out


def on(device, problem):
    return {**problem, "grid": torch.from_numpy(problem["grid"]).to(device)}


def test_scores_are_the_sums():
    problem = search_problem()
    expected = written_out(problem)
    np.testing.assert_allclose(score_around(**problem), expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("elements", [2**24, 300])
@pytest.mark.parametrize("device", DEVICES)
def test_scores_in_torch_are_the_same(device, elements, monkeypatch):
    monkeypatch.setattr(pose_scores_torch, "_ELEMENTS_AT_ONCE", elements)
    problem = search_problem(1)
    found, expected = pose_scores_torch.score_around(**on(device, problem)), score_around(**problem)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_no_pose_no_score():
    problem = search_problem(poses=0)
    for kernel, given_ in ((pose_scores_cpu, problem), (pose_scores_torch, on("cpu", problem))):
        assert kernel.score_around(**given_).shape == (0, 4, 5)


def posterior_problem(seed, images=3, shifts=4, rotations=300, spread=3.0):
    rng = np.random.default_rng(seed)
    cross = spread * rng.normal(size=(images, shifts, rotations)).astype(np.float32)
    power = rng.random((images, rotations)).astype(np.float32)
    return cross, power, -rng.random(shifts).astype(np.float32)


def probabilities(cross, power, prior):
    score = (2.0 * cross - power[:, None] + prior[:, None]).astype(np.float64).reshape(len(cross), -1)
    top = score.max(1, keepdims=True)
    weight = np.exp(score - top)
    total = weight.sum(1, keepdims=True)
    return weight / total, (top + np.log(total))[:, 0]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rotations=st.integers(1, 400),
    spread=st.floats(0.0, 30.0),
    draws=st.integers(1, 60),
)
def test_a_pose_is_drawn_as_often_as_it_is_likely(seed, rotations, spread, draws):
    problem = posterior_problem(seed, rotations=rotations, spread=spread)
    truth, logs = probabilities(*problem)
    offsets = np.random.default_rng(seed).random(3)
    for kernel, scores in ((pose_scores_cpu, problem[:2]), (pose_scores_torch, tensors(*problem[:2]))):
        chosen, log_sums = kernel.sample_posterior(*scores, problem[2], offsets, draws)
        np.testing.assert_allclose(log_sums, logs, rtol=1e-6, atol=2e-5)
        assert np.all(np.diff(chosen, axis=1) >= 0)
        for row, expected in zip(chosen, truth, strict=True):
            counts = np.bincount(row, minlength=len(expected))
            assert np.all(np.abs(counts - draws * expected) < 1 + 1e-3)


def tensors(*arrays, device="cpu"):
    return [torch.from_numpy(array).to(device) for array in arrays]


@pytest.mark.parametrize("kernel", [pose_scores_cpu, pose_scores_torch])
def test_the_mean_over_offsets_is_the_posterior(kernel):
    cross, power, prior = posterior_problem(5, images=1, rotations=40, spread=1.0)
    truth, _ = probabilities(cross, power, prior)
    many, draws = 500, 8
    scores = [np.repeat(part, many, axis=0) for part in (cross, power)]
    scores = scores if kernel is pose_scores_cpu else tensors(*scores)
    chosen, _ = kernel.sample_posterior(*scores, prior, (np.arange(many) + 0.5) / many, draws)
    mean = np.bincount(chosen.ravel(), minlength=truth.size) / chosen.size
    np.testing.assert_allclose(mean, truth[0], atol=1.5 / (many * draws))


@pytest.mark.parametrize("device", DEVICES)
def test_draws_in_torch_are_the_same(device, monkeypatch):
    monkeypatch.setattr(pose_scores_torch, "_ELEMENTS_AT_ONCE", 5000)
    cross, power, prior = posterior_problem(6, images=20)
    offsets = np.random.default_rng(0).random(20)
    expected = sample_posterior(cross, power, prior, offsets, 30)
    found = pose_scores_torch.sample_posterior(*tensors(cross, power, device=device), prior, offsets, 30)
    assert np.mean(found[0] != expected[0]) < 0.01  # where a sum ends just before or after a mark
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)


def test_scores_of_any_height_are_no_problem():
    """Logarithms of likelihoods are large numbers; only their differences count."""
    cross, power, prior = posterior_problem(7)
    high = (cross, power - np.float32(2**14), prior)
    offsets = np.full(3, 0.5)
    for kernel, scores in ((pose_scores_cpu, high[:2]), (pose_scores_torch, tensors(*high[:2]))):
        chosen, logs = kernel.sample_posterior(*scores, prior, offsets, 12)
        np.testing.assert_allclose(logs, probabilities(*high)[1], rtol=1e-6)
        assert chosen.max() < cross[0].size


@pytest.mark.parametrize("most", [1, 6, 50])
@pytest.mark.parametrize("margin", [0.5, 10.0, 1e9])
def test_the_best_rotations_with_their_best_shifts(most, margin):
    cross, power, prior = posterior_problem(8, rotations=31)
    score = 2 * cross - power[:, None] + prior[:, None]
    for kernel, scores in (
        (best_rotations, (cross, power)),
        (pose_scores_torch.best_rotations, tensors(cross, power)),
    ):
        index, count = kernel(*scores, prior, most, margin)
        assert index.shape == (3, most)
        for row, valid, own in zip(index, count, score, strict=True):
            height = own.max(0)
            order = np.argsort(-height)
            order = order[height[order] >= height.max() - margin][:most]
            assert valid == len(order)
            np.testing.assert_array_equal(row[:valid], own.argmax(0)[order] * 31 + order)


def test_sums_do_not_depend_on_where_arrays_lie():
    """Compilers may make two loops of one, and choose between them by addresses."""
    cross, power, prior = posterior_problem(9, images=4, shifts=9, rotations=1842)
    offsets, kept, found = np.full(4, 0.5), [], set()
    for size in np.random.default_rng(0).integers(1, 30_000, 150):
        kept.append(np.empty(size, np.uint8))
        chosen, logs = sample_posterior(cross.copy(), power.copy(), prior, offsets, 24)
        found.add(chosen.tobytes() + logs.tobytes())
    assert len(found) == 1
