"""What a reconstruction will do, settled before it starts: every option with its value, and the sizes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.sizes import format_bytes
from manyviews.runs.memory import available_memory_bytes, free_disk_bytes
from manyviews.tilt.options import METHODS, ReconstructOptions
from manyviews.tilt.series.images import ImageSource

_ITERATIONS = {"wbp": 1, "sirt": 100, "cg": 15, "direct-combine": 100, "wang2020": 10, "consensus": 20}
_INNER = {"wang2020": 10, "consensus": 3}
_OVERLAP = {"wang2020": 2}
_PAPER_SUBSETS = 32
_LEAST_VIEWS_A_SUBSET = 4
# Volumes that the most frugal method holds at once.
_LEAST_VOLUMES = 3
SUBSET_METHODS = ("direct-combine", "wang2020", "consensus")
# Options that only some methods have; given for another method they are refused rather than ignored.
_ONLY_FOR = {
    "subsets": SUBSET_METHODS,
    "overlap": SUBSET_METHODS,
    "subset_order": SUBSET_METHODS,
    "mann": ("wang2020", "consensus"),
    "inner_iterations": ("wang2020", "consensus"),
    "damping": ("cg", "consensus", "wbp"),
}


@dataclass(frozen=True)
class Plan:
    """Options of a reconstruction with nothing left open; see `ReconstructOptions`.

    ``volume_shape`` is ``(z, y, x)`` after binning and ``pixel_size`` is angstrom after binning.
    """

    method: str
    iterations: int
    inner_iterations: int
    subsets: int
    overlap: int
    subset_order: str
    mann: float
    relaxation: float
    sirt_form: str
    damping: float | None
    normal: str
    refresh: int
    non_negative: bool
    total_variation: float
    smoothness: float
    normalise: str
    invert_contrast: bool
    bin: int
    volume_shape: tuple[int, int, int]
    pixel_size: float
    device: str
    threads: int

    def record(self) -> dict[str, Any]:
        """The plan for ``run.toml``: all that the result depends on, so not the number of threads."""
        record = {**asdict(self), "volume_shape": list(self.volume_shape)}
        del record["threads"]
        return record


def resolve_plan(options: ReconstructOptions, source: ImageSource) -> Plan:
    """Fill in what the user left open and refuse what cannot be.

    Raises
    ------
    InputError
        Naming the option.
    """
    _check_numbers(options)
    geometry = source.binned_geometry
    depth = options.thickness // options.bin
    if depth < 1:
        raise InputError(
            f"a thickness of {options.thickness} pixels leaves no slice after binning by {options.bin}",
            where="--thickness",
            fix="give the thickness of the specimen in unbinned pixels, with some room above and below",
        )
    method = options.method
    plan = Plan(
        method=method,
        iterations=_or(options.iterations, _ITERATIONS[method]),
        inner_iterations=_or(options.inner_iterations, _INNER.get(method, 1)),
        subsets=_or(options.subsets, _default_subsets(method, geometry)),
        overlap=_or(options.overlap, _OVERLAP.get(method, 0)),
        subset_order=options.subset_order or ("adjacent" if method == "wang2020" else "interleaved"),
        mann=_or(options.mann, 0.8),
        relaxation=options.relaxation,
        sirt_form=options.sirt_form,
        damping=options.damping,
        normal=options.normal,
        refresh=options.refresh,
        non_negative=options.non_negative,
        total_variation=options.total_variation,
        smoothness=options.smoothness,
        normalise=options.normalise,
        invert_contrast=options.invert_contrast,
        bin=options.bin,
        volume_shape=(depth, *source.shape[1:]),
        pixel_size=source.pixel_size,
        device=_device(options.device),
        threads=options.threads,
    )
    if method in SUBSET_METHODS and not 1 <= plan.subsets <= len(geometry):
        raise InputError(
            f"{len(geometry)} views cannot be divided into {plan.subsets} subsets",
            where="--subsets",
            fix=f"give a number from 1 to {len(geometry)}",
        )
    _check_size(plan, options.scratch or Path())
    return plan


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _default_subsets(method: str, geometry: TiltGeometry) -> int:
    series = len(np.unique(geometry.series))
    if method == "wang2020":
        return max(1, min(_PAPER_SUBSETS, len(geometry) // _LEAST_VIEWS_A_SUBSET))
    if method == "consensus" and series == 1:
        return max(1, min(4, len(geometry) // _LEAST_VIEWS_A_SUBSET))
    return series


def _check_numbers(options: ReconstructOptions) -> None:
    if options.method not in METHODS:
        raise InputError(
            f"{options.method!r} is no method", where="--method", fix=f"choose from {', '.join(METHODS)}"
        )
    positive = {"iterations": options.iterations, "inner_iterations": options.inner_iterations}
    for name, value in {**positive, "bin": options.bin}.items():
        if value is not None and value < 1:
            raise InputError(f"{value} is too few", where=_flag(name), fix="give a whole number from 1 on")
    for name, low, high in (("mann", 0.0, 1.0), ("relaxation", 0.0, 2.0)):
        value = getattr(options, name)
        if value is not None and not low < value < high:
            raise InputError(
                f"{value:g} is out of range",
                where=_flag(name),
                fix=f"give a number between {low:g} and {high:g}",
            )
    if options.memory is not None and not 0.0 < options.memory < float("inf"):
        raise InputError(f"{options.memory:g} is no size", where="--memory", fix="give GiB, more than zero")
    for name in ("overlap", "refresh", "damping", "total_variation", "smoothness", "threads"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < float("inf"):
            raise InputError(
                f"{value} is below zero or no number", where=_flag(name), fix="give zero or more"
            )
    for name, methods in _ONLY_FOR.items():
        if getattr(options, name) is not None and options.method not in methods:
            raise InputError(
                f"{options.method} has no such option",
                where=_flag(name),
                fix=f"leave it out, or use --method {' or '.join(methods)}",
            )
    priors = options.total_variation > 0 or options.smoothness > 0
    if priors and options.method != "consensus":
        raise InputError(
            f"priors are agents of consensus, not of {options.method}",
            where="--total-variation" if options.total_variation > 0 else "--smoothness",
            fix="add --method consensus",
        )
    if options.non_negative and options.method not in {"sirt", "consensus"}:
        raise InputError(
            f"{options.method} cannot keep voxels non-negative",
            where="--non-negative",
            fix="use --method sirt or --method consensus",
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _device(wanted: str) -> str:
    if wanted == "cpu":
        return "cpu"
    import importlib.util

    import torch

    usable = torch.cuda.is_available() and importlib.util.find_spec("triton") is not None
    if wanted == "cuda" and not usable:
        raise InputError(
            "no usable CUDA device was found",
            where="--device",
            fix='check "manyviews doctor", or give --device cpu',
        )
    return "cuda" if usable else "cpu"


def _check_size(plan: Plan, folder: Path) -> None:
    """Refuse at once what neither memory nor disk has room for, before loops over all its slices."""
    least = _LEAST_VOLUMES * 4 * prod(plan.volume_shape)
    available = available_memory_bytes()
    if available is None:
        return
    free = available + free_disk_bytes(folder)
    if least > free:
        raise InputError(
            f"a volume of {' x '.join(map(str, plan.volume_shape[::-1]))} voxels needs at least "
            f"{format_bytes(least)} of memory and disk, and {format_bytes(free)} are free",
            where="--thickness",
            fix="give a smaller --thickness or a larger --bin",
        )
