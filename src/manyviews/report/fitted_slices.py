"""Images that are known by their Fourier coefficients beside the slices of a map that explain them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.operators.fourier_points import insert, shells
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.operators.image_shift import shift_phases
from manyviews.parallel.world import World
from manyviews.report.fitted_images import block_of, shown, shown_size, write_fitted

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_ACROSS = 10.0  # details are shown down to this part of what the images show
_LEAST_PIXELS = 4.0
_REACH = 3.0  # deviations of the low-pass filter, beyond which nothing is projected


@dataclass(frozen=True)
class SeenImages:
    """Coefficients of images, and how each sees the map.

    Attributes
    ----------
    points
        ``(P, 2)`` (kx, ky), see `manyviews.operators.fourier_points.half_plane`; zero frequency
        is not looked at.
    values, transfers
        ``(k, P)`` complex, and what the instrument made of each coefficient.
    rotations, shifts
        ``(k, 3, 3)``, rows are an image's axes in the map; ``(k, 2)`` in pixels, what centres the image.
    box
        Pixels along a side.
    """

    points: NDArray[Any]
    values: NDArray[Any]
    transfers: NDArray[Any]
    rotations: ArrayLike
    shifts: ArrayLike
    box: int


def finest_shown(diameter_pixels: float) -> float:
    """Finest detail of low-passed images of something so wide, in pixels."""
    return max(_LEAST_PIXELS, diameter_pixels / _ACROSS)


def fitted_panels(images: SeenImages, volume: torch.Tensor, finest: float) -> tuple[Float32, Float64]:
    """Images, the same low-passed, and what the map ``(D, D, D)`` explains of these, ``(k, 3, y, x)``.

    Images that thick ice makes weak are explained by a weaker map: its strength is the one that fits best.
    Low-pass filters are Gaussians, half at frequencies of ``finest`` pixels.

    Returns
    -------
    tuple
        The panels, as small as `manyviews.report.fitted_images.shown` makes them, and the correlation
        ``(k,)`` of low-passed images with their reprojections.
    """
    half = images.box / finest
    width = half / np.sqrt(2 * np.log(2))
    shell = shells(images.points)
    near = (shell <= min(_REACH * width, images.box / 2 - 1)) & (shell > 0)  # a mean level tells nothing
    points = np.ascontiguousarray(images.points[near])
    radius = int(shells(points).max())
    filtered = np.exp(-0.5 * np.sum(points.astype(np.float64) ** 2, axis=1) / width**2)
    seen = FourierVolume.of(volume.to("cpu", torch.float32), radius)
    model = seen.slices(np.asarray(images.rotations, np.float32), points).numpy()
    model = model * images.transfers[:, near] * shift_phases(images.shifts, points, images.box).numpy().conj()
    data, model = images.values[:, near] * filtered, model * filtered
    strength, correlation = _regressed(data, model)
    smooth = [
        insert(part.astype(np.complex64), points, images.box) for part in (data, model * strength[:, None])
    ]
    raw = insert(images.values.astype(np.complex64), images.points, images.box)
    panels = [shown(torch.from_numpy(np.ascontiguousarray(part))) for part in (raw, *smooth)]
    return torch.stack(panels, dim=1).numpy().astype(np.float32), correlation


def _regressed(data: NDArray[Any], model: NDArray[Any]) -> tuple[Float64, Float64]:
    """How strong a model is in data ``(k, P)``, not below nothing, and their correlation."""
    cross = np.sum((data * model.conj()).real, axis=1, dtype=np.float64)
    power = [np.sum(np.abs(part) ** 2, axis=1, dtype=np.float64) for part in (data, model)]
    tiny = np.finfo(np.float64).tiny
    return np.maximum(cross / np.maximum(power[1], tiny), 0.0), cross / np.sqrt(
        np.maximum(power[0] * power[1], tiny)
    )


def gathered_panels(
    world: World, count: int, own: NDArray[np.int64], images: SeenImages, volume: torch.Tensor, finest: float
) -> tuple[Float32, Float64]:
    """`fitted_panels` of ``count`` images, ``own`` of which are this process's; all ranks make this call."""
    panels = np.zeros((count, 3, *shown_size((images.box, images.box))), np.float32)
    correlation = np.zeros(count)
    if len(own):
        panels[own], correlation[own] = fitted_panels(images, volume, finest)
    return world.sum(torch.from_numpy(panels)).numpy(), world.sum(torch.from_numpy(correlation)).numpy()


def write_fitted_slices(
    folder: Path, world: World, rows: NDArray[np.int64], own: NDArray[np.int64], images: SeenImages,
    volume: torch.Tensor, *, pixel_size: float, diameter: float,
) -> None:  # fmt: skip
    """Write images of the ``rows`` of a table, from 0, ``own`` of which are this process's; all ranks call.

    Low-passed to a part of the ``diameter`` of what they show, in angstrom as ``pixel_size``.
    """
    finest = finest_shown(diameter / pixel_size)
    panels, correlation = gathered_panels(world, len(rows), own, images, volume, finest)
    if world.rank == 0:
        words = [f"{row + 1}: {value:.2f}" for row, value in zip(rows, correlation, strict=True)]
        shown_pixel = pixel_size * block_of((images.box, images.box))
        write_fitted(folder, panels, words, shown_pixel, finest * pixel_size)
