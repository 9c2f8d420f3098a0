"""The M step: a volume from images at weighted poses.

All images are added, turned and centred, to `manyviews.operators.fourier_sums`; the volume is the damped
quotient of the sums, then masked and, if asked, cut at zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.kernels.select import native, pose_sums
from manyviews.metrics.fsc import fsc
from manyviews.operators.fourier_slice import grid_half
from manyviews.operators.fourier_sums import HALVES, PADDING, FourierSums
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.images.fourier_images import FourierImages

Float64 = NDArray[np.float64]

_MASK_EDGE = 0.05  # of the box, over which the mask falls


def add_up(
    images: FourierImages,
    samples: PoseSamples,
    lane: NDArray[np.int64],
    half: int,
    radius: int,
    symmetry: NDArray[np.float64],
    device: str = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of all samples of one half, in float64 so that their order over processes does not show.

    ``lane (N,)`` is the lane of each image; the halves 0 and 1 are even and odd lanes. As many lanes are
    added up at once as there are threads: memory is 24 bytes a grid point, and 12 for each of them. The
    radius is in Fourier pixels. Every image is added once for each rotation of the volume in ``symmetry
    (n, 3, 3)``.

    Returns
    -------
    Numerator complex128 and denominator, ``(2h + 1, 2h + 1, h + 2)``.
    """
    size = grid_half(radius, PADDING)
    shape = (2 * size + 1, 2 * size + 1, size + 2)
    numerator = torch.zeros(shape, dtype=torch.complex128, device=device)
    denominator = torch.zeros(shape, dtype=torch.float64, device=device)
    seen = images.crop(radius)
    precision = images.group_precision()
    precision[:, 0] *= 2  # zero frequency is halved in the likelihood because it is real; here it counts once
    own = samples.select(lane[samples.image] % HALVES == half)
    own = own.select(np.argsort(lane[own.image], kind="stable"))
    present, begins = np.unique(lane[own.image], return_index=True)
    bounds = np.append(begins, len(own))
    at_once = torch.get_num_threads() if numerator.device.type == "cpu" else 1
    for first in range(0, len(present), at_once):
        starts = bounds[first : first + at_once + 1]
        some = own.select(slice(starts[0], starts[-1]))
        lanes = len(starts) - 1
        numerators = torch.zeros((lanes, *shape), dtype=torch.complex64, device=device)
        denominators = torch.zeros((lanes, *shape), device=device)
        for rotation in symmetry:
            pose_sums(numerators.device).add_images(
                native(numerators), native(denominators), PADDING, seen.points, images.box, images.values,
                images.ctf, precision, images.group, some.image,
                (some.rotations @ rotation).astype(np.float32), some.shifts, some.weights, starts - starts[0],
            )  # fmt: skip
        # float32 numbers of like size add up without rounding in float64
        for place in range(lanes):
            numerator += numerators[place]
            denominator += denominators[place]
    return numerator.cpu(), denominator.cpu()


def as_fourier_sums(
    halves: Iterable[tuple[torch.Tensor, torch.Tensor]], radius: int, scale: float
) -> FourierSums:
    """`FourierSums` of what `add_up` gave for each half (added over all processes), times ``scale``."""
    whole = FourierSums.zeros(radius)
    for half, (numerator, denominator) in enumerate(halves):
        whole.numerator[half] = numerator * scale
        whole.denominator[half] = denominator * scale
    return whole.mirrored()


@dataclass(frozen=True)
class RealSpaceConstraint:
    """What is known of the particle in real space, on ``box`` voxels a side.

    Maps of fewer voxels than the images have pixels show the same field of view, at low frequencies only;
    their voxels are larger, and so are their sums, so that transforms are equal. ``mask (box, box, box)`` is
    between 0 and 1; ``positive``: the density is nowhere below the solvent's.
    """

    box: int
    mask: torch.Tensor
    positive: bool

    @classmethod
    def sphere(cls, box: int, filled: float, positive: bool) -> RealSpaceConstraint:
        """A particle in a soft sphere whose diameter is ``filled`` times the side of the box."""
        edge = max(1.0, _MASK_EDGE * box)
        return cls(box, torch.from_numpy(soft_sphere(box, filled * box / 2 + edge, edge)), positive)

    def applied(self, volume: torch.Tensor) -> torch.Tensor:
        """The volume as it may be."""
        masked = volume * self.mask
        return masked.clamp_(min=0.0) if self.positive else masked


def half_correlation(sums: FourierSums, shape: RealSpaceConstraint) -> Float64:
    """``(radius + 1,)`` Fourier shell correlation of the two halves' masked volumes."""
    first, second = (sums.half_volume(half, shape.box) * shape.mask for half in range(HALVES))
    return fsc(first.numpy(), second.numpy(), 1.0).correlation[: sums.radius + 1]


def whole_volume(sums: FourierSums, correlation: Float64, shape: RealSpaceConstraint) -> torch.Tensor:
    """The volume of both halves, as the particle may be; all damping is done at points of the grid.

    With only part of it there and the rest as a filter, which makes sharper maps where poses are known, maps
    came out slightly worse once density below zero was cut off (`docs/fourier-slices.md`).
    """
    return shape.applied(sums.volume(correlation, shape.box))


def half_volumes(
    sums: FourierSums, correlation: Float64, shape: RealSpaceConstraint, joined_radius: int
) -> tuple[torch.Tensor, ...]:
    """Each half's own volume, linked by low frequencies, as the particle may be."""
    return tuple(shape.applied(one) for one in sums.linked_halves(correlation, shape.box, joined_radius))
