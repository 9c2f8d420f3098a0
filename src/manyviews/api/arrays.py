"""Projection, back-projection and comparison of NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError, quoted
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.metrics.fsc import fsc

if TYPE_CHECKING:
    from manyviews.operators.tilt_projector import TiltProjector

__all__ = ["TiltGeometry", "backproject", "fsc", "project", "read_mrc", "write_mrc"]

RealArray = NDArray[np.floating[Any]]


def project(
    volume: ArrayLike,
    geometry: TiltGeometry,
    image_shape: tuple[int, int] | None = None,
    pixel_size: float = 1.0,
) -> RealArray:
    """Project a volume along the views of a geometry.

    Parameters
    ----------
    volume
        ``(z, y, x)``; float32 and float64 keep their type, other numbers become float32.
    image_shape
        ``(y, x)`` of the images; left out: as wide and high as the volume.
    pixel_size
        Angstrom, the unit of the shifts in the geometry.

    Returns
    -------
    array
        ``(view, y, x)``, sums of voxels along rays.

    Raises
    ------
    InputError
        If a shape, the geometry or the pixel size cannot be.
    """
    import torch

    given = real_array(volume, "volume", "(z, y, x)")
    projector = _projector(
        geometry, given.shape, given.shape[1:] if image_shape is None else image_shape, pixel_size
    )
    images: RealArray = projector.forward(torch.from_numpy(given)).numpy()
    return images


def backproject(
    images: ArrayLike, geometry: TiltGeometry, thickness: int, pixel_size: float = 1.0
) -> RealArray:
    """Back-project images: the exact adjoint of `project`, not its inverse; types and errors as there.

    Parameters
    ----------
    images
        ``(view, y, x)``, one for each view of the geometry.
    thickness
        Slices (z) of the volume; it is as wide and high as the images.

    Returns
    -------
    array
        ``(thickness, y, x)``.
    """
    import torch

    given = real_array(images, "images", "(view, y, x)")
    image_shape = given.shape[1:]
    projector = _projector(geometry, (thickness, *image_shape), image_shape, pixel_size)
    if given.shape != projector.range:
        raise InputError(
            f"the images are {given.shape} but the geometry wants {projector.range}",
            fix="give one image for each view, or select the views of the geometry",
        )
    volume: RealArray = projector.adjoint(torch.from_numpy(given)).numpy()
    return volume


def real_array(array: ArrayLike, name: str, axes: str) -> RealArray:
    """The array, of three axes, as the kernels take it; `InputError` where that cannot be."""
    given = np.asarray(array)
    if given.ndim != 3 or 0 in given.shape:
        raise InputError(f"the {name} has shape {given.shape}, not three axes {axes} with something in them")
    if given.dtype.kind not in "fiub":
        raise InputError(f"the {name} holds {given.dtype}, not real numbers")
    dtype = np.float64 if given.dtype.kind == "f" and given.dtype.itemsize > 4 else np.float32
    # a copy where torch could not share the memory: strides below zero, other byte orders, read-only
    return np.require(given, dtype, ["C", "W"])


def require_geometry(geometry: object) -> TiltGeometry:
    """The geometry of at least one view; `InputError` if it is none."""
    if not isinstance(geometry, TiltGeometry) or len(geometry) == 0:
        raise InputError(
            f"views come as a TiltGeometry with at least one of them, not as {type(geometry).__name__}",
            fix="make one with manyviews.TiltGeometry.from_angles(tilts, axis_degrees)",
        )
    return geometry


def positive_pixel_size(pixel_size: object) -> float:
    """In angstrom; `InputError` if it is no positive number."""
    number = getattr(pixel_size, "item", lambda: pixel_size)()  # one of NumPy
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < np.inf:
        raise InputError(f"the pixel size {quoted(pixel_size)} is not a positive number", fix="give angstrom")
    return float(number)


def _projector(
    geometry: TiltGeometry, volume_shape: tuple[int, ...], image_shape: tuple[int, ...], pixel_size: float
) -> TiltProjector:
    from manyviews.operators.tilt_projector import TiltProjector

    views = require_geometry(geometry)
    sizes = [*volume_shape, *image_shape]
    if len(sizes) != 5 or not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        raise InputError(
            f"a volume of shape {volume_shape} and images of shape {image_shape} cannot be",
            fix="give whole numbers from 1 on: (z, y, x) and (y, x)",
        )
    depth, rows, columns, *image = map(int, sizes)
    size = positive_pixel_size(pixel_size)
    return TiltProjector(views, (depth, rows, columns), (image[0], image[1]), size)
