"""Specimens and projections that deform while they are looked at, in two kinds.

``move``: every point keeps its density, so what shrinks holds less. ``mass``: what shrinks becomes denser.

A specimen deforms as X -> X + amount U(X), U a smooth field. Its parts, Gaussians or ellipsoids, move by the
field at their centres and are sheared by its slopes there, so density and projections stay formulas. A
projection deforms as it is read at moved places, p(y + amount F(y)), times the determinant of the slopes of
that where mass is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manyviews.simulate.phantoms import Ellipsoids, Gaussians, Phantom
from manyviews.simulate.smooth_fields import SmoothField

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Kept = Literal["move", "mass"]

_RATE = 3.0
_INVERSE_STEPS = 50
_INVERSE_PIXELS = 1e-4


def growth(time: Float64) -> Float64:
    """How far the deformation has gone at times from 0 to 1: 1 - exp(-3 t), scaled to end at 1.

    Nikitin et al. 2021, section 3: damage by radiation slows down.
    """
    return np.asarray((1 - np.exp(-_RATE * time)) / (1 - np.exp(-_RATE)), dtype=np.float64)


def deformed_specimen(specimen: Phantom, field: SmoothField, amount: float, kept: Kept) -> Phantom:
    """A specimen of Gaussians or ellipsoids in a field ``(x, y, z)``, in its units of length.

    `ValueError` for another kind of specimen.
    """
    if isinstance(specimen, Gaussians):
        centre, slope, factor = _local(specimen.centre, field, amount, kept)
        covariance = slope @ specimen.covariance @ slope.transpose(0, 2, 1)
        return Gaussians(specimen.amplitude * factor, centre, covariance)
    if isinstance(specimen, Ellipsoids):
        centre, slope, factor = _local(specimen.centre, field, amount, kept)
        stretched = slope @ (specimen.rotation * specimen.semi_axes[:, None, :])
        rotation, semi_axes, _ = np.linalg.svd(stretched)
        return Ellipsoids(specimen.value * factor, centre, semi_axes, rotation)
    raise ValueError(f"{type(specimen).__name__} cannot be deformed")


def places_of(specimen: Phantom) -> Float64:
    """Centres ``(n, 3)`` of the parts of a specimen; `ValueError` as of `deformed_specimen`."""
    if isinstance(specimen, Gaussians | Ellipsoids):
        return specimen.centre
    raise ValueError(f"{type(specimen).__name__} has no parts")


def weighed(specimen: Phantom, weights: Float64) -> Phantom:
    """A specimen whose parts have densities multiplied by ``weights (n,)``; `ValueError` as above."""
    if isinstance(specimen, Gaussians):
        return replace(specimen, amplitude=specimen.amplitude * weights)
    if isinstance(specimen, Ellipsoids):
        return replace(specimen, value=specimen.value * weights)
    raise ValueError(f"{type(specimen).__name__} has no parts")


def _local(
    centre: Float64, field: SmoothField, amount: float, kept: Kept
) -> tuple[Float64, Float64, Float64]:
    """New centres ``(n, 3)``, the maps ``(n, 3, 3)`` around them, and factors ``(n,)`` of density."""
    slope = np.eye(3) + amount * field.slopes(centre)
    factor = 1 / np.abs(np.linalg.det(slope)) if kept == "mass" else np.ones(len(centre))
    return centre + amount * field.at(centre), slope, factor


@dataclass(frozen=True)
class FlowPattern:
    """A smooth displacement of an image at all its pixels, the longest of length 1.

    ``flow (2, z, x)`` is along x (columns), then along z (rows); ``slopes (2, 2, z, x)`` are its derivatives
    by x and by z.
    """

    flow: Float64
    slopes: Float64

    @classmethod
    def random(cls, rng: np.random.Generator, shape: tuple[int, int], points: int = 3) -> FlowPattern:
        """Drawn for images ``(z, x)``."""
        rows, columns = shape
        half = np.array([(columns - 1) / 2, (rows - 1) / 2])
        field = SmoothField.random(rng, np.maximum(half, 0.5), points)
        z, x = np.meshgrid(np.arange(rows) - half[1], np.arange(columns) - half[0], indexing="ij")
        places = np.stack([x, z], axis=-1).reshape(-1, 2)
        flow = field.at(places).T.reshape(2, rows, columns)
        slopes = field.slopes(places).transpose(1, 2, 0).reshape(2, 2, rows, columns)
        return cls(flow, slopes)

    def determinant(self, amount: float) -> Float64:
        """``(z, x)``: how much larger areas are where the image is read, for ``amount`` times the flow."""
        (xx, xz), (zx, zz) = amount * self.slopes
        return np.asarray((1 + xx) * (1 + zz) - xz * zx)

    def deform(self, image: Float32, amount: float, kept: Kept) -> Float32:
        """An image ``(z, x)`` read at places moved by ``amount`` times the flow; beyond it its edge."""
        found = read_at(image, amount * self.flow)
        if kept == "mass":
            found = found * np.abs(self.determinant(amount))
        return found.astype(np.float32)


def read_at(image: NDArray[np.floating], flow: Float64) -> Float64:
    """``image(z + flow_z, x + flow_x)`` by cubic splines, ``(z, x)``; beyond the image its edge."""
    rows, columns = image.shape
    z, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    places = [np.clip(z + flow[1], 0, rows - 1), np.clip(x + flow[0], 0, columns - 1)]
    return np.asarray(ndimage.map_coordinates(image.astype(np.float64), places, order=3, mode="mirror"))


def inverse_flow(flow: Float64) -> Float64:
    """The flow g that takes back f, both ``(2, z, x)``: g(x) = -f(x + g(x)), by repetition.

    What is read at y + f(y) has come from there, so g says where the mass at x goes.
    """
    found = -flow
    for _ in range(_INVERSE_STEPS):
        step = np.stack([-read_at(part, found) for part in flow]) - found
        found = found + step
        if np.abs(step).max() < _INVERSE_PIXELS:
            break
    return found
