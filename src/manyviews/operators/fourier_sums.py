"""Images added up on the padded Fourier grid of a volume, and the volume that is their damped quotient.

Every image is added as a slice to a numerator ``sum w C Y / s``, and its weight to a denominator
``sum w C^2 / s``, with poses that are known (w = 1) or weighted samples of what is believed of them. Then

    X = numerator / (denominator + 1 / tau^2)

is the posterior mean under a Gaussian prior whose power tau^2 in each shell follows from the correlation of
two halves of the images (Scheres, J. Struct. Biol. 180 (2012) 519).

Weights on the fine grid scatter much more than the data do over a whole cycle per box. Damped in full at
every point, a map is smooth; with part of it at points and the rest as a filter of the masked map it is
sharper. ``at_points`` says how much is done at points; `docs/fourier-slices.md` has what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.kernels.select import native, slices
from manyviews.operators.fourier_slice import grid_half, grid_shells, grid_to_volume, mirror_plane

Float64 = NDArray[np.float64]

HALVES = 2
PADDING = 2
_TINY = 1e-30


@dataclass(frozen=True)
class FourierSums:
    """What the two halves of the images add up to, at frequencies up to ``radius``, Fourier pixels.

    ``numerator`` is ``(2, 2h + 1, 2h + 1, h + 2)`` complex64, ``h = grid_half(radius, padding)``,
    ``denominator`` the same in float32.
    """

    numerator: torch.Tensor
    denominator: torch.Tensor
    radius: int
    padding: int = PADDING

    @classmethod
    def zeros(cls, radius: int, padding: int = PADDING) -> FourierSums:
        """Nothing yet; 12 bytes a grid point and half."""
        half = grid_half(radius, padding)
        shape = (HALVES, 2 * half + 1, 2 * half + 1, half + 2)
        return cls(torch.zeros(shape, dtype=torch.complex64), torch.zeros(shape), radius, padding)

    def add(
        self,
        half: int,
        rotations: ArrayLike,
        points: NDArray[Any],
        values: NDArray[Any],
        weights: NDArray[Any],
    ) -> None:
        """Add slices of a half (0 or 1) in place: ``values (M, P)`` of centred images, ``weights (M, P)``."""
        device = self.numerator.device
        turns = torch.as_tensor(np.asarray(rotations, dtype=np.float32)).to(device)
        given = [native(torch.as_tensor(part).to(device)) for part in (points, values, weights)]
        grids = native(self.numerator[half]), native(self.denominator[half])
        slices(device).splat_weighted(*grids, native(turns), *given, self.padding)

    def mirrored(self) -> FourierSums:
        """With the mirror images of all that was added; to be called once, before any volume is made."""
        whole = replace(self, numerator=self.numerator.clone(), denominator=self.denominator.clone())
        for part in (*whole.numerator, *whole.denominator):
            mirror_plane(part)
        return whole

    def at_radius(self, radius: int) -> FourierSums:
        """The same sums with zeros at the frequencies that are new, or without those that are beyond."""
        if radius == self.radius:
            return self
        other = FourierSums.zeros(radius, self.padding)
        old, new = grid_half(self.radius, self.padding), grid_half(radius, self.padding)
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
        return replace(
            new,
            numerator=torch.lerp(old.numerator, new.numerator, share),
            denominator=torch.lerp(old.denominator, new.denominator, share),
        )

    def mean_weight(self) -> torch.Tensor:
        """``(radius + 1,)`` float64 mean denominator of both halves together in each shell."""
        denominator = self.denominator.sum(0)
        shell = grid_shells(denominator.shape[0] // 2, self.padding)
        inside = shell <= self.radius
        count = torch.bincount(shell[inside], minlength=self.radius + 1)
        total = torch.bincount(shell[inside], denominator[inside].double(), minlength=self.radius + 1)
        return total / count

    def half_volume(self, half: int, box: int) -> torch.Tensor:
        """The map ``(box, box, box)`` of one half, damped only where hardly anything was added."""
        denominator = self.denominator[half]
        least = 1e-3 * float(denominator.mean()) + _TINY
        return self._quotient(self.numerator[half], denominator, torch.full((self.radius + 2,), least), box)

    def damped_half(self, half: int, correlation: Float64, box: int) -> torch.Tensor:
        """The map ``(box, box, box)`` of one half by itself, damped at points as its noise asks for.

        ``correlation (radius + 1,)`` is that of the halves: one of them has a ratio of ``f / (1 - f)``.
        """
        damping = self._damping(self.mean_weight() / 2, 2 / _signal_to_noise(correlation))
        return self._quotient(self.numerator[half], self.denominator[half], damping, box)

    def volume(
        self, correlation: Float64, box: int, *, at_points: float = 1.0, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The map ``(box, box, box)`` of both halves together.

        Parameters
        ----------
        correlation
            ``(radius + 1,)`` f of the halves: together they have a signal-to-noise ratio ``2 f / (1 - f)``.
        box
            Voxels along a side.
        at_points
            Part of the damping that is done at points of the grid; the rest is a filter of the masked map.
        mask
            ``(box, box, box)`` multiplied into the map before it is filtered.
        """
        ratio = _signal_to_noise(correlation)
        mean = self.mean_weight()
        damping = self._damping(mean, at_points / ratio)
        found = self._quotient(self.numerator.sum(0), self.denominator.sum(0), damping, box)
        if mask is not None:
            found *= mask
        return filter_shells(found, ((1 + at_points / ratio) / (1 + 1 / ratio)).numpy())

    def linked_halves(self, correlation: Float64, box: int, joined_radius: int) -> tuple[torch.Tensor, ...]:
        """Each half's own damped map; up to ``joined_radius`` both have the frequencies of the two together.

        Low frequencies in common keep the two maps from drifting apart in place and orientation.
        """
        joined = grid_shells(self.denominator.shape[1] // 2, self.padding) <= joined_radius
        both = (self.numerator.sum(0), self.denominator.sum(0))
        damping = self._damping(self.mean_weight(), 1 / _signal_to_noise(correlation))
        return tuple(
            self._quotient(
                torch.where(joined, both[0] / 2, numerator),
                torch.where(joined, both[1] / 2, denominator),
                damping,
                box,
            )
            for numerator, denominator in zip(self.numerator, self.denominator, strict=True)
        )

    def _damping(self, mean: torch.Tensor, relative: torch.Tensor) -> torch.Tensor:
        """``(radius + 2,)``: relative to the mean weight of each shell; the last is for what lies beyond."""
        damping = mean * relative + 1e-6 * mean.mean() + _TINY
        return torch.cat([damping, damping[-1:]]).float()

    def _quotient(
        self, numerator: torch.Tensor, denominator: torch.Tensor, damping: torch.Tensor, box: int
    ) -> torch.Tensor:
        shell = grid_shells(denominator.shape[0] // 2, self.padding).clamp(max=self.radius + 1)
        return grid_to_volume(numerator / (denominator + damping[shell]), box, self.radius, self.padding)


def _signal_to_noise(correlation: Float64) -> torch.Tensor:
    agreed = torch.from_numpy(np.clip(correlation, 1e-3, 0.999))
    return 2 * agreed / (1 - agreed)


def filter_shells(volume: torch.Tensor, passed: Float64) -> torch.Tensor:
    """A volume ``(box, box, box)`` times a factor for each shell, linear between, the last one beyond."""
    if np.all(passed == 1):
        return volume
    box = len(volume)
    along = torch.fft.fftfreq(box, 1 / box)
    radius = torch.sqrt(
        along[:, None, None] ** 2 + along[:, None] ** 2 + torch.fft.rfftfreq(box, 1 / box) ** 2
    )
    factor = np.interp(radius.numpy(), np.arange(len(passed)), passed).astype(np.float32)
    filtered: torch.Tensor = torch.fft.irfftn(
        torch.fft.rfftn(volume) * torch.from_numpy(factor), s=volume.shape
    )
    return filtered
