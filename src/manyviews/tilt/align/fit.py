"""Volume and motions of all views found together: Gauss-Newton, each step by conjugate gradients.

Shifts that are found by comparing views with the projections of a volume made of these very views hardly
move: the volume holds each view where it lies. Here the volume may follow. Linearised about the present
volume x and poses, the images are

    J_v  =  W_v (x + dx)  +  sum_c S_vc m_vc

with the slopes S of the projections by each component c of a view's motion. Conjugate gradients find dx and m
at once, which is Gauss-Newton on what is left when the volume is eliminated (variable projection: Golub and
Pereyra 1973, SIAM Journal on Numerical Analysis 10:413).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.convolution import Convolution
from manyviews.operators.tilt_projector import TiltProjector

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

COMPONENTS = 6
SHIFT_U, SHIFT_V, TURN, OFFSET, AXIS, BACKGROUND = range(COMPONENTS)


@dataclass(frozen=True)
class Slopes:
    """How projections change with the components of their views' motions.

    Attributes
    ----------
    images
        ``(view, column, v, u)``.
    unknown
        ``(view, column)``: which unknown it is, -1 for none; views may share one.
    components
        Which of the components of a motion each column is.
    count
        Number of unknowns.
    """

    images: torch.Tensor
    unknown: Int64
    components: tuple[int, ...]
    count: int

    @classmethod
    def at_rest(cls, views: int, shape: tuple[int, int]) -> Slopes:
        """Of views that do not move and have a background each; ``shape`` is that of an image."""
        return cls(torch.ones((views, 1, *shape)), np.arange(views)[:, None], (BACKGROUND,), views)

    def spread(self, values: Float64) -> Float64:
        """Motions ``(view, column)`` of unknowns ``(count,)``."""
        padded = np.concatenate([values, [0.0]])
        return np.asarray(padded[self.unknown])

    def gather(self, motions: Float64) -> Float64:
        """The adjoint of `spread`."""
        kept = self.unknown >= 0
        return np.bincount(self.unknown[kept], motions[kept], self.count).astype(np.float64)

    def moved(self, values: Float64) -> torch.Tensor:
        """What the images ``(view, v, u)`` change by."""
        motions = torch.from_numpy(self.spread(values)).to(self.images)
        return torch.einsum("vcyx,vc->vyx", self.images, motions)

    def force(self, images: torch.Tensor) -> Float64:
        """The adjoint of `moved`."""
        found = torch.einsum("vcyx,vyx->vc", self.images, images)
        return self.gather(found.double().numpy())

    def diagonal(self, weights: torch.Tensor) -> Float64:
        """Of the normal matrix of the unknowns for pixel weights ``(view, v, u)``."""
        found = torch.einsum("vcyx,vcyx,vyx->vc", self.images, self.images, weights)
        return self.gather(found.double().numpy())


@dataclass(frozen=True)
class Step:
    """A new volume ``(z, y, x)`` and motions ``(view, component)``, `COMPONENTS` of them."""

    volume: torch.Tensor
    motions: Float64


def joint_step(
    projector: TiltProjector,
    volume: torch.Tensor,
    left: torch.Tensor,
    weights: torch.Tensor,
    slopes: Slopes,
    precondition: Convolution,
    damping: float,
    iterations: int,
) -> Step:
    """One step from a volume and what it leaves of the images, ``left (view, v, u)``.

    ``weights (view, v, u)`` are of the squares; ``damping`` is added to the normal operator of the volume,
    whose inverse is nearly ``precondition``.
    """
    force = weights * left
    residual = projector.adjoint(force).sub_(volume, alpha=damping)
    residual_motion = slopes.force(force)
    scale = slopes.diagonal(weights)
    # unknowns that no image tells of stay where they are
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 1e-9 * scale.max(initial=1e-30))
    change, change_motion = torch.zeros_like(volume), np.zeros(slopes.count)
    direction, direction_motion = torch.zeros_like(volume), np.zeros(slopes.count)
    before = 0.0
    for _ in range(iterations):
        guess, guess_motion = precondition.forward(residual), inverse * residual_motion
        product = _dot(residual, guess) + float(residual_motion @ guess_motion)
        if product <= 0.0:
            break
        ratio = product / before if before > 0 else 0.0
        direction = guess.add_(direction, alpha=ratio)
        direction_motion = guess_motion + ratio * direction_motion
        before = product
        seen = projector.forward(direction).add_(slopes.moved(direction_motion)).mul_(weights)
        image = projector.adjoint(seen).add_(direction, alpha=damping)
        image_motion = slopes.force(seen)
        bend = _dot(direction, image) + float(direction_motion @ image_motion)
        if bend <= 0.0:
            break
        length = product / bend
        change.add_(direction, alpha=length)
        change_motion = change_motion + length * direction_motion
        residual.sub_(image, alpha=length)
        residual_motion = residual_motion - length * image_motion
    motions = np.zeros((len(left), COMPONENTS))
    motions[:, list(slopes.components)] = slopes.spread(change_motion)
    return Step(volume + change, motions)


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.dot(a.reshape(-1), b.reshape(-1)).double())


def shift_slopes(model: torch.Tensor) -> torch.Tensor:
    """``(view, 3, v, u)`` of projections ``(view, v, u)``: by a shift along u, along v, a turn in radians.

    A motion m takes a feature from r to ``R(m_2) r + (m_0, m_1)``, counted from pixel ``n // 2``.
    """
    along_v, along_u = torch.gradient(model, dim=(1, 2))
    rows, columns = model.shape[1:]
    v = torch.arange(rows, dtype=model.dtype)[:, None] - rows // 2
    u = torch.arange(columns, dtype=model.dtype) - columns // 2
    return torch.stack([-along_u, -along_v, v * along_u - u * along_v], dim=1)
