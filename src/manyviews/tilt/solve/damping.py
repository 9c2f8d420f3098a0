"""How strongly a reconstruction without a prior is damped, by the noise in its images.

With a signal of power spectrum S and white noise of variance N in the images, the best linear answer is that
of least squares damped by ``one_view * N / S(k)`` at frequency k: by the slice theorem an image of a slab of
Z slices has Z times the power of a voxel, and ``one_view`` is Z. Images tell S as the power that they have
above their noise. It is fitted by a polynomial in minus the Laplacian without negative coefficients, which
reaches a few voxels only and so adds to the kernel of the views (`manyviews.operators.roughness`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from manyviews.tilt.plan import Plan
from manyviews.tilt.series.normalise import PreparedImages
from manyviews.tilt.series.power import Power
from manyviews.tilt.solve.problem import TiltProblem

DAMPED = ("cg", "admm", "consensus", "wbp")
# Damping in units of one view for a noise-to-signal ratio of 1, where it is the same at all frequencies. With
# a white signal the best linear answer has 1; real ones have little signal at high frequency, and 10 is about
# best there (docs/accuracy.md).
_DAMPING_PER_NOISE = 10.0
# What is added at all frequencies, for what the images do not tell of their own errors (shifts, angles, grey
# levels): where a specimen is strong, its power over that of white noise is thousands
# (docs/decisions/0014-tilt-priors.md).
_LEAST_DAMPING = 0.03
# Powers of the Laplacian in the fit, and shells that are fitted: up to the last that has this much signal for
# its noise; least signal that is believed in any.
_POWERS = 4
_LAST_SIGNAL, _LEAST_SIGNAL = 0.05, 0.02
# Of the largest power. Images without noise have no less in single precision.
_LEAST_NOISE = 1e-10


def damped(problem: TiltProblem, plan: Plan, images: PreparedImages) -> TiltProblem:
    """With what was asked for, or what suits the noise; the paper's own methods and priors are not damped.

    That by frequency is the smooth prior of admm. A bound at zero tells of what no view sees, and there the
    least damping would hold against it.
    """
    by_frequency = plan.damping_by_frequency and (plan.method != "admm" or plan.prior == "smooth")
    if plan.damping is not None or not by_frequency:
        return replace(problem, damping=damping_of(plan, images), roughness=())
    if images.power is None:
        return replace(problem, damping=_DAMPING_PER_NOISE * images.noise_to_signal, roughness=())
    level, *roughness = noise_to_signal(images.power)
    least = 0.0 if plan.method == "admm" and plan.non_negative else _LEAST_DAMPING
    return replace(problem, damping=least + level, roughness=tuple(roughness))


def damping_of(plan: Plan, images: PreparedImages) -> float:
    """The same for all frequencies, in units of one view."""
    if plan.damping is not None:
        return plan.damping
    has_prior = plan.method == "admm" and (
        plan.prior == "auto" or plan.total_variation > 0 or plan.non_negative
    )
    return _DAMPING_PER_NOISE * images.noise_to_signal if plan.method in DAMPED and not has_prior else 0.0


def noise_to_signal(power: Power) -> tuple[float, ...]:
    """Coefficients of the polynomial in minus the Laplacian that is N / S, from the constant one on.

    The fit is of relative errors (Lawson & Hanson 1974, non-negative least squares). Where noise is all there
    is, the constant alone.
    """
    fine = power.power[len(power.power) // 2 :]
    noise = max(min(power.noise, float(fine.min())), _LEAST_NOISE * float(power.power.max()))
    above = power.power / noise - 1.0 if noise > 0.0 else np.full(power.power.shape, np.inf)
    heard = np.flatnonzero(above > _LAST_SIGNAL)
    if noise == 0.0 or len(heard) < 2:
        return (0.0 if noise == 0.0 else 1.0 / _LAST_SIGNAL,)
    fitted = slice(0, int(heard[-1]) + 1)
    wanted = 1.0 / np.maximum(above[fitted], _LEAST_SIGNAL)
    terms: NDArray[np.float64] = power.roughness[fitted, None] ** np.arange(_POWERS + 1) / wanted[:, None]
    scale = terms.max(axis=0)
    found, _ = scipy.optimize.nnls(terms / scale, np.ones(len(wanted)))
    return tuple((found / scale).tolist())
