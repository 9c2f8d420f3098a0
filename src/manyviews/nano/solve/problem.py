"""What is solved at one level of pixels: projections, where the axis is, and how ranks share them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.view_steps_cpu import back_views, deformed_squares
from manyviews.kernels.warp_cpu import pull_back, push_forward
from manyviews.nano.admm.tomography import TomographyProblem
from manyviews.nano.room import Allocate, Room
from manyviews.nano.solve.pitched import PitchedViews
from manyviews.nano.solve.transpose import Transpose
from manyviews.operators.radon import Radon
from manyviews.parallel.world import World
from manyviews.runs.placement import Placement
from manyviews.solvers.space import Space

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class LevelProblem:
    """Projections of one level.

    Attributes
    ----------
    data
        float32 ``(own views, z, x)`` of this rank.
    theta_degrees, center
        Of all views; column of the rotation axis.
    tomography
        The slices of this rank.
    ranks
        How the rest of the ranks share it.
    mass
        Motion moves mass instead of reading values.
    view_sizes
        ``(view,)`` sums of squares of all views' data.
    allocate
        Room for images of a shape, with any content: in memory, or in files.
    """

    data: Float32
    theta_degrees: Float64
    center: float
    tomography: TomographyProblem
    ranks: Transpose
    mass: bool
    view_sizes: Float64
    allocate: Allocate

    @classmethod
    def of(
        cls, projections: Float32, theta_degrees: Float64, center: float, world: World, *,
        mass: bool = False, threads: int = 0, room: Room | None = None, pitch_degrees: Float64 | None = None,
    ) -> LevelProblem:  # fmt: skip
        """The part of this rank of all ``projections (view, z, x)``; ``room`` None: in memory.

        ``pitch_degrees (view,)`` tilt views towards the beam, where there are any. The Hessian of steps is
        that of views without: it is near enough, and the length of a step is looked for.
        """
        room = room or Room()
        views, rows, columns = projections.shape
        ranks = Transpose(world, views, rows, columns)
        own = ranks.own_rows
        radon = Radon(theta_degrees, own.stop - own.start, columns, center, threads=threads)
        slabs = world if world.size > 1 else None
        space = Space(
            lambda: torch.from_numpy(room.allocate(radon.domain)), slabs,
            room.allocate if room.in_files else None,
        )  # fmt: skip
        tomography = TomographyProblem.of(
            radon, support=disk(columns, center), space=space, slabs=slabs, shares=ranks.slabs
        )
        if pitch_degrees is not None:
            tomography = replace(tomography, pitched=PitchedViews(radon, pitch_degrees, ranks))
        data = np.ascontiguousarray(projections[ranks.own_views], dtype=np.float32)
        sizes = ranks.gather_views(torch.from_numpy(squares(data))).numpy()
        return cls(data, theta_degrees, center, tomography, ranks, mass, sizes, room.allocate)

    @property
    def size(self) -> float:
        """The square of the norm of all data."""
        return float(self.view_sizes.sum())

    @property
    def space(self) -> Space:
        """Where the volumes live."""
        assert self.tomography.space is not None
        return self.tomography.space

    @property
    def placement(self) -> Placement:
        """Which part of a state this rank holds."""
        world = self.ranks.world
        return Placement(world, self.ranks.rows, self.ranks.own_rows, (), 0, f"{world.size}x1")

    def project(self, volume: torch.Tensor, out: Float32 | None = None) -> Float32:
        """``(own views, z, x)`` of own slices ``(own z, y, x)``, undeformed.

        ``out`` may be written and be the result where one rank has all.
        """
        projector = self.tomography.projector
        room = out if out is not None and out.shape == projector.range else self.allocate(projector.range)
        found: Float32 = self.ranks.to_views(projector.forward(volume, out=torch.from_numpy(room))).numpy()
        return found

    def raised(self, volume: torch.Tensor) -> Float32 | None:
        """What projections ``(own views, z, x)`` would be more without pitch; None: there is none."""
        if self.tomography.pitched is None:
            return None
        radon = self.tomography.radon
        room = torch.from_numpy(self.allocate(radon.range))
        level: Float32 = self.ranks.to_views(radon.forward(volume, out=room)).numpy()
        level -= self.project(volume)
        return level

    def deform(self, images: Float32, flow: Float32 | None) -> Float32:
        """``D_f`` of images of own views; no flow: themselves."""
        if flow is None:
            return images
        warp = push_forward if self.mass else pull_back
        return np.asarray(warp(images, flow), dtype=np.float32)

    def deform_back(self, images: Float32, weights: Float64, flow: Float32 | None) -> Float32:
        """The exact transpose of `deform`, in place of images that count as ``weights (own views,)`` say."""
        if flow is None:
            return np.multiply(images, weights.astype(np.float32)[:, None, None], out=images)
        back_views(images, weights, flow, images, push=self.mass)
        return images

    def deformed_squares(self, images: Float32, flow: Float32 | None) -> Float64:
        """``(own views,)`` of `deform`, where it is seen: sums of squares."""
        return squares(images) if flow is None else deformed_squares(images, flow, push=self.mass)

    def total(self, value: float) -> float:
        """The sum of a number over all ranks."""
        return self.space.total(value)


def squares(images: Float32, others: Float32 | None = None) -> Float64:
    """Sums of squares ``(n,)`` in float64, of images ``(n, z, x)`` or of what others differ by."""
    apart = images if others is None else (a - b for a, b in zip(images, others, strict=True))
    return np.array([np.sum(np.square(one, dtype=np.float64)) for one in apart])


def disk(columns: int, center: float) -> torch.Tensor:
    """``(y, x)``: 1 where some view may show a voxel, 0 beyond the reach of the detector."""
    reach = max(center + 0.5, columns - 0.5 - center)
    place = torch.arange(columns, dtype=torch.float64) - columns // 2
    return (torch.hypot(place[:, None], place) <= reach).to(torch.float32)
