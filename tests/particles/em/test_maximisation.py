"""True poses give the true map; halves, symmetry and devices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from em_example import BOX, RADIUS, example

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.metrics.fsc import fsc
from manyviews.operators.fourier_sums import FourierSums
from manyviews.parallel.lanes import LANES
from manyviews.particles.em.maximisation import (
    RealSpaceConstraint,
    add_up,
    as_fourier_sums,
    half_correlation,
    half_volumes,
    whole_volume,
)
from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples

C1 = np.eye(3)[None]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(autouse=True)
def _quick(one_thread):
    pass


@pytest.fixture(scope="module")
def made():
    return example(300, groups=2)


def sums_of(made, samples=None, symmetry=C1, device="cpu", scale=1.0):
    lane = np.arange(len(made.images)) % LANES
    samples = made.true_samples() if samples is None else samples
    halves = (add_up(made.images, samples, lane, half, RADIUS, symmetry, device) for half in range(2))
    return as_fourier_sums(halves, RADIUS, scale)


def shape_of(box=BOX, positive=True):
    return RealSpaceConstraint.sphere(box, 0.9, positive)


def curve(volume, truth):
    return fsc(volume.numpy(), truth.numpy(), 1.0).correlation[: RADIUS + 1]


def test_true_poses_give_the_true_map(made):
    sums = sums_of(made)
    agreed = half_correlation(sums, shape_of())
    assert agreed.shape == (RADIUS + 1,)
    assert agreed[1:6].min() > 0.9
    volume = whole_volume(sums, agreed, shape_of())
    assert curve(volume, made.volume)[1:RADIUS].min() > 0.9
    assert volume.min() >= 0
    scale = float((volume * made.volume).sum() / made.volume.square().sum())
    assert scale == pytest.approx(1.0, abs=0.1)


def test_weaker_halves_are_damped_and_negative_density_may_stay(made):
    sums = sums_of(made)
    sure, unsure = (
        whole_volume(sums, np.full(RADIUS + 1, value), shape_of(positive=False)) for value in (0.99, 0.2)
    )
    assert unsure.norm() < 0.9 * sure.norm()
    assert sure.min() < 0


def test_fewer_voxels_show_the_same_frequencies(made):
    """Transforms are equal, so voxels that are larger hold more."""
    sums = sums_of(made)
    agreed = half_correlation(sums, shape_of())
    fine = whole_volume(sums, agreed, shape_of(positive=False))
    coarse = whole_volume(sums, agreed, shape_of(20, positive=False))
    assert float(coarse.sum()) == pytest.approx(float(fine.sum()), rel=0.05)


def test_lanes_are_halves(made):
    """Even images in one half, odd ones in the other; the halves together are all."""
    whole = sums_of(made)
    even = made.true_samples().select(np.arange(0, 300, 2))
    apart = sums_of(made, even)
    torch.testing.assert_close(apart.numerator[0], whole.numerator[0])
    assert not apart.numerator[1].any()
    assert not sums_of(made, NO_SAMPLES).denominator.any()


@pytest.mark.parametrize("half", [0, 1])
def test_processes_that_hold_some_lanes_add_up_to_all(made, half):
    """To the last bit: what is added in double precision are single precision numbers."""
    lane = np.arange(len(made.images)) % LANES
    samples = made.true_samples()
    whole = add_up(made.images, samples, lane, half, RADIUS, C1)
    for size in (2, 3, 8):
        total = [torch.zeros_like(part) for part in whole]
        for rank in range(size):
            own = np.flatnonzero(lane % size == rank)
            place = np.full(len(lane), -1)
            place[own] = np.arange(len(own))
            mine = samples.select(own).renumbered(place)
            parts = add_up(made.images.select(own), mine, lane[own], half, RADIUS, C1)
            total = [one + other for one, other in zip(total, parts, strict=True)]
        for one, other, kind in zip(total, whole, (torch.complex64, torch.float32), strict=True):
            assert torch.equal(one.to(kind), other.to(kind))


def test_weights_split_an_image(made):
    """Two equal samples of half the weight are one."""
    one = made.true_samples()
    two = PoseSamples.concatenate([one, one]).sorted()
    split = replace(two, weights=two.weights / 2)
    torch.testing.assert_close(sums_of(made, split).numerator, sums_of(made).numerator, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("group", ["C2", "D2", "T"])
def test_a_symmetric_sum_does_not_change_under_the_group(made, group):
    rotations = symmetry_rotations(group)
    once = sums_of(made, symmetry=rotations)
    turned = made.true_samples()
    turned = replace(turned, rotations=(turned.rotations @ rotations[-1]).astype(np.float32))
    again = sums_of(made, turned, symmetry=rotations)
    scale = float(once.numerator.abs().max())
    torch.testing.assert_close(again.numerator, once.numerator, rtol=0, atol=1e-4 * scale)
    if group != "T":  # half a turn about z maps the grid on itself
        volume = whole_volume(once, np.full(RADIUS + 1, 0.9), shape_of(25))
        assert float((volume - torch.flip(volume, (1, 2))).norm() / volume.norm()) < 0.02


def test_halves_share_low_frequencies_only(made):
    sums = sums_of(made)
    agreed = half_correlation(sums, shape_of())
    first, second = half_volumes(sums, agreed, shape_of(positive=False), joined_radius=4)
    alike = curve(first, second)
    assert alike[1:4].min() > 0.998
    assert 0.5 < alike[7] < 0.999
    joined = half_volumes(sums, agreed, shape_of(), joined_radius=RADIUS + 1)
    torch.testing.assert_close(*joined)


def test_sums_at_other_radii_keep_what_both_hold(made):
    sums = sums_of(made)
    again = sums.at_radius(5).at_radius(RADIUS)
    lower = sums.at_radius(5)
    torch.testing.assert_close(again.at_radius(5).numerator, lower.numerator, rtol=0, atol=0)
    larger = sums.at_radius(RADIUS + 2)
    torch.testing.assert_close(larger.at_radius(RADIUS).denominator, sums.denominator, rtol=0, atol=0)
    mixed = sums.mixed(FourierSums.zeros(RADIUS), 0.25)
    torch.testing.assert_close(mixed.denominator, 0.75 * sums.denominator)


@pytest.mark.parametrize("device", DEVICES)
def test_sums_of_another_device_are_the_same(made, device, monkeypatch):
    from manyviews.kernels import pose_sums_torch
    from manyviews.particles.em import maximisation

    expected = sums_of(made)
    if device == "cpu":  # the torch kernels, where there is no GPU
        monkeypatch.setattr(maximisation, "pose_sums", lambda device: pose_sums_torch)
        monkeypatch.setattr(maximisation, "native", lambda tensor: tensor)
    found = sums_of(made, device=device)
    for one, other in ((found.numerator, expected.numerator), (found.denominator, expected.denominator)):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))
