"""Tomograms in formats that know them by number only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manyviews.io.subtomogram_table import Int64, SubtomogramTable

_MOST_NAMED = 5


@dataclass(frozen=True)
class NumberedTomograms:
    """The names of tomograms, each once, and for each particle which of them."""

    names: tuple[str, ...]
    index: Int64

    @classmethod
    def of(cls, numbers: Int64) -> NumberedTomograms:
        """A number is the name."""
        different, index = np.unique(numbers, return_inverse=True)
        return cls(tuple(str(number) for number in different.tolist()), index.astype(np.int64).reshape(-1))


@dataclass(frozen=True)
class TomogramNumbers:
    """The number of each particle's tomogram, ``(N,)``, and what to say where names became numbers."""

    numbers: Int64
    renamed: dict[str, int]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Which number a name became, for the first few."""
        if not self.renamed:
            return ()
        first = ", ".join(f"{name} = {number}" for name, number in list(self.renamed.items())[:_MOST_NAMED])
        more = ", ..." if len(self.renamed) > _MOST_NAMED else ""
        return (f"the format knows tomograms by number only: {first}{more}",)


def number_tomograms(table: SubtomogramTable) -> TomogramNumbers:
    """Names that are numbers stay; others are counted from 1, in their order. Where none is known it is 0."""
    if table.tomogram_index is None:
        return TomogramNumbers(np.zeros(len(table), dtype=np.int64), {})
    if all(name.isdecimal() and len(name) < 10 and str(int(name)) == name for name in table.tomograms):
        return TomogramNumbers(np.array([int(name) for name in table.tomograms])[table.tomogram_index], {})
    used = np.unique(table.tomogram_index).tolist()
    renamed = {table.tomograms[index]: number for number, index in enumerate(used, start=1)}
    return TomogramNumbers(np.searchsorted(used, table.tomogram_index).astype(np.int64) + 1, renamed)
