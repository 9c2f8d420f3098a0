"""Normalised correlation coefficient, equation (10) of Wang et al. (2020)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

RealArray = NDArray[np.floating[Any]]
Mask = NDArray[Any]

_ROUNDING = 1e-14  # a variance this small beside the squared mean is float64 rounding, not signal


def ncc(a: RealArray, b: RealArray, mask: Mask | None = None) -> float:
    """Normalised correlation of two arrays of one shape, their means taken out.

    ``sum (a - mean a)(b - mean b) / sqrt(sum (a - mean a)^2 sum (b - mean b)^2)``, in float64, plane by plane
    along the first axis, so that large volumes need no float64 copy; ``mask`` are weights of that shape
    (booleans, or zero to one). Between -1 and 1; 0 where either array is constant, since then nothing can be
    correlated.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    _check_shapes(a, b, mask)
    weight = float(a.size) if mask is None else float(np.sum(mask, dtype=np.float64))
    if weight <= 0:
        return 0.0
    mean_a, mean_b = _weighted_mean(a, mask, weight), _weighted_mean(b, mask, weight)
    aa = ab = bb = 0.0
    for plane in range(len(a)):
        difference_a = a[plane].astype(np.float64) - mean_a
        difference_b = b[plane].astype(np.float64) - mean_b
        weighted_a = difference_a if mask is None else difference_a * mask[plane]
        weighted_b = difference_b if mask is None else difference_b * mask[plane]
        aa += float(np.vdot(weighted_a, difference_a))
        ab += float(np.vdot(weighted_a, difference_b))
        bb += float(np.vdot(weighted_b, difference_b))
    if aa <= _ROUNDING * weight * mean_a**2 or bb <= _ROUNDING * weight * mean_b**2:
        return 0.0
    return max(-1.0, min(1.0, ab / math.sqrt(aa) / math.sqrt(bb)))


def ncc_views(a: RealArray, b: RealArray) -> NDArray[np.float64]:
    """`ncc` of every view of two stacks ``(view, y, x)``: ``(view,)`` float64."""
    _check_shapes(a, b, None)
    return np.array([ncc(one, other) for one, other in zip(a, b, strict=True)])


def _weighted_mean(array: RealArray, mask: Mask | None, weight: float) -> float:
    if mask is None:
        return float(np.mean(array, dtype=np.float64))
    return sum(float(np.sum(array[i] * mask[i], dtype=np.float64)) for i in range(len(array))) / weight


def _check_shapes(a: RealArray, b: RealArray, mask: Mask | None) -> None:
    if a.shape != b.shape or (mask is not None and mask.shape != a.shape):
        shapes = [array.shape for array in (a, b, mask) if array is not None]
        raise ValueError(f"the arrays must have the same shape, got {shapes}")
