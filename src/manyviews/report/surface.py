"""The surface of a map as an image: parallel rays, the first crossing of a level, light from the front.

The gradient of the map is the normal of its surface: Levoy, IEEE Computer Graphics and Applications 8(3)
(1988) 29.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]

_LIGHT = np.array([-0.35, 0.45, 0.82])  # from the upper left, in front; x, y up, z towards the viewer
_AMBIENT = 0.22
_BLUR_VOXELS = 0.7


def level_by_mass(volume: RealArray, share: float = 0.7) -> float:
    """The level above which the voxels hold ``share`` of all the density above zero; 0 if there is none."""
    positive = np.sort(np.asarray(volume, dtype=np.float64)[volume > 0])[::-1]
    if not len(positive):
        return 0.0
    held = np.cumsum(positive)
    return float(positive[min(len(positive) - 1, np.searchsorted(held, share * held[-1]))])


def smooth_and_fine(volume: RealArray, factor: int = 2) -> Float32:
    """``factor`` times as many voxels along each side, by zero-padding the transform.

    The map is blurred by 0.7 voxels. The first voxel stays where it is: index ``factor * i`` of the result is
    index ``i`` of the volume.
    """
    side = volume.shape[0]
    spectrum = ndimage.fourier_gaussian(fft.rfftn(volume), _BLUR_VOXELS, n=volume.shape[2])
    if factor == 1:
        return np.asarray(fft.irfftn(spectrum, volume.shape), dtype=np.float32)
    wide = np.zeros((factor * side, factor * side, factor * side // 2 + 1), dtype=spectrum.dtype)
    top = (side - 1) // 2
    order, columns = np.arange(-top, top + 1), np.arange(top + 1)
    wide[np.ix_(order, order, columns)] = spectrum[np.ix_(order, order, columns)]
    return np.asarray(fft.irfftn(wide, (factor * side,) * 3) * factor**3, dtype=np.float32)


def surface_image(volume: RealArray, level: float, rotation: Float64, centre: float, pixels: int) -> Float32:
    """Brightness of the surface at a level, seen along the z axis from above.

    The surface is where the map ``(D, D, D)`` (z, y, x) first rises above the level. The map is turned about
    the point with index ``centre`` by ``rotation``, 3x3 on (x, y, z), before it is looked at; the image shows
    its whole width.

    Returns
    -------
    ``(pixels, pixels)`` from 0 to 1, row 0 at the bottom (y points up); NaN where no surface is met.
    """
    side = len(volume)
    step = side / pixels
    along = ((np.arange(pixels) - pixels / 2 + 0.5) * step).astype(np.float64)
    turned = _turned(np.asarray(volume, dtype=np.float32), rotation, along, centre)
    turned = turned[::-1]  # the viewer's side first
    above = turned > level
    first = above.argmax(axis=0)
    hit = above.any(axis=0)
    y, x = np.nonzero(hit)
    z = first[hit]
    before = turned[np.maximum(z - 1, 0), y, x]
    here = turned[z, y, x]
    part = np.where(z > 0, (level - before) / np.maximum(here - before, 1e-30), 1.0)
    normal = _normals(turned, z, y, x, part)
    image = np.full((pixels, pixels), np.nan, np.float32)
    lit = np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    depth = (z - 1 + part) / pixels  # what is farther away is a little darker
    image[hit] = (_AMBIENT + (1 - _AMBIENT) * lit) * (1 - 0.35 * depth)
    return image


def _turned(volume: Float32, rotation: Float64, along: Float64, centre: float) -> Float32:
    """``turned(X) = volume(R^T X)`` at the places ``along`` each axis, (z, y, x)."""
    matrix = np.asarray(rotation, dtype=np.float64).T[::-1, ::-1]
    step = along[1] - along[0]
    offset = centre + matrix @ np.full(3, along[0])
    size = (len(along),) * 3
    return np.asarray(
        ndimage.affine_transform(volume, step * matrix, offset, size, order=1, mode="constant", cval=0.0)
    )


def _normals(
    turned: Float32, z: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64], part: RealArray
) -> Float64:
    """Unit vectors ``(n, 3)`` (x, y, z) against the gradient, between two samples of each ray."""
    last = len(turned) - 1

    def slope(depth: NDArray[np.int64]) -> Float64:
        depth = np.clip(depth, 0, last)
        right, left = turned[depth, y, np.minimum(x + 1, last)], turned[depth, y, np.maximum(x - 1, 0)]
        up, down = turned[depth, np.minimum(y + 1, last), x], turned[depth, np.maximum(y - 1, 0), x]
        behind, front = turned[np.minimum(depth + 1, last), y, x], turned[np.maximum(depth - 1, 0), y, x]
        return np.stack([left - right, down - up, behind - front], axis=1).astype(np.float64)

    normal = (1 - part)[:, None] * slope(z - 1) + part[:, None] * slope(z)
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30))


def three_views() -> tuple[tuple[str, Float64], ...]:
    """Names and rotations (x, y, z) of the views that a report shows: down z, down y, down x."""
    from_z = np.eye(3)
    from_y = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # x stays to the right, z points up
    from_x = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])  # y to the right, z up
    return (("along z", from_z), ("along y", from_y), ("along x", from_x))
