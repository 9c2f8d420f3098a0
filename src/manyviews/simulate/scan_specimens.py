"""Specimens for scans about an axis: all of them within a cylinder, so that nothing leaves the detector.

Lengths are in pixels. Tubes and fibres are chains of Gaussians close enough to be smooth, so that they bend
with whatever deforms them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from manyviews.errors import InputError, quoted
from manyviews.random import Stream, generator
from manyviews.simulate.phantoms import Ellipsoids, Gaussians, Phantom

Float64 = NDArray[np.float64]
Specimen = Literal["tubes", "fibres", "ellipsoids", "tissue"]

_SPACING = 1.2  # of a chain's Gaussians, in their sigma: their sum ripples by 1e-6
_REACH = 3.0  # sigma that a chain keeps from the cylinder
_BORDER = 2.0
_TRIES = 1000
_HOLLOW = 0.6  # sigma of the hole of a tube, in that of the tube
_SMALLEST = 12.0


@dataclass(frozen=True)
class Cylinder:
    """Room for a specimen: ``radius`` about the axis z, and ``half_height``."""

    radius: float
    half_height: float

    @classmethod
    def within(cls, shape: tuple[int, int], displacement: float) -> Cylinder:
        """The room on a detector ``(z, x)`` for what may be displaced by so much.

        `InputError` if hardly any is left.
        """
        rows, columns = shape
        room = cls((columns - 1) / 2 - displacement - _BORDER, (rows - 1) / 2 - displacement - _BORDER)
        if 2 * min(room.radius, room.half_height) < _SMALLEST:
            raise InputError(
                f"a detector of {columns} x {rows} pixels leaves no room for a specimen that moves by"
                f" {displacement:.3g}",
                where="--size",
                fix="make it larger, or move the specimen less",
            )
        return room

    def point(self, rng: np.random.Generator, reach: float) -> Float64:
        """A point ``(x, y, z)`` evenly drawn among those that keep ``reach`` from the sides."""
        radius = max(self.radius - reach, 0.0) * np.sqrt(rng.uniform())
        turn = rng.uniform(0, 2 * np.pi)
        height = max(self.half_height - reach, 0.0) * rng.uniform(-1, 1)
        return np.array([radius * np.cos(turn), radius * np.sin(turn), height])


def scan_specimen(kind: str, shape: tuple[int, int], displacement: float, seed: int) -> Phantom:
    """A specimen for a detector ``(z, x)`` that stays on it when displaced by so many pixels.

    ``tubes``, hollow, few, as in the paper; ``fibres``, thin and bent; ``ellipsoids`` with sharp edges;
    ``tissue``, fine grains with some cells and hollow tubes. `InputError` if there is no such specimen, or
    no room.
    """
    if kind not in get_args(Specimen):
        raise InputError(f"there is no specimen {quoted(kind)}", where="--specimen")
    room = Cylinder.within(shape, displacement)
    rng = generator(seed, Stream.SCAN_SPECIMEN)
    if kind == "ellipsoids":
        return _ellipsoids(room, rng)
    makers = {"tubes": _tubes, "fibres": _fibres, "tissue": _tissue}
    return Gaussians.concatenate(makers[kind](room, rng))


def _tubes(room: Cylinder, rng: np.random.Generator, count: int = 7, bend: float = 0.0) -> list[Gaussians]:
    """Hollow tubes, each of its own density."""
    parts = []
    for _ in range(count):
        sigma = max(1.2, room.radius * rng.uniform(0.05, 0.10))
        line = _line(room, rng, _REACH * sigma, bend)
        value = rng.uniform(0.6, 1.0)
        parts += [_chain(line, sigma, value), _chain(line, _HOLLOW * sigma, -value)]
    return parts


def _fibres(room: Cylinder, rng: np.random.Generator, count: int = 60) -> list[Gaussians]:
    """Thin bent fibres."""
    parts = []
    for _ in range(count):
        sigma = max(0.9, room.radius * rng.uniform(0.012, 0.025))
        parts.append(_chain(_line(room, rng, _REACH * sigma, 1.0), sigma, rng.uniform(0.5, 1.0)))
    return parts


def _tissue(room: Cylinder, rng: np.random.Generator, grains: int = 600) -> list[Gaussians]:
    """Grains of many sizes, a few large soft cells, and bent hollow tubes."""
    sigma = np.maximum(0.9, room.radius * np.exp(rng.uniform(np.log(0.012), np.log(0.06), grains)))
    centre = np.array([room.point(rng, _REACH * width) for width in sigma])
    parts = [Gaussians.isotropic(rng.uniform(0.1, 0.5, grains), centre, sigma)]
    wide = room.radius * rng.uniform(0.10, 0.16, 4)
    centre = np.array([room.point(rng, _REACH * width) for width in wide])
    parts.append(Gaussians.isotropic(rng.uniform(0.2, 0.4, 4), centre, wide))
    return parts + _tubes(room, rng, count=5, bend=1.0)


def _ellipsoids(room: Cylinder, rng: np.random.Generator, count: int = 40) -> Ellipsoids:
    longest = 0.25 * min(room.radius, room.half_height)
    semi_axes = rng.uniform(0.15 * longest, longest, (count, 3))
    centre = np.array([room.point(rng, float(axes.max())) for axes in semi_axes])
    turn = Rotation.random(count, random_state=rng).as_matrix()
    return Ellipsoids(rng.uniform(0.3, 1.0, count), centre, semi_axes, turn)


def _line(room: Cylinder, rng: np.random.Generator, reach: float, bend: float) -> Float64:
    """Ends and middle ``(3, 3)`` of a parabola as long as half the room; ``bend`` 0: straight."""
    least = min(room.radius, room.half_height)
    for _ in range(_TRIES):
        first, last = room.point(rng, reach), room.point(rng, reach)
        if np.linalg.norm(last - first) >= least:
            break
    straight = (first + last) / 2
    return np.stack([first, straight + bend * (room.point(rng, reach) - straight), last])


def _chain(line: Float64, sigma: float, value: float) -> Gaussians:
    """Gaussians along a parabola (Bezier's, by its three points) that add up to ``value`` on it."""
    fine = _parabola(line, np.linspace(0, 1, 200))
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    count = max(2, int(np.ceil(along[-1] / (_SPACING * sigma))) + 1)
    places = np.linspace(0, along[-1], count)
    centre = np.stack([np.interp(places, along, part) for part in fine.T], axis=1)
    peak = value * (places[1] - places[0]) / (sigma * np.sqrt(2 * np.pi))
    return Gaussians.isotropic(np.full(count, peak), centre, sigma)


def _parabola(line: Float64, at: Float64) -> Float64:
    first, middle, last = line
    t = at[:, None]
    return np.asarray((1 - t) ** 2 * first + 2 * t * (1 - t) * middle + t**2 * last)
