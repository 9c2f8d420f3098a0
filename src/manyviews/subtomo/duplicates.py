"""Particles that were picked twice, or that have moved onto one another: of those the best is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.io.tables import write_table
from manyviews.metrics.neighbours import first_of_group, near_pairs

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

DUPLICATES_FILE = "duplicates.csv"


@dataclass(frozen=True)
class Duplicates:
    """Which particles stay, ``N`` of them.

    Attributes
    ----------
    of
        ``(N,)`` the particle that stays in the place of each, from 0: itself where it stays.
    distances
        ``(N,)`` angstrom from it, centre to centre.
    min_distance
        Angstrom, within which two are taken for one.
    """

    of: Int64
    distances: Float64
    min_distance: float

    @property
    def kept(self) -> Bool:
        """``(N,)`` whether a particle stays."""
        return np.asarray(self.of == np.arange(len(self.of)))

    def warning(self) -> str:
        """A sentence on those that do not stay, empty where there are none."""
        left = int(np.count_nonzero(~self.kept))
        if not left:
            return ""
        many = f"{left} particles lie" if left > 1 else "1 particle lies"
        return (
            f"{many} within {self.min_distance:g} angstrom of a better one of the same tomogram, centre to "
            f"centre, and {'are' if left > 1 else 'is'} left out"
        )

    def write(self, path: Path, *, overwrite: bool = True) -> None:
        """Write ``particle,duplicate_of,distance_angstrom`` of those that do not stay, counted from 1."""
        gone = np.flatnonzero(~self.kept)
        rows = ((row + 1, self.of[row] + 1, f"{self.distances[row]:.3f}") for row in gone)
        write_table(path, ("particle", "duplicate_of", "distance_angstrom"), rows, overwrite=overwrite)


def find_duplicates(
    positions: Float64, tomogram: Int64, min_distance: float, score: Float64 | None = None
) -> Duplicates:
    """Particles within a distance of a better one that stays, in the same tomogram.

    The best of all stays, then the best of those that are not too near to it, and so on; so of three in a row
    both ends stay where only the middle one is near to them, and not the best.

    Parameters
    ----------
    positions
        ``(N, 3)`` angstrom (x, y, z), where the particles sit, their shifts taken into account.
    tomogram
        ``(N,)`` which tomogram each is from.
    min_distance
        Angstrom between centres; at that distance two still count as one.
    score
        ``(N,)``, higher is better, NaN worst of all; of equals, and where it is left out, the first is kept.

    Raises
    ------
    ValueError
        If a position is not finite.
    """
    from scipy.spatial import cKDTree

    count = len(positions)
    of, distances = np.arange(count), np.zeros(count)
    value = np.zeros(count) if score is None else np.nan_to_num(score, nan=-np.inf)
    for one in np.unique(tomogram):
        rows = np.flatnonzero(tomogram == one)
        places = positions[rows]
        tree = cKDTree(places)
        decided = np.zeros(len(rows), bool)
        for best in np.argsort(-value[rows], kind="stable"):
            if decided[best]:
                continue
            near = np.array(tree.query_ball_point(places[best], min_distance), dtype=np.int64)
            near = near[~decided[near]]
            decided[near] = True
            of[rows[near]] = rows[best]
            distances[rows[near]] = np.linalg.norm(places[near] - places[best], axis=1)
    return Duplicates(of, distances, min_distance)


def copies_of(positions: Float64, tomogram: Int64, min_distance: float) -> Int64:
    """``(N,)`` the first of all that each hangs together with, over steps shorter than a distance."""
    if min_distance <= 0:
        return np.arange(len(positions))
    _, number = np.unique(tomogram, return_inverse=True)
    apart = 2 * min_distance * number.ravel()  # from one tomogram to the next
    return first_of_group(near_pairs(np.column_stack([positions, apart]), min_distance), len(positions))
