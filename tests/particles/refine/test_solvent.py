"""The solvent made flat: only where both halves tell what is solvent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from em_example import example

from manyviews.operators.fourier_sums import FourierSums
from manyviews.particles.em.maximisation import RealSpaceConstraint
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.refine.solvent import with_flat_solvent
from manyviews.particles.refine.solver import HalvesRefinement
from manyviews.particles.refine.start import low_passed

BOX, PIXEL_SIZE = 32, 8.0


class TwoMaps(FourierSums):
    """Sums whose halves are two given maps."""

    maps: tuple[torch.Tensor, torch.Tensor]

    def half_volume(self, half: int, box: int) -> torch.Tensor:
        assert box == BOX
        return self.maps[half]


def sums_of(*maps):
    sums = TwoMaps(*vars(FourierSums.zeros(4)).values())
    object.__setattr__(sums, "maps", tuple(torch.from_numpy(one.astype(np.float32)) for one in maps))
    return sums


def ball_and_noise(noise):
    axis = np.arange(BOX) - BOX // 2
    squared = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    ball = np.exp(-squared / (2 * 3.0**2))
    rng = np.random.default_rng(0)
    return ball, [ball + noise * rng.standard_normal(ball.shape) for _ in range(2)]


def test_the_particle_stays_and_most_of_the_noise_goes():
    ball, halves = ball_and_noise(0.05)
    sphere = RealSpaceConstraint.sphere(BOX, 0.9, positive=False)
    shape, left = with_flat_solvent(sums_of(*halves), sphere, PIXEL_SIZE)
    assert left < 0.5
    assert np.isclose(left, float(shape.mask.square().sum() / sphere.mask.square().sum()), rtol=1e-5)
    assert bool((shape.mask <= sphere.mask).all())
    kept = float((shape.applied(torch.from_numpy(ball)) ** 2).sum()) / float((ball**2).sum())
    assert kept > 0.99


def test_the_sphere_stays_where_the_halves_do_not_agree():
    rng = np.random.default_rng(1)
    sphere = RealSpaceConstraint.sphere(BOX, 0.9, positive=False)
    noise = rng.standard_normal((2, BOX, BOX, BOX))
    shape, left = with_flat_solvent(sums_of(*noise), sphere, PIXEL_SIZE)
    assert shape is sphere
    assert left == 1.0


def test_a_pass_tells_what_is_left_and_masks_only_if_asked():
    made = example(60, noise=0.5)
    plan = EmPlan(60, starts=0, refinements=2, batch=60, filled=1.0, most_radius=8)
    images = replace(made.images, pixel_size=PIXEL_SIZE)
    problem = EmProblem(images, np.arange(60), plan, 0.6, 0, positive=False, independent=True)
    start = low_passed(made.volume, 6)
    flat, free = (
        HalvesRefinement(problem, (start, start * 1.001), 6, flat_solvent=asked) for asked in (True, False)
    )
    first = free.init()
    assert free.step(first).solvent == 1.0
    state = flat.step(first)
    assert state.solvent < 1.0
    assert state.measures()["solvent"] == state.solvent
    zero = [int((half == 0).sum()) for half in state.halves]
    assert zero[0] == zero[1] > int((free.step(first).halves[0] == 0).sum())
