"""Shifts by reprojection: Gursoy et al., Sci. Rep. 7 (2017) 11818, and tomopy's ``align_joint``.

In turns a volume gets a little better from the shifted projections, and projections are shifted to lie on
those of the volume. Here the volume is bettered by steps of conjugate gradients that go on where they
were, instead of SIRT, and shifts are found by Gauss-Newton instead of on a grid of tenths of a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.flow_rigid_cpu import rigid_flow
from manyviews.kernels.warp_cpu import pull_back
from manyviews.kernels.warp_fit_cpu import misfits
from manyviews.nano.flow.shifts import Shifts
from manyviews.operators.linear import LinearOperator

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Reprojected:
    """After an iteration: volume ``(z, y, x)``, shifts ``(n, 2)`` along x and z, misfits ``(n,)`` of the
    views.
    """

    volume: torch.Tensor
    shifts: Float64
    misfit: Float64


def improve_volume(
    radon: LinearOperator, projections: torch.Tensor, volume: torch.Tensor, steps: int
) -> torch.Tensor:
    """So many steps of conjugate gradients for ``|R u - p|^2`` from ``volume`` on."""
    rest = radon.adjoint(projections - radon.forward(volume))
    way, square = rest.clone(), torch.sum(rest.double() ** 2)
    for _ in range(steps):
        if not float(square) > 0:
            break
        image = radon.forward(way)
        length = square / torch.sum(image.double() ** 2)
        volume = volume + length.to(volume.dtype) * way
        rest = rest - length.to(rest.dtype) * radon.adjoint(image)
        before, square = square, torch.sum(rest.double() ** 2)
        way = rest + (square / before).to(rest.dtype) * way
    return volume


def align_joint(
    radon: LinearOperator, projections: Float32, *, iterations: int = 10, steps: int = 2,
    shifts: Float64 | None = None, tell: Callable[[int, Reprojected], None] | None = None,
) -> Reprojected:  # fmt: skip
    """Shifts of all projections, with those of a volume that explains them.

    Parameters
    ----------
    radon
        From volumes ``(z, y, x)`` to projections ``(n, z, x)``.
    projections
        As they were measured. One that reads the undisturbed projection at ``x + t`` has shift t.
    iterations, steps
        Of both in turns, and of conjugate gradients in each.
    shifts
        Where to begin, ``(n, 2)``; None: no shift.
    tell
        Called with the number of each iteration from 1, and what there is.
    """
    views, rows, columns = projections.shape
    motion = np.zeros((views, 3))
    if shifts is not None:
        motion[:, :2] = shifts
    volume = torch.zeros(radon.domain, dtype=torch.float32)
    state = Reprojected(volume, motion[:, :2], np.zeros(views))
    for iteration in range(1, iterations + 1):
        straight = pull_back(projections, rigid_flow(-motion, rows, columns))
        volume = improve_volume(radon, torch.from_numpy(straight), volume, steps)
        model = np.ascontiguousarray(radon.forward(volume).numpy(), dtype=np.float32)
        motion, fit = _better(projections, model, motion)
        state = Reprojected(volume, motion[:, :2].copy(), fit)
        if tell is not None:
            tell(iteration, state)
    return state


def _better(projections: Float32, model: Float32, motion: Float64) -> tuple[Float64, Float64]:
    """Of each view the motion that fits better: fine from the last one, or from anywhere; and its misfit."""
    engine, shape = Shifts(), projections.shape[1:]
    near, far = engine.motions(projections, model, motion), engine.motions(projections, model)
    near_fit, far_fit = (misfits(projections, model, rigid_flow(found, *shape)) for found in (near, far))
    return np.where((far_fit < near_fit)[:, None], far, near), np.minimum(near_fit, far_fit)
