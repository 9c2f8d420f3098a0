"""Projection of a volume along any set of parallel views, and its exact adjoint.

Volume -> (one in-plane rotation a tilt axis) -> streams along the axis -> camera map -> image, every step
with its exact adjoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.kernels import select
from manyviews.kernels.streams_cpu import PackedFrame
from manyviews.operators.axis_groups import AxisGroup, frame_support, group_by_axis
from manyviews.operators.linear import LinearOperator, register
from manyviews.parallel.world import World, shares

ReadViews = Callable[[NDArray[np.int64]], torch.Tensor]
Shape3 = tuple[int, int, int]
Block = tuple[NDArray[np.int64], torch.Tensor]

# Bytes of images handled at a time: large enough that packing the volume again for each block is cheap.
BLOCK_BYTES = 256 * 2**20
# Blocks shrink with the number of slabs, as everything else that a process holds does, down to this.
_LEAST_BLOCK_BYTES = 32 * 2**20


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
    exchange
        Processes that hold a slab of slices each, `shares` of them; the volume given to a method is this
        process's slab. Each of them streams all views through its slab, and finishes its share of every
        block of views: only for those are images read and made.
    piece_slices
        Slices handled at a time, where frames of the whole slab would not fit in memory. When projecting, all
        pieces are gone through with every block of views, so that blocks should be large then.
    block_bytes
        Images handled at a time; None: `usual_block_bytes`.
    """

    def __init__(
        self,
        geometry: TiltGeometry,
        volume_shape: Shape3,
        image_shape: tuple[int, int],
        pixel_size: float = 1.0,
        *,
        exchange: World | None = None,
        piece_slices: int | None = None,
        block_bytes: int | None = None,
    ) -> None:
        self.geometry = geometry
        self.volume_shape = volume_shape
        self.image_shape = image_shape
        self.pixel_size = pixel_size
        self.exchange = exchange if exchange is not None and exchange.size > 1 else None
        self.piece_slices = piece_slices
        self.block_bytes = block_bytes
        self.slab = (
            shares(volume_shape[0], exchange.size)[exchange.rank] if exchange else slice(0, volume_shape[0])
        )
        self.domain = (self.slab.stop - self.slab.start, *volume_shape[1:])
        self.range = (len(geometry), *image_shape)
        self.groups = group_by_axis(geometry, volume_shape, image_shape, pixel_size)
        self._supports = [frame_support(group, volume_shape) for group in self.groups]
        self._pieces = shares(self.domain[0], self._piece_count())
        self._piece_groups = [
            [_at_height(group, self.slab.start, piece, volume_shape[0]) for piece in self._pieces]
            for group in self.groups
        ]

    def select(self, views: ArrayLike) -> TiltProjector:
        """The projector of some of the views."""
        return TiltProjector(
            self.geometry.select(views),
            self.volume_shape,
            self.image_shape,
            self.pixel_size,
            exchange=self.exchange,
            piece_slices=self.piece_slices,
            block_bytes=self.block_bytes,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images ``(view, y, x)`` of a volume ``(z, y, x)``; of all views, on every rank."""
        make = torch.empty if self.exchange is None else torch.zeros
        out = make(self.range, dtype=x.dtype, device=x.device)
        for views, images in self.project_blocks(x, out):
            rows = pick(views, x.device)
            if not isinstance(rows, slice) or self.exchange is not None:
                out[rows] = images
        return out if self.exchange is None else self.exchange.sum(out)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Back-project images ``(view, y, x)`` to a volume ``(z, y, x)``."""
        return self.back_project(lambda views: y[pick(views, y.device)])

    def project_blocks(self, x: torch.Tensor, out: torch.Tensor | None = None) -> Iterator[Block]:
        """Project a few views at a time: pairs of view indices ``(k,)`` and images ``(k, y, x)``.

        Images of neighbouring views are made in ``out (view, y, x)`` itself, if it is given and this process
        is alone. With others, every rank gets its share of every block.
        """
        frames = _Frames(self, x)
        for number, group in enumerate(self.groups):
            for part in self._parts(group):
                views = group.views[part]
                rows = pick(views, x.device)
                place = out[rows] if out is not None and isinstance(rows, slice) else None
                own, images = self._project_part(number, part, frames, place)
                yield group.views[own], images

    def back_project(
        self, read: ReadViews, allocate: Callable[[], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Back-project images that ``read(view indices)`` hands over a few at a time, in view-group order.

        All views are asked for once for every piece of the volume: that is less to read and write than to go
        through all pieces with every block of views. ``allocate`` gives the tensor for the result; left out:
        a new one like the images.
        """
        sums: _Sums | None = None
        for number, group in enumerate(self.groups):
            for piece in range(len(self._pieces)):
                for part in self._parts(group):
                    own = self._own(part)
                    images = read(group.views[own])
                    sums = sums or _Sums(self, images, allocate)
                    sums.add(number, part, self._all_detectors(group, part, own, images), [piece])
                assert sums is not None
                sums.finish(piece)
        assert sums is not None
        return sums.total

    def residual_gradient(
        self,
        x: torch.Tensor,
        read: ReadViews,
        weights: NDArray[np.float64],
        row_scale: ReadViews | None = None,
        allocate: Callable[[], torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, float, float]:
        """Exact gradient at ``x`` in one pass over the data.

        Returns ``W' L (p - W x)``, ``sum_v l_v |p_v - W_v x|^2`` and ``sum_v l_v |p_v|^2`` for view weights
        ``l`` (``weights (view,)``, the diagonal L). ``row_scale(views)`` gives further weights ``(k, y, x)``
        for the gradient alone.
        """
        frames, sums = _Frames(self, x), _Sums(self, x, allocate)
        pieces = list(range(len(self._pieces)))
        residual_energy = data_energy = 0.0
        for number, group in enumerate(self.groups):
            for part in self._parts(group):
                own, projected = self._project_part(number, part, frames)
                views = group.views[own]
                images = read(views)
                residual = torch.sub(images, projected, out=projected)
                scale = torch.from_numpy(weights[views]).to(residual).view(-1, 1, 1)
                data_energy += weighted_energy(images, weights[views])
                residual_energy += weighted_energy(residual, weights[views])
                residual.mul_(scale if row_scale is None else scale * row_scale(views))
                sums.add(number, part, self._all_detectors(group, part, own, residual), pieces)
            if len(pieces) == 1:
                sums.finish(0)
        if self.exchange is not None:
            energies = torch.tensor([residual_energy, data_energy], dtype=torch.float64)
            residual_energy, data_energy = (float(value) for value in self.exchange.sum(energies))
        return sums.total, residual_energy, data_energy

    def _parts(self, group: AxisGroup) -> list[slice]:
        """Runs of views of a group that are handled together."""
        ranks = 1 if self.exchange is None else self.exchange.size
        most = self.block_bytes or usual_block_bytes(ranks)
        pixels = max(group.detector_length * group.width, self.image_shape[0] * self.image_shape[1])
        block = max(1, most // (4 * pixels))
        if block > 16:
            block -= block % 16  # whole SIMD lanes where images share a camera map
        count = len(group.views)
        return [slice(start, min(start + block, count)) for start in range(0, count, block)]

    def _piece_count(self) -> int:
        """Pieces of a slab, as many on all ranks, so that they go through their views in step."""
        depth, ranks = self.volume_shape[0], 1 if self.exchange is None else self.exchange.size
        thickest, thinnest = -(-depth // ranks), depth // ranks
        return min(-(-thickest // (self.piece_slices or thickest)), max(1, thinnest))

    def _own(self, part: slice) -> slice:
        """This rank's share of a block of views."""
        if self.exchange is None:
            return part
        share = shares(part.stop - part.start, self.exchange.size)[self.exchange.rank]
        return slice(part.start + share.start, part.start + share.stop)

    def _counts(self, part: slice) -> list[int]:
        assert self.exchange is not None
        return [share.stop - share.start for share in shares(part.stop - part.start, self.exchange.size)]

    def _project_part(
        self, number: int, part: slice, frames: _Frames, place: torch.Tensor | None = None
    ) -> tuple[slice, torch.Tensor]:
        """This rank's share of a block of views, and its images, in ``place`` if that can be."""
        group = self.groups[number]
        count = part.stop - part.start
        whole = self.exchange is None and len(self._pieces) == 1
        direct = whole and group.camera_maps is None and self._image_is_detector(group)
        if direct:
            images = frames.like.new_empty((count, *self.image_shape)) if place is None else place
            self._stream(number, part, frames, images.transpose(1, 2) if group.camera_transposed else images)
            return part, images
        detector = frames.like.new_empty((count, group.detector_length, group.width))
        self._stream(number, part, frames, detector)
        if self.exchange is not None:
            detector = self.exchange.sum_scatter(detector, self._counts(part))
        own = self._own(part)
        images = self._to_images(group, own, detector)
        return own, images if place is None or self.exchange is not None else place.copy_(images)

    def _stream(self, number: int, part: slice, frames: _Frames, detector: torch.Tensor) -> None:
        """Sum of all pieces of this process's slab on the detector ``(k, t, w)``."""
        streams = select.streams(detector.device)
        extra = self._stream_extra(number, detector)
        for piece, group in enumerate(self._piece_groups[number]):
            place = detector if piece == 0 else torch.empty_like(detector)
            streams.project_streams(
                frames.packed(number, piece), *_stream_arguments(group, part), place, **extra
            )
            if piece > 0:
                detector.add_(place)

    def _all_detectors(self, group: AxisGroup, part: slice, own: slice, images: torch.Tensor) -> torch.Tensor:
        """Detectors ``(k, t, w)`` of a whole block, from this rank's share of images."""
        detector = self._from_images(group, own, images)
        if self.exchange is None:
            return detector
        return self.exchange.all_gather(detector.contiguous(), self._counts(part))

    def _to_frame(self, group: AxisGroup, x: torch.Tensor, coefficients: torch.Tensor | None) -> torch.Tensor:
        """Slices ``x`` in the frame of a group, ``(z, s, w)``."""
        if group.volume_map is None:
            frame = x.transpose(1, 2) if group.axis_degrees == 0.0 else x
            return frame.contiguous() if x.is_cuda else frame
        assert coefficients is not None
        kernels = select.affine(x.device)
        matrices = torch.from_numpy(group.volume_map[None])
        slices: torch.Tensor = kernels.resample_spline(coefficients, matrices, (group.columns, group.width))
        return slices[: x.shape[0]]

    def _from_frame(self, group: AxisGroup, frame: torch.Tensor) -> torch.Tensor:
        """Adjoint of `_to_frame`."""
        if group.volume_map is None:
            return frame.transpose(1, 2) if group.axis_degrees == 0.0 else frame
        kernels = select.affine(frame.device)
        matrices = torch.from_numpy(group.volume_map[None])
        sliced = kernels.resample_spline_adjoint(frame, matrices, self.volume_shape[1:])
        slices: torch.Tensor = kernels.spline_prefilter(sliced)
        return slices

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


class _Frames:
    """The pieces of a slab in the frames of the groups, packed when asked for; the last one is kept."""

    def __init__(self, projector: TiltProjector, x: torch.Tensor) -> None:
        self.like = x
        self._projector = projector
        self._coefficients: torch.Tensor | None = None
        self._key: tuple[int, int] | None = None
        self._packed: PackedFrame | torch.Tensor | None = None

    def packed(self, number: int, piece: int) -> PackedFrame | torch.Tensor:
        """Piece of the slab in the frame of a group, as the kernel wants it."""
        if self._key != (number, piece) or self._packed is None:
            self._packed = None  # its memory, before the next one takes as much
            projector = self._projector
            group = projector.groups[number]
            slices = self.like[projector._pieces[piece]]
            frame = projector._to_frame(group, slices, self._spline(slices) if group.rotated else None)
            self._packed = select.streams(self.like.device).pack_frame(frame)
            self._key = (number, piece)
        return self._packed

    def _spline(self, slices: torch.Tensor) -> torch.Tensor:
        """Spline coefficients of slices, side by side in memory; those of a whole slab serve all groups."""
        if self._coefficients is not None:
            return self._coefficients
        coefficients: torch.Tensor = select.affine(slices.device).spline_prefilter(_slices_last(slices))
        if len(self._projector._pieces) == 1:
            self._coefficients = coefficients
        return coefficients


class _Sums:
    """Back-projections of all groups, added up: a group in its frame first where that is one piece."""

    def __init__(
        self, projector: TiltProjector, like: torch.Tensor, allocate: Callable[[], torch.Tensor] | None
    ) -> None:
        self._projector = projector
        self._number = 0
        self._frame: torch.Tensor | None = None
        self.total = like.new_empty(projector.domain) if allocate is None else allocate()
        self.total.zero_()

    def add(self, number: int, part: slice, detector: torch.Tensor, pieces: list[int]) -> None:
        """Back-project a block of views ``(k, t, w)`` of a group into some pieces of the slab.

        A piece by itself stays in its frame until `finish`.
        """
        projector = self._projector
        self._number = number
        extra = projector._stream_extra(number, detector)
        for piece in pieces:
            group = projector._piece_groups[number][piece]
            frame = self._frame if self._frame is not None else self._new_frame(number, piece)
            streams = select.streams(detector.device)
            streams.back_project_streams(detector, *_stream_arguments(group, part), frame, **extra)
            if len(pieces) == 1:
                self._frame = frame
            else:
                self._add(piece, frame)

    def finish(self, piece: int) -> None:
        """Bring the frame of a piece home."""
        assert self._frame is not None
        frame, self._frame = self._frame, None
        self._add(piece, frame)

    def _new_frame(self, number: int, piece: int) -> torch.Tensor:
        group, slices = self._projector.groups[number], self._projector._pieces[piece]
        return self.total.new_zeros((slices.stop - slices.start, group.columns, group.width))

    def _add(self, piece: int, frame: torch.Tensor) -> None:
        group = self._projector.groups[self._number]
        self.total[self._projector._pieces[piece]].add_(self._projector._from_frame(group, frame))


def _at_height(group: AxisGroup, first: int, piece: slice, depth: int) -> AxisGroup:
    """The group as seen by some slices alone, which the kernels take for centred at z = 0."""
    count = piece.stop - piece.start
    height = first + piece.start + count // 2 - depth // 2
    return replace(group, offsets=group.offsets + group.sines * height)


def usual_block_bytes(ranks: int) -> int:
    """Images handled at a time by processes with ``ranks`` slabs."""
    return max(min(_LEAST_BLOCK_BYTES, BLOCK_BYTES), BLOCK_BYTES // ranks)


def pick(views: NDArray[np.int64], device: torch.device) -> slice | torch.Tensor:
    """An index for the first axis of a stack: a slice, which copies nothing, where views are in a row."""
    if len(views) and views[-1] - views[0] == len(views) - 1 and np.all(np.diff(views) == 1):
        return slice(int(views[0]), int(views[-1]) + 1)
    return torch.from_numpy(views).to(device)


def image_energies(images: torch.Tensor, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """``l_v |image_v|^2`` of every image ``(k, y, x)``; norms in their own precision, squares in float64."""
    norms = torch.linalg.vector_norm(images, dim=(1, 2)).double().cpu().numpy()
    return np.asarray(weights * norms**2, dtype=np.float64)


def weighted_energy(images: torch.Tensor, weights: NDArray[np.float64]) -> float:
    """``sum_v l_v |image_v|^2`` of images ``(k, y, x)``."""
    return float(image_energies(images, weights).sum())


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
