"""How well the particles agree with the map, and what leaving out the worst of them does.

``scores.csv`` has a row a particle: ``particle,half,score,kept``, counted from 1, half 1 or 2 (0: none), kept
1 or 0. ``rejection.csv`` has a row for each share that was tried:
``fraction_kept,resolution_angstrom,lowest_score``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.tables import read_numbers, require_ordinary, write_table

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

SCORES_FILE = "scores.csv"
REJECTION_FILE = "rejection.csv"
_SCORES = ("particle", "half", "score", "kept")
_REJECTION = ("fraction_kept", "resolution_angstrom", "lowest_score")
_MOST = 1e12


@dataclass(frozen=True)
class Scores:
    """``half`` 0, 1 or 2, ``score`` (NaN: none) and ``kept``, ``(N,)`` each."""

    half: Int64
    score: Float64
    kept: Bool

    @property
    def threshold(self) -> float:
        """The score between the worst that is kept and the best that is not; NaN where there is none.

        There is none either where particles were left out for other reasons, or each half has its own.
        """
        known = np.isfinite(self.score)
        inside, outside = self.score[known & self.kept], self.score[known & ~self.kept]
        if not len(inside) or not len(outside) or outside.max() > inside.min():
            return math.nan
        return float(outside.max() + inside.min()) / 2


@dataclass(frozen=True)
class Rejection:
    """``fraction_kept`` from 0 to 1, the resolution then, NaN for none, and the worst score: ``(n,)``."""

    fraction_kept: Float64
    resolution_angstrom: Float64
    lowest_score: Float64


def write_scores(path: Path, scores: Scores) -> None:
    """Write ``scores.csv``."""
    columns = zip(scores.half.tolist(), scores.score.tolist(), scores.kept.tolist(), strict=True)
    rows = ((row, half, _text(score), int(kept)) for row, (half, score, kept) in enumerate(columns, start=1))
    write_table(path, _SCORES, rows)


def read_scores(path: Path) -> Scores | None:
    """The scores, None if there is no file; `InputError` if it cannot be read."""
    table = read_numbers(path, _SCORES)
    if not len(table):
        return None
    require_ordinary(np.nan_to_num(table[:, 2:3]), path, least=-_MOST, most=_MOST)
    require_ordinary(table[:, [1, 3]], path, least=0, most=2)
    return Scores(table[:, 1].astype(np.int64), table[:, 2], table[:, 3] > 0)


def write_rejection(path: Path, curve: Rejection) -> None:
    """Write ``rejection.csv``."""
    rows = zip(curve.fraction_kept, curve.resolution_angstrom, curve.lowest_score, strict=True)
    write_table(path, _REJECTION, ([_text(float(value)) for value in row] for row in rows))


def read_rejection(path: Path) -> Rejection | None:
    """The curve, by rising fraction; None if there is no file; `InputError` if it cannot be read."""
    table = read_numbers(path, _REJECTION)
    if not len(table):
        return None
    require_ordinary(np.nan_to_num(table), path, least=-_MOST, most=_MOST)
    if not ((table[:, 0] > 0) & (table[:, 0] <= 1)).all():
        raise InputError("a fraction is not between 0 and 1", path=path)
    ordered = table[np.argsort(table[:, 0])]
    return Rejection(*ordered.T)


def _text(value: float) -> str:
    return f"{value:.7g}" if math.isfinite(value) else ""
