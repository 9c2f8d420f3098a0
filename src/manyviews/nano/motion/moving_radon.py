"""Projections of a specimen that moves: the volume as it is in each interval of time, projected.

    A(u, c) = R_i W_i(c) u    for the views of interval i

``move``: ``(W u)(X) = u(X + w(X))``, grey levels stay. ``mass``: times ``det(1 + grad w)``, so what is in the
specimen stays. Intervals are independent; sums over them are in their order, so the number of threads changes
no bit. Ranks share the intervals and sum what comes of them; volumes, motions and images are whole on all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.warp_volume_cpu import pull_volume, push_volume, read_slopes
from manyviews.nano.motion.basis import MotionBasis
from manyviews.nano.motion.view_shifts import push_shifted, read_shifted
from manyviews.operators.radon import Radon
from manyviews.parallel.world import SingleWorld, World

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class MovingRadon:
    """What is the same for all volumes and motions.

    Attributes
    ----------
    radons, groups
        The projector of each interval, and which views it gives.
    times
        ``(interval, m)`` the functions of time, each the mean over the views.
    basis
        In space, at the voxels of the volume.
    order
        Of the interpolation: 1 linear, 3 cubic.
    mass
        What is in the specimen stays, in place of its grey levels.
    threads
        Of intervals at once; each needs a few volumes.
    shifts
        ``(view, 2)`` by which each view is read elsewhere, in pixels of the views; None: nowhere else.
    factors
        ``(view,)`` float32 by which views are multiplied, roots of their weights; None: 1.
    world
        Ranks that share the intervals; they make all calls together.
    """

    radons: tuple[Radon, ...]
    groups: tuple[Int64, ...]
    times: Float64
    basis: MotionBasis
    order: int = 3
    mass: bool = False
    threads: int = 1
    shifts: Float64 | None = None
    factors: Float32 | None = None
    world: World = field(default_factory=SingleWorld)

    @classmethod
    def of(
        cls, radon: Radon, groups: Sequence[Int64], times: Float64, basis: MotionBasis, *,
        order: int = 3, mass: bool = False, threads: int = 0, shifts: Float64 | None = None,
        world: World | None = None,
    ) -> MovingRadon:  # fmt: skip
        """Of all views; ``times (view, m)``, ``threads`` of 0: as many as torch uses."""
        _, rows, columns = radon.range
        radons = tuple(
            Radon(
                radon.theta_degrees[views], rows, columns, radon.center, size=radon.domain[1],
                epsilon=radon.epsilon, threads=1,
            )
            for views in groups
        )  # fmt: skip
        means = np.stack([times[views].mean(axis=0) for views in groups])
        workers = threads or torch.get_num_threads()
        ranks = world or SingleWorld()
        return cls(radons, tuple(groups), means, basis, order, mass, workers, shifts, world=ranks)

    @property
    def own(self) -> range:
        """The intervals of this rank."""
        return range(self.world.rank, len(self.groups), self.world.size)

    @property
    def domain(self) -> tuple[int, ...]:
        """``(z, y, x)``."""
        return self.radons[0].domain

    @property
    def range(self) -> tuple[int, ...]:
        """``(view, z, x)``."""
        return (sum(len(views) for views in self.groups), *self.radons[0].range[1:])

    @property
    def motion_shape(self) -> tuple[int, ...]:
        """``(m, 3, kz, ky, kx)``."""
        return (self.times.shape[1], 3, *self.basis.knots)

    def knots_at(self, knots: Float64, interval: int) -> Float64:
        """``(3, kz, ky, kx)`` of the displacement in an interval."""
        return np.asarray(np.tensordot(self.times[interval], knots, axes=1))

    def displacement(self, knots: Float64, interval: int) -> Float32:
        """``(3, z, y, x)`` in voxels along z, y, x."""
        return self.basis.expand(self.knots_at(knots, interval))

    def forward(self, volume: Float32, knots: Float64) -> Float32:
        """``(view, z, x)`` of ``(z, y, x)``."""

        def one(interval: int) -> Float32:
            moved = pull_volume(volume, self.displacement(knots, interval), self.order)
            if self.mass:
                moved *= determinant(self.map_slopes(knots, interval))
            return self.project(interval, moved)

        return self.gathered(self.each(one))

    def adjoint(self, projections: Float32, knots: Float64) -> Float32:
        """The exact transpose of `forward` for the same motion."""

        def one(interval: int) -> Float32:
            seen = self.back_project(interval, projections)
            if self.mass:
                seen *= determinant(self.map_slopes(knots, interval))
            return push_volume(seen, self.displacement(knots, interval), self.order)

        total = np.zeros(self.domain, np.float32)
        for part in self.each(one):
            total += part
        return self.total(total)

    def map_slopes(self, knots: Float64, interval: int) -> Float32:
        """``(3, 3, z, y, x)`` the derivatives of ``X + w``: part of it, axis."""
        at = self.knots_at(knots, interval)
        found = np.stack([self.basis.expand(at, axis) for axis in range(3)], axis=1)
        for axis in range(3):
            found[axis, axis] += 1.0
        return found

    def project(self, interval: int, volume: Float32) -> Float32:
        """Views of an interval, of the volume as it is then."""
        images: Float32 = self.radons[interval].forward(torch.from_numpy(volume)).numpy()
        if self.shifts is not None:
            images = read_shifted(images, self.shifts[self.groups[interval]])
        if self.factors is not None:
            images *= self.factors[self.groups[interval], None, None]
        return images

    def back_project(self, interval: int, projections: Float32) -> Float32:
        """The transpose of `project`, of those among all projections that belong to it."""
        own = np.ascontiguousarray(projections[self.groups[interval]])
        if self.factors is not None:
            own = own * self.factors[self.groups[interval], None, None]
        if self.shifts is not None:
            own = push_shifted(own, self.shifts[self.groups[interval]])
        volume: Float32 = self.radons[interval].adjoint(torch.from_numpy(own)).numpy()
        return volume

    def each(self, task: Callable[[int], T]) -> Iterator[T]:
        """What a task gives for the intervals of this rank, in their order."""
        numbers = self.own
        if self.threads == 1:
            yield from map(task, numbers)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, len(numbers), self.threads):  # so that few results wait
                yield from pool.map(task, numbers[start : start + self.threads])

    def gathered(self, parts: Iterator[Float32]) -> Float32:
        """``(view, z, x)`` from the views of the intervals of all ranks."""
        images = np.zeros(self.range, np.float32)
        for interval, part in zip(self.own, parts, strict=True):
            images[self.groups[interval]] = part
        return self.total(images)

    def total(self, values: NDArray[Any]) -> NDArray[Any]:
        """The sum over all ranks."""
        if self.world.size == 1:
            return values
        return self.world.sum(torch.from_numpy(np.ascontiguousarray(values))).numpy()


def cofactors(slopes: Float32) -> Float32:
    """``(3, 3, z, y, x)``: the derivatives of `determinant` by each of the nine."""
    found = np.empty_like(slopes)
    for a in range(3):
        for b in range(3):
            first, second = slopes[(a + 1) % 3], slopes[(a + 2) % 3]
            one, two = (b + 1) % 3, (b + 2) % 3
            found[a, b] = first[one] * second[two] - first[two] * second[one]
    return found


def determinant(slopes: Float32) -> Float32:
    """``(z, y, x)`` of matrices ``(3, 3, z, y, x)``."""
    a, b, c = slopes
    return np.asarray(
        a[0] * (b[1] * c[2] - b[2] * c[1])
        - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0]),
        np.float32,
    )


def _along(slopes: Float32, way: Float32) -> Float32:
    """``(z, y, x)``: the sum of products of three parts each."""
    return np.asarray(slopes[0] * way[0] + slopes[1] * way[1] + slopes[2] * way[2])


class Linearised:
    """The derivative of `MovingRadon.forward` by the volume and by the motion, at some of both.

    All slopes stay in memory: four volumes an interval, fourteen where mass is kept. It is for coarse levels.
    """

    def __init__(self, moving: MovingRadon, volume: Float32, knots: Float64) -> None:
        self.moving = moving
        found = list(moving.each(lambda interval: self._interval(moving, volume, knots, interval)))
        own = moving.own
        # by interval of this rank
        self.displacements = {i: part[0] for i, part in zip(own, found, strict=True)}
        self.slopes = {i: part[1] for i, part in zip(own, found, strict=True)}
        self._factors = {i: part[2] for i, part in zip(own, found, strict=True)}
        self._bends = {i: part[3] for i, part in zip(own, found, strict=True)}

    @staticmethod
    def _interval(
        moving: MovingRadon, volume: Float32, knots: Float64, interval: int
    ) -> tuple[Float32, Float32, Float32 | None, Float32 | None]:
        displacement = moving.displacement(knots, interval)
        slopes = read_slopes(volume, displacement, moving.order)
        if not moving.mass:
            return displacement, slopes, None, None
        of_map = moving.map_slopes(knots, interval)
        factor = determinant(of_map)
        bends = cofactors(of_map) * pull_volume(volume, displacement, moving.order)
        return displacement, slopes * factor, factor, np.asarray(bends, np.float32)

    def forward(self, volume: Float32 | None, knots: Float64) -> Float32:
        """``(view, z, x)`` for a change of the volume and of the motion; None: the volume stays."""
        moving = self.moving

        def one(interval: int) -> Float32:
            at = moving.knots_at(knots, interval)
            changed = _along(self.slopes[interval], moving.basis.expand(at))
            bends, factor = self._bends[interval], self._factors[interval]
            if bends is not None:
                for axis in range(3):
                    changed += _along(bends[:, axis], moving.basis.expand(at, axis))
            if volume is not None:
                moved = pull_volume(volume, self.displacements[interval], moving.order)
                changed += moved if factor is None else moved * factor
            return moving.project(interval, changed)

        return moving.gathered(moving.each(one))

    def adjoint(self, projections: Float32) -> tuple[Float32, Float64]:
        """The transpose of `forward`: of a volume, and of a motion."""
        moving = self.moving

        def one(interval: int) -> tuple[Float32, Float64]:
            seen = moving.back_project(interval, projections)
            at = moving.basis.contract(self.slopes[interval] * seen)
            bends, factor = self._bends[interval], self._factors[interval]
            if bends is not None:
                for axis in range(3):
                    at += moving.basis.contract(bends[:, axis] * seen, axis)
            if factor is not None:
                seen *= factor
            volume = push_volume(seen, self.displacements[interval], moving.order)
            return volume, moving.times[interval][:, None, None, None, None] * at

        volume = np.zeros(moving.domain, np.float32)
        knots = np.zeros(moving.motion_shape)
        for part, at in moving.each(one):
            volume += part
            knots += at
        return moving.total(volume), moving.total(knots)
