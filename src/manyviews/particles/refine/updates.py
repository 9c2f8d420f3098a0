"""What a batch of images does to the maps of the two halves, by the methods that are not EM itself.

All of them work on the points of the padded Fourier grid, one estimate ``x`` a half, and are told of a batch
the sums N and D that EM makes of it (`manyviews.operators.fourier_sums`), as if all images were in it. Of
EM's quadratic for the batch, ``D |x|^2 / 2 - Re(N x*)``, the gradient is ``D x - N`` and the diagonal D, so
EM is the step of length 1 that D preconditions, from any x. By method:

- ``preconditioned-sgd``: ``x + rho_k (N - D x) / D_k`` with the running average ``D_k = (1 - rho_k) D_(k-1)
  + rho_k D`` and ``rho_k = k^-0.7``, but not below what averages a pass through all images. With EM's own
  diagonal, that is the quotient of running averages of N and D: online EM (Cappe & Moulines 2009, J. R.
  Statist. Soc. B 71:593; incremental EM, Neal & Hinton 1998).
- ``sgd``: ``x + (N - D x) / L``, L the largest D: the longest step that no frequency forbids.
- ``vdam``: as RELION 4 and 5 have it (Kimanius et al. 2021, Biochem. J. 478:4169; facts from its
  backprojector.cpp). See `Vdam`.
- ``accelerated-em``: EM on all images, extrapolated. See `Anderson`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch

from manyviews.operators.fourier_slice import grid_shells, sphere, volume_to_grid
from manyviews.operators.fourier_sums import HALVES, PADDING, FourierSums

Memory = tuple[torch.Tensor, ...]

_DECAY = 0.7  # of the shares rho_k; above 1/2 and up to 1 (Cappe & Moulines)
_LEAST = 1e-3  # of the mean of D: points with less are not divided by it
_MOMENTUM, _SECOND = 0.9, 0.999  # RELION's
_VDAM_STEP = 0.3
_EPSILON = 1e-12
_EXTRAPOLATED = 2.0  # at most so much of the last change of EM's answer is added


@dataclass(frozen=True)
class Estimate:
    """Of both halves: ``x (2, 2h + 1, 2h + 1, h + 2)`` complex64, its running D, and a method's own memory.

    ``radius`` is that of the grid, Fourier pixels. Tensors of the memory are grids of both halves too, of
    complex numbers.
    """

    x: torch.Tensor
    weight: torch.Tensor
    radius: int
    memory: Memory = ()

    @classmethod
    def of(cls, halves: Memory, radius: int) -> Estimate:
        """The maps ``(D, D, D)`` of the halves as quotients of sums would have them, with no weight."""
        made = [_blurred(half, radius) for half in halves]
        return cls(torch.stack(made), torch.zeros(len(made), *made[0].shape), radius)

    def at_radius(self, radius: int) -> Estimate:
        """With zeros at frequencies that are new, or without those that are beyond."""
        if radius == self.radius:
            return self
        main = FourierSums(self.x, self.weight, self.radius).at_radius(radius)
        memory = tuple(
            FourierSums(one, self.weight, self.radius).at_radius(radius).numerator for one in self.memory
        )
        return Estimate(main.numerator, main.denominator, radius, memory)

    def sums(self) -> FourierSums:
        """Sums whose quotient is x."""
        return FourierSums(self.x * self.weight, self.weight, self.radius)


class Update(Protocol):
    """How a method goes from one estimate to the next."""

    @property
    def whole(self) -> bool:
        """Whether it needs all images at once."""

    @property
    def parts(self) -> int:
        """Into how many the images of each half's batch are divided."""

    def __call__(self, before: Estimate, found: tuple[FourierSums, ...], share: float) -> Estimate:
        """After a batch; ``found`` are the sums of each part, each scaled to all images.

        ``before`` has the radius of the sums; ``share`` is rho_k.
        """


def quotient(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Of each half; zero where nothing was added."""
    least = _LEAST * denominator.mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(denominator > 0, numerator / torch.maximum(denominator, least), 0)


def share_of(step: int, steps_a_pass: int) -> float:
    """``rho_k``: the weight of the newest batch, from step 1 on.

    It falls until the average has the noise of a pass through all images, ``rho = 2 / (steps + 1)``, and
    then stays: what is older was found with older maps.
    """
    return max(float(step**-_DECAY), 2 / (steps_a_pass + 1))


@dataclass(frozen=True)
class Preconditioned:
    """Preconditioned SGD with EM's diagonal, times ``ratio (2, radius + 1)`` by half and shell if given.

    A ratio below 1, that of the true Hessian's diagonal to EM's, makes steps longer, but none longer than
    EM's own for the batch alone.
    """

    ratio: torch.Tensor | None = None
    whole: bool = False
    parts: int = 1

    def __call__(self, before: Estimate, found: tuple[FourierSums, ...], share: float) -> Estimate:
        """One batch."""
        new = found[0]
        weight = torch.lerp(before.weight, new.denominator, share)
        change = new.numerator - new.denominator * before.x
        divisor = weight
        if self.ratio is not None:
            ratios = [by_shell(half, new) for half in self.ratio.clamp(min=share)]
            divisor = weight * torch.stack(ratios).float()
        x = before.x + share * torch.where(divisor > 0, change / divisor.clamp(min=1e-30), 0)
        return replace(before, x=x, weight=weight)


@dataclass(frozen=True)
class PlainSgd:
    """The gradient over the largest entry of the diagonal."""

    whole: bool = False
    parts: int = 1

    def __call__(self, before: Estimate, found: tuple[FourierSums, ...], share: float) -> Estimate:
        """One batch."""
        new = found[0]
        weight = torch.lerp(before.weight, new.denominator, share)
        largest = weight.amax(dim=(1, 2, 3), keepdim=True)
        x = before.x + (new.numerator - new.denominator * before.x) / largest
        return replace(before, x=x, weight=weight)


@dataclass(frozen=True)
class Vdam:
    """Variable-metric gradient descent with adaptive moments.

    Of two parts a, b of the batch of a half::

        g_a = (N_a - D_a x) / max(least, D_a)
        m_a <- 0.9 m_a + 0.1 g_a                                    (g_a itself at first)
        v <- 0.999 v + 0.001 |g_a - g_b|^2 / |(g_a + g_b) / 2|^2    (1 at first)
        d = (m_a + m_b) / (2 sqrt v)
        f = max(s / (1 + s), c),   s = 2 mean |x| / mean |m_a - m_b|        by shell
        x <- x + step (f d - (1 - f) x)

    with c the correlation of ``x + m_a`` and ``x + m_b``. RELION's c is the FSC that its halves had before,
    which would tell each half of the other; its least is 1 in its own units, here it is a thousandth of the
    mean of D; its parts are drawn from all images, here from those of a half; its step shrinks by a schedule
    of iterations, here it is always the last of those, 0.3.
    """

    whole: bool = False
    parts: int = 2

    def __call__(self, before: Estimate, found: tuple[FourierSums, ...], share: float) -> Estimate:
        """One batch."""
        mean_weight = (found[0].denominator + found[1].denominator) / 2
        weight = torch.lerp(before.weight, mean_weight, share)
        gradients = [
            quotient(part.numerator - part.denominator * before.x, part.denominator) for part in found
        ]
        moments, second = gradients, torch.ones_like(before.x)
        if before.memory:
            moments = [
                torch.lerp(gradient, moment, _MOMENTUM)
                for gradient, moment in zip(gradients, before.memory[:2], strict=True)
            ]
            second = before.memory[2]
        mean = (gradients[0] + gradients[1]) / 2
        scatter = _square(gradients[0] - gradients[1]) / (_square(mean) + _EPSILON)
        # frequencies that are new begin with 1 too
        old = torch.where(second.real > 0, second.real, 1.0)
        second = (_SECOND * old + (1 - _SECOND) * scatter).to(torch.complex64)
        direction = (moments[0] + moments[1]) / (2 * second.real.sqrt() + _EPSILON)
        passed = self._passed(before, moments, found[0])
        x = before.x + _VDAM_STEP * (passed * direction - (1 - passed) * before.x)
        return replace(before, x=x, weight=weight, memory=(*moments, second))

    @staticmethod
    def _passed(before: Estimate, moments: list[torch.Tensor], like: FourierSums) -> torch.Tensor:
        """f at all points."""
        noise = shell_means((moments[0] - moments[1]).abs(), like)
        ratio = 2 * shell_means(before.x.abs(), like) / noise.clamp(min=1e-30)
        one, other = (before.x + moment for moment in moments)
        power = [shell_means(_square(part), like) for part in (one, other)]
        agreed = shell_means((one * other.conj()).real, like) / (power[0] * power[1]).sqrt().clamp(min=1e-30)
        passed = torch.maximum(ratio / (1 + ratio), agreed).clamp(max=1.0)
        return torch.stack([by_shell(half, like) for half in passed])


@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration of EM with one step back (Walker & Ni 2011, SIAM J. Numer. Anal. 49:1715).

    With F EM's answer and ``f = F(x) - x``, for each half by itself::

        x_(k+1) = F_k - c (F_k - F_(k-1)),   c = <f_k, f_k - f_(k-1)> / |f_k - f_(k-1)|^2

    in the norm of D, over the frequencies that both passes had. c is at most 0 and at least -2: only what
    goes on in one direction is extrapolated. Where the frequencies changed, or ``|f|`` has grown, the step is
    EM's own.
    """

    whole: bool = True
    parts: int = 1

    def __call__(self, before: Estimate, found: tuple[FourierSums, ...], share: float) -> Estimate:
        """One pass."""
        new = found[0]
        weight = new.denominator
        answer = quotient(new.numerator, weight)
        residual = answer - before.x
        x = answer
        if before.memory:
            shape = (HALVES, *[1] * (answer.ndim - 1))
            factors = [self._factor(before, residual, weight, half) for half in range(HALVES)]
            x = answer - torch.tensor(factors).view(shape) * (answer - before.memory[0])
        return Estimate(x, weight, new.radius, (answer, residual))

    @staticmethod
    def _factor(before: Estimate, residual: torch.Tensor, weight: torch.Tensor, half: int) -> float:
        """c of a half."""
        known = before.weight[half] > 0
        measure = weight[half].double() * known
        now, last = residual[half], before.memory[1][half]
        if float((measure * _square(now)).sum()) >= float((measure * _square(last)).sum()):
            return 0.0
        change = now - last
        size = float((measure * _square(change)).sum())
        along = float((measure * (now * change.conj()).real).sum())
        return min(0.0, max(-_EXTRAPOLATED, along / size)) if size > 0 else 0.0


def _blurred(volume: torch.Tensor, radius: int) -> torch.Tensor:
    """The grid that `grid_to_volume` makes the volume of, within the radius."""
    box = len(volume)
    blur = torch.sinc((torch.arange(box) - box // 2) / (PADDING * box)) ** 4
    grid = volume_to_grid(volume.float() * blur[:, None, None] * blur[:, None] * blur, radius, PADDING).to(
        torch.complex64
    )
    return grid * sphere(grid.shape[0] // 2, radius, PADDING)


def _square(values: torch.Tensor) -> torch.Tensor:
    return values.real.square() + values.imag.square()


def by_shell(values: torch.Tensor, like: FourierSums) -> torch.Tensor:
    """``(radius + 1,)`` values at the points of a half grid, the last one beyond."""
    shell = grid_shells(like.denominator.shape[1] // 2, like.padding)
    return values[shell.clamp(max=len(values) - 1)]


def shell_means(values: torch.Tensor, like: FourierSums) -> torch.Tensor:
    """``(2, radius + 1)`` means of ``(2, ...)`` real values in each shell, in double precision."""
    shell = grid_shells(like.denominator.shape[1] // 2, like.padding)
    inside = shell <= like.radius
    count = torch.bincount(shell[inside], minlength=like.radius + 1)
    total = [torch.bincount(shell[inside], one[inside].double(), minlength=like.radius + 1) for one in values]
    return (torch.stack(total) / count).float()
