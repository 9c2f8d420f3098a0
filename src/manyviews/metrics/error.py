"""How far an estimate is from the truth: relative error, and the same at the best scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

RealArray = NDArray[np.floating[Any]]


def relative_error(estimate: RealArray, truth: RealArray) -> float:
    """``|estimate - truth| / |truth|`` in the Euclidean norm; infinite where the truth is zero everywhere.

    `ValueError` if the shapes differ.
    """
    squared, (_, _, norm) = _squared_distance(estimate, truth), _products(estimate, truth)
    if norm == 0:
        return math.inf if squared > 0 else 0.0
    return math.sqrt(squared / norm)


def scaled_error(estimate: RealArray, truth: RealArray) -> tuple[float, float]:
    """The relative error after the best scaling of the estimate, and that scale.

    The scale is ``<estimate, truth> / <estimate, estimate>``; it is what an unknown grey-level factor calls
    for. An estimate of zero gets the scale 0 and the error 1. `ValueError` if the shapes differ.
    """
    ee, et, tt = _products(estimate, truth)
    if ee == 0 or tt == 0:
        return (1.0 if tt > 0 else 0.0), 0.0
    return math.sqrt(max(0.0, 1.0 - et * et / (ee * tt))), et / ee


def _products(estimate: RealArray, truth: RealArray) -> tuple[float, float, float]:
    """``<e, e>``, ``<e, t>`` and ``<t, t>`` in float64, plane by plane."""
    _check_shapes(estimate, truth)
    ee = et = tt = 0.0
    for plane_e, plane_t in zip(estimate, truth, strict=True):
        e, t = plane_e.astype(np.float64), plane_t.astype(np.float64)
        ee, et, tt = ee + float(np.vdot(e, e)), et + float(np.vdot(e, t)), tt + float(np.vdot(t, t))
    return ee, et, tt


def _squared_distance(estimate: RealArray, truth: RealArray) -> float:
    _check_shapes(estimate, truth)
    total = 0.0
    for plane_e, plane_t in zip(estimate, truth, strict=True):
        difference = plane_e.astype(np.float64) - plane_t
        total += float(np.vdot(difference, difference))
    return total


def _check_shapes(estimate: RealArray, truth: RealArray) -> None:
    if estimate.shape != truth.shape:
        raise ValueError(f"the shapes differ: {estimate.shape} and {truth.shape}")
