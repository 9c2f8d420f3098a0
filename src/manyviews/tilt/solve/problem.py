"""From images on disk to least-squares problems: the whole series, and one for each view subset.

Under several processes (`manyviews.parallel.layout.Place`) every volume is this process's slab, a subset is
the matter of one group of processes, and passes over all views are divided among the groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.convolution import Convolution
from manyviews.operators.normal_preconditioner import periodic_preconditioner
from manyviews.operators.roughness import add_roughness
from manyviews.operators.row_normal import RowNormal
from manyviews.operators.row_shares import RowShares
from manyviews.operators.slab_projector import Block, ReadViews, SlabProjector, image_energies
from manyviews.operators.tiling import Tiling
from manyviews.operators.tilt_projector import pick
from manyviews.operators.view_kernel import (
    PeriodicKernel,
    ViewKernel,
    make_kernel,
    make_periodic,
    padded_shape,
)
from manyviews.parallel.layout import Place, alone
from manyviews.parallel.world import shares
from manyviews.solvers.least_squares import LeastSquares, Map
from manyviews.solvers.space import Space
from manyviews.tilt.solve.storage import Storage
from manyviews.tilt.solve.subsets import Subset

Shape3 = tuple[int, int, int]


class PixelWeights(Protocol):
    """What single pixels of the views count, and what the others are taken for at first."""

    def weights(self, views: NDArray[np.int64]) -> torch.Tensor:
        """From 0 to 1, ``(k, y, x)`` on the device of the work."""

    def first_guess(self, views: NDArray[np.int64], images: torch.Tensor) -> torch.Tensor:
        """The images ``(k, y, x)`` with a guess of what the volume shows where pixels do not count."""

    def select(self, views: NDArray[np.int64]) -> PixelWeights:
        """Those of some of the views."""


# One application of the convolution costs as much as projecting the volume along this many views there and
# back, for each voxel of the padded grid over each voxel of the volume (measured: 7 ns against 0.5 ns).
VIEWS_PER_CONVOLUTION = 14
# Largest eigenvalue of minus the Laplacian.
_STEEPEST = 12.0


@dataclass(frozen=True)
class TiltProblem:
    """Views that a place in the multitree works on, ready for the solvers.

    Attributes
    ----------
    projector
        All views, through this process's slab.
    read
        Images ``(k, y, x)`` of given views, on the device of the work.
    weights
        ``(view,)``.
    damping
        Tikhonov term in units of one fully overlapping view.
    roughness
        Damping by frequency beside it: coefficients of minus the Laplacian, its square and so on, in units of
        one view.
    convolve
        Apply ``W' L W`` as a convolution; else by the projectors.
    pixels
        Weights of single pixels, which L has beside those of the views; None: 1. The convolution knows
        nothing of them: only exact gradients do.
    place, storage
        Where this process stands, and where volumes and kernels live.
    """

    projector: SlabProjector
    read: ReadViews
    weights: NDArray[np.float64]
    damping: float = 0.0
    roughness: tuple[float, ...] = ()
    convolve: bool = True
    pixels: PixelWeights | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    place: Place = field(default_factory=alone)
    storage: Storage = field(default_factory=Storage)

    @property
    def volume_shape(self) -> Shape3:
        """``(z, y, x)`` of the whole volume."""
        return self.projector.volume_shape

    @property
    def one_view(self) -> float:
        """Sum of one view's rod: the unit of `damping` and of weighting floors."""
        return float(self.volume_shape[0])

    @property
    def spectral_bound(self) -> float:
        """About the largest eigenvalue of ``W' L W``: every view's rod at zero frequency, cut off nowhere."""
        return float(self.weights.sum()) * (2 * self.volume_shape[0] - 1)

    @cached_property
    def space(self) -> Space:
        """Where this process's slabs come from."""
        ranks = self.place.within if self.place.within.size > 1 else None
        return Space(lambda: self.storage.allocate(self.projector.domain, self.device), ranks)

    @cached_property
    def own_views(self) -> NDArray[np.int64]:
        """The views that this group takes in a pass over all of them."""
        part = shares(len(self.weights), self.place.layout.groups)[self.place.group]
        return np.arange(part.start, part.stop)

    @cached_property
    def _own_projector(self) -> SlabProjector:
        everything = len(self.own_views) == len(self.weights)
        return self.projector if everything else self.projector.select(self.own_views)

    @property
    def _own_pixels(self) -> ReadViews | None:
        pixels = self.pixels
        return None if pixels is None else lambda views: pixels.weights(self.own_views[views])

    def _read_own(self, views: NDArray[np.int64]) -> torch.Tensor:
        return self.read(self.own_views[views])

    @cached_property
    def tiling(self) -> Tiling:
        """How the lateral plane is divided for the convolution."""
        rods = self.projector.rods
        beyond = 0 if rods is None else rods.reach
        return self.storage.tiling(self.projector.groups, self.volume_shape, self.place.within.size, beyond)

    def kernel(self, *, circulant: bool = False, periodic: bool = False) -> ViewKernel:
        """Convolution kernel of all views, this process's rows of it, without any damping."""
        groups, exchange, scratch = self.projector.groups, self.projector.exchange, self.storage.scratch
        at_once = scratch is None or self.tiling.count == 1  # the grid of a tile is that of the whole plane
        kernel = make_kernel(
            groups,
            self.weights,
            self.volume_shape,
            circulant=circulant,
            periodic=periodic and at_once,
            padded=self.tiling.grid,
            device=self.device,
            exchange=exchange,
            rods=self.projector.rods,
            make=np.empty if scratch is None else scratch.allocate,
        )
        if scratch is None:
            return kernel
        tapered = None if kernel.circulant is None else self.storage.keep(kernel.circulant)
        kernel = replace(kernel, spectrum=self.storage.keep(kernel.spectrum), circulant=tapered)
        if not periodic or at_once:
            return kernel
        whole = make_periodic(
            groups,
            self.weights,
            self.volume_shape,
            exchange=exchange,
            rods=self.projector.rods,
            make=scratch.allocate,
        )
        return replace(kernel, periodic=whole)

    def preconditioner(self, kernel: PeriodicKernel | None, roughness: Sequence[float], shift: float) -> Map:
        """``x -> nearly (W' L W + sum_j c_j (-Laplacian)^j + shift)^-1 x`` with the kernel of the views.

        ``roughness`` are c_1, c_2, ...; see `periodic_preconditioner`. `ValueError` without a kernel.
        """
        if kernel is None:
            raise ValueError("a preconditioner needs a periodic kernel")
        scratch = self.storage.scratch
        nearly = periodic_preconditioner(
            kernel,
            self.volume_shape,
            roughness,
            shift,
            exchange=self.projector.exchange,
            make=None if scratch is None else scratch.allocate,
        )
        return lambda x: nearly.forward(x, out=self.space.allocate())

    def least_squares(self, kernel: ViewKernel | None = None) -> LeastSquares:
        """The problem of all views; ``kernel`` if it is there already."""
        kernel = kernel or self.wanted_kernel()
        target, energy = self.back_projection()
        return self.quadratic_problem(kernel, target, energy)

    def wanted_kernel(self) -> ViewKernel | None:
        """The kernel, if it is worth making.

        That of views with a transfer takes longer than many passes of the projectors.
        """
        return self.kernel() if self.convolve or self.projector.rods is None else None

    def guess(self) -> tuple[torch.Tensor, float] | None:
        """``W' L q`` and ``sum_v l_v |q_v|^2`` of the first guess q of all images; None without pixels."""
        pixels = self.pixels
        if pixels is None:
            return None
        read = lambda views: pixels.first_guess(views, self.read(views))  # noqa: E731
        return replace(self, read=read, pixels=None).back_projection()

    def quadratic_problem(
        self, kernel: ViewKernel | None, target: torch.Tensor, energy: float
    ) -> LeastSquares:
        """The problem from ``W' L p`` and ``sum_v l_v |p_v|^2``, however they were found.

        Damping by frequency is a part of its normal operator and of its exact gradient and energy. Without a
        ``kernel``, which a convolution needs, its largest eigenvalue is bounded only.
        """
        if kernel is not None and any(self.roughness):
            kernel = self._damped(kernel)
        convolution = self._convolution(kernel) if self.convolve and kernel is not None else None
        return LeastSquares(
            normal=self.normal_map(convolution),
            target=target,
            data_energy=energy,
            lipschitz=1.1 * self.spectral_bound if kernel is None else largest(kernel),
            damping=self.damping * self.one_view,
            exact_gradient=self.damped_gradient if any(self.roughness) else self.exact_gradient,
            quadratic=None if convolution is None else convolution.quadratic,
            space=self.space,
        )

    @property
    def scaled_roughness(self) -> tuple[float, ...]:
        """Coefficients of powers of minus the Laplacian, as they add to the normal operator."""
        return tuple(self.one_view * factor for factor in self.roughness)

    def _damped(self, kernel: ViewKernel) -> ViewKernel:
        own = kernel.rows.own(self.place.within.rank)
        spectrum = self.storage.copy(kernel.spectrum)
        add_roughness(spectrum, self.scaled_roughness, kernel.padded, own)
        most = sum(factor * _STEEPEST**power for power, factor in enumerate(self.scaled_roughness, 1))
        return replace(kernel, spectrum=spectrum, largest=kernel.largest + most)

    def _roughen(self, x: torch.Tensor) -> torch.Tensor:
        """The damping by frequency of a volume; its spectrum is made anew, so that it takes no room else."""
        grid = self.tiling.grid
        rows = RowShares.of(grid, self.place.within.size)
        own = rows.own(self.place.within.rank)
        spectrum = self.storage.allocate((grid[0], len(own), grid[2] // 2 + 1), x.device).zero_()
        add_roughness(spectrum, self.scaled_roughness, grid, own)
        convolution = Convolution(
            self.volume_shape, grid, spectrum, tiling=self.tiling, rows=rows, exchange=self.projector.exchange
        )
        return convolution.forward(x, out=self.space.allocate())

    def damped_gradient(self, x: torch.Tensor) -> tuple[torch.Tensor, float]:
        """`exact_gradient` less the damping by frequency, and the energy with it."""
        gradient, energy = self.exact_gradient(x)
        rough = self._roughen(x)
        return gradient.sub_(rough), energy + self.space.inner(x, rough)

    def normal_map(self, convolution: Convolution | None) -> Map:
        """``x -> W' L W x``, quick or exact."""
        if convolution is None:
            if any(self.roughness):
                return lambda x: self.weighted_normal(x).add_(self._roughen(x))
            return self.weighted_normal
        return lambda x: convolution.forward(x, out=self.space.allocate())

    def _convolution(self, kernel: ViewKernel) -> Convolution:
        return Convolution.from_kernel(
            kernel, self.volume_shape, tiling=self.tiling, exchange=self.projector.exchange
        )

    def back_projection(
        self, weigh: Callable[[NDArray[np.int64], torch.Tensor], torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, float]:
        """``W' L p`` and ``sum_v l_v |p_v|^2`` in one pass over the images.

        ``weigh(views, images)`` gives the images to back-project instead of ``l_v p_v``.
        """
        energies = np.zeros(len(self.weights))  # views may be asked for again

        def weighted(views: NDArray[np.int64]) -> torch.Tensor:
            views = self.own_views[views]
            images = self.read(views)
            pixels = None if self.pixels is None else self.pixels.weights(views)
            energies[views] = image_energies(images, self.weights[views], pixels)
            if weigh is not None:
                return weigh(views, images)
            scale = torch.from_numpy(self.weights[views]).to(images).view(-1, 1, 1)
            return images * (scale if pixels is None else scale * pixels)

        if len(self.own_views):
            target = self._own_projector.back_project(weighted, self.space.allocate)
        else:
            target = self.space.zeros()
        return self._over_groups(target), self._over_world(float(energies.sum()))

    def exact_gradient(self, x: torch.Tensor) -> tuple[torch.Tensor, float]:
        """``W' L (p - W x)`` and ``sum_v l_v |p_v - W_v x|^2`` by the projectors."""
        return self._gradient(x, self._read_own, None)

    def normalised(self) -> tuple[Callable[[torch.Tensor], tuple[torch.Tensor, float]], torch.Tensor, float]:
        """What normalised SIRT needs: ``x -> (W' R (p - W x), |p - W x|^2)``, C, and ``|p|^2``."""
        projector = self._own_projector
        ones = self.space.allocate().fill_(1.0)
        rows = self.storage.allocate(projector.range, self.device)
        for views, images in projector.project_blocks(ones):
            rows[pick(views, self.device)] = _inverse(images, images.amax(dim=(1, 2), keepdim=True))
        blank = torch.ones((), device=self.device)

        def blanks(views: NDArray[np.int64], images: torch.Tensor) -> torch.Tensor:
            return blank.expand(len(views), *projector.image_shape)

        columns, energy = self.back_projection(blanks)
        largest_column = self.space.extremes(columns)[1]

        def gradient(x: torch.Tensor) -> tuple[torch.Tensor, float]:
            return self._gradient(x, self._read_own, lambda views: rows[pick(views, x.device)])

        return gradient, _inverse(columns, torch.tensor(largest_column)), energy

    def project_blocks(self, x: torch.Tensor) -> Iterator[Block]:
        """Views and their projections that fall to this process; see `SlabProjector.project_blocks`."""
        if len(self.own_views):
            for views, images in self._own_projector.project_blocks(x):
                yield self.own_views[views], images

    @cached_property
    def _by_rows(self) -> RowNormal | None:
        """What ranks that share volumes in memory project upright views with, where no images are wanted."""
        if not len(self.own_views) or self.storage.scratch is not None:
            return None
        return RowNormal.of(self._own_projector, self.weights[self.own_views])

    def weighted_normal(self, x: torch.Tensor) -> torch.Tensor:
        """``x -> W' L W x`` by the projectors, a block of views at a time."""
        if self._by_rows is not None:
            return self._over_groups(self._by_rows.apply(x, self.space.allocate()))
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        read = lambda views: zero.expand(len(views), *self.projector.image_shape)  # noqa: E731
        return self._gradient(x, read, None)[0].neg_()

    def _gradient(
        self, x: torch.Tensor, read: ReadViews, row_scale: ReadViews | None
    ) -> tuple[torch.Tensor, float]:
        if not len(self.own_views):
            return self._over_groups(self.space.zeros()), self._over_groups_number(0.0)
        weights = self.weights[self.own_views]
        gradient, energy, _ = self._own_projector.residual_gradient(
            x, read, weights, row_scale, self.space.allocate, self._own_pixels
        )
        return self._over_groups(gradient), self._over_groups_number(energy)

    def _over_groups(self, volume: torch.Tensor) -> torch.Tensor:
        return self.place.across.sum(volume)

    def _over_groups_number(self, value: float) -> float:
        return float(self.place.across.sum(torch.tensor([value], dtype=torch.float64))[0])

    def _over_world(self, value: float) -> float:
        return self._over_groups_number(self.space.total(value))

    def _pixels_of(self, views: NDArray[np.int64]) -> PixelWeights | None:
        return None if self.pixels is None else self.pixels.select(views)

    def select(self, views: NDArray[np.int64]) -> TiltProblem:
        """The problem of some of the views, for all ranks."""
        return replace(
            self,
            projector=self.projector.select(views),
            read=lambda indices: self.read(views[indices]),
            weights=self.weights[views],
            pixels=self._pixels_of(views),
        )

    def part(self, subset: Subset, *, weighted: bool) -> TiltProblem:
        """The problem of one subset, for this process's group alone.

        ``weighted``: as a share of the whole problem, so that all shares add up to it. Borrowed views count
        1 / multiplicity, and the damping is shared out in proportion to the views.

        A subset of few views is projected directly, which is then quicker than the convolution, unless its
        slices have to be rotated first.
        """
        views = subset.views
        weights = self.weights[views] * (subset.weights if weighted else 1.0)
        share = subset.weights.sum() / len(self.weights) if weighted else 1.0
        projector = self.projector.select(views)
        return replace(
            self,
            projector=projector,
            read=lambda indices: self.read(views[indices]),
            weights=weights,
            pixels=self._pixels_of(views),
            damping=self.damping * float(share),
            roughness=tuple(float(share) * factor for factor in self.roughness),
            convolve=self.convolve and not projected_sooner(projector),
            place=self.place.group_alone(),
        )

    def union(self, subsets: list[Subset]) -> TiltProblem:
        """All views of some subsets together, each with the sum of its shares, for this group alone."""
        weights = np.zeros(len(self.weights))
        for subset in subsets:
            weights[subset.views] += subset.weights
        views = np.flatnonzero(weights)
        return replace(
            self,
            projector=self.projector.select(views),
            read=lambda indices: self.read(views[indices]),
            weights=self.weights[views] * weights[views],
            pixels=self._pixels_of(views),
            damping=0.0,
            roughness=(),
            place=self.place.group_alone(),
        )


def _inverse(x: torch.Tensor, greatest: torch.Tensor) -> torch.Tensor:
    """1 / x where x is more than a trifle of the greatest, else 0; in place."""
    return x.masked_fill_(x <= 1e-3 * greatest.to(x), torch.inf).reciprocal_()


def projected_sooner(projector: SlabProjector) -> bool:
    """Whether its views are so few that projecting there and back is quicker than the convolution."""
    beyond = 0 if projector.rods is None else projector.rods.reach
    padded = padded_shape(projector.groups, projector.volume_shape, beyond)
    upright = not any(group.rotated for group in projector.groups)
    few = len(projector.geometry) < VIEWS_PER_CONVOLUTION * prod(padded) / prod(projector.volume_shape)
    return few and upright


def largest(kernel: ViewKernel) -> float:
    """A bound on the largest eigenvalue: the greatest value of the spectrum, and a little for safety."""
    return 1.02 * kernel.largest
