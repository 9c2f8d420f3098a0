"""From files to what is fitted: volumes read one by one, checked, and what was measured of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from manyviews.errors import InputError
from manyviews.parallel.lanes import LANES
from manyviews.parallel.world import World
from manyviews.subtomo.volumes import FourierSubtomograms, SubtomogramMaker

READING = "read subtomograms"

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Allocate = Callable[[tuple[int, ...], DTypeLike], NDArray[np.complex64]]


class Transfers(Protocol):
    """What was measured of N subtomograms, see `manyviews.subtomo.wedge.table_transfers.TableTransfers`."""

    @property
    def box(self) -> int:
        """Voxels along a side."""

    @property
    def index(self) -> Int64:
        """``(N,)`` which transfer is whose."""

    def __getitem__(self, number: int) -> Float32:
        """``(box, box, box // 2 + 1)`` in the layout of ``rfftn``."""


@dataclass(frozen=True)
class Faulty:
    """Why a subtomogram cannot be used: its place among all, from 0, and a few words."""

    number: int
    reason: str


def fault_of(volume: Float32, box: int) -> str:
    """Why a volume cannot be used, in a few words; empty where it can."""
    if volume.shape != (box,) * 3:
        return f"it has {' x '.join(map(str, volume.shape[::-1]))} voxels, not {box} along each side"
    if not np.isfinite(volume).all():
        return "it holds NaN or infinity"
    if float(volume.max()) == float(volume.min()):
        return "it is constant"
    return ""


def read_fourier_subtomograms(
    read: Callable[[int], Float32],
    own: Int64,
    transfers: Transfers,
    *,
    pixel_size: float,
    radius: int,
    diameter: float,
    world: World,
    allocate: Allocate = np.empty,
    tell: Callable[[int], None] = lambda done: None,
) -> tuple[FourierSubtomograms, Int64, list[Faulty]]:
    """The subtomograms of this process, whitened by the noise of those of all.

    Parameters
    ----------
    read
        Gives the volume of a particle.
    own
        ``(n,)`` which particles are this process's.
    transfers
        What was measured of all.
    pixel_size, diameter
        Angstrom.
    radius
        Highest frequency, cycles per box.
    allocate
        Makes the large array.
    tell
        Told how many have been read.

    Returns
    -------
    tuple
        The subtomograms that can be used, ``(m,)`` which of all they are, and those of this process that
        cannot.
    """
    used, index = np.unique(transfers.index[own], return_inverse=True)
    unmeasured: dict[int, str] = {}
    maker = SubtomogramMaker.of(
        _readable(transfers, used.tolist(), unmeasured), transfers.box, pixel_size, radius, diameter
    )
    values = allocate((len(own), len(maker.points)), np.complex64)
    power = np.zeros((LANES, 2, len(maker.points)))
    good: list[int] = []
    faulty: list[Faulty] = []
    for place, number in enumerate(own.tolist()):
        reason = unmeasured.get(int(index[place]), "")
        volume, reason = (None, reason) if reason else usable_volume(read, number, maker.box)
        if volume is None:
            faulty.append(Faulty(number, reason))
        else:
            values[len(good)], seen = maker.coefficients(volume, int(index[place]))
            power[number % LANES] += seen
            good.append(number)
        tell(place + 1)
    total = world.sum(torch.from_numpy(power)).numpy().sum(axis=0)
    kept = np.array(good, dtype=np.int64)
    return maker.whitened(values[: len(good)], index[np.isin(own, kept)], total), kept, faulty


def _readable(transfers: Transfers, numbers: list[int], faults: dict[int, str]) -> Iterator[Float32]:
    """The transfers in order; instead of one that cannot be read, nothing measured, and why, by its place."""
    for place, number in enumerate(numbers):
        try:
            yield transfers[number]
        except InputError as error:
            faults[place] = str(error)
            yield np.zeros((transfers.box, transfers.box, transfers.box // 2 + 1), np.float32)


def usable_volume(read: Callable[[int], Float32], number: int, box: int) -> tuple[Float32 | None, str]:
    """A volume that can be used, or None and why not."""
    try:
        volume = read(number)
    except InputError as error:
        return None, str(error)
    reason = fault_of(volume, box)
    return (None, reason) if reason else (volume, "")
