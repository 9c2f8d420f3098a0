"""What a run over single particles adds to the page of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.tables import read_numbers
from manyviews.metrics.fsc import FscCurve
from manyviews.report.common import slices_section
from manyviews.report.data import RunData, as_number
from manyviews.report.sections import Citation, Finding, Part, Picture, Section
from manyviews.report.volume import Model, read_model
from manyviews.report.words import format_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Float64 = NDArray[np.float64]

_PUNJANI = (
    "Punjani A, Brubaker MA, Fleet DJ (2017) Building proteins in a day: efficient 3D molecular structure "
    "estimation with electron cryomicroscopy. IEEE Transactions on Pattern Analysis and Machine Intelligence "
    "39:706-718."
)
_CAPPE = (
    "Cappé O, Moulines E (2009) On-line expectation-maximization algorithm for latent data models. Journal "
    "of the Royal Statistical Society B 71:593-613."
)
_SCHERES = (
    "Scheres SHW (2012) RELION: implementation of a Bayesian approach to cryo-EM structure determination. "
    "Journal of Structural Biology 180:519-530."
)
# title, what it shows, and what a reader must know, by name and in the order of the page
_PICTURES = {
    "surface": (
        "Surface",
        "The surface of the map seen along z, y and x",
        "At the level above which the voxels hold 70 % of all positive density.",
    ),
    "resolution": (
        "Resolution",
        "Fourier shell correlation of half maps and with the reference",
        "Halves whose poses were found with one map share its errors: their curve tells how far the images "
        "repeat themselves, not how true the map is. --independent-halves gives halves refined apart.",
    ),
    "directions": (
        "View directions",
        "Equal-area map of the directions from which particles are seen",
        "Each field has the same area on the sphere; 1 is an even share. Empty regions mean that the map is "
        "less resolved in some directions.",
    ),
    "spread": (
        "Certainty of the poses",
        "Histogram of the spread of the particles' orientations",
        "Root mean square angle between a particle's best pose and the others that its image allows; the "
        "last bar holds what is beyond.",
    ),
    "learning": (
        "Learning curves",
        "Likelihood and resolution over the iterations",
        "Each value is of another batch of images, and of more coefficients when the frequency rises, so "
        "likelihoods compare within one frequency only.",
    ),
    "poses": (
        "Poses evaluated",
        "Poses scored for an image over the iterations, and their fraction of all",
        "All points: directions, in-plane angles and shifts of the quadrature of Punjani, Brubaker and Fleet "
        "(2017) at the frequency in use.",
    ),
}
# by method
PICTURES = ("slices", "surface", "resolution", "directions", "spread", "learning", "poses")
CITATIONS = {"stochastic-em": (_CAPPE, _SCHERES), "sagd": (_PUNJANI,)}


@dataclass(frozen=True)
class Learning:
    """What every iteration told, ``(n,)``; NaN where it did not.

    Attributes
    ----------
    iteration
        From 1.
    start
        Random starts that were done before it.
    starts
        Random starts in all; iterations after them refine. 0 where the method has one start only.
    fit, fit_name
        Log likelihood of an image, or the objective of a mini-batch, and which of the two.
    radius, agreed_radius
        Highest frequency in use, and the last at which the halves of the data agree; Fourier pixels.
    poses
        Poses scored for an image on average.
    all_poses
        Points of the quadrature over all poses at that radius, by the rules of Punjani, Brubaker and Fleet
        (2017), section 3.2: directions, in-plane angles and shifts.
    fraction
        The one over the other.
    side_angstrom
        Of the box, which turns Fourier pixels into angstrom; None where no map tells it yet.
    """

    iteration: NDArray[np.int64]
    start: NDArray[np.int64]
    starts: int
    fit: Float64
    fit_name: str
    radius: Float64
    agreed_radius: Float64
    poses: Float64
    all_poses: Float64
    fraction: Float64
    side_angstrom: float | None


@dataclass(frozen=True)
class Spread:
    """Particles by the width of their posterior: ``(bin,)``, and the edges ``(bin + 1,)`` of the bins."""

    edges_degrees: Float64
    particles: Float64


def sections(run: RunData) -> Iterator[Part]:
    """What the folder of a run holds beside what every run has, finished or not.

    Raises
    ------
    InputError
        If a table is damaged. A map that cannot be read is noted only.
    """
    for name, value in run.summary.items():
        words = name.removesuffix(" (angstrom)")
        if words.startswith("resolution at") and words != name and isinstance(value, int | float):
            yield Finding(f"{words} {format_value(float(value))} Å")
    yield from slices_section(run.path / "volume.mrc")
    for name, figure in _figures(run):
        title, alternative, caption = _PICTURES[name]
        yield Section(title, Picture(name, alternative, figure), caption)
    yield from map(Citation, CITATIONS.get(run.method, ()))


def _figures(run: RunData) -> Iterator[tuple[str, Figure]]:
    """The pictures that the run has the data for, by their names."""
    from manyviews.particles import report_figures as figures
    from manyviews.report.plots import resolution_figure, surface_figure

    model = _try_model(run.path / "volume.mrc")
    if model is not None and model.has_surface:
        yield "surface", surface_figure(model)
    curves = [(curve, name, level) for curve, name, level in _curves(run) if curve is not None]
    if curves:
        yield "resolution", resolution_figure(curves)
    directions = read_directions(run.path / "directions.csv")
    if directions is not None:
        yield "directions", figures.directions_figure(directions)
    spread = read_spread(run.path / "spread.csv")
    if spread is not None:
        yield "spread", figures.spread_figure(spread)
    learning = read_learning(run, model)
    if learning is not None:
        yield "learning", figures.learning_figure(learning)
        if np.isfinite(learning.fraction).any():
            yield "poses", figures.poses_figure(learning)


def _curves(run: RunData) -> Iterator[tuple[FscCurve | None, str, float]]:
    """Fourier shell correlations with what they are of and the threshold that counts."""
    apart = run.options.get("independent_halves") is True
    of_halves = "halves refined apart" if apart else "halves found with one map (optimistic)"
    yield FscCurve.read_csv(run.path / "fsc.csv"), of_halves, 0.143
    yield FscCurve.read_csv(run.path / "fsc_reference.csv"), "map and reference, aligned", 0.5


def read_learning(run: RunData, model: Model | None = None) -> Learning | None:
    """What the iterations told, None if there are none; the map tells the side of the box."""
    told = run.told("iteration")
    if not told:
        return None

    def column(name: str) -> Float64:
        return np.array([as_number(event.get(name)) for event in told])

    name = "log_likelihood" if any("log_likelihood" in event for event in told) else "objective"
    done = np.nan_to_num(column("starts_done")).astype(np.int64)
    poses = column("poses_an_image")
    poses[poses <= 0] = math.nan
    radius = column("radius")
    every = _all_poses(radius, as_number(run.options.get("shift_sigma")))
    starts = as_number(run.options.get("starts"))
    return Learning(
        iteration=np.nan_to_num(column("iteration")).astype(np.int64),
        start=np.concatenate([done[:1], done[:-1]]),
        starts=int(starts) if math.isfinite(starts) and name == "log_likelihood" else 0,
        fit=column(name),
        fit_name=name,
        radius=radius,
        agreed_radius=column("agreed_radius"),
        poses=poses,
        all_poses=every,
        fraction=column("work") if name == "objective" else poses / every,
        side_angstrom=None if model is None else model.side_angstrom,
    )


def _all_poses(radius: Float64, shift_sigma: float) -> Float64:
    """Points of the paper's quadrature at each radius, NaN where radius or shifts are not known."""
    from manyviews.geometry.quadrature import pose_quadrature

    every = np.full(len(radius), math.nan)
    for value in np.unique(radius[radius > 0]) if shift_sigma >= 0 else ():
        every[radius == value] = pose_quadrature(float(value), shift_sigma).size
    return every


def read_directions(path: Path) -> NDArray[np.int64] | None:
    """``(rows, columns)`` particles seen along each direction, None if there is no file.

    Fields are of equal area, z from -1 to 1 down the rows, longitude from -180 to 180 degrees along them.
    """
    columns = ("z", "longitude_degrees", "particles")
    table = read_numbers(path, columns)
    if not len(table):
        return None
    heights, row = np.unique(table[:, 0], return_inverse=True)
    longitudes, column = np.unique(table[:, 1], return_inverse=True)
    if len(table) != len(heights) * len(longitudes) or not np.isfinite(table).all():
        raise InputError("is not a full grid of directions", path=path)
    counts = np.zeros((len(heights), len(longitudes)), np.int64)
    counts[row, column] = table[:, 2].astype(np.int64)
    return counts


def read_spread(path: Path) -> Spread | None:
    """The widths of the posteriors, None if there is no file."""
    table = read_numbers(path, ("from_degrees", "to_degrees", "particles"))
    return Spread(np.append(table[:, 0], table[-1:, 1]), table[:, 2]) if len(table) else None


def _try_model(path: Path) -> Model | None:
    """The map; None if it is not there, or not to be read (the report says why beside the slices)."""
    try:
        return read_model(path) if path.exists() else None
    except InputError:
        return None
