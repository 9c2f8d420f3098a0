"""Ab initio reconstruction as the paper does it: SAGD over images with unknown poses, from a random start.

Punjani, Brubaker & Fleet, "Building proteins in a day", IEEE TPAMI 39 (2017) 706: Algorithm 1
(`manyviews.solvers.stochastic_average_gradient`), frequencies that rise with the iterations (section 4.2),
the sum over poses by quadrature (`marginal`) and importance sampling (`importance`), priors (section 4.6).

What is not in the paper: while frequencies are low the map has fewer voxels, just enough for them, with the
same field of view. When the radius rises, map, gradients and Lipschitz constant are carried over (`regrid`);
positivity is asked for anew. It makes early iterations cheap, and keeps the memory of the gradients, one map
for each mini-batch, small until the end: at a radius of 13 it is 0.19 MB a mini-batch, at 39 (128 pixels of
2.8 angstrom at 9 angstrom) 4 MB, which is 1 GB for 50,000 images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch

from manyviews.geometry.quadrature import pose_quadrature
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.fourier_resample import (
    regrid_curvature,
    regrid_gradient,
    regrid_volume,
    working_box,
)
from manyviews.particles.images.random_start import power_scale, random_spheres
from manyviews.particles.sagd.lattice import PoseLattice
from manyviews.particles.sagd.objective import PoseObjective, Sampling, split_batches
from manyviews.particles.sagd.priors import PriorName, make_prior
from manyviews.solvers.stochastic_average_gradient import (
    SagState,
    StochasticAverageGradient,
    paper_step,
)


@dataclass(frozen=True)
class SagdOptions:
    """Settings of the paper where it gives them.

    Attributes
    ----------
    seed, trial
        Of the start, the mini-batches, their order and the draws: every trial of a seed has its own.
    batch_size
        Images in a mini-batch, at most.
    first_frequency, frequency_step, last_frequency
        Largest frequency used, in 1/angstrom: at the start, how much it rises at a time, and in the end.
    raise_every
        Iterations at one frequency, and between halvings of the step.
    shift_sigma, least_shift_weight
        Standard deviation of the particles' places in x and y, angstrom; shifts with less than this part of
        the weight of no shift are left out.
    undersampling
        Factor on the spacing of directions and in-plane angles.
    prior, prior_strength
        What is believed of the map, and how strongly: see `make_prior`.
    step_length
        Factor on the paper's ``epsilon``.
    search_every
        Iterations between tests of the Lipschitz constant.
    sampling
        How to sum over poses.
    """

    seed: int = 0
    trial: int = 0
    batch_size: int = 200
    first_frequency: float = 0.02
    frequency_step: float = 0.005
    last_frequency: float = 0.11
    raise_every: int = 150
    shift_sigma: float = 5.0
    least_shift_weight: float = 1e-4
    undersampling: float = 1.0
    prior: PriorName = PriorName.EXPONENTIAL
    prior_strength: float = 1.0
    step_length: float = 1.0
    search_every: int = 20
    sampling: Sampling = field(default_factory=Sampling)

    def quick(self) -> SagdOptions:
        """The same on a schedule for small data sets, of a few thousand images: minutes instead of hours.

        The paper's 150 iterations between rises are made for 250 mini-batches. Here frequencies rise every
        40, directions and angles are 1.5 times as far apart, and old posteriors are trusted six times sooner.
        """
        trust = replace(self.sampling.annealing, period=8)
        sampling = replace(self.sampling, annealing=trust)
        return replace(self, raise_every=40, undersampling=1.5, sampling=sampling)


class Sagd:
    """The algorithm as a solver: ``state = sagd.init()``, then ``state = sagd.step(state)``.

    A step only depends on the state, the options and the images, so that a run taken up again from a
    checkpoint goes on as it would have. The images are at the largest radius that will be wanted, or more.
    """

    def __init__(self, images: FourierImages, options: SagdOptions | None = None) -> None:
        self.images = images
        self.options = options = options or SagdOptions()
        self.batches = split_batches(len(images), options.batch_size, options.seed, options.trial)
        self._lattices: dict[int, PoseLattice] = {}
        self._start: torch.Tensor | None = None
        self._stage: tuple[int, StochasticAverageGradient] | None = None

    def init(self) -> SagState:
        """A random map and nothing known."""
        return self._solver(self.radius(0)).init()

    def step(self, state: SagState) -> SagState:
        """One mini-batch at the frequency that its iteration is due."""
        radius = self.radius(state.iteration)
        state = change_box(state, working_box(radius, self.images.box))
        if state.iteration and radius != self.radius(state.iteration - 1):
            state = replace(state, searched=False)  # higher frequencies are steeper
        return self._solver(radius).step(state)

    def frequency(self, iteration: int) -> float:
        """``omega`` in 1/angstrom of an iteration, section 4.2."""
        options = self.options
        rises = iteration // options.raise_every
        return min(options.last_frequency, options.first_frequency + options.frequency_step * rises)

    def radius(self, iteration: int) -> int:
        """The same in whole Fourier pixels, as far as the images go."""
        field = self.images.box * self.images.pixel_size
        return max(1, min(math.floor(self.frequency(iteration) * field + 1e-9), self.images.radius))

    def final_volume(self, state: SagState) -> torch.Tensor:
        """The map of a state on as many voxels as the images have pixels."""
        return regrid_volume(state.iterate, self.images.box)

    def lattice(self, radius: int) -> PoseLattice:
        """Poses to sum over at a radius."""
        if radius not in self._lattices:
            options = self.options
            quadrature = pose_quadrature(
                radius,
                options.shift_sigma,
                undersampling=options.undersampling,
                least_weight=options.least_shift_weight,
            )
            self._lattices[radius] = PoseLattice.of(quadrature, self.images.pixel_size)
        return self._lattices[radius]

    def start(self) -> torch.Tensor:
        """The random map, on the voxels of the first radius."""
        if self._start is None:
            radius, options = self.radius(0), self.options
            spheres = random_spheres(working_box(radius, self.images.box), options.seed, options.trial)
            scale = power_scale(spheres, self.images.crop(radius), options.seed, options.trial)
            self._start = spheres * scale
        return self._start

    def _solver(self, radius: int) -> StochasticAverageGradient:
        """The solver of one radius."""
        if self._stage is None or self._stage[0] != radius:
            self._stage = radius, self._new_solver(radius)
        return self._stage[1]

    def _new_solver(self, radius: int) -> StochasticAverageGradient:
        options, start = self.options, self.start()
        box = working_box(radius, self.images.box)
        mass = float(start.sum(dtype=torch.float64))
        return StochasticAverageGradient(
            PoseObjective(
                self.images.crop(radius),
                self.batches,
                self.lattice,
                replace(options.sampling, seed=options.seed, trial=options.trial),
            ),
            make_prior(options.prior, options.prior_strength, mass / box**3),
            regrid_volume(start, box),
            seed=options.seed,
            trial=options.trial,
            step_length=lambda iteration: options.step_length * paper_step(iteration, options.raise_every),
            search_every=options.search_every,
        )


def change_box(state: SagState, box: int) -> SagState:
    """A state on other voxels: the same map, slopes and Lipschitz constant, in their terms."""
    old = state.iterate.shape[0]
    if old == box:
        return state
    return replace(
        state,
        iterate=regrid_volume(state.iterate, box).clamp_(min=0.0),
        total=regrid_gradient(state.total, box),
        gradients=tuple(regrid_gradient(g, box) if g.numel() else g for g in state.gradients),
        lipschitz=regrid_curvature(state.lipschitz, old, box),
    )


def gradient_bytes(images: int, radius: int, box: int, batch_size: int = 200) -> int:
    """Memory of the gradients that are kept, in the end: one float32 map for each mini-batch."""
    return 4 * -(-images // batch_size) * working_box(radius, box) ** 3
