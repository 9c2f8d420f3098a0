"""Two halves of the particles, whose maps may agree only in what is true.

Particles that share something else, their noise or the errors of one tomogram or filament, must be in one
half: copies always, the rest as it is asked for. What stays together is a unit; the largest units are dealt
first, each to the smaller half, and chance decides between equals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.metrics.halves import together
from manyviews.random import Stream, generator

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_OPTION = "--halves"
_UNEVEN = 0.4  # of the particles in the smaller half
_SHOWN_NEAR = 0.05  # of the particles


@dataclass(frozen=True)
class Halves:
    """``half (N,)`` 1 or 2, and sentences on what is doubtful in them."""

    half: Int64
    warnings: tuple[str, ...] = ()


def halves_by_groups(by: str, groups: Int64 | None, of: Int64, seed: int) -> Halves:
    """Halves that keep groups and copies together, as even as these allow.

    Parameters
    ----------
    by
        What the groups are, a word for sentences: "particle", "filament", "tomogram", "parent".
    groups
        ``(N,)`` a number for each, the same where they belong together; None: not known.
    of
        ``(N,)`` the first that each is a copy of, itself mostly (`manyviews.subtomo.duplicates.copies_of`).
    seed
        Of the run.

    Raises
    ------
    InputError
        If the groups are not known, or there is one only.
    """
    if groups is None:
        raise InputError(
            f"the table does not tell the {by} of its particles", where=f"{_OPTION} {by}", fix=_other_way(by)
        )
    unit = _joined(groups, of)
    if len(np.unique(unit)) < 2:
        what = "particle or its copies" if by == "particle" else f"{by} or of its copies"
        raise InputError(
            f"all particles are of one {what}, which cannot be halved",
            where=f"{_OPTION} {by}",
            fix=_other_way(by),
        )
    half = _dealt(unit, seed)
    return Halves(half, _uneven(half, by))


def halves_by_position(
    filament: Int64, track: Float64, stretch: float | None, of: Int64, seed: int
) -> Halves:
    """Halves of alternate stretches along each filament; where the first one goes is chance.

    Copies are in one half, the one with fewer particles if their places are in both.

    Parameters
    ----------
    filament
        ``(N,)`` a number for each filament, in all tomograms together.
    track
        ``(N,)`` angstrom along it; see `along_filament`.
    stretch
        Length of a stretch in angstrom; None: each filament is cut in its middle.
    of, seed
        As of `halves_by_groups`.

    Raises
    ------
    InputError
        If all particles are in one stretch.
    """
    rng = generator(seed, Stream.HALVES, 1)
    half = np.zeros(len(filament), np.int64)
    for one in np.unique(filament):
        rows = np.flatnonzero(filament == one)
        start = track[rows].min()
        length = track[rows].max() - start
        step = stretch if stretch is not None else 0.5 * length + 1e-6
        half[rows] = (((track[rows] - start) // max(step, 1e-6)).astype(np.int64) + rng.integers(2)) % 2
    half = together(half, of)
    if len(np.unique(half)) < 2:
        raise InputError(
            "all particles lie in one stretch of one filament, which cannot be halved",
            where=f"{_OPTION} position",
            fix="give shorter stretches, or --halves particle",
        )
    return Halves(half + 1, _uneven(half + 1, "stretch"))


def halves_of_table(half: Int64 | None, of: Int64) -> Halves:
    """The halves that the table gives, ``(N,)`` 1 or 2, but that copies are in one; `InputError` if none."""
    if half is None:
        raise InputError(
            "the table does not tell the halves of its particles",
            where=f"{_OPTION} table",
            fix="give a table with rlnRandomSubset, or --halves particle",
        )
    if len(np.unique(half)) < 2:
        raise InputError(
            f"all particles of the table are in half {half[0]}", where=f"{_OPTION} table",
            fix="give --halves particle",
        )  # fmt: skip
    kept = together(half - 1, of) + 1
    moved = int(np.count_nonzero(kept != half))
    told = () if not moved else (
        f"copies lay in both halves of the table: {moved} particles were moved to the half of their copies",
    )  # fmt: skip
    return Halves(kept, (*told, *_uneven(kept, "copies")))


def along_filament(positions: Float64, filament: Int64) -> Float64:
    """``(N,)`` angstrom along the longest axis of each filament's particles ``(N, 3)``.

    For tables that do not tell the place along the filament; right for those that do not turn back.
    """
    track = np.zeros(len(positions))
    for one in np.unique(filament):
        rows = np.flatnonzero(filament == one)
        centred = positions[rows] - positions[rows].mean(axis=0)
        axis = np.linalg.svd(centred, full_matrices=False)[2][0]
        track[rows] = centred @ axis
    return track


def shared_noise(positions: Float64, tomogram: Int64, half: Int64, side: float) -> str:
    """A sentence where many boxes of one half overlap one of the other, whose voxels then are the same.

    ``side`` is the box's in angstrom; boxes are taken to share noise where centres are nearer than half of
    it. Empty where fewer than one particle in twenty does.
    """
    from scipy.spatial import cKDTree

    near = 0
    for one in np.unique(tomogram):
        first, second = (positions[(tomogram == one) & (half == number)] for number in (1, 2))
        if len(first) and len(second):
            for own, other in ((first, second), (second, first)):
                apart, _ = cKDTree(other).query(own, distance_upper_bound=side / 2)
                near += int(np.count_nonzero(np.isfinite(apart)))
    if near <= _SHOWN_NEAR * len(positions):
        return ""
    return (
        f"{near} of {len(positions)} particles lie within {side / 2:.4g} angstrom of one of the other half: "
        "their boxes overlap and share noise, so that the halves agree in more than the structure; --halves "
        "filament, tomogram or position with long stretches keeps them apart"
    )


def _joined(groups: Int64, of: Int64) -> Int64:
    """``(N,)`` units: what is of one group, or a copy, or hangs together through others."""
    from scipy.sparse import coo_array, csgraph

    _, group = np.unique(groups, return_inverse=True)
    _, copy = np.unique(of, return_inverse=True)
    shape = (int(group.max()) + 1, int(copy.max()) + 1)
    size = sum(shape)
    graph = coo_array((np.ones(len(group)), (group.ravel(), shape[0] + copy.ravel())), shape=(size, size))
    _, label = csgraph.connected_components(graph, directed=False)
    return np.asarray(label[group.ravel()], dtype=np.int64)


def _dealt(unit: Int64, seed: int) -> Int64:
    """``(N,)`` 1 or 2: the largest units first, each to the half with fewer particles."""
    rng = generator(seed, Stream.HALVES, 0)
    names, place = np.unique(unit, return_inverse=True)
    size = np.bincount(place.ravel())
    shuffled = rng.permutation(len(names))
    half_of = np.zeros(len(names), np.int64)
    filled = [0, 0]
    for one in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        chosen = int(rng.integers(2)) if filled[0] == filled[1] else int(filled[1] < filled[0])
        half_of[one] = chosen
        filled[chosen] += int(size[one])
    return np.asarray(half_of[place.ravel()] + 1, dtype=np.int64)


def _uneven(half: Int64, by: str) -> tuple[str, ...]:
    counts = np.bincount(half, minlength=3)[1:]
    if counts.min() >= _UNEVEN * counts.sum():
        return ()
    return (
        f"the halves have {counts[0]} and {counts[1]} particles, as what must stay together ({by}) is of "
        "unequal size; the resolution is that of the smaller one at best",
    )


def _other_way(by: str) -> str:
    return "give more particles" if by == "particle" else "give --halves particle, or a table that tells it"


def best_of_halves(half: Int64, score: Float64, fraction: float) -> NDArray[np.bool_]:
    """``(N,)`` the best ``fraction`` of each half by score, at least one of each; NaN is worst of all."""
    kept = np.zeros(len(half), bool)
    value = np.nan_to_num(score, nan=-np.inf)
    for one in np.unique(half):
        rows = np.flatnonzero(half == one)
        count = max(1, round(fraction * len(rows)))
        kept[rows[np.argsort(-value[rows], kind="stable")[:count]]] = True
    return kept
