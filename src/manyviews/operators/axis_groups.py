"""Views sorted by the direction of their tilt axis, and what each group needs to be projected as streams.

Any parallel view looks along some direction d. The horizontal direction a at right angles to d is its tilt
axis, whatever instrument or program the view came from. In the frame (e, a) of that axis, e at right angles
to a in the plane of the specimen, the view is a single-axis view; what remains is a 2-D affine map from its
detector to the recorded image. Views that share a share one in-plane rotation of the volume.

Views of a specimen that leans along its tilt axis (an x tilt) look along directions of one plane that does
not stand upright, and no two of them share a. Slices shifted along the horizontal line of the plane's normal,
in proportion to their height, set it upright: such a *sheared* group has one axis again, other tilts, and
images a little stretched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.stream_shares_cpu import footprint_variance

Float64 = NDArray[np.float64]

_SAME_AXIS_DEGREES = 1e-4
# Beams so far out of one plane, as a sine, still lie in it; shears so far apart are one.
_SAME_PLANE, _SAME_SHEAR = 1e-5, 1e-6
# Leaning further than this (as a tangent) volumes would be shifted far beyond their sides.
_LARGEST_SHEAR = 0.6
_SAME_PLACE_PIXELS = 1e-3
_MARGIN = 3


@dataclass(frozen=True)
class AxisGroup:
    """Views with one common tilt axis. Lengths are in pixels.

    Attributes
    ----------
    views
        ``(k,)`` int, indices of the views.
    axis_degrees
        Direction of the axis a in the specimen plane, counter-clockwise from +y, in (-90, 90].
    cosines, sines, offsets
        ``(k,)``: detector coordinate ``t = cosine * s + sine * z + offset``, s and z from the centre.
    columns, width, detector_length
        Size of the frame across (s) and along (w) the axis, and number of detector bins across it.
    volume_map
        ``(2, 3)``: place ``(row, column)`` in the middle slice for frame indices ``(s, w, 1)``; None where
        the frame is the slice itself (axis along x) or its transpose (axis along y).
    camera_maps
        ``(k, 2, 3)`` or ``(1, 2, 3)`` if shared: place ``(t, w)`` on the detector for image ``(row, column,
        1)``; None where the image is the detector or its transpose, shifted by whole pixels.
    camera_transposed, camera_shift
        With ``camera_maps`` None: image rows run along w (true) or along t (false), and ``w = image
        coordinate + camera_shift``, from the centres, in whole pixels.
    sharpening
        ``(k,)``: the filter strength that undoes the blur of the footprint to second order.
    shear
        How far slices are shifted in the frame: a voxel's w there is its own less ``shear * z``.
    gains
        ``(k,)``: what images are multiplied by, as sheared rays are longer or shorter; None: 1.
    """

    views: NDArray[np.int64]
    axis_degrees: float
    cosines: Float64
    sines: Float64
    offsets: Float64
    columns: int
    width: int
    detector_length: int
    volume_map: Float64 | None
    camera_maps: Float64 | None
    camera_transposed: bool
    camera_shift: int
    sharpening: Float64
    shear: float = 0.0
    gains: Float64 | None = None

    @property
    def direction_across(self) -> Float64:
        """Unit vector e, ``(x, y)``."""
        angle = math.radians(self.axis_degrees)
        return np.array([math.cos(angle), math.sin(angle)])

    @property
    def direction_along(self) -> Float64:
        """Unit vector a, ``(x, y)``; along +x rather than -x when the axis lies on x."""
        return _along(self.axis_degrees)

    @property
    def rotated(self) -> bool:
        """Whether slices must be resampled to reach the frame."""
        return self.volume_map is not None

    def volume_maps(self, count: int, height: int) -> Float64:
        """`volume_map` of so many slices whose middle is ``height`` slices up: one for all, or for each."""
        assert self.volume_map is not None
        if not self.shear:
            return self.volume_map[None]
        found = np.repeat(self.volume_map[None], count, axis=0)
        z = height + np.arange(count) - count // 2
        found[:, :, 2] += self.shear * z[:, None] * self.volume_map[None, :, 1]
        return found

    def sheared(self, matrices: Float64) -> Float64:
        """Projection matrices ``(k, 3 or 4, 4)`` for the volume as it is in the frame."""
        return _sheared(matrices, self.direction_along, self.shear)


def _axis_degrees(matrix: Float64, nominal: float) -> float:
    """Direction of a view's tilt axis in (-90, 90]; the nominal one where the view is untilted."""
    beam = _beams(matrix[None])[0]
    horizontal = math.hypot(beam[0], beam[1])
    return _direction(nominal if horizontal < 1e-7 else math.degrees(math.atan2(beam[1], beam[0])))


def _beams(matrices: Float64) -> Float64:
    """Unit vectors ``(k, 3)`` along which views look."""
    beams = np.cross(matrices[:, 0, :3], matrices[:, 1, :3])
    return np.asarray(beams / np.linalg.norm(beams, axis=1, keepdims=True), dtype=np.float64)


def _direction(angle: float) -> float:
    """The line of an axis in degrees, in (-90, 90]."""
    angle = (angle + 90.0) % 180.0 - 90.0
    # The nearest whole hundred-thousandth: equal axes must compare equal after rounding errors.
    angle = round(angle, 5) + 0.0
    return 90.0 if angle <= -90.0 + _SAME_AXIS_DEGREES or angle >= 90.0 - _SAME_AXIS_DEGREES else angle


def group_by_axis(
    geometry: TiltGeometry,
    volume_shape: tuple[int, int, int],
    image_shape: tuple[int, int],
    pixel_size: float,
) -> list[AxisGroup]:
    """Sort views into groups with one tilt axis each, in the order in which the axes first appear.

    Shapes are ``(z, y, x)`` and ``(y, x)``; ``pixel_size`` is in angstrom, of volume and images alike.
    """
    groups: dict[tuple[float, float], list[int]] = {}
    for view, key in enumerate(_keys(geometry)):
        match = next((known for known in groups if _same(known, key)), key)
        groups.setdefault(match, []).append(view)
    return [
        _make_group(geometry, np.array(views), *key, volume_shape, image_shape, pixel_size)
        for key, views in groups.items()
    ]


def _keys(geometry: TiltGeometry) -> list[tuple[float, float]]:
    """Axis in degrees and shear of every view: those of its series, where its beams share a plane."""
    pairs = zip(geometry.matrices, geometry.axis_degrees, strict=True)
    keys = [(_axis_degrees(matrix, nominal), 0.0) for matrix, nominal in pairs]
    for number in np.unique(geometry.series):
        views = np.flatnonzero(geometry.series == number)
        if all(_same(keys[view], keys[views[0]]) for view in views):
            continue
        plane = _common_plane(geometry.matrices[views])
        if plane is not None:
            for view in views:
                keys[view] = plane
    return keys


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) < _SAME_AXIS_DEGREES and abs(one[1] - other[1]) < _SAME_SHEAR


def _common_plane(matrices: Float64) -> tuple[float, float] | None:
    """Axis in degrees and shear of views whose beams lie in a plane that leans a little, else None."""
    beams = _beams(matrices)
    normal = np.linalg.svd(beams)[2][-1]
    if np.abs(beams @ normal).max() > _SAME_PLANE:
        return None
    level = math.hypot(normal[0], normal[1])
    if abs(normal[2]) > _LARGEST_SHEAR * level:
        return None
    axis = _direction(math.degrees(math.atan2(-normal[0], normal[1])))
    shear = -normal[2] / float(normal[:2] @ _along(axis))
    return axis, float(shear) if abs(shear) > _SAME_SHEAR else 0.0


def _make_group(
    geometry: TiltGeometry,
    views: NDArray[np.int64],
    axis: float,
    shear: float,
    volume_shape: tuple[int, int, int],
    image_shape: tuple[int, int],
    pixel_size: float,
) -> AxisGroup:
    angle = math.radians(axis)
    across, along = np.array([math.cos(angle), math.sin(angle)]), _along(axis)
    if axis in {0.0, 90.0}:
        across, along = np.round(across), np.round(along)
    matrices = _sheared(geometry.matrices[views], along, shear)
    cosines, sines, cameras, shifts = _split_views(matrices, across, along, pixel_size)
    upright = axis in {0.0, 90.0} and not shear
    columns, width = _frame_size(volume_shape, across, along, shear, upright)
    inverse: Float64 = np.asarray(np.linalg.inv(cameras), dtype=np.float64)
    # The part of the shift across the axis moves the detector coordinate and costs nothing.
    shift_frame = np.einsum("kij,kj->ki", inverse, shifts)
    length, maps, transposed, whole_shift = _camera(inverse, shift_frame[:, 1], image_shape, width)
    offsets = shift_frame[:, 0] + length // 2
    return AxisGroup(
        views=views,
        axis_degrees=axis,
        cosines=cosines,
        sines=sines,
        offsets=offsets,
        columns=columns,
        width=width,
        detector_length=length,
        volume_map=None if upright else _volume_map(volume_shape, across, along, columns, width),
        camera_maps=maps,
        camera_transposed=transposed,
        camera_shift=whole_shift,
        sharpening=footprint_variance(cosines, sines, offsets, volume_shape[0], columns),
        shear=shear,
        gains=_gains(_beams(geometry.matrices[views]), along, shear) if shear else None,
    )


def _along(axis: float) -> Float64:
    """The unit vector ``(x, y)`` along an axis in degrees; along +x rather than -x when it lies on x."""
    angle = math.radians(axis)
    return np.array([-math.sin(angle), math.cos(angle)]) * (-1.0 if axis == 90.0 else 1.0)


def _sheared(matrices: Float64, along: Float64, shear: float) -> Float64:
    """Matrices for a volume whose slices are shifted by ``-shear z`` along an axis."""
    found = matrices.copy()
    if shear:
        found[:, :, 2] += shear * (matrices[:, :, :2] @ along)
    return found


def _gains(beams: Float64, along: Float64, shear: float) -> Float64:
    """What a pixel counts through sheared voxels: the length of a ray before over that after."""
    after = beams.copy()
    after[:, :2] -= shear * beams[:, 2:] * along
    return np.asarray(1.0 / np.linalg.norm(after, axis=1), dtype=np.float64)


def _split_views(
    matrices: Float64, across: Float64, along: Float64, pixel_size: float
) -> tuple[Float64, Float64, Float64, Float64]:
    """Tilt within the frame (cosine, sine) and camera of each view: ``image = camera @ (u, w) + shift``."""
    beams = _beams(matrices)
    # u is at right angles to the axis and to the beam: u = cosine * e + sine * z.
    cosines, sines = beams[:, 2].copy(), -(beams[:, :2] @ across)
    norm = np.hypot(cosines, sines)
    cosines, sines = cosines / norm, sines / norm
    rows_u = np.concatenate([cosines[:, None] * across, sines[:, None]], axis=1)
    row_w = np.concatenate([along, [0.0]])
    cameras = np.stack([np.einsum("kij,kj->ki", matrices[:, :2, :3], rows_u), matrices[:, :2, :3] @ row_w], 2)
    return cosines, sines, cameras, matrices[:, :2, 3] / pixel_size


def _frame_size(
    volume_shape: tuple[int, int, int], across: Float64, along: Float64, shear: float, upright: bool
) -> tuple[int, int]:
    depth, height, width = volume_shape
    if upright:
        return (width, height) if across[0] else (height, width)
    half = np.array([width, height]) / 2.0
    columns = 2 * math.ceil(float(np.abs(across) @ half) + _MARGIN) + 1
    length = 2 * math.ceil(float(np.abs(along) @ half) + abs(shear) * depth / 2.0 + _MARGIN) + 1
    return columns, length


def _volume_map(
    volume_shape: tuple[int, int, int], across: Float64, along: Float64, columns: int, width: int
) -> Float64:
    """Slice place ``(row, column)`` of frame indices ``(s, w)``: x = s e + w a about the centres."""
    linear = np.array([[across[1], along[1]], [across[0], along[0]]])
    centre = np.array([volume_shape[1] // 2, volume_shape[2] // 2])
    shift = centre - linear @ np.array([columns // 2, width // 2])
    return np.concatenate([linear, shift[:, None]], axis=1)


def _camera(
    inverse: Float64, shift_along: Float64, image_shape: tuple[int, int], width: int
) -> tuple[int, Float64 | None, bool, int]:
    """Detector length, maps from image pixels to detector places, and the shortcut for whole pixels."""
    height, image_width = image_shape
    whole = np.abs(shift_along - round(shift_along[0])).max() < _SAME_PLACE_PIXELS
    for transposed, pattern in ((True, np.eye(2)), (False, np.array([[0.0, 1.0], [1.0, 0.0]]))):
        if whole and np.abs(inverse - pattern).max() * max(image_shape) < _SAME_PLACE_PIXELS:
            length = image_width if transposed else height
            return length, None, transposed, -round(shift_along[0])
    corners = np.array([[sx * image_width, sy * height] for sx in (-0.5, 0.5) for sy in (-0.5, 0.5)])
    reach = np.abs(np.einsum("kj,cj->kc", inverse[:, 0], corners)).max()
    length = 2 * math.ceil(reach + _MARGIN) + 1
    # (row, column) of the image -> (u, w) -> (t, w) indices; columns of `inverse` take x then y.
    linear = np.stack([inverse[:, :, 1], inverse[:, :, 0]], axis=2)
    centre = np.array([height // 2, image_width // 2])
    shift = np.array([length // 2, width // 2]) - linear @ centre
    shift[:, 1] -= shift_along
    maps = np.concatenate([linear, shift[:, :, None]], axis=2)
    spread = np.abs(maps - maps[:1]).max(axis=(0, 1)) @ np.array([height, image_width, 1.0])
    shared = len(maps) > 1 and spread < _SAME_PLACE_PIXELS
    return length, (maps[:1] if shared else maps), False, 0


def frame_support(group: AxisGroup, volume_shape: tuple[int, int, int]) -> NDArray[np.int64] | None:
    """For every w of a rotated frame, the s that the slices reach: ``(w, 2)``, first and one past last."""
    if group.volume_map is None:
        return None
    _, height, width = volume_shape
    low, high = np.zeros(group.width), np.full(group.width, float(group.columns))
    w = np.arange(group.width)
    for axis, size in ((0, height), (1, width)):
        slope_s, slope_w, shift = group.volume_map[axis]
        if abs(slope_s) < 1e-12:
            continue
        ends = np.stack(
            [(-2.5 - shift - slope_w * w) / slope_s, (size + 1.5 - shift - slope_w * w) / slope_s]
        )
        low = np.maximum(low, ends.min(axis=0))
        high = np.minimum(high, ends.max(axis=0) + 1.0)
    if group.shear:  # what the slices reach that are shifted furthest, and all between
        window = 2 * math.ceil(abs(group.shear) * volume_shape[0] / 2.0) + 3
        low = scipy.ndimage.minimum_filter1d(low, window, mode="nearest")
        high = scipy.ndimage.maximum_filter1d(high, window, mode="nearest")
    first = np.clip(np.floor(low), 0, group.columns).astype(np.int64)
    last = np.clip(np.ceil(high), 0, group.columns).astype(np.int64)
    return np.stack([first, np.maximum(first, last)], axis=1)
