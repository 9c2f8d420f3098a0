"""Maps on other numbers of voxels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manyviews.particles.images.fourier_resample import regrid_curvature, regrid_gradient, regrid_volume


def random_map(box: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(box, box, box, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(box=st.integers(3, 9), finer=st.integers(0, 6))
def test_to_finer_voxels_and_back_changes_nothing_but_the_last_frequency(box: int, finer: int):
    volume = random_map(box)
    if box % 2 == 0:  # leave the frequency without sign out
        volume = regrid_volume(regrid_volume(volume, box - 1), box)
    there = regrid_volume(volume, box + finer)
    torch.testing.assert_close(regrid_volume(there, box), volume)
    torch.testing.assert_close(there.sum(), volume.sum())


def test_a_finer_map_goes_through_the_voxels_of_the_coarser_one():
    volume = random_map(7)
    torch.testing.assert_close(regrid_volume(volume, 21)[1::3, 1::3, 1::3] * 27, volume)


@pytest.mark.parametrize(("old", "new"), [(5, 9), (7, 8)])
def test_slopes_and_curvatures_follow_the_map(old: int, new: int):
    """``f(U V)`` with a quadratic f of band-limited maps."""
    target = random_map(old, 1)

    def coarse(volume: torch.Tensor) -> torch.Tensor:
        return 0.5 * ((volume - target) ** 2).sum()

    volume = random_map(old, 2).requires_grad_()
    coarse(volume).backward()
    assert volume.grad is not None
    fine = regrid_volume(volume.detach(), new).requires_grad_()
    coarse(regrid_volume(fine, old)).backward()
    assert fine.grad is not None
    torch.testing.assert_close(regrid_gradient(volume.grad, new), fine.grad)
    torch.testing.assert_close(regrid_gradient(fine.grad, old), volume.grad)
    direction = regrid_volume(random_map(old, 3), new)
    direction /= direction.norm()
    curvature = float(regrid_volume(direction, old).square().sum())
    assert regrid_curvature(1.0, old, new) == pytest.approx(curvature)
