"""Lay one map over another: the rotation, shift and hand that make two volumes agree best.

The search works on transforms (`manyviews.alignment.map_search`); only the last step interpolates the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from manyviews.alignment.map_search import find_placement
from manyviews.metrics.correlation import ncc
from manyviews.metrics.fsc import FscCurve, fsc

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class MapAlignment:
    """How a map was moved onto a reference: ``aligned(X) = moving(h R^T (X - t))``, X from the centre.

    Attributes
    ----------
    rotation
        ``R``, 3x3, on (x, y, z).
    shift
        ``t``, ``(3,)`` (x, y, z) in angstrom, after the rotation.
    mirrored
        Whether the other hand was taken, ``h = -1``: the map is inverted through its centre first. Inverting
        a map is seen in its projections as half a turn in their plane.
    correlation
        Normalised correlation of the moved map with the reference, both inside the mask.
    volume
        ``(z, y, x)`` float32, the moved map, less its grey level at the rim of the sphere.
    """

    rotation: Float64
    shift: Float64
    mirrored: bool
    correlation: float
    volume: Float32


def align_map(
    moving: RealArray,
    reference: RealArray,
    pixel_size: float,
    *,
    radius: float | None = None,
    hands: bool = True,
) -> MapAlignment:
    """Find how a map lies best over a reference, from nothing, and move it there.

    Takes about 2 s of one core for 64^3. Maps of a symmetric particle have several equal answers; one of them
    is found.

    Parameters
    ----------
    moving, reference
        ``(D, D, D)``, the origin at index ``D // 2``; scale and offset do not matter.
    pixel_size
        Angstrom, of both.
    radius
        Angstrom: only the sphere of this radius around the centre is compared, with a soft edge. Left out:
        the largest sphere in the box.
    hands
        Try the other hand too.

    Raises
    ------
    ValueError
        If the maps are not cubes of one size, or either is constant in the sphere.
    """
    if moving.ndim != 3 or moving.shape != reference.shape or len(set(moving.shape)) != 1:
        raise ValueError(f"cubes of one size can be aligned, not {moving.shape} and {reference.shape}")
    box = moving.shape[0]
    mask = soft_sphere(box, box / 2 if radius is None else radius / pixel_size)
    moving, reference = _levelled(moving, mask), _levelled(reference, mask)
    found = find_placement(moving * mask, reference * mask, hands=hands)
    volume = move_map(moving, found.rotation, found.shift, mirrored=found.mirrored)
    return MapAlignment(
        rotation=found.rotation,
        shift=found.shift * pixel_size,
        mirrored=found.mirrored,
        correlation=ncc(volume, reference, mask),
        volume=volume,
    )


def aligned_fsc(
    moving: RealArray,
    reference: RealArray,
    pixel_size: float,
    *,
    radius: float | None = None,
    hands: bool = True,
) -> tuple[FscCurve, MapAlignment]:
    """Fourier shell correlation with a reference after `align_map`, whose parameters and errors these are.

    The curve, too, is of both maps inside the soft sphere: what turns into and out of the corners of a cube
    would make it depend on how the map lay before.
    """
    alignment = align_map(moving, reference, pixel_size, radius=radius, hands=hands)
    box = len(reference)
    mask = soft_sphere(box, box / 2 if radius is None else radius / pixel_size)
    curve = fsc(alignment.volume, _levelled(reference, mask), pixel_size, mask=mask)
    return curve, alignment


def move_map(
    volume: RealArray, rotation: Float64, shift_voxels: Float64, *, mirrored: bool = False
) -> Float32:
    """A map ``(D, D, D)`` turned about its centre and shifted: ``moved(X) = volume(h R^T (X - t))``, float32.

    The map is sampled twice as finely by zero-padding its transform and then interpolated by cubic splines,
    which keeps 0.99 of the amplitude at 0.8 of the Nyquist frequency. What comes from outside the box is
    zero. Memory: 20 times the volume. ``rotation`` is 3x3 on (x, y, z), ``shift_voxels (3,)`` (x, y, z);
    ``mirrored``: the map is inverted through its centre first (``h = -1``).
    """
    from scipy import ndimage  # takes long to import, and known poses move no map

    box = len(volume)
    fine = _twice_as_fine(np.asarray(volume, dtype=np.float32))
    turn = (-1 if mirrored else 1) * np.asarray(rotation, dtype=np.float64).T
    forward = turn[::-1, ::-1]  # (z, y, x)
    offset = box // 2 - forward @ (box // 2 + np.asarray(shift_voxels, dtype=np.float64)[::-1])
    coefficients = ndimage.spline_filter(fine, order=3, output=np.float32, mode="grid-wrap")
    moved = ndimage.affine_transform(
        coefficients,
        2 * forward,
        offset=2 * offset,
        output_shape=volume.shape,
        output=np.float32,
        order=3,
        mode="grid-constant",
        prefilter=False,
    )
    return np.asarray(moved, dtype=np.float32)


def soft_sphere(box: int, radius_voxels: float, edge_voxels: float = 3.0) -> Float32:
    """A sphere ``(box, box, box)`` around the centre with a raised-cosine edge that ends at the radius."""
    axis = np.arange(box) - box // 2
    squared = axis.astype(np.float32) ** 2
    distance = np.sqrt(squared[:, None, None] + squared[:, None] + squared)
    inside = np.clip((radius_voxels - distance) / edge_voxels, 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * inside), dtype=np.float32)


def _levelled(volume: RealArray, mask: Float32) -> Float32:
    """The map less the grey level at the rim of the mask; ValueError if nothing is left inside."""
    whole = np.asarray(volume, dtype=np.float32)
    levelled = whole - whole[(mask > 0) & (mask < 1)].mean()
    if not np.isfinite(levelled).all() or not (levelled * mask).std() > 0:
        raise ValueError("a constant map, or one with NaN or infinity, cannot be aligned")
    return np.asarray(levelled, dtype=np.float32)


def _twice_as_fine(volume: Float32) -> Float32:
    """``(2 D)^3`` samples at half the spacing, the same function; index ``2 i`` is index i of the volume."""
    side = len(volume)
    half = fft.rfftn(volume)
    wide = np.zeros((2 * side, 2 * side, side + 1), dtype=np.complex64)
    # For an even side the Nyquist planes are dropped: they have no sign.
    top = (side - 1) // 2
    order = np.arange(-top, top + 1)
    columns = np.arange(top + 1)
    wide[np.ix_(order, order, columns)] = half[np.ix_(order, order, columns)]
    return np.asarray(fft.irfftn(wide, (2 * side,) * 3) * 8, dtype=np.float32)
