"""The wedges of a table, as they were told and as the power of the particles shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.subtomo.wedge.contradiction import contradiction
from manyviews.subtomo.wedge.measure import MeasuredWedge, mean_power, measure_wedge
from manyviews.subtomo.wedge.table_transfers import TableTransfers

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

PARTICLES_LOOKED_AT = 60
"""Of each wedge; their power is as clear as that of thousands."""

_WEDGES_APART = 12  # more, such as one a particle, are looked at together


@dataclass(frozen=True, eq=False)
class ComparedWedge:
    """A wedge of a table beside what its particles show.

    Attributes
    ----------
    measured
        What the mean power of some of its particles shows.
    power
        That mean power, ``(box, box, box // 2 + 1)``.
    transfer
        What was told, likewise; of several wedges together the root of their mean square.
    scheme
        What it was told by, where that is one range of tilts; None: several, or a weight volume.
    particles
        How many of the table have it.
    warning
        A sentence where the two contradict each other, else empty.
    """

    measured: MeasuredWedge
    power: Float64
    transfer: Float32
    scheme: TiltScheme | None
    particles: int
    warning: str


def compare_wedges(
    read: Callable[[int], Float32], transfers: TableTransfers, *, most: int = PARTICLES_LOOKED_AT
) -> tuple[ComparedWedge, ...]:
    """Measure each wedge of a table from at most so many of its particles, evenly picked.

    ``read`` gives the volume of a particle. Those that cannot be read, are of another box, or hold NaN or
    nothing are passed over; a wedge without any other is left out.
    """
    compared = []
    groups = list(_groups(transfers))
    for members, numbers in groups:
        picked = members[np.unique(np.linspace(0, len(members) - 1, most).astype(np.int64))]
        try:
            power, count = mean_power(_volumes(read, picked, transfers.box))
        except InputError:
            continue
        measured = measure_wedge(power, count)
        schemes = transfers.schemes(int(numbers[0])) if len(numbers) == 1 else None
        told = _told(transfers, picked)
        said = contradiction(measured, schemes or told)
        of_whom = f"{len(members)} of the particles: " if len(groups) > 1 else ""
        compared.append(
            ComparedWedge(
                measured=measured,
                power=power,
                transfer=told,
                scheme=schemes[0] if schemes and len(schemes) == 1 else None,
                particles=len(members),
                warning=f"{of_whom}{said}" if said else "",
            )
        )
    return tuple(compared)


def _groups(transfers: TableTransfers) -> Iterator[tuple[Int64, Int64]]:
    """Particles ``(n,)`` that are looked at together, and their transfers."""
    numbers = np.unique(transfers.index)
    if len(numbers) > _WEDGES_APART:
        yield np.arange(len(transfers.index)), numbers
        return
    for number in numbers:
        yield np.flatnonzero(transfers.index == number), np.array([number])


def _volumes(read: Callable[[int], Float32], picked: Int64, box: int) -> Iterator[Float32]:
    """Those of the particles that can be used."""
    for number in picked.tolist():
        try:
            volume = read(number)
        except InputError:
            continue
        if volume.shape == (box, box, box) and np.isfinite(volume).all():
            yield volume


def _told(transfers: TableTransfers, picked: Int64) -> Float32:
    """Root of the mean square of the transfers of particles; those that cannot be read are passed over."""
    total, count = np.zeros((transfers.box, transfers.box, transfers.box // 2 + 1)), 0
    numbers, times = np.unique(transfers.index[picked], return_counts=True)
    if len(numbers) == 1:
        return transfers[int(numbers[0])]
    for number, many in zip(numbers.tolist(), times.tolist(), strict=True):
        try:
            one = transfers[number]
        except InputError:
            continue
        total += many * one.astype(np.float64) ** 2
        count += many
    return np.sqrt(total / max(count, 1)).astype(np.float32)
