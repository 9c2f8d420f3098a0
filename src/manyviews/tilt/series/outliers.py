"""Hot pixels and X-rays in the images of a series: how many, in which sections, and where again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.specks import Specks
from manyviews.parallel.world import World

Int64 = NDArray[np.int64]

_MOST_PLACES = 1000  # of a view that are remembered
_FEWEST_SECTIONS = 3
_SHOWN = 5


@dataclass(frozen=True)
class Outliers:
    """Pixels in specks: ``counts (view,)``, and ``places (k, 3)`` of them, view, row and column as stored."""

    counts: Int64
    places: Int64

    @classmethod
    def gathered(cls, found: dict[int, Specks], views: int, world: World) -> Outliers:
        """From what each rank of a world has found in its views; all ranks make this call."""
        own = [
            [
                [view, row, column]
                for row, column in zip(specks.row.tolist(), specks.column.tolist(), strict=True)
            ]
            for view, specks in found.items()
        ]
        counts = np.zeros(views, np.int64)
        for several in world.gather([[view, len(specks)] for view, specks in found.items()]):
            for view, count in several:
                counts[view] = count
        kept = world.gather([place for places in own for place in places[:_MOST_PLACES]])
        every = np.array([place for places in kept for place in places], np.int64).reshape(-1, 3)
        return cls(counts, every)

    def warnings(self, geometry: TiltGeometry, *, removed: bool) -> Iterator[str]:
        """What to say about each stack, sections counted from 1."""
        for stack in np.unique(geometry.series):
            mine = (geometry.series == stack) & (self.counts > 0)
            if not mine.any():
                continue
            count = int(self.counts[mine].sum())
            pixels = f"{count} pixels stand" if count > 1 else "1 pixel stands"
            done = "replaced by" if removed else "left as they are; --remove-outliers replaces them by"
            yield (
                f"stack {stack + 1}: {pixels} out as hot pixels and X-rays do, in "
                f"{number_runs(geometry.sections[mine] + 1)}: {done} the median around them"
            )
            yield from self._repeated(geometry, int(stack))

    def _repeated(self, geometry: TiltGeometry, stack: int) -> Iterator[str]:
        """Pixels of the camera: those that stand out in half of the sections or more."""
        views = int(np.count_nonzero(geometry.series == stack))
        own = self.places[geometry.series[self.places[:, 0]] == stack]
        places, times = np.unique(own[:, 1:], axis=0, return_counts=True)
        often = np.flatnonzero(times >= max(_FEWEST_SECTIONS, views / 2))
        for row, column, count in zip(
            *places[often[:_SHOWN]].T.tolist(), times[often].tolist(), strict=False
        ):
            yield (
                f"stack {stack + 1}: column {column + 1}, row {row + 1} stands out in {count} of {views} "
                "sections, as a hot pixel of the camera does"
            )
        if len(often) > _SHOWN:
            yield f"stack {stack + 1}: {len(often) - _SHOWN} more pixels do so"

    def rows(self, geometry: TiltGeometry) -> list[tuple[int, int, int]]:
        """Stack and section, from 1, and number of pixels of every view that has some."""
        found = np.flatnonzero(self.counts)
        columns = (geometry.series[found] + 1, geometry.sections[found] + 1, self.counts[found])
        return [
            (int(stack), int(section), int(count)) for stack, section, count in zip(*columns, strict=True)
        ]


def number_runs(numbers: Int64) -> str:
    """Numbers of sections in words, runs of them joined."""
    ordered = sorted(int(number) for number in numbers)
    runs: list[Sequence[int]] = [
        [number for _, number in run]
        for _, run in groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0])
    ]
    shown = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs[: 2 * _SHOWN])
    more = f" and {sum(map(len, runs[2 * _SHOWN :]))} more" if len(runs) > 2 * _SHOWN else ""
    return f"section{'s' if len(ordered) > 1 else ''} {shown}{more}"
