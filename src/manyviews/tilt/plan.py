"""What a reconstruction will do, resolved before it starts: every option with its value, and the sizes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.sizes import format_bytes
from manyviews.jobs.device import resolve_device
from manyviews.options import check_options, foreign_options
from manyviews.runs.memory import available_memory_bytes, free_disk_bytes
from manyviews.tilt.options import SUBSET_METHODS, ReconstructOptions
from manyviews.tilt.series.images import ImageSource

_ITERATIONS = {
    "wbp": 1,
    "sirt": 100,
    "cg": 15,
    "admm": 20,
    "direct-combine": 100,
    "wang2020": 10,
    "consensus": 20,
}
DAMPED_BY_FREQUENCY = ("cg", "admm")
_INNER = {"wang2020": 10, "consensus": 3}
_OVERLAP = {"wang2020": 2}
_PAPER_SUBSETS = 32
_LEAST_VIEWS_A_SUBSET = 4
# Volumes that the most frugal method holds at once.
_LEAST_VOLUMES = 3


@dataclass(frozen=True)
class Plan:
    """Options of a reconstruction with nothing left open; see `ReconstructOptions`.

    ``damping_by_frequency``: where `damping` is left open, it is found for every frequency, not for all.
    ``volume_shape`` is ``(z, y, x)`` after binning and ``pixel_size`` is angstrom after binning.
    """

    method: str
    iterations: int
    tolerance: float
    inner_iterations: int
    subsets: int
    overlap: int
    subset_order: str
    mann: float
    relaxation: float
    sirt_form: str
    prior: str
    damping: float | None
    damping_by_frequency: bool
    normal: str
    refresh: int | None
    non_negative: bool
    total_variation: float
    smoothness: float
    normalise: str
    invert_contrast: bool
    remove_outliers: bool
    edges: str
    mask_detector: str
    mask_borders: str
    mask_beads: bool
    bead_diameter: float | None
    ctf: str
    defocus_hand: str
    wiener_constant: float
    dose_weighting: bool
    bin: int
    volume_shape: tuple[int, int, int]
    pixel_size: float
    device: str
    threads: int

    def filling(self, iterations: int) -> Plan:
        """Conjugate gradients that fill pixels which do not count, for methods that know no weights."""
        coloured = _coloured(self.ctf, weighs_dose=self.dose_weighting)
        return replace(
            self,
            method="cg",
            iterations=iterations,
            prior="none",
            damping_by_frequency=self.damping is None and not coloured,
        )

    def record(self) -> dict[str, Any]:
        """The plan for ``run.toml``: all that the result depends on, so not the number of threads."""
        left_out = {"threads", *foreign_options(ReconstructOptions, self.method)}
        record = {**asdict(self), "volume_shape": list(self.volume_shape)}
        return {name: value for name, value in record.items() if name not in left_out}


def resolve_plan(options: ReconstructOptions, source: ImageSource) -> Plan:
    """Fill in what the user left open and refuse what cannot be.

    Raises
    ------
    InputError
        Naming the option.
    """
    check_options(options)
    geometry = source.binned_geometry
    method = options.method
    plan = Plan(
        method=method,
        iterations=_or(options.iterations, _ITERATIONS[method]),
        tolerance=options.tolerance,
        inner_iterations=_or(options.inner_iterations, _INNER.get(method, 1)),
        subsets=_or(options.subsets, _default_subsets(method, geometry)),
        overlap=_or(options.overlap, _OVERLAP.get(method, 0)),
        subset_order=options.subset_order or ("adjacent" if method == "wang2020" else "interleaved"),
        mann=_or(options.mann, 0.8),
        relaxation=options.relaxation,
        sirt_form=options.sirt_form,
        prior=_prior(options),
        damping=options.damping,
        damping_by_frequency=_damped_by_frequency(options, method),
        normal=options.normal,
        refresh=options.refresh,
        non_negative=options.non_negative,
        total_variation=options.total_variation,
        smoothness=options.smoothness,
        normalise=options.normalise,
        invert_contrast=options.invert_contrast,
        remove_outliers=options.remove_outliers,
        edges=options.edges,
        mask_detector=options.mask_detector,
        mask_borders=options.mask_borders,
        mask_beads=options.mask_beads or options.bead_diameter is not None,
        bead_diameter=options.bead_diameter,
        ctf=options.ctf,
        defocus_hand=options.defocus_hand if options.ctf != "none" else "none",
        wiener_constant=options.wiener_constant,
        dose_weighting=options.weighs_dose,
        bin=options.bin,
        volume_shape=(_depth(options, source), *_width_and_height(options, source)[::-1]),
        pixel_size=source.pixel_size,
        device=resolve_device(options.device),
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


def _coloured(ctf: str, *, weighs_dose: bool) -> bool:
    """Whether filters change noise and signal otherwise at some frequencies than at others."""
    return ctf not in ("none", "phase-flip") or weighs_dose


def _damped_by_frequency(options: ReconstructOptions, method: str) -> bool:
    """Whether noise over signal is measured by frequency: it is not where filters colour noise and signal."""
    coloured = _coloured(options.ctf, weighs_dose=options.weighs_dose)
    found = method in DAMPED_BY_FREQUENCY and options.damping is None and not coloured
    if options.prior == "smooth" and not found:
        raise InputError(
            "noise over signal is not measured by frequency where filters colour it or a damping is given",
            where="--prior smooth",
            fix="leave out --damping, --ctf wiener, --ctf 3d and dose weighting, or take another prior",
        )
    return found


def _prior(options: ReconstructOptions) -> str:
    """Whether the data choose a prior: where they are asked to, and the user has left anything open."""
    if options.method != "admm" or options.prior in ("none", "smooth"):
        return options.prior or "none"
    return "none" if options.total_variation > 0 and options.non_negative else "auto"


def _depth(options: ReconstructOptions, source: ImageSource) -> int:
    """Slices of the volume."""
    thickness = options.thickness or source.series.thickness
    fix = "give the thickness of the specimen in unbinned pixels, with some room above and below"
    if not thickness:
        raise InputError("the thickness of the volume is not known", where="--thickness", fix=fix)
    if thickness < options.bin:
        what = f"a thickness of {thickness} pixels leaves no slice after binning by {options.bin}"
        raise InputError(what, where="--thickness", fix=fix)
    return thickness // options.bin


def _width_and_height(options: ReconstructOptions, source: ImageSource) -> tuple[int, int]:
    """Sides x and y of the volume in binned pixels."""
    rows, columns = source.series.field_shape
    size = options.volume_size or (columns, rows)
    if len(size) != 2 or min(size) < options.bin:
        raise InputError(
            f"{' '.join(map(str, size))} is not a width and a height in pixels",
            where="--volume-size",
            fix="give two whole numbers, as in --volume-size 1024 1440",
        )
    return size[0] // options.bin, size[1] // options.bin


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _default_subsets(method: str, geometry: TiltGeometry) -> int:
    series = len(np.unique(geometry.series))
    if method == "wang2020":
        return max(1, min(_PAPER_SUBSETS, len(geometry) // _LEAST_VIEWS_A_SUBSET))
    if method == "consensus" and series == 1:
        return max(1, min(4, len(geometry) // _LEAST_VIEWS_A_SUBSET))
    return series


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
