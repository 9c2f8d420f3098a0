"""What is solved at one level of pixels: projections, where the axis is, and how ranks share them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.warp_cpu import pull_back, push_forward
from manyviews.nano.admm.tomography import TomographyProblem
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
    """

    data: Float32
    theta_degrees: Float64
    center: float
    tomography: TomographyProblem
    ranks: Transpose
    mass: bool

    @classmethod
    def of(
        cls, projections: Float32, theta_degrees: Float64, center: float, world: World, *,
        mass: bool = False, threads: int = 0,
    ) -> LevelProblem:  # fmt: skip
        """The part of this rank of all ``projections (view, z, x)``."""
        views, rows, columns = projections.shape
        ranks = Transpose(world, views, rows, columns)
        own = ranks.own_rows
        radon = Radon(theta_degrees, own.stop - own.start, columns, center, threads=threads)
        slabs = world if world.size > 1 else None
        space = Space(lambda: torch.empty(radon.domain, dtype=torch.float32), slabs)
        tomography = TomographyProblem.of(
            radon, support=disk(columns, center), space=space, slabs=slabs, depth=rows
        )
        data = np.ascontiguousarray(projections[ranks.own_views], dtype=np.float32)
        return cls(data, theta_degrees, center, tomography, ranks, mass)

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

    def project(self, volume: torch.Tensor) -> Float32:
        """``(own views, z, x)`` of own slices ``(own z, y, x)``, undeformed."""
        found: Float32 = self.ranks.to_views(self.tomography.radon.forward(volume)).numpy()
        return found

    def deform(self, images: Float32, flow: Float32 | None) -> Float32:
        """``D_f`` of images of own views; no flow: themselves."""
        if flow is None:
            return images
        warp = push_forward if self.mass else pull_back
        return np.asarray(warp(images, flow), dtype=np.float32)

    def deform_back(self, images: Float32, flow: Float32 | None) -> Float32:
        """The exact transpose of `deform`."""
        if flow is None:
            return images
        warp = pull_back if self.mass else push_forward
        return np.asarray(warp(images, flow), dtype=np.float32)

    def total(self, value: float) -> float:
        """The sum of a number over all ranks."""
        return self.space.total(value)


def disk(columns: int, center: float) -> torch.Tensor:
    """``(y, x)``: 1 where some view may show a voxel, 0 beyond the reach of the detector."""
    reach = max(center + 0.5, columns - 0.5 - center)
    place = torch.arange(columns, dtype=torch.float64) - columns // 2
    return (torch.hypot(place[:, None], place) <= reach).to(torch.float32)


def seen_pixels(flow: Float32) -> NDArray[np.bool_]:
    """``(n, z, x)``: where a flow reads within the image; beyond, nothing is known but the edge."""
    rows, columns = flow.shape[2:]
    x = np.arange(columns, dtype=np.float32) + flow[:, 0]
    z = np.arange(rows, dtype=np.float32)[:, None] + flow[:, 1]
    found: NDArray[np.bool_] = (x > -1) & (x < columns) & (z > -1) & (z < rows)
    return found
