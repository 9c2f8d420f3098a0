"""The geometry of raw images by each program's formula: what the reading of whole series is held to."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from manyviews.geometry.euler import rotation_zyx
from manyviews.geometry.views import TiltGeometry, rotation_x, rotation_y
from manyviews.io.aretomo import AreTomoAlignment, aln_to_xf
from manyviews.io.imod import xf_to_raw_to_aligned
from manyviews.io.relion_tomo import RelionTiltSeries


def imod_geometry(
    tilt_degrees: ArrayLike,
    xf: ArrayLike | None,
    pixel_size: float,
    image_shape: tuple[int, int],
    *,
    x_tilt_degrees: ArrayLike | None = None,
) -> TiltGeometry:
    """Geometry of raw images from IMOD's alignment; without ``xf`` the images are aligned already."""
    tilts = np.asarray(tilt_degrees, dtype=np.float64)
    x_tilts = np.zeros_like(tilts) if x_tilt_degrees is None else np.asarray(x_tilt_degrees, dtype=np.float64)
    geometry = TiltGeometry.from_tilt_axis(tilts)
    for matrix, tilt, x_tilt in zip(geometry.matrices, tilts, x_tilts, strict=True):
        matrix[:3, :3] = rotation_y(float(tilt)) @ rotation_x(float(x_tilt))
    lines = np.tile([1.0, 0, 0, 1, 0, 0], (len(tilts), 1)) if xf is None else xf
    return geometry.with_image_transform(xf_to_raw_to_aligned(lines, pixel_size, image_shape))


def aln_geometry(
    alignment: AreTomoAlignment, pixel_size: float, image_shape: tuple[int, int]
) -> TiltGeometry:
    """Geometry of the raw images; ``sections`` are those of the raw stack."""
    geometry = imod_geometry(alignment.tilt_degrees, aln_to_xf(alignment), pixel_size, image_shape)
    return replace(geometry, sections=alignment.sections)


def relion_geometry(series: RelionTiltSeries) -> TiltGeometry:
    """Geometry of the raw images; both centres are pixel ``n // 2`` already, so nothing is converted."""
    geometry = TiltGeometry.from_tilt_axis(series.y_tilt, shifts=series.shifts)
    angles = zip(series.x_tilt, series.y_tilt, series.z_rotation, strict=True)
    for matrix, (x_tilt, y_tilt, z_rotation) in zip(geometry.matrices, angles, strict=True):
        matrix[:3, :3] = rotation_zyx(float(x_tilt), float(y_tilt), float(z_rotation))
    return replace(geometry, sections=series.sections)
