"""Raw images of a level, and the same images as they lie with their tilt axis upright.

Lengths are in pixels of the level, and so are the shifts of its geometry. In the *frame* of a view the tilt
axis runs along y through pixel ``n // 2``, so that projectors need no camera of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.euler import rotation_zyx, split_view, zyx_angles
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.kernels import select
from manyviews.tilt.series.binning import bin_geometry
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.normalise import noise_deviation

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_HIGH_PASS = 1 / 16  # sigma of what is subtracted, as a part of the smaller side
_LOW_PASS = 0.6  # sigma in pixels
_BORDER, _TAPER = 1.5, 4.0  # pixels of an image's edge that do not count, and over which the rest fades in
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class LevelImages:
    """Images ``(view, y, x)`` of one binning without what is finest, of the spread of the series about one.

    ``blank (view,)`` are views that hold nothing; ``noise_to_signal`` is of variances.
    """

    images: Float32
    bin: int
    full_shape: tuple[int, int]
    blank: NDArray[np.bool_]
    noise_to_signal: float = 0.0

    def select(self, views: NDArray[np.bool_]) -> LevelImages:
        """Some of the views."""
        return replace(self, images=self.images[views], blank=self.blank[views])

    def without_slow(self) -> LevelImages:
        """Less what varies slowly, so that edges and details are compared."""
        wide = _HIGH_PASS * min(self.shape)
        slow = [scipy.ndimage.gaussian_filter(image, wide, mode="nearest") for image in self.images]
        return replace(self, images=self.images - np.stack(slow))

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)``."""
        return self.images.shape[1], self.images.shape[2]

    def geometry(self, full: TiltGeometry) -> TiltGeometry:
        """The geometry of these images from that of the unbinned ones, both in their own pixels."""
        binned = bin_geometry(full, self.full_shape, 1.0, self.bin)
        matrices = binned.matrices.copy()
        matrices[:, :2, 3] /= self.bin
        return replace(binned, matrices=matrices)

    def full_geometry(self, binned: TiltGeometry) -> TiltGeometry:
        """The reverse of `geometry`."""
        matrices = binned.matrices.copy()
        matrices[:, :2, 3] *= self.bin
        none = replace(binned, matrices=np.zeros_like(matrices))
        offset = bin_geometry(none, self.full_shape, 1.0, self.bin).matrices
        return replace(binned, matrices=matrices - offset)


@dataclass(frozen=True)
class Frames:
    """Images ``(view, v, u)`` in the frames of their views, weights from 0 to 1, and how they got there.

    ``geometry`` is that of the frames, ``cameras (view, 4, 4)`` take frame points to raw image points.
    """

    images: torch.Tensor
    weights: torch.Tensor
    geometry: TiltGeometry
    cameras: Float64


def read_level(source: ImageSource, bin: int) -> LevelImages:
    """Read and smooth all images, each less its mean; ``source`` is of that binning.

    Raises
    ------
    InputError
        If most of them are blank, or one holds NaN or infinity.
    """
    images = source.read()
    noise = float(np.median([noise_deviation(image) for image in images]))
    for image in images:
        image[...] = scipy.ndimage.gaussian_filter(image - image.mean(), _LOW_PASS, mode="nearest")
    spreads = images.std(axis=(1, 2), dtype=np.float64)
    typical = float(np.median(spreads))
    if typical <= 0:
        raise InputError("most images are blank", fix="check the stack and its data mode")
    images /= np.float32(typical)
    blank = spreads <= _LEAST_SPREAD * typical
    return LevelImages(images, bin, source.series.image_shape, blank, (noise / typical) ** 2)


def frame_shape(geometry: TiltGeometry, field: tuple[int, int]) -> tuple[int, int]:
    """``(v, u)`` of frames that hold a field ``(rows, columns)`` whatever axis it is tilted about."""
    rows, columns = field
    axes = np.deg2rad(np.unique(geometry.axis_degrees))
    cosines, sines = np.abs(np.cos(axes)), np.abs(np.sin(axes))
    along = float((cosines * rows + sines * columns).max())
    across = float((cosines * columns + sines * rows).max())
    return int(np.ceil(along)), int(np.ceil(across))


def upright(geometry: TiltGeometry) -> tuple[TiltGeometry, Float64]:
    """The views as their frames see the volume, and the cameras ``(view, 4, 4)``: matrix = camera @ frame."""
    frames, cameras = np.tile(np.eye(4), (2, len(geometry), 1, 1))
    for view, matrix in enumerate(geometry.matrices):
        parts = split_view(matrix)
        back = rotation_z(-float(geometry.axis_degrees[view]))
        x_tilt, tilt, turn = zyx_angles(parts.rotation @ back.T)
        frames[view, :3, :3] = rotation_zyx(x_tilt, tilt, 0.0) @ back
        cameras[view, :2, :2] = parts.stretch @ rotation_z(turn)[:2, :2]
        cameras[view, :2, 3] = parts.shift
    return replace(geometry, matrices=frames), cameras


def make_frames(level: LevelImages, geometry: TiltGeometry, shape: tuple[int, int]) -> Frames:
    """All images of a level in frames ``(v, u)``; ``geometry`` is in pixels of the level."""
    frames, cameras = upright(geometry)
    maps = np.stack([index_map(camera, level.shape, shape) for camera in cameras])
    raw = torch.from_numpy(level.images)
    kernels = select.affine(raw.device)
    images = kernels.resample_spline(kernels.spline_prefilter(raw), torch.from_numpy(maps), shape)
    weights = np.stack([_border_weights(one, level.shape, shape) for one in maps])
    return Frames(images[: len(maps)].contiguous(), torch.from_numpy(weights), frames, cameras)


def index_map(camera: Float64, image_shape: tuple[int, int], shape: tuple[int, int]) -> Float64:
    """``(2, 3)`` the place ``(row, column)`` in the raw image of frame indices ``(v, u, 1)``."""
    linear = camera[1::-1, 1::-1]
    middle, own = np.array(image_shape) // 2, np.array(shape) // 2
    start = middle + camera[1::-1, 3] - linear @ own
    return np.concatenate([linear, start[:, None]], axis=1)


def _border_weights(index_map: Float64, image_shape: tuple[int, int], shape: tuple[int, int]) -> Float32:
    """From 0 outside a raw image to 1 inside, over some pixels."""
    v, u = np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)
    weights = np.ones(shape, np.float32)
    for (by_v, by_u, start), size in zip(index_map.astype(np.float32), image_shape, strict=True):
        place = by_v * v + by_u * u + start
        inside = np.minimum(place, size - 1 - place)
        weights *= np.clip((inside - _BORDER) / _TAPER, 0.0, 1.0)
    return weights
