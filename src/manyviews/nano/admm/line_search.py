"""How far to go along a direction, by halving (Nocedal & Wright 2006, Numerical Optimization, alg. 3.1)."""

from __future__ import annotations

_SUFFICIENT = 1e-4
_SHORTEST = 2.0**-40


def armijo_step(slope: float, curvature: float) -> float:
    """The first of 1, 1/2, 1/4 ... at which a parabola has fallen enough.

    Along the direction, by a length t, it changes by ``2 t slope + t^2 curvature``. 0 if there is none: the
    direction leads upwards.
    """
    length = 1.0
    while length > _SHORTEST:
        if 2.0 * length * slope + length**2 * curvature <= 2.0 * _SUFFICIENT * length * slope < 0.0:
            return length
        length *= 0.5
    return 0.0
