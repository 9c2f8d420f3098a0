"""The wedges that a table tells, beside those that its particles show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.subtomo.inputs import Subtomograms
from manyviews.subtomo.load import fault_of
from manyviews.subtomo.wedge.contradiction import contradiction
from manyviews.subtomo.wedge.measure import MeasuredWedge, mean_power, measure_wedge
from manyviews.subtomo.wedge_views import WedgeView, wedge_view

Int64 = NDArray[np.int64]

_MOST_WEDGES = 4  # looked at: those with the most particles
_MOST_PARTICLES = 60  # read for each
_LEAST_PARTICLES = 5  # of one wedge, for what they show to be worth telling


@dataclass(frozen=True)
class SeenWedge:
    """A wedge told and seen: its ``view`` for the report, what was ``measured``, and a ``warning`` or ""."""

    view: WedgeView
    measured: MeasuredWedge
    warning: str


def seen_wedges(given: Subtomograms, places: Int64) -> list[SeenWedge]:
    """Measure the wedges that most of some particles are said to have; reads up to 60 volumes of each.

    ``places`` are rows of the table. Of a wedge with fewer than five particles nothing is told.
    """
    index = given.transfers.index[places]
    numbers, counts = np.unique(index, return_counts=True)
    most = numbers[np.argsort(-counts, kind="stable")][:_MOST_WEDGES]
    found = []
    for number in most.tolist():
        own = places[index == number]
        if len(own) < _LEAST_PARTICLES:
            continue
        chosen = own[np.linspace(0, len(own) - 1, min(len(own), _MOST_PARTICLES)).round().astype(int)]
        found.append(_seen(given, number, chosen))
    return found


def _seen(given: Subtomograms, number: int, chosen: Int64) -> SeenWedge:
    power, count = mean_power(_sound(given, chosen))
    measured = measure_wedge(power, count)
    schemes = given.transfers.schemes(number)
    transfer = given.transfers[number]
    told = contradiction(measured, schemes or transfer)
    scheme = schemes[0] if schemes is not None and len(schemes) == 1 else None
    return SeenWedge(wedge_view(power, measured, transfer, scheme), measured, told or "")


def _sound(given: Subtomograms, chosen: Int64) -> Iterator[NDArray[np.float32]]:
    for number in chosen.tolist():
        volume = given.read(number)
        if not fault_of(volume, given.box):
            yield volume
