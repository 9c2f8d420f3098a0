"""What batches do to an estimate: online EM, plain descent, RELION's formula, and EM extrapolated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from em_example import BOX, blobs

from manyviews.operators.fourier_slice import grid_shells, grid_to_volume, sphere
from manyviews.operators.fourier_sums import FourierSums
from manyviews.particles.refine.updates import (
    Anderson,
    Estimate,
    PlainSgd,
    Preconditioned,
    Vdam,
    share_of,
)

RADIUS = 5


def sums_of(seed, radius=RADIUS, target=None):
    """Random sums whose quotient is near ``target``, or random too."""
    rng = np.random.default_rng(seed)
    empty = FourierSums.zeros(radius)
    shape = empty.denominator.shape
    weight = torch.from_numpy(rng.uniform(0.5, 2.0, shape).astype(np.float32))
    noise = torch.from_numpy((rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64))
    x = noise if target is None else target + 0.1 * noise
    return FourierSums(weight * x, weight, radius)


def empty_at(radius=RADIUS):
    empty = FourierSums.zeros(radius)
    return Estimate(empty.numerator, empty.denominator, radius)


def test_a_start_on_the_grid_is_the_map():
    volume = torch.from_numpy(blobs(BOX, 10, 1.6).density((BOX,) * 3, 1.0)).float()
    begun = Estimate.of((volume, 2 * volume), 8)
    found = grid_to_volume(begun.x[1], BOX, 8)
    spectrum = torch.fft.fftshift(torch.fft.fftn(2 * volume))
    frequency = np.indices((BOX,) * 3) - BOX // 2
    inside = torch.from_numpy(np.sum(frequency**2, axis=0) <= 6**2)
    other = torch.fft.fftshift(torch.fft.fftn(found))
    assert float((spectrum - other)[inside].abs().max()) < 0.02 * float(spectrum.abs().max())
    assert not bool(begun.weight.any())


def test_preconditioned_steps_are_running_averages_of_the_sums():
    """Online EM, also where frequencies grow on the way."""
    estimate, mixed = empty_at(), None
    for step, radius in enumerate((RADIUS, RADIUS, RADIUS + 2, RADIUS + 2), start=1):
        new, share = sums_of(step, radius), share_of(step, 4)
        mixed = new if mixed is None else mixed.mixed(new, share)
        estimate = Preconditioned()(estimate.at_radius(radius), (new,), share)
    torch.testing.assert_close(estimate.weight, mixed.denominator)
    torch.testing.assert_close(estimate.x, mixed.numerator / mixed.denominator, rtol=1e-4, atol=1e-5)


def test_a_ratio_below_one_makes_longer_steps_in_its_shell_only():
    first, second = sums_of(1), sums_of(2)
    begun = Preconditioned()(empty_at(), (first,), 1.0)
    ratio = torch.ones(2, RADIUS + 1)
    ratio[1, 3] = 0.5
    plain, longer = (Preconditioned(one)(begun, (second,), 0.25) for one in (None, ratio))
    shell = grid_shells(begun.x.shape[1] // 2)
    moved = (longer.x - begun.x) / (plain.x - begun.x)
    torch.testing.assert_close(moved[1][shell == 3].real, torch.full_like(moved[1][shell == 3].real, 2.0))
    torch.testing.assert_close(moved[1][shell == 2].real, torch.ones_like(moved[1][shell == 2].real))
    torch.testing.assert_close(moved[0].real, torch.ones_like(moved[0].real))


def test_shares_end_with_the_noise_of_a_pass():
    shares = [share_of(step, 10) for step in range(1, 100)]
    assert shares[0] == 1.0
    assert all(one >= other for one, other in itertools.pairwise(shares))
    assert shares[-1] == pytest.approx(2 / 11)
    # images independent: an average of shares (1 - rho)^k rho has the noise of (2 - rho) / rho batches
    assert (2 - shares[-1]) / shares[-1] == pytest.approx(10)


@pytest.mark.parametrize("update", [Preconditioned(), PlainSgd()])
def test_what_agrees_with_the_batch_stays(update):
    found = sums_of(3)
    begun = Estimate(found.numerator / found.denominator, found.denominator, RADIUS)
    after = update(begun, (found,), 0.5)
    torch.testing.assert_close(after.x, begun.x, rtol=1e-4, atol=1e-4)


def test_plain_steps_are_as_long_as_the_largest_weight_allows():
    found = sums_of(3)
    after = PlainSgd()(empty_at(), (found,), 1.0)
    largest = found.denominator.amax(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(after.x, found.numerator / largest)


def test_vdam_is_as_written_out():
    """Two steps at one radius, in double precision at one point."""
    start = sums_of(9)
    begun = Estimate(start.numerator / start.denominator, start.denominator, RADIUS)
    batches = [(sums_of(1), sums_of(2)), (sums_of(3), sums_of(4))]
    shell = grid_shells(begun.x.shape[1] // 2)
    x, moments, second = begun.x.to(torch.complex128), None, torch.ones(begun.x.shape, dtype=torch.float64)
    found = begun
    for pair in batches:
        found = Vdam()(found, pair, 0.5)
        g = [(part.numerator - part.denominator * x) / part.denominator for part in pair]
        moments = g if moments is None else [0.9 * m + 0.1 * one for m, one in zip(moments, g, strict=True)]
        second = 0.999 * second + 0.001 * (g[0] - g[1]).abs() ** 2 / (((g[0] + g[1]) / 2).abs() ** 2)
        direction = (moments[0] + moments[1]) / 2 / second.sqrt()
        f = torch.zeros_like(second)
        for half in range(2):
            for one in range(int(shell.max()) + 1):
                at = shell == min(one, RADIUS)
                noise = (moments[0] - moments[1]).abs()[half][at].mean()
                s = 2 * x.abs()[half][at].mean() / noise
                a, b = (x[half][at] + m[half][at] for m in moments)
                c = (a * b.conj()).real.mean() / (a.abs() ** 2).mean().sqrt() / (b.abs() ** 2).mean().sqrt()
                f[half][shell == one] = torch.maximum(s / (1 + s), c).clamp(max=1)
        x = x + 0.3 * (f * direction - (1 - f) * x)
        inside = sphere(begun.x.shape[1] // 2, RADIUS - 0.5)
        torch.testing.assert_close(found.x[:, inside], x[:, inside].to(torch.complex64), rtol=1e-3, atol=1e-3)


def test_vdam_takes_up_new_frequencies():
    target = sums_of(9, RADIUS + 3)
    target = target.numerator / target.denominator
    estimate = empty_at().at_radius(RADIUS + 3)
    for step in range(20):
        parts = (sums_of(2 * step, RADIUS + 3, target), sums_of(2 * step + 1, RADIUS + 3, target))
        estimate = Vdam()(estimate, parts, 0.5)
    outer = grid_shells(estimate.x.shape[1] // 2) == RADIUS + 3
    miss = (estimate.x - target)[:, outer].abs().mean() / target[:, outer].abs().mean()
    assert miss < 0.3


def linear_em(slow, target):
    """EM's answer from x for a map that gets nearer by a factor of ``slow``, as sums."""
    weight = sums_of(5).denominator

    def answer(x):
        return FourierSums(weight * (target + slow * (x - target)), weight, RADIUS)

    return answer


def test_extrapolation_reaches_what_em_needs_many_passes_for():
    slow, target = 0.6, sums_of(6)
    target = target.numerator / target.denominator
    answer, estimate = linear_em(slow, target), empty_at()
    for _ in range(4):
        estimate = Anderson()(estimate, (answer(estimate.x),), 1.0)
    assert float((estimate.x - target).abs().max()) < 1e-3 < slow**4


def test_extrapolation_is_bounded_and_left_out_where_the_residual_grew():
    target = sums_of(6)
    target = target.numerator / target.denominator
    answer, worse = linear_em(0.6, target), linear_em(-1.5, target)
    first = Anderson()(empty_at(), (answer(empty_at().x),), 1.0)
    torch.testing.assert_close(first.x, answer(empty_at().x).numerator / first.weight)
    other = Anderson()(first, (worse(first.x),), 1.0)
    grown = worse(first.x)
    torch.testing.assert_close(other.x, grown.numerator / grown.denominator)
    slowest = linear_em(0.999, target)
    begun = Anderson()(empty_at(), (slowest(empty_at().x),), 1.0)
    second = Anderson()(begun, (slowest(begun.x),), 1.0)
    told = slowest(begun.x)
    plain = told.numerator / told.denominator
    torch.testing.assert_close(second.x, plain + 2 * (plain - begun.memory[0]), rtol=1e-4, atol=1e-4)


def test_memory_of_a_method_grows_with_the_frequencies():
    first = Anderson()(empty_at(), (sums_of(1),), 1.0)
    grown = first.at_radius(RADIUS + 2)
    assert grown.memory[0].shape == FourierSums.zeros(RADIUS + 2).numerator.shape
    back = grown.at_radius(RADIUS)
    inside = sphere(first.x.shape[1] // 2, RADIUS)
    assert torch.equal(back.memory[1][:, inside], first.memory[1][:, inside])
