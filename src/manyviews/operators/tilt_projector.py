"""Projection of a volume along any set of parallel views, and its exact adjoint.

Volume -> (one in-plane rotation a tilt axis) -> streams along the axis -> camera map -> image. These steps
and their adjoints are `AxisProjector`, for the views of one tilt axis; `TiltProjector` goes through all axes.
Volumes spread over processes, or larger than memory: `manyviews.operators.slab_projector`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.geometry.views import TiltGeometry, rotation_x
from manyviews.kernels import affine_cpu, select
from manyviews.kernels.lanes import WIDTH
from manyviews.kernels.streams_cpu import PackedFrame
from manyviews.operators.axis_groups import AxisGroup, frame_support, group_by_axis
from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.random import Stream, generator

Shape3 = tuple[int, int, int]

# Bytes of images handled at a time: large enough that packing the volume again for each block is cheap.
BLOCK_BYTES = 256 * 2**20


class TiltProjector(LinearOperator):
    """Projector of a tilt geometry: volumes ``(z, y, x)`` to images ``(view, y, x)``.

    ``pixel_size`` is in angstrom, of volume and images. Projections are sums of voxels along rays (line
    integral divided by the pixel size).
    """

    def __init__(
        self,
        geometry: TiltGeometry,
        volume_shape: Shape3,
        image_shape: tuple[int, int],
        pixel_size: float = 1.0,
    ) -> None:
        self.geometry = geometry
        self.volume_shape = volume_shape
        self.image_shape = image_shape
        self.pixel_size = pixel_size
        self.domain = volume_shape
        self.range = (len(geometry), *image_shape)
        self.groups = group_by_axis(geometry, volume_shape, image_shape, pixel_size)
        self.axes = [AxisProjector.of(group, volume_shape, image_shape) for group in self.groups]

    def select(self, views: ArrayLike) -> TiltProjector:
        """The projector of some of the views."""
        chosen = self.geometry.select(views)
        return TiltProjector(chosen, self.volume_shape, self.image_shape, self.pixel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images ``(view, y, x)`` of a volume ``(z, y, x)``."""
        require_shape(x, self.domain, "projecting")
        images = x.new_empty(self.range)
        rotated = any(axis.group.rotated for axis in self.axes)
        coefficients = spline_coefficients(x) if rotated else None
        for axis in self.axes:
            frame = axis.pack(x, coefficients)
            for part in axis.blocks(BLOCK_BYTES):
                rows = pick(axis.group.views[part], x.device)
                if isinstance(rows, slice):
                    axis.project(frame, part, x, images[rows])
                else:
                    images[rows] = axis.project(frame, part, x)
            del frame  # its memory, before the next one takes as much
        return images

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Back-project images ``(view, y, x)`` to a volume ``(z, y, x)``."""
        require_shape(y, self.range, "back-projecting")
        volume = y.new_zeros(self.domain)
        for axis in self.axes:
            upright = axis.group.volume_map is None and not y.is_cuda
            frame = axis.turned(volume) if upright else axis.blank_frame(y, self.domain[0])
            for part in axis.blocks(BLOCK_BYTES):
                images = y[pick(axis.group.views[part], y.device)]
                axis.back_project(axis.to_detector(images, part), part, frame)
            if not upright:
                volume.add_(axis.from_frame(frame))
        return volume


@dataclass(frozen=True)
class AxisProjector:
    """Projection along the views of one tilt axis, step by step.

    Slices of the volume ``(z, y, x)``, all or some, are brought to the *frame* ``(z, s, w)`` of the axis, w
    along it and s across; streamed to the *detectors* ``(view, t, w)`` of the views; and those resampled to
    images ``(view, y, x)``. ``part`` says which of the group's views are meant, k of them. ``support (w, 2)``
    are the s that the slices reach, first and one past last; None: all.
    """

    group: AxisGroup
    plane_shape: tuple[int, int]
    image_shape: tuple[int, int]
    support: NDArray[np.int64] | None

    @classmethod
    def of(cls, group: AxisGroup, volume_shape: Shape3, image_shape: tuple[int, int]) -> AxisProjector:
        """The projector of a group of `group_by_axis`."""
        return cls(group, volume_shape[1:], image_shape, frame_support(group, volume_shape))

    def blocks(self, most_bytes: int) -> list[slice]:
        """Runs of views that are handled together, of so many bytes of float32 or of one view."""
        pixels = max(self.group.detector_length * self.group.width, self.image_shape[0] * self.image_shape[1])
        block = max(1, most_bytes // (4 * pixels))
        if block > WIDTH:
            block -= block % WIDTH  # whole SIMD lanes where images share a camera map
        count = len(self.group.views)
        return [slice(start, min(start + block, count)) for start in range(0, count, block)]

    def pack(
        self, slices: torch.Tensor, coefficients: torch.Tensor | None, height: int = 0
    ) -> PackedFrame | torch.Tensor:
        """Slices whose middle is ``height`` slices up in the frame, as the kernel wants them.

        If rotated, they are made of `spline_coefficients`.
        """
        return self.pack_frame(self._to_frame(slices, coefficients, height))

    def pack_frame(self, frame: torch.Tensor) -> PackedFrame | torch.Tensor:
        """A frame ``(z, s, w)``, or some of its w, as the kernel wants it."""
        packed: PackedFrame | torch.Tensor = select.streams(frame.device).pack_frame(frame)
        return packed

    def _to_frame(self, slices: torch.Tensor, coefficients: torch.Tensor | None, height: int) -> torch.Tensor:
        group = self.group
        if group.volume_map is None:
            frame = self.turned(slices)
            return frame.contiguous() if slices.is_cuda else frame
        assert coefficients is not None
        count = slices.shape[0]
        kernels = select.affine(slices.device)
        matrices = torch.from_numpy(group.volume_maps(count, height))
        shape = (group.columns, group.width)
        rotated: torch.Tensor = kernels.resample_spline(coefficients, matrices, shape)
        return rotated[:count]

    def turned(self, slices: torch.Tensor) -> torch.Tensor:
        """Slices as the frame of an upright axis, and a frame as slices: the same memory, other strides."""
        return slices.transpose(1, 2) if self.group.axis_degrees == 0.0 else slices

    def blank_frame(self, like: torch.Tensor, slices: int) -> torch.Tensor:
        """A frame of so many slices to back-project into."""
        return like.new_zeros((slices, self.group.columns, self.group.width))

    def from_frame(self, frame: torch.Tensor, height: int = 0) -> torch.Tensor:
        """Slices ``(z, y, x)`` from a frame: the adjoint of `pack`."""
        group = self.group
        if group.volume_map is None:
            return self.turned(frame)
        kernels = select.affine(frame.device)
        matrices = torch.from_numpy(group.volume_maps(frame.shape[0], height))
        sliced = kernels.resample_spline_adjoint(frame, matrices, self.plane_shape)
        slices: torch.Tensor = kernels.spline_prefilter(sliced)
        return slices

    def project(
        self,
        frame: PackedFrame | torch.Tensor,
        part: slice,
        like: torch.Tensor,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Images of a frame of all slices; new ones like the tensor ``like``, or in ``out``."""
        if self.image_is_detector:
            images = like.new_empty((_length(part), *self.image_shape)) if out is None else out
            self.stream(frame, part, images.transpose(1, 2) if self.group.camera_transposed else images)
            return images
        detector = self.new_detector(part, like)
        if self.group.camera_maps is not None and len(self.group.camera_maps) == 1:
            detector = _room_side_by_side(detector)  # as they are resampled
        images = self.to_images(self.stream(frame, part, detector), part)
        return images if out is None else out.copy_(images)

    def new_detector(self, part: slice, like: torch.Tensor) -> torch.Tensor:
        """Detectors ``(k, t, w)`` with any content, to stream into."""
        return like.new_empty((_length(part), self.group.detector_length, self.group.width))

    def stream(
        self, frame: PackedFrame | torch.Tensor, part: slice, detector: torch.Tensor, height: int = 0
    ) -> torch.Tensor:
        """Fill detectors ``(k, t, w)`` with the rays through a frame whose middle is ``height`` slices up."""
        arguments = self._stream_arguments(part, height)
        streams = select.streams(detector.device)
        filled: torch.Tensor = streams.project_streams(
            frame, *arguments, detector, **self._stream_support(detector)
        )
        return filled

    def back_project(self, detector: torch.Tensor, part: slice, frame: torch.Tensor, height: int = 0) -> None:
        """Add detectors ``(k, t, w)`` to a frame ``(z, s, w)``: the adjoint of `stream`."""
        arguments = self._stream_arguments(part, height)
        streams = select.streams(detector.device)
        streams.back_project_streams(detector, *arguments, frame, **self._stream_support(detector))

    def _stream_arguments(self, part: slice, height: int) -> tuple[torch.Tensor, ...]:
        group = self.group
        offsets = group.offsets + group.sines * height  # the kernels take a frame for centred at z = 0
        numbers = (group.cosines, group.sines, offsets, group.sharpening)
        return tuple(torch.from_numpy(values[part]) for values in numbers)

    def _stream_support(self, like: torch.Tensor) -> dict[str, NDArray[np.int64] | None]:
        """Only the CPU kernel gains from skipping the empty corners of a rotated frame."""
        return {} if like.is_cuda else {"support": self.support}

    @property
    def image_is_detector(self) -> bool:
        """Whether views are streamed into images themselves: upright axes of images that are not turned."""
        group = self.group
        along = self.image_shape[0 if group.camera_transposed else 1]
        return group.camera_maps is None and along == group.width and group.camera_shift == 0

    def to_images(self, detector: torch.Tensor, part: slice) -> torch.Tensor:
        """Detectors ``(k, t, w)`` to images ``(k, y, x)``."""
        group = self.group
        if group.camera_maps is None:
            upright = detector.transpose(1, 2) if group.camera_transposed else detector
            axis, size = (1, self.image_shape[0]) if group.camera_transposed else (2, self.image_shape[1])
            return _centre_window(upright, axis, size, group.camera_shift).contiguous()
        kernels = select.affine(detector.device)
        maps = _camera_maps(group.camera_maps, part)
        if len(maps) == 1:
            detector = _side_by_side(detector)
        images: torch.Tensor = kernels.resample_spline(
            kernels.spline_prefilter(detector), maps, self.image_shape
        )
        images = images[: _length(part)].contiguous()
        gains = self._gains(part, images)
        return images if gains is None else images.mul_(gains)

    def to_detector(self, images: torch.Tensor, part: slice) -> torch.Tensor:
        """Adjoint of `to_images`."""
        group = self.group
        if group.camera_maps is None:
            axis = 1 if group.camera_transposed else 2
            placed = _centre_window(images, axis, group.width, -group.camera_shift)
            return placed.transpose(1, 2) if group.camera_transposed else placed
        kernels = select.affine(images.device)
        shape = (group.detector_length, group.width)
        gains = self._gains(part, images)
        images = images if gains is None else images * gains
        detector = kernels.resample_spline_adjoint(images, _camera_maps(group.camera_maps, part), shape)
        return kernels.spline_prefilter(detector)  # type: ignore[no-any-return]

    def _gains(self, part: slice, like: torch.Tensor) -> torch.Tensor | None:
        """Those of the group, ``(k, 1, 1)``; None: 1."""
        gains = self.group.gains
        return None if gains is None else torch.from_numpy(gains[part]).to(like).view(-1, 1, 1)


def spline_coefficients(slices: torch.Tensor) -> torch.Tensor:
    """What rotated frames of slices ``(z, y, x)`` are made of, side by side in memory."""
    coefficients: torch.Tensor = select.affine(slices.device).spline_prefilter(_side_by_side(slices))
    return coefficients


def pick(views: NDArray[np.int64], device: torch.device) -> slice | torch.Tensor:
    """An index for the first axis of a stack: a slice, which copies nothing, where views are in a row."""
    if len(views) and views[-1] - views[0] == len(views) - 1 and np.all(np.diff(views) == 1):
        return slice(int(views[0]), int(views[-1]) + 1)
    return torch.from_numpy(views).to(device)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _camera_maps(maps: NDArray[np.float64], part: slice) -> torch.Tensor:
    return torch.from_numpy(maps if len(maps) == 1 else maps[part])


def _side_by_side(x: torch.Tensor) -> torch.Tensor:
    """The same ``(n, h, w)``, stored with the images side by side in whole lanes; one is left as it is."""
    if x.is_cuda or len(x) == 1:
        return x
    return affine_cpu.side_by_side(x).permute(2, 0, 1)[: len(x)]


def _room_side_by_side(x: torch.Tensor) -> torch.Tensor:
    """A tensor like ``x (n, h, w)``, of any content, whose images, if there are several, lie side by side."""
    if x.is_cuda or len(x) == 1:
        return torch.empty_like(x)
    return affine_cpu.side_by_side_room(x).permute(2, 0, 1)[: len(x)]


def _centre_window(x: torch.Tensor, axis: int, size: int, shift: int) -> torch.Tensor:
    """Crop or zero-pad an axis to ``size``: entry c from the new centre is entry ``c + shift`` of the old."""
    old = x.shape[axis]
    start = old // 2 - size // 2 + shift
    if start == 0 and size == old:
        return x
    first, last = max(0, start), min(old, start + size)
    shape = list(x.shape)
    shape[axis] = size
    out = x.new_zeros(shape)
    if first < last:
        out.narrow(axis, first - start, last - first).copy_(x.narrow(axis, first, last - first))
    return out


def example_geometry(case: int) -> TiltGeometry:
    """Views of one axis, of three, and of raw images of two, for the tests of operators.

    The specimen of the last of the three leans.
    """
    axes = ((0.0, 90.0), (0.0, 45.0, -37.3), (12.0, 90.0))[case]
    parts = [
        TiltGeometry.from_tilt_axis(np.linspace(-60, 63, 5 + case), axis, series=k)
        for k, axis in enumerate(axes)
    ]
    geometry = TiltGeometry.concatenate(parts)
    if case == 1:
        leaning = geometry.series == 2
        geometry.matrices[leaning, :3, :3] = geometry.matrices[leaning, :3, :3] @ rotation_x(7.0)
    if case == 2:
        turns = np.tile(np.eye(3), (len(geometry), 1, 1))
        turns[:, :2, 2] = generator(0, Stream.TEST, case).normal(scale=2.0, size=(len(geometry), 2))
        turns[::2, :2, :2] *= 1.02
        return geometry.with_image_transform(turns)
    return geometry


EXAMPLE_SHAPES = (((9, 24, 31), (24, 31)), ((8, 32, 32), (30, 34)), ((5, 27, 70), (33, 71)))


@register("tilt projector")
def _example(case: int) -> TiltProjector:
    return TiltProjector(example_geometry(case), *EXAMPLE_SHAPES[case])
