"""How strongly a reconstruction without a prior is damped, by the noise in its images."""

from __future__ import annotations

from manyviews.tilt.plan import Plan
from manyviews.tilt.series.normalise import PreparedImages

DAMPED = ("cg", "admm", "consensus", "wbp")
# Damping in units of one view for a noise-to-signal ratio of 1. With a white signal the best linear answer
# has 1; real ones have little signal at high frequency, and 10 is about best there (docs/accuracy.md).
_DAMPING_PER_NOISE = 10.0


def damping_of(plan: Plan, images: PreparedImages) -> float:
    """What was asked for, or what suits the noise; the paper's own methods and priors are not damped."""
    if plan.damping is not None:
        return plan.damping
    has_prior = plan.method == "admm" and (
        plan.prior == "auto" or plan.total_variation > 0 or plan.non_negative
    )
    return _DAMPING_PER_NOISE * images.noise_to_signal if plan.method in DAMPED and not has_prior else 0.0
