"""What a run over tilt series adds to the page of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.tables import read_numbers, require_ordinary
from manyviews.report.common import (
    convergence_section,
    fsc_section,
    table_section,
    volume_section,
    what_is_readable,
)
from manyviews.report.data import RunData, convergence
from manyviews.report.fitted_images import PICTURE as FITTED_PICTURE
from manyviews.report.fitted_images import fitted_section
from manyviews.report.sections import Citation, Finding, Part, Picture, Section
from manyviews.tilt.pixels.report import PICTURE as PIXELS_PICTURE
from manyviews.tilt.pixels.report import PIXELS_FILE, pixels_section
from manyviews.tilt.prior.choice import PICTURE as PRIOR_PICTURE
from manyviews.tilt.prior.choice import PRIOR_FILE, prior_section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Float64 = NDArray[np.float64]

_WANG = (
    "Wang Z, Zhang J, Gao W, Liu Z, Wan X, Zhang F (2020) A consensus framework of distributed multiple-tilt "
    "reconstruction in electron tomography. Journal of Computational Biology 27."
)
_SRIDHAR = (
    "Sridhar V, Wang X, Buzzard GT, Bouman CA (2020) Distributed iterative CT reconstruction using "
    "multi-agent consensus equilibrium. IEEE Transactions on Computational Imaging 6:1153-1166."
)
_BUZZARD = (
    "Buzzard GT, Chan SH, Sreehari S, Bouman CA (2018) Plug-and-play unplugged: optimization-free "
    "reconstruction using consensus equilibrium. SIAM Journal on Imaging Sciences 11:2001-2020."
)
_GILBERT = (
    "Gilbert P (1972) Iterative methods for the three-dimensional reconstruction of an object from "
    "projections. Journal of Theoretical Biology 36:105-117."
)
_HESTENES = (
    "Hestenes MR, Stiefel E (1952) Methods of conjugate gradients for solving linear systems. Journal of "
    "Research of the National Bureau of Standards 49:409-436."
)
_BOYD = (
    "Boyd S, Parikh N, Chu E, Peleato B, Eckstein J (2011) Distributed optimization and statistical learning "
    "via the alternating direction method of multipliers. Foundations and Trends in Machine Learning 3:1-122."
)
_HARAUZ = (
    "Harauz G, van Heel M (1986) Exact filters for general geometry three dimensional reconstruction. "
    "Optik 73:146-156."
)
_LARGEST = 1e4  # of numbers of series and of degrees
_MOST_SERIES = 40

# of all that a page may have
PICTURES = ("slices", PRIOR_PICTURE, PIXELS_PICTURE, FITTED_PICTURE, "ncc", "convergence", "fsc")
# by method
CITATIONS = {
    "consensus": (_WANG, _SRIDHAR, _BUZZARD),
    "wang2020": (_WANG, _SRIDHAR, _BUZZARD),
    "direct-combine": (_WANG,),
    "sirt": (_GILBERT,),
    "cg": (_HESTENES,),
    "admm": (_BOYD,),
    "wbp": (_HARAUZ,),
}


@dataclass(frozen=True)
class NccCurve:
    """Normalised cross-correlation of the views of one series, ``(view,)`` by ascending tilt.

    Series are numbered from 1; tables of older versions count from 0, which makes no difference here.
    """

    series: int
    axis_degrees: float
    tilt_degrees: Float64
    ncc: Float64


def sections(run: RunData) -> Iterator[Part]:
    """What the folder of a run holds beside what every run has, finished or not.

    A file that cannot be read is noted in its place.
    """
    fall = convergence(run)
    if fall is not None and fall.name == "objective":
        yield Finding(f"the objective fell to {100 * fall.values[-1]:.3g} % of its start")
    yield from what_is_readable(
        lambda: volume_section(run.path / "volume.mrc"),
        lambda: fitted_section(run.path, "view, tilt, correlation"),
        lambda: _fit_to_the_data(ncc_curves(run.path / "ncc.csv")),
        lambda: prior_section(run.path / PRIOR_FILE),
        lambda: pixels_section(run.path / PIXELS_FILE),
        lambda: convergence_section(fall),
        lambda: fsc_section(run.path / "fsc.csv", "Comparison with the reference"),
        lambda: table_section(run.path / "geometry.csv", "Geometry of the {rows} views"),
        lambda: table_section(run.path / "outliers.csv", "Hot pixels or X-rays in {rows} sections"),
    )
    yield from map(Citation, CITATIONS.get(run.method, ()))


def _fit_to_the_data(curves: Sequence[NccCurve]) -> Iterator[Part]:
    """How views and reprojections correlate; nothing without curves."""
    if not curves:
        return
    every = np.concatenate([curve.ncc for curve in curves])
    known = every[np.isfinite(every)]
    if len(known):
        yield Finding(
            f"views and reprojections correlate at {known.mean():.3f} on average ({len(known)} views)"
        )
    alternative = "Correlation of views and reprojections against tilt, per tilt axis"
    yield Section("Fit to the data", Picture("ncc", alternative, ncc_figure(curves)))


def ncc_curves(path: Path) -> list[NccCurve]:
    """The curves of a table, none if there is no file.

    Raises
    ------
    InputError
        If it is damaged.
    """
    table = read_numbers(path, ("series", "axis_degrees", "tilt_degrees", "ncc"))
    require_ordinary(table[:, :3], path, least=-_LARGEST, most=_LARGEST)
    require_ordinary(np.nan_to_num(table[:, 3:], nan=0.0), path, least=-1.0 - 1e-6, most=1.0 + 1e-6)
    if len(np.unique(table[:, 0])) > _MOST_SERIES or (table[:, 0] != np.rint(table[:, 0])).any():
        raise InputError(f"the series are not numbered, or more than {_MOST_SERIES}", path=path)
    curves = []
    for series in np.unique(table[:, 0]):
        rows = table[table[:, 0] == series]
        rows = rows[np.argsort(rows[:, 2], kind="stable")]
        curves.append(NccCurve(int(series), float(rows[0, 1]), rows[:, 2], rows[:, 3]))
    return curves


def ncc_figure(curves: Sequence[NccCurve]) -> Figure:
    """NCC of data and reprojection against tilt, one line a tilt axis."""
    from manyviews.report.style import COLOURS, INK, new_figure, plain_axes

    figure = new_figure(3.8 if len(curves) <= 5 else 4.8)
    axes = plain_axes(figure)
    for number, curve in enumerate(curves):
        finite = curve.ncc[np.isfinite(curve.ncc)]
        mean = f"{finite.mean():.3f}" if len(finite) else "not known"
        axes.plot(
            curve.tilt_degrees,
            curve.ncc,
            color=COLOURS[number % len(COLOURS)],
            linestyle=("-", "--", ":")[number // len(COLOURS) % 3],
            linewidth=1.4,
            marker="o",
            markersize=2.6,
            label=f"axis {curve.axis_degrees:g}°: mean {mean}",
        )
    axes.set_xlabel("tilt (degrees)", color=INK)
    axes.set_ylabel("NCC of view and reprojection", color=INK)
    if len(curves) <= 5:
        axes.legend(fontsize=8, frameon=False)
    else:
        figure.legend(fontsize=8, frameon=False, ncols=4, loc="outside lower center")
    return figure
