"""Projection of a volume along any set of parallel views, and its exact adjoint.

Volume -> (one in-plane rotation a tilt axis) -> streams along the axis -> camera map -> image, every step
with its exact adjoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.kernels import select
from manyviews.kernels.streams_cpu import PackedFrame
from manyviews.operators.axis_groups import AxisGroup, frame_support, group_by_axis
from manyviews.operators.linear import LinearOperator, register

ReadViews = Callable[[NDArray[np.int64]], torch.Tensor]
Block = tuple[NDArray[np.int64], torch.Tensor]

# Bytes of images handled at a time: large enough that packing the volume again for each block is cheap.
BLOCK_BYTES = 256 * 2**20


class TiltProjector(LinearOperator):
    """Projector of a tilt geometry.

    Parameters
    ----------
    geometry
        The views.
    volume_shape, image_shape
        ``(z, y, x)`` and ``(y, x)``.
    pixel_size
        Angstrom per pixel of volume and images. Projections are sums of voxels along rays (line integral
        divided by the pixel size).
    """

    def __init__(
        self,
        geometry: TiltGeometry,
        volume_shape: tuple[int, int, int],
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
        self._supports = [frame_support(group, volume_shape) for group in self.groups]

    def select(self, views: ArrayLike) -> TiltProjector:
        """The projector of some of the views."""
        return TiltProjector(
            self.geometry.select(views), self.volume_shape, self.image_shape, self.pixel_size
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images ``(view, y, x)`` of a volume ``(z, y, x)``."""
        out = torch.empty(self.range, dtype=x.dtype, device=x.device)
        for views, images in self.project_blocks(x, out):
            rows = pick(views, x.device)
            if not isinstance(rows, slice):
                out[rows] = images
        return out

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Back-project images ``(view, y, x)`` to a volume ``(z, y, x)``."""
        return self.back_project(lambda views: y[pick(views, y.device)])

    def project_blocks(self, x: torch.Tensor, out: torch.Tensor | None = None) -> Iterator[Block]:
        """Project a few views at a time: pairs of view indices ``(k,)`` and images ``(k, y, x)``.

        Images of neighbouring views are made in ``out (view, y, x)`` itself, if it is given.
        """
        coefficients = self._slice_coefficients(x)
        for number, group in enumerate(self.groups):
            frame = self._to_frame(group, x, coefficients)
            packed = select.streams(x.device).pack_frame(frame)
            for part in self._parts(group):
                views = group.views[part]
                rows = pick(views, x.device)
                place = out[rows] if out is not None and isinstance(rows, slice) else None
                yield views, self._project_frame(number, part, packed, frame, place)

    def back_project(self, read: ReadViews, like: torch.Tensor | None = None) -> torch.Tensor:
        """Back-project images that ``read(view indices)`` hands over a few at a time, in view-group order."""
        total = None if like is None else torch.zeros_like(like)
        for number, group in enumerate(self.groups):
            frame = None
            for part in self._parts(group):
                images = read(group.views[part])
                if frame is None:
                    frame = images.new_zeros((self.volume_shape[0], group.columns, group.width))
                self._back_project_frame(number, part, images, frame)
            assert frame is not None
            total = self._add_from_frame(group, frame, total)
        assert total is not None
        return total

    def residual_gradient(
        self,
        x: torch.Tensor,
        read: ReadViews,
        weights: NDArray[np.float64],
        row_scale: ReadViews | None = None,
    ) -> tuple[torch.Tensor, float, float]:
        """Exact gradient at ``x`` in one pass over the data.

        Returns ``W' L (p - W x)``, ``sum_v l_v |p_v - W_v x|^2`` and ``sum_v l_v |p_v|^2`` for view weights
        ``l`` (``weights (view,)``, the diagonal L). ``row_scale(views)`` gives further weights ``(k, y, x)``
        for the gradient alone.
        """
        coefficients = self._slice_coefficients(x)
        total: torch.Tensor | None = None
        residual_energy = data_energy = 0.0
        for number, group in enumerate(self.groups):
            frame = self._to_frame(group, x, coefficients)
            packed = select.streams(x.device).pack_frame(frame)
            back = torch.zeros_like(frame, memory_format=torch.contiguous_format)
            for part in self._parts(group):
                views = group.views[part]
                images = read(views)
                residual = images - self._project_frame(number, part, packed, frame)
                scale = torch.from_numpy(weights[views]).to(residual).view(-1, 1, 1)
                data_energy += weighted_energy(images, weights[views])
                residual_energy += weighted_energy(residual, weights[views])
                residual.mul_(scale if row_scale is None else scale * row_scale(views))
                self._back_project_frame(number, part, residual, back)
            total = self._add_from_frame(group, back, total)
        assert total is not None
        return total, residual_energy, data_energy

    def _parts(self, group: AxisGroup) -> list[slice]:
        """Runs of views of a group that are handled together."""
        pixels = max(group.detector_length * group.width, self.image_shape[0] * self.image_shape[1])
        block = max(1, BLOCK_BYTES // (4 * pixels))
        if block > 16:
            block -= block % 16  # whole SIMD lanes where images share a camera map
        count = len(group.views)
        return [slice(start, min(start + block, count)) for start in range(0, count, block)]

    def _slice_coefficients(self, x: torch.Tensor) -> torch.Tensor | None:
        """Spline coefficients of all slices, slices side by side in memory; None if no group is rotated."""
        if not any(group.rotated for group in self.groups):
            return None
        coefficients: torch.Tensor = select.affine(x.device).spline_prefilter(_slices_last(x))
        return coefficients

    def _to_frame(self, group: AxisGroup, x: torch.Tensor, coefficients: torch.Tensor | None) -> torch.Tensor:
        """The volume in the frame of a group, ``(z, s, w)``."""
        if group.volume_map is None:
            frame = x.transpose(1, 2) if group.axis_degrees == 0.0 else x
            return frame.contiguous() if x.is_cuda else frame
        assert coefficients is not None
        kernels = select.affine(x.device)
        matrices = torch.from_numpy(group.volume_map[None])
        slices: torch.Tensor = kernels.resample_spline(coefficients, matrices, (group.columns, group.width))
        return slices[: self.volume_shape[0]]

    def _add_from_frame(
        self, group: AxisGroup, frame: torch.Tensor, total: torch.Tensor | None
    ) -> torch.Tensor:
        """Adjoint of `_to_frame`, added to ``total``."""
        if group.volume_map is None:
            part = frame.transpose(1, 2) if group.axis_degrees == 0.0 else frame
        else:
            kernels = select.affine(frame.device)
            matrices = torch.from_numpy(group.volume_map[None])
            sliced = kernels.resample_spline_adjoint(frame, matrices, self.volume_shape[1:])
            part = kernels.spline_prefilter(sliced)
        if total is None:
            return part.contiguous()
        return total.add_(part)

    def _project_frame(
        self,
        number: int,
        part: slice,
        packed: PackedFrame | torch.Tensor,
        frame: torch.Tensor,
        place: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Images of some views, in ``place`` if given; ``packed`` is the frame as the kernel wants it."""
        group = self.groups[number]
        count = part.stop - part.start
        direct = group.camera_maps is None and self._image_is_detector(group)
        if direct:
            images = frame.new_empty((count, *self.image_shape)) if place is None else place
            detector = images.transpose(1, 2) if group.camera_transposed else images
        else:
            detector = frame.new_empty((count, group.detector_length, group.width))
        select.streams(frame.device).project_streams(
            packed, *_stream_arguments(group, part), detector, **self._stream_extra(number, frame)
        )
        if direct:
            return images
        images = self._to_images(group, part, detector)
        return images if place is None else place.copy_(images)

    def _back_project_frame(
        self, number: int, part: slice, images: torch.Tensor, frame: torch.Tensor
    ) -> None:
        group = self.groups[number]
        select.streams(frame.device).back_project_streams(
            self._from_images(group, part, images),
            *_stream_arguments(group, part),
            frame,
            **self._stream_extra(number, frame),
        )

    def _stream_extra(self, number: int, frame: torch.Tensor) -> dict[str, NDArray[np.int64] | None]:
        """Only the CPU kernel gains from skipping the empty corners of a rotated frame."""
        return {} if frame.is_cuda else {"support": self._supports[number]}

    def _image_is_detector(self, group: AxisGroup) -> bool:
        along = self.image_shape[0 if group.camera_transposed else 1]
        return along == group.width and group.camera_shift == 0

    def _to_images(self, group: AxisGroup, part: slice, detector: torch.Tensor) -> torch.Tensor:
        """Detector ``(k, t, w)`` to images ``(k, y, x)``."""
        if group.camera_maps is None:
            upright = detector.transpose(1, 2) if group.camera_transposed else detector
            axis, size = (1, self.image_shape[0]) if group.camera_transposed else (2, self.image_shape[1])
            return _centre_window(upright, axis, size, group.camera_shift).contiguous()
        kernels = select.affine(detector.device)
        maps = _camera_maps(group, part)
        if len(maps) == 1:
            detector = _slices_last(detector)
        count = part.stop - part.start
        images = kernels.resample_spline(kernels.spline_prefilter(detector), maps, self.image_shape)
        return images[:count].contiguous()  # type: ignore[no-any-return]

    def _from_images(self, group: AxisGroup, part: slice, images: torch.Tensor) -> torch.Tensor:
        """Adjoint of `_to_images`."""
        shape = (group.detector_length, group.width)
        if group.camera_maps is None:
            axis = 1 if group.camera_transposed else 2
            placed = _centre_window(images, axis, group.width, -group.camera_shift)
            return placed.transpose(1, 2) if group.camera_transposed else placed
        kernels = select.affine(images.device)
        detector = kernels.resample_spline_adjoint(images, _camera_maps(group, part), shape)
        return kernels.spline_prefilter(detector)  # type: ignore[no-any-return]


def pick(views: NDArray[np.int64], device: torch.device) -> slice | torch.Tensor:
    """An index for the first axis of a stack: a slice, which copies nothing, where views are in a row."""
    if len(views) and views[-1] - views[0] == len(views) - 1 and np.all(np.diff(views) == 1):
        return slice(int(views[0]), int(views[-1]) + 1)
    return torch.from_numpy(views).to(device)


def weighted_energy(images: torch.Tensor, weights: NDArray[np.float64]) -> float:
    """``sum_v l_v |image_v|^2`` of images ``(k, y, x)``; norms in their own precision, the sum in float64."""
    norms = torch.linalg.vector_norm(images, dim=(1, 2)).double().cpu().numpy()
    return float(weights @ norms**2)


def _stream_arguments(group: AxisGroup, part: slice) -> tuple[torch.Tensor, ...]:
    return (
        torch.from_numpy(group.cosines[part]),
        torch.from_numpy(group.sines[part]),
        torch.from_numpy(group.offsets[part]),
        torch.from_numpy(group.sharpening[part]),
    )


def _camera_maps(group: AxisGroup, part: slice) -> torch.Tensor:
    assert group.camera_maps is not None
    shared = len(group.camera_maps) == 1
    return torch.from_numpy(group.camera_maps if shared else group.camera_maps[part])


def _slices_last(x: torch.Tensor) -> torch.Tensor:
    """The same tensor ``(n, h, w)``, n padded to whole lanes, stored with the images side by side."""
    count, height, width = x.shape
    if x.is_cuda:
        return x
    out = torch.zeros((height, width, -(-count // 16) * 16), dtype=x.dtype)
    out[..., :count] = x.permute(1, 2, 0)
    return out.permute(2, 0, 1)


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


@register("tilt projector")
def _test_instance(case: int) -> LinearOperator:
    axes = ((0.0, 90.0), (0.0, 45.0, -37.3), (12.0, 90.0))[case]
    parts = [
        TiltGeometry.from_tilt_axis(np.linspace(-60, 63, 5 + case), axis, series=k)
        for k, axis in enumerate(axes)
    ]
    geometry = TiltGeometry.concatenate(parts)
    if case == 2:
        turns = np.tile(np.eye(3), (len(geometry), 1, 1))
        turns[:, :2, 2] = np.random.default_rng(1).normal(scale=2.0, size=(len(geometry), 2))
        turns[::2, :2, :2] *= 1.02
        geometry = geometry.with_image_transform(turns)
    shapes = (((9, 24, 31), (24, 31)), ((8, 32, 32), (30, 34)), ((5, 27, 70), (33, 71)))
    return TiltProjector(geometry, *shapes[case], pixel_size=1.0)
