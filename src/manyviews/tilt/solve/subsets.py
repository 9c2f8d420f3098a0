"""View subsets of a multi-axis series: axis first, then adjacent or interleaved angles, with overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry

Order = Literal["adjacent", "interleaved"]


@dataclass(frozen=True)
class Subset:
    """Views of one agent.

    ``views (k,)`` are indices into the geometry, borrowed ones last; ``weights (k,)`` are 1 / number of
    subsets that hold the view, so that every view counts once in all.
    """

    views: NDArray[np.int64]
    weights: NDArray[np.float64]


def make_subsets(geometry: TiltGeometry, count: int, overlap: int, order: Order) -> tuple[Subset, ...]:
    """Divide views among ``count`` agents (Wang et al. 2020, section 3.2).

    Views are sorted by series, then by tilt. With at least one subset a series, each series is divided by
    itself; with fewer, whole series share a subset. A subset borrows its ``overlap`` nearest views from the
    next subset of its series; the last one borrows backwards, so that all have the same.

    Raises
    ------
    InputError
        If there are fewer views than subsets.
    """
    if not 1 <= count <= len(geometry):
        raise InputError(
            f"{len(geometry)} views cannot be divided into {count} subsets",
            where="--subsets",
            fix=f"give a number from 1 to {len(geometry)}",
        )
    series = [_by_tilt(geometry, number) for number in np.unique(geometry.series)]
    if count < len(series):
        parts = [
            np.concatenate([series[k] for k in some])
            for some in np.array_split(np.arange(len(series)), count)
        ]
        borrowed = [part[:0] for part in parts]
    else:
        shares = _shares([len(views) for views in series], count)
        parts, borrowed = [], []
        for views, share in zip(series, shares, strict=True):
            own, extra = _divide(views, share, overlap, order)
            parts += own
            borrowed += extra
    held = [np.concatenate(pair) for pair in zip(parts, borrowed, strict=True)]
    multiplicity = np.bincount(np.concatenate(held), minlength=len(geometry))
    return tuple(Subset(views, 1.0 / multiplicity[views]) for views in held)


def _by_tilt(geometry: TiltGeometry, series: int) -> NDArray[np.int64]:
    views = np.flatnonzero(geometry.series == series)
    return views[np.argsort(geometry.tilt_degrees[views], kind="stable")]


def _shares(sizes: list[int], count: int) -> list[int]:
    """How many subsets each series gets: in proportion to its views, at least one, no more than it has."""
    shares = [1] * len(sizes)
    for _ in range(count - len(sizes)):
        room = [size / share if share < size else 0.0 for size, share in zip(sizes, shares, strict=True)]
        shares[int(np.argmax(room))] += 1
    return shares


def _divide(
    views: NDArray[np.int64], count: int, overlap: int, order: Order
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    if order == "interleaved":
        parts = [views[first::count] for first in range(count)]
    else:
        parts = np.array_split(views, count)
    if count == 1 or overlap == 0:
        return parts, [part[:0] for part in parts]
    borrowed = [part[:overlap] for part in parts[1:]]
    borrowed.append(parts[-2][-overlap:])
    return parts, borrowed
