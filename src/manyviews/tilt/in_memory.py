"""A reconstruction of images in memory: the same solvers as those of a run, without files and folder."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import MrcHeader, MrcStack
from manyviews.jobs.device import free_memory_bytes, use_threads
from manyviews.parallel.world import SingleWorld
from manyviews.solvers.driver import iterate
from manyviews.solvers.proximal_maps import Denoiser
from manyviews.tilt.cost.schedule import make_schedule
from manyviews.tilt.methods import make_consensus, make_solver
from manyviews.tilt.options import ReconstructOptions
from manyviews.tilt.plan import Plan, resolve_plan
from manyviews.tilt.reconstruct import make_problem
from manyviews.tilt.series.choices import Notes
from manyviews.tilt.series.field import settle_field
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import ResolvedSeries

# What needs files, a folder or several ranks.
RUN_ONLY = (
    "ctf",
    "defocus",
    "defocus_hand",
    "voltage",
    "spherical_aberration",
    "amplitude_contrast",
    "wiener_constant",
    "dose_weighting",
    "dose_per_view",
    "reference",
    "layout",
    "scratch",
)
_FIX = "write the images with manyviews.write_mrc and reconstruct the file, with out"


def reconstruct_images(
    images: NDArray[Any],
    geometry: TiltGeometry,
    pixel_size: float,
    options: ReconstructOptions,
    denoiser: Callable[[NDArray[np.float32]], Any] | None = None,
) -> NDArray[np.float32]:
    """Reconstruct a volume from images in memory.

    Parameters
    ----------
    images
        ``(view, y, x)`` real, one for each view of the geometry.
    pixel_size
        Angstrom.
    options
        As for a run, without what needs files (`RUN_ONLY`) and without a search for a prior.
    denoiser
        One more agent of ``consensus``, see `manyviews.solvers.proximal_maps.Denoiser`.

    Returns
    -------
    array
        ``(z, y, x)``, as `manyviews.tilt.reconstruct.reconstruct` leaves it in ``volume.mrc``.

    Raises
    ------
    InputError
        If an option or the images cannot be used, or memory is too small.
    DivergedError
        If the iteration diverges.
    """
    _refuse_run_only(options)
    source = ImageSource(
        in_memory_series(images, geometry, pixel_size),
        options.bin,
        options.invert_contrast,
        options.remove_outliers,
    )
    plan = resolve_plan(options, source)
    if plan.prior == "auto":
        raise InputError(
            "a prior is chosen in runs only",
            where="option prior",
            fix=f"give prior='none' with total_variation or non_negative, or {_FIX}",
        )
    if denoiser is not None and plan.method != "consensus":
        raise InputError(
            f"{plan.method} has no agents", where="option denoiser", fix='give method="consensus" with it'
        )
    _require_memory(plan, source, options.memory)
    use_threads(options, SingleWorld())
    problem, prepared = make_problem(source, plan)
    for text in prepared.outliers.warnings(source.series.geometry, removed=plan.remove_outliers):
        warnings.warn(text, stacklevel=3)
    solver = (
        make_solver(problem, plan) if denoiser is None else make_consensus(problem, plan, Denoiser(denoiser))
    )
    states = iterate(solver, solver.init(), plan.iterations, tolerance=plan.tolerance)
    state = deque(states, maxlen=1).pop()  # the last
    volume = state.iterate.clamp_(min=0.0) if plan.non_negative else state.iterate
    found: NDArray[np.float32] = volume.cpu().numpy()
    return found


def in_memory_series(images: NDArray[Any], geometry: TiltGeometry, pixel_size: float) -> ResolvedSeries:
    """Images as if they had been read: a stack for each series of the geometry, sections from 0 in each.

    `InputError` if there is not one image for each view.
    """
    if len(images) != len(geometry):
        raise InputError(
            f"there are {len(images)} images and {len(geometry)} views in the geometry",
            fix="give one image for each view, or select the views of the geometry",
        )
    _, series = np.unique(geometry.series, return_inverse=True)
    views = [np.flatnonzero(series == number) for number in range(int(series.max()) + 1)]
    sections = np.empty(len(geometry), np.int64)
    for own in views:
        sections[own] = np.arange(len(own))
    geometry = replace(geometry, series=series.astype(np.int64), sections=sections)
    image_shape, notes = (images.shape[1], images.shape[2]), Notes()
    return ResolvedSeries(
        stacks=tuple(_ArrayStack(images, own, number, pixel_size) for number, own in enumerate(views)),
        geometry=geometry,
        pixel_size=pixel_size,
        image_shape=image_shape,
        field_shape=settle_field(geometry, image_shape, pixel_size, notes),
        thickness=None,
        choices=tuple(notes.choices),
        excluded=((),) * len(views),
        warnings=(),
    )


class _ArrayStack(MrcStack):
    """Some views of an array ``(view, y, x)`` as the sections of a stack."""

    def __init__(
        self, images: NDArray[Any], views: NDArray[np.int64], number: int, pixel_size: float
    ) -> None:
        self._images = images
        self._views = views
        header = MrcHeader(
            path=Path(f"stack {number + 1}"),
            shape=(len(views), images.shape[1], images.shape[2]),
            mode=2,
            dtype=images.dtype,
            pixel_size=(pixel_size, pixel_size, pixel_size),
            data_offset=0,
            byte_order="=",
            is_volume=False,
            labels=(),
            extended_type="",
            extended_counts=(0, 0),
        )
        super().__init__(header.path, header)
        self.files = ()

    @property
    def stored_bytes(self) -> int:
        """What the images take in memory."""
        return self.header.needed_bytes

    def _stored(self, sections: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        return (self._images[view] for view in self._views[sections].tolist())


def _refuse_run_only(options: ReconstructOptions) -> None:
    for item in fields(options):
        if item.name in RUN_ONLY and getattr(options, item.name) != item.default:
            raise InputError(
                "is for runs only, not for images in memory", where=f"option {item.name}", fix=_FIX
            )


def _require_memory(plan: Plan, source: ImageSource, memory_gib: float | None) -> None:
    """Refuse what a run would do with its volumes in files."""
    schedule = make_schedule(
        plan,
        source.binned_geometry,
        sum(stack.stored_bytes for stack in source.series.stacks),
        ranks=1,
        ranks_per_host=1,
        layout=None,
        memory_gib=memory_gib,
        available_bytes=free_memory_bytes(plan.device, SingleWorld()),
    )
    if schedule.streamed:
        raise InputError(
            "there is not enough memory for this volume and its images", fix=f"give more bin, or {_FIX}"
        )
