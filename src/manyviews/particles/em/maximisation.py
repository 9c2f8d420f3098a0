"""The M step: a volume from images at weighted poses.

All images are added, turned and centred, to numerators ``sum w C Y / s`` and denominators ``sum w C^2 / s``
on half grids; the volume is their quotient, damped by the noise-to-signal ratio of each shell (the posterior
mean under a Gaussian prior whose variance depends on the frequency: Scheres, J. Struct. Biol. 180 (2012)
519), then masked and, if asked, cut at zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.kernels.select import native, pose_sums
from manyviews.metrics.fsc import fsc
from manyviews.operators.fourier_slice import grid_half, grid_to_volume, mirror_plane, squared_frequency
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.images.fourier_images import FourierImages

Float64 = NDArray[np.float64]

LANES = 8
HALVES = 2
PADDING = 2
_MASK_EDGE = 0.05  # of the box, over which the mask falls


@dataclass(frozen=True)
class FourierSums:
    """What the images add up to, for the two halves of the particles.

    Attributes
    ----------
    numerator
        ``(2, 2h + 1, 2h + 1, h + 2)`` complex64.
    denominator
        The same shape, float32.
    radius
        Fourier pixels.
    """

    numerator: torch.Tensor
    denominator: torch.Tensor
    radius: int

    @classmethod
    def zeros(cls, radius: int) -> FourierSums:
        """Nothing yet."""
        half = grid_half(radius, PADDING)
        shape = (HALVES, 2 * half + 1, 2 * half + 1, half + 2)
        return cls(torch.zeros(shape, dtype=torch.complex64), torch.zeros(shape), radius)

    def at_radius(self, radius: int) -> FourierSums:
        """The same sums with zeros at the frequencies that are new, or without those that are beyond."""
        if radius == self.radius:
            return self
        other = FourierSums.zeros(radius)
        old, new = grid_half(self.radius, PADDING), grid_half(radius, PADDING)
        reach = min(old, new)
        to = (slice(None), slice(new - reach, new + reach + 1), slice(new - reach, new + reach + 1))
        of = (slice(None), slice(old - reach, old + reach + 1), slice(old - reach, old + reach + 1))
        columns = slice(0, reach + 2)
        other.numerator[(*to, columns)] = self.numerator[(*of, columns)]
        other.denominator[(*to, columns)] = self.denominator[(*of, columns)]
        return other

    def mixed(self, new: FourierSums, share: float) -> FourierSums:
        """``(1 - share)`` of these and ``share`` of the new ones."""
        old = self.at_radius(new.radius)
        return FourierSums(
            torch.lerp(old.numerator, new.numerator, share),
            torch.lerp(old.denominator, new.denominator, share),
            new.radius,
        )


def add_up(
    images: FourierImages,
    samples: PoseSamples,
    lane: NDArray[np.int64],
    radius: int,
    symmetry: NDArray[np.float64],
    device: str = "cpu",
) -> tuple[NDArray[np.complex128], Float64]:
    """FourierSums of all samples, in float64 so that their order over processes does not show.

    Parameters
    ----------
    images, samples
        The images, and poses of them.
    lane
        ``(N,)`` lane of each image; the halves are even and odd lanes. Memory is 12 bytes a grid point for
        each lane that occurs.
    radius
        Fourier pixels.
    symmetry
        ``(n, 3, 3)``: every image is added once for each of these rotations of the volume.
    device
        Where the work is done.

    Returns
    -------
    Numerator and denominator, ``(2, 2h + 1, 2h + 1, h + 2)``.
    """
    half = grid_half(radius, PADDING)
    present, place = np.unique(lane, return_inverse=True)
    shape = (len(present), 2 * half + 1, 2 * half + 1, half + 2)
    numerators = torch.zeros(shape, dtype=torch.complex64, device=device)
    denominators = torch.zeros(shape, device=device)
    ordered = samples.select(np.argsort(place[samples.image], kind="stable"))
    starts = np.searchsorted(place[ordered.image], np.arange(len(present) + 1))
    seen = images.crop(radius)
    precision = images.group_precision()
    precision[:, 0] *= 2  # zero frequency is halved in the likelihood because it is real; here it counts once
    for rotation in symmetry if len(samples) else ():
        pose_sums(numerators.device).add_images(
            native(numerators), native(denominators), PADDING, seen.points, images.box, images.values,
            images.ctf, precision, images.group, ordered.image,
            (ordered.rotations @ rotation).astype(np.float32), ordered.shifts, ordered.weights, starts,
        )  # fmt: skip
    members = [
        torch.from_numpy(np.flatnonzero(present % HALVES == half)).to(device) for half in range(HALVES)
    ]
    # float32 numbers of like size add up without rounding in float64
    return (
        torch.stack([numerators[own].sum(0, dtype=torch.complex128) for own in members]).cpu().numpy(),
        torch.stack([denominators[own].sum(0, dtype=torch.float64) for own in members]).cpu().numpy(),
    )


def as_fourier_sums(
    numerator: torch.Tensor, denominator: torch.Tensor, radius: int, scale: float
) -> FourierSums:
    """`FourierSums` of what `add_up` gave (added over all processes), times ``scale``."""
    sums = FourierSums(
        (numerator * scale).to(torch.complex64), (denominator * scale).to(torch.float32), radius
    )
    for part in (*sums.numerator, *sums.denominator):
        mirror_plane(part)
    return sums


@dataclass(frozen=True)
class RealSpaceConstraint:
    """What is known of the particle in real space, on some number of voxels.

    Maps of fewer voxels than the images have pixels show the same field of view, at low frequencies only;
    their voxels are larger, and so are their sums, so that transforms are equal.

    Attributes
    ----------
    box
        Voxels along a side.
    mask
        ``(box, box, box)`` between 0 and 1.
    positive
        Whether its density is nowhere below the solvent's.
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
    first, second = (
        _quotient(numerator, denominator, _floor(denominator, sums.radius), sums.radius, shape.box)
        * shape.mask
        for numerator, denominator in zip(sums.numerator, sums.denominator, strict=True)
    )
    curve = fsc(first.numpy(), second.numpy(), 1.0)
    return curve.correlation[: sums.radius + 1]


def _floor(denominator: torch.Tensor, radius: int) -> torch.Tensor:
    """A damping that only keeps empty places from being divided by: a thousandth of the mean."""
    return torch.full((radius + 2,), 1e-3 * float(denominator.mean()) + 1e-30)


def whole_volume(sums: FourierSums, correlation: Float64, shape: RealSpaceConstraint) -> torch.Tensor:
    """The damped quotient of both halves' sums.

    Parameters
    ----------
    sums
        Numerators and denominators.
    correlation
        ``(radius + 1,)`` of the halves: the signal-to-noise ratio of both together is ``2 f / (1 - f)``.
    shape
        Mask and positivity.
    """
    numerator, denominator = sums.numerator.sum(0), sums.denominator.sum(0)
    damping = _shell_damping(denominator, correlation, sums.radius)
    return shape.applied(_quotient(numerator, denominator, damping, sums.radius, shape.box))


def half_volumes(
    sums: FourierSums, correlation: Float64, shape: RealSpaceConstraint, joined_radius: int
) -> tuple[torch.Tensor, ...]:
    """Each half's own damped quotient; up to ``joined_radius`` both have the frequencies of the two together.

    Low frequencies in common keep the two maps from drifting apart in place and orientation.
    """
    volumes = []
    shell = _shells(sums.denominator.shape[1] // 2)
    both = (sums.numerator.sum(0), sums.denominator.sum(0))
    for numerator, denominator in zip(sums.numerator, sums.denominator, strict=True):
        joined = torch.where(shell <= joined_radius, both[0] / 2, numerator)
        weight = torch.where(shell <= joined_radius, both[1] / 2, denominator)
        damping = _shell_damping(both[1], correlation, sums.radius)
        volumes.append(shape.applied(_quotient(joined, weight, damping, sums.radius, shape.box)))
    return tuple(volumes)


def _shell_damping(denominator: torch.Tensor, correlation: Float64, radius: int) -> torch.Tensor:
    """Mean denominator of each shell over its signal-to-noise ratio."""
    shell = _shells(denominator.shape[0] // 2)
    inside = shell <= radius
    count = torch.bincount(shell[inside], minlength=radius + 1)
    mean = torch.bincount(shell[inside], denominator[inside].double(), minlength=radius + 1) / count
    agreed = torch.from_numpy(np.clip(correlation, 1e-3, 0.999))
    ratio = 2 * agreed / (1 - agreed)
    damping = mean / ratio + 1e-6 * mean.mean() + 1e-30
    return torch.cat([damping, damping[-1:]]).float()


def _shells(half: int) -> torch.Tensor:
    return torch.round(squared_frequency(half).double().sqrt() / PADDING).long()


def _quotient(
    numerator: torch.Tensor, denominator: torch.Tensor, damping: torch.Tensor, radius: int, box: int
) -> torch.Tensor:
    shell = _shells(denominator.shape[0] // 2).clamp(max=radius + 1)
    return grid_to_volume(numerator / (denominator + damping[shell]), box, radius, PADDING)
