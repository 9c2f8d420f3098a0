"""What a reconstruction will cost: peak memory and time, told before anything is read.

Memory is the greatest of a few phases, each a sum of named parts; the counts of volumes follow the solvers
line by line and are held against measured peaks by ``benchmarks/memory_estimate.py``. Time is voxel-updates
over measured rates, good to a factor of about two.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from math import prod

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.lanes import WIDTH
from manyviews.kernels.streams_cpu import PAD, PIECE
from manyviews.operators.axis_groups import AxisGroup, group_by_axis
from manyviews.operators.tilt_projector import BLOCK_BYTES
from manyviews.operators.view_kernel import padded_shape
from manyviews.runs.memory import available_memory_bytes, format_bytes
from manyviews.tilt.plan import Settings
from manyviews.tilt.problem import VIEWS_PER_CONVOLUTION
from manyviews.tilt.subsets import Subset, make_subsets

Shape3 = tuple[int, int, int]

_FLOAT = 4
_COMPLEX = 8
# Python with torch, numba and scipy, and the code that numba loads; more of it where slices are turned.
_BASE_BYTES = 365 * 2**20
_ROTATION_BYTES = 30 * 2**20
# What the C library keeps of arrays given back: arrays below 32 MiB come from its heap, which gets holes;
# larger ones are given back to the system. Measured against runs in which all were, with
# MALLOC_MMAP_THRESHOLD_=1000000.
_HEAP_LIMIT_BYTES = 32 * 2**20
_KEPT_OF_SMALL, _KEPT_OF_LARGE = 0.3, 0.1
# Work space of the transforms along z, which go through the planes in blocks.
_BLOCK_SPACE_BYTES = 160 * 2**20
# Bytes of the tables of a projection for each view, slice and column: one int32 and two float32.
_SHARE_BYTES = 12
_CHECKPOINTS = 3
# Rates of two cores, nanoseconds.
_CORES = 2
_CONVOLUTION_NS = 7.0  # a point of the padded grid
_UPRIGHT_PAIR_NS = 0.25  # a voxel and view, there and back
_OBLIQUE_PAIR_NS = 0.6
_RESAMPLING_NS = 30.0  # a pixel of an image that is resampled, there and back
_ROD_NS = 400.0  # a view and slice, drawing the kernel of an oblique group
_PROFILE_SECONDS = 1.5e-3  # a view of a kernel, on one core
_WEIGHTING_NS = 570.0  # a pixel of an image that wbp weights, on one core
_START_SECONDS = 2.0


@dataclass(frozen=True)
class Estimate:
    """What a reconstruction needs.

    Attributes
    ----------
    memory_bytes
        Peak of the resident memory, meant to be within 25 % of what a run measures.
    wall_seconds
        Time, within a factor of about two, on the cores that the settings allow.
    parts
        What the memory is made of at its peak, bytes by name.
    """

    memory_bytes: int
    wall_seconds: float
    parts: dict[str, int] = field(default_factory=dict)


def refuse_if_too_large(estimate: Estimate, available_bytes: int | None = None) -> None:
    """Refuse a reconstruction that would not fit in memory.

    Parameters
    ----------
    estimate
        What it needs.
    available_bytes
        What there is; left out: what the system says. Nothing is refused where it does not say.

    Raises
    ------
    InputError
        With both figures.
    """
    available = available_memory_bytes() if available_bytes is None else available_bytes
    if available is not None and estimate.memory_bytes > available:
        raise InputError(
            f"the reconstruction needs about {format_bytes(estimate.memory_bytes)} of memory and "
            f"{format_bytes(available)} are free",
            where="--thickness",
            fix="give a smaller --thickness, a larger --bin, fewer --subsets or --method cg",
        )


def estimate(settings: Settings, geometry: TiltGeometry, data_bytes: int) -> Estimate:
    """Peak memory and time of a reconstruction on the CPU.

    Parameters
    ----------
    settings
        All options, settled.
    geometry
        The views, binned if the images are.
    data_bytes
        Size of the stacks as stored. They are mapped one section at a time, so that only one is in memory.
    """
    work = _Work.of(settings, geometry)
    section = data_bytes // max(1, len(geometry))
    phases = [*_PHASES[settings.method](work, settings), work.reprojection()]
    greatest = max(phases, key=lambda parts: sum(parts.values()))
    kept = _KEPT_OF_SMALL if work.volume < _HEAP_LIMIT_BYTES else _KEPT_OF_LARGE
    parts = {
        "Python and libraries": _BASE_BYTES + (_ROTATION_BYTES if work.whole.rotated else 0),
        "a section of the stack": section,
        **greatest,
        "kept by the C library": round(kept * sum(greatest.values())),
    }
    return Estimate(
        memory_bytes=sum(parts.values()),
        wall_seconds=_wall_seconds(work, settings),
        parts={name: size for name, size in parts.items() if size},
    )


def disk_bytes(settings: Settings) -> int:
    """Most that a run writes: the volume, two checkpoints kept and a third being written."""
    subsets = settings.subsets
    priors = settings.non_negative + (settings.total_variation > 0) + (settings.smoothness > 0)
    tensors = {
        "cg": 6,
        "direct-combine": 1 + subsets,
        "wang2020": 1 + subsets,
        "consensus": 1 + 2 * (subsets + priors),
    }.get(settings.method, 1)
    return _FLOAT * prod(settings.volume_shape) * (1 + _CHECKPOINTS * tensors)


# --- work space of the operators ---


@dataclass(frozen=True)
class _Views:
    """What projecting and convolving with some views costs; bytes are work space, result included.

    ``pair_seconds`` is one pass of projector and adjoint, ``points`` the size of the padded grid.
    """

    spectrum_bytes: int
    kernel_making_bytes: int
    convolution_bytes: int
    pass_bytes: int
    back_bytes: int
    weighting_bytes: int
    forward_bytes: int
    pair_seconds: float
    kernel_seconds: float
    points: int
    convolve: bool
    rotated: bool
    views: int

    @property
    def normal_bytes(self) -> int:
        return self.convolution_bytes if self.convolve else self.pass_bytes

    @property
    def normal_seconds(self) -> float:
        return self.points * _CONVOLUTION_NS * 1e-9 if self.convolve else self.pair_seconds

    @property
    def held_spectrum_bytes(self) -> int:
        """A kernel of which only the largest value is wanted is dropped again."""
        return self.spectrum_bytes if self.convolve else 0


def _views(geometry: TiltGeometry, settings: Settings, *, is_subset: bool, circulant: bool = False) -> _Views:
    shape = settings.volume_shape
    groups = group_by_axis(geometry, shape, shape[1:], settings.pixel_size)
    padded = padded_shape(groups, shape)
    rotated = any(group.rotated for group in groups)
    few = is_subset and not rotated and len(geometry) < VIEWS_PER_CONVOLUTION * prod(padded) / prod(shape)
    half = padded[1] * (padded[2] // 2 + 1)
    planes, spectrum = _COMPLEX * shape[0] * half, _FLOAT * padded[0] * half
    volume = _FLOAT * prod(shape)
    coefficients = _coefficient_bytes(groups, shape)
    return _Views(
        spectrum_bytes=spectrum,
        kernel_making_bytes=planes + spectrum * (2 if circulant else 1) + min(_BLOCK_SPACE_BYTES, 2 * planes),
        convolution_bytes=_convolution_bytes(shape, padded),
        pass_bytes=coefficients + volume + max(_pass_bytes(group, shape) for group in groups),
        back_bytes=volume + max(_back_bytes(group, shape) for group in groups),
        weighting_bytes=volume + max(_weighting_bytes(group, shape) for group in groups),
        forward_bytes=coefficients + max(_forward_bytes(group, shape) for group in groups),
        pair_seconds=sum(_pair_seconds(group, shape) for group in groups),
        kernel_seconds=_kernel_seconds(groups, shape, prod(padded)),
        points=prod(padded),
        convolve=settings.normal == "convolution" and not few,
        rotated=rotated,
        views=len(geometry),
    )


def _convolution_bytes(shape: Shape3, padded: Shape3) -> int:
    """Transforms of one convolution, the result included (`Convolution._forward_cpu`)."""
    depth, height, _ = shape
    columns = padded[2] // 2 + 1
    planes = _COMPLEX * depth * padded[1] * columns
    lines = _COMPLEX * depth * height * columns
    real = _FLOAT * depth * height * padded[2]
    blocks = min(_BLOCK_SPACE_BYTES, 2 * _COMPLEX * padded[0] * padded[1] * columns)
    return max(planes + lines, planes + blocks, planes + real + _FLOAT * prod(shape))


def _coefficient_bytes(groups: list[AxisGroup], shape: Shape3) -> int:
    """Spline coefficients of all slices, held while the groups take turns."""
    return _FLOAT * _lanes(shape[0]) * shape[1] * shape[2] if any(g.rotated for g in groups) else 0


def _lanes(count: int) -> int:
    return -(-count // WIDTH) * WIDTH


@dataclass(frozen=True)
class _Block:
    """Bytes of the arrays that a block of views of one group goes through."""

    images: int
    detector: int
    lanes: int  # the detector and its spline coefficients, images side by side; 0 where nothing is resampled
    packed_detector: int
    packed_volume: int
    tables: int
    frame: int
    frame_in_lanes: int

    @classmethod
    def of(cls, group: AxisGroup, shape: Shape3) -> _Block:
        image, detector = shape[1] * shape[2], group.detector_length * group.width
        views = min(len(group.views), max(1, BLOCK_BYTES // (_FLOAT * max(image, detector))))
        pieces = -(-group.width // PIECE)
        frame = group.columns * group.width
        resampled = group.camera_maps is not None
        return cls(
            images=_FLOAT * views * image,
            detector=_FLOAT * views * detector if resampled else 0,
            lanes=_FLOAT * _lanes(views) * detector if resampled else 0,
            packed_detector=_FLOAT * pieces * PIECE * views * (group.detector_length + 2 * PAD),
            packed_volume=_FLOAT * pieces * PIECE * shape[0] * group.columns,
            tables=_SHARE_BYTES * views * shape[0] * group.columns,
            frame=_FLOAT * shape[0] * frame if group.rotated else _FLOAT * prod(shape),
            frame_in_lanes=_FLOAT * _lanes(shape[0]) * frame if group.rotated else 0,
        )

    @property
    def projecting(self) -> int:
        """Packed frame to images, all of it but the frame."""
        return max(self.tables + (self.detector or self.images), self.detector + 2 * self.lanes + self.images)

    @property
    def back_projecting(self) -> int:
        """Images to the frame, without the images as they came and the frame."""
        return max(self.images + self.lanes, 2 * self.lanes, self.lanes + self.packed_detector + self.tables)


def _from_frame_bytes(block: _Block, group: AxisGroup, shape: Shape3) -> int:
    """A frame, its copy in lanes, and the slices turned back."""
    if not group.rotated:
        return block.frame
    slices = _FLOAT * _lanes(shape[0]) * shape[1] * shape[2]
    return block.frame + max(block.frame_in_lanes + slices, 2 * slices)


def _forward_bytes(group: AxisGroup, shape: Shape3) -> int:
    """`project_blocks`, with measured and projected images of the block before still there."""
    block = _Block.of(group, shape)
    return block.frame_in_lanes + block.packed_volume + 2 * block.images + block.projecting


def _back_bytes(group: AxisGroup, shape: Shape3) -> int:
    """`back_project` from weighted images."""
    block = _Block.of(group, shape)
    reading = 3 * block.images
    return max(
        block.frame + max(reading, block.images + block.back_projecting),
        _from_frame_bytes(block, group, shape) + block.images,
    )


def _weighting_bytes(group: AxisGroup, shape: Shape3) -> int:
    """Back-projection of images weighted one by one, each a window of a padded one four times its size."""
    block = _Block.of(group, shape)
    return block.frame + 7 * block.images


def _pass_bytes(group: AxisGroup, shape: Shape3) -> int:
    """`residual_gradient`: images, and the residual of the block before while the next is projected."""
    block = _Block.of(group, shape)
    frames = block.frame_in_lanes + block.packed_volume + block.frame
    return max(
        frames + 2 * block.images + max(block.projecting, 2 * block.images),
        frames + 2 * block.images + block.back_projecting,
        frames - block.frame + _from_frame_bytes(block, group, shape) + 2 * block.images,
    )


# --- work space of the methods ---

Parts = dict[str, int]


@dataclass(frozen=True)
class _Work:
    """All views and, for methods that divide them, every subset."""

    volume: int
    images: int
    whole: _Views
    parts: tuple[_Views, ...]

    @classmethod
    def of(cls, settings: Settings, geometry: TiltGeometry) -> _Work:
        whole = _views(geometry, settings, is_subset=False, circulant=settings.method == "wbp")
        return cls(
            volume=_FLOAT * prod(settings.volume_shape),
            images=_FLOAT * len(geometry) * prod(settings.volume_shape[1:]),
            whole=whole,
            parts=tuple(
                _views(geometry.select(subset.views), settings, is_subset=True)
                for subset in _subsets(settings, geometry)
            ),
        )

    def reprojection(self) -> Parts:
        """The last pass over the images, when the solver has gone."""
        return {"volumes": self.volume, "projection": self.whole.forward_bytes}

    def making_kernel(self) -> Parts:
        return {"making the kernel": self.whole.kernel_making_bytes}

    def back_projecting(self, spectra: int = 1) -> Parts:
        return {"kernels": spectra * self.whole.spectrum_bytes, "projection": self.whole.back_bytes}

    def iterating(self, volumes: float, *, work: int | None = None, spectra: int = 1) -> Parts:
        held = sum(part.held_spectrum_bytes for part in self.parts)
        return {
            "kernels": spectra * self.whole.spectrum_bytes + held,
            "volumes": round(volumes * self.volume),
            "work space": self.whole.normal_bytes if work is None else work,
        }

    def subset_phases(self, volumes: float, objective_volumes: float) -> list[Parts]:
        """Making the subsets' kernels and targets, one answer of an agent, and the objective after all."""
        held = sum(part.held_spectrum_bytes for part in self.parts)
        count = len(self.parts)
        making = max(
            max(part.kernel_making_bytes, part.spectrum_bytes + part.back_bytes) for part in self.parts
        )
        return [
            self.making_kernel(),
            {
                "kernels": self.whole.spectrum_bytes + held,
                "volumes": (count - 1) * self.volume,
                "work space": making,
            },
            self.iterating(volumes, work=max(part.normal_bytes for part in self.parts)),
            self.iterating(objective_volumes),
        ]


def _subsets(settings: Settings, geometry: TiltGeometry) -> tuple[Subset, ...]:
    if settings.method not in {"direct-combine", "wang2020", "consensus"}:
        return ()
    order = "adjacent" if settings.subset_order == "adjacent" else "interleaved"
    return make_subsets(geometry, settings.subsets, settings.overlap, order)  # type: ignore[arg-type]


def _wbp(work: _Work, settings: Settings) -> list[Parts]:
    filtering = max(work.whole.weighting_bytes, work.whole.back_bytes)
    return [
        work.making_kernel(),
        work.iterating(1, work=filtering, spectra=2),
        work.iterating(2, spectra=2),
    ]


def _sirt(work: _Work, settings: Settings) -> list[Parts]:
    if settings.sirt_form == "landweber":
        return [work.making_kernel(), work.back_projecting(), work.iterating(3)]
    # no kernel; the row sums of all images, and the column sums
    rows = work.images
    return [
        {"row sums": rows, "volumes": work.volume, "projection": work.whole.forward_bytes},
        {"row sums": rows, "volumes": 2 * work.volume, "projection": work.whole.pass_bytes},
    ]


def _cg(work: _Work, settings: Settings) -> list[Parts]:
    rounds = settings.iterations // settings.refresh if settings.refresh else 0
    # volumes held while the projectors run, and while the convolution after them runs: those of the state
    # before the step, of the step, and of the base; the first rounds share some of them
    exact, quick = ((0, 5), (7, 9), (10, 12))[min(rounds, 2)]
    phases = [work.making_kernel(), work.back_projecting(), work.iterating(quick)]
    return [*phases, work.iterating(exact, work=work.whole.pass_bytes)] if rounds else phases


def _direct_combine(work: _Work, settings: Settings) -> list[Parts]:
    count = len(work.parts)
    volumes = 3 * count + 2
    return work.subset_phases(volumes, volumes + 1)


def _wang2020(work: _Work, settings: Settings) -> list[Parts]:
    count = len(work.parts)
    # targets, also of the whole; states before and after; the volume; what an agent works on
    return work.subset_phases(3 * count + 4, 3 * count + 3)


def _consensus(work: _Work, settings: Settings) -> list[Parts]:
    count = len(work.parts)
    priors = settings.non_negative + (settings.total_variation > 0) + (settings.smoothness > 0)
    held = count + 1 + 4 * (count + priors) + 1
    phases = work.subset_phases(held + 4, held + 1)
    if settings.total_variation > 0:
        phases.append(work.iterating(held + 16, work=0))
    return phases


_PHASES = {
    "wbp": _wbp,
    "sirt": _sirt,
    "cg": _cg,
    "direct-combine": _direct_combine,
    "wang2020": _wang2020,
    "consensus": _consensus,
}


# --- time ---


def _pair_seconds(group: AxisGroup, shape: Shape3) -> float:
    voxels = prod(shape) * len(group.views)
    if not group.rotated:
        return voxels * _UPRIGHT_PAIR_NS * 1e-9
    pixels = shape[1] * shape[2] * len(group.views)
    return (voxels * _OBLIQUE_PAIR_NS + pixels * _RESAMPLING_NS) * 1e-9


def _kernel_seconds(groups: list[AxisGroup], shape: Shape3, points: int) -> float:
    rods = sum(len(group.views) for group in groups if group.rotated) * shape[0]
    return (rods * _ROD_NS + points * _CONVOLUTION_NS) * 1e-9


def _wall_seconds(work: _Work, settings: Settings) -> float:
    whole = work.whole
    once = 2 * whole.pair_seconds + whole.kernel_seconds + sum(part.kernel_seconds for part in work.parts)
    serial = sum(part.views for part in (whole, *work.parts)) * _PROFILE_SECONDS
    if settings.method == "wbp":
        serial += work.images / _FLOAT * _WEIGHTING_NS * 1e-9
    cores = settings.threads or os.cpu_count() or 1
    together = once + settings.iterations * _iteration_seconds(work, settings)
    return _START_SECONDS + serial + together * _CORES / cores


def _iteration_seconds(work: _Work, settings: Settings) -> float:
    whole, method = work.whole, settings.method
    answers = sum(part.normal_seconds for part in work.parts)
    if method == "sirt" and settings.sirt_form == "normalised":
        return whole.pair_seconds
    if method == "cg":
        exact = (whole.pair_seconds + whole.normal_seconds) / settings.refresh if settings.refresh else 0.0
        return whole.normal_seconds + exact
    if method == "direct-combine":
        return answers + whole.normal_seconds
    if method == "wang2020":
        return answers * settings.inner_iterations + whole.normal_seconds
    if method == "consensus":
        return answers * (settings.inner_iterations + 1) + whole.normal_seconds
    return (2 if method == "wbp" else 1) * whole.normal_seconds
