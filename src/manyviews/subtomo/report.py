"""What a run over subtomograms adds to the page of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from manyviews.errors import InputError
from manyviews.metrics import directional_fsc, masked_fsc
from manyviews.metrics.directional_fsc import read_cones
from manyviews.metrics.fsc import FscCurve
from manyviews.report import fitted_images
from manyviews.report.common import (
    half_map_curves,
    table_section,
    volume_section,
    what_is_readable,
)
from manyviews.report.data import RunData, as_number
from manyviews.report.fitted_images import fitted_section
from manyviews.report.planes import read_planes
from manyviews.report.sections import Citation, Finding, Part, Picture, Section
from manyviews.report.sphere import read_fields, share_figure, sphere_figure
from manyviews.report.volume import central_slices, read_model
from manyviews.report.words import summary_entry
from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, VOLUME_FILE
from manyviews.subtomo.coverage import COVERAGE_FILE
from manyviews.subtomo.duplicates import DUPLICATES_FILE
from manyviews.subtomo.fitted import HEADINGS
from manyviews.subtomo.iteration_files import ITERATIONS_FILE, SLICES_FILE, read_iterations
from manyviews.subtomo.score_files import REJECTION_FILE, SCORES_FILE, read_rejection, read_scores
from manyviews.subtomo.wedge_views import POWER_FILE, WEDGE_FILE, read_wedges

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FSC_FILE, DIRECTIONAL_FILE, REFERENCE_FILE = "fsc.csv", "directional_fsc.csv", "fsc_reference.csv"
ASIDE_FILE = "set_aside.csv"
FILES = (
    FSC_FILE, DIRECTIONAL_FILE, REFERENCE_FILE, ITERATIONS_FILE, SLICES_FILE, SCORES_FILE, REJECTION_FILE,
    COVERAGE_FILE, WEDGE_FILE, POWER_FILE, ASIDE_FILE, DUPLICATES_FILE,
    *fitted_images.FILES,
)  # fmt: skip
"""What the sections are read from beside the maps, for the list of a job's results."""

# title, what it shows, and what a reader must know, by name and in the order of the page
_PICTURES = {
    "surface": (
        "Surface",
        "The surface of the map seen along z, y and x",
        "At the level above which the voxels hold 70 % of all positive density.",
    ),
    "iterations": (
        "Iterations",
        "Central planes of the maps of some iterations",
        "xy, xz and yz through the middle; each iteration has its own grey levels.",
    ),
    "halves": (
        "Halves",
        "Central planes of the maps of the two halves",
        "xy, xz and yz through the middle. What stands in one of them alone is noise.",
    ),
    "resolution": (
        "Resolution",
        "Fourier shell correlation of half maps and with the reference",
        "What halves with random phases share is the mask's, and is taken out of the corrected curve "
        "(Chen et al. 2013). Only halves aligned apart, each to its own map, tell how true the map is.",
    ),
    "directions": (
        "Resolution by direction",
        "Fourier shell correlation of the half maps in cones",
        "Frequencies in a double cone about each axis of the map; what no particle has measured does not "
        "count. A cone holds few samples, so its curve scatters.",
    ),
    "progress": (
        "Pose changes",
        "Median turn and move of the poses, and resolution, over the iterations",
        "To the nearest pose that symmetry makes equal. The dotted line is one degree, below which turning "
        "on changes nothing.",
    ),
    "scores": (
        "Scores",
        "Histogram of the scores of the particles",
        "How well each particle agrees with its map where it was measured. Scores rise with overfitting "
        "too, so they compare within a run only.",
    ),
    "coverage": (
        "View directions",
        "Equal-area map of the directions in which the beam passed through the particles",
        "In the frame of the map; each field has the same area on the sphere, 1 is an even share.",
    ),
    "measured": (
        "Measured frequencies",
        "Equal-area map of the part of the particles that measured each direction of frequencies",
        "The wedges of all particles, turned with them. Where it is dark the map is less resolved, or not "
        "at all.",
    ),
    "wedge": (
        "Measured wedge",
        "Mean power of the particles across the tilt axis with the range of tilts",
        "Each ring over its mean, on a logarithmic scale; what was not measured is dark. The border is of "
        "what was told to be measured, the lines are the range of tilts that the power shows.",
    ),
}
PICTURES = ("slices", *_PICTURES, fitted_images.PICTURE)
_TABLES = (
    (ASIDE_FILE, "{rows} particles set aside"),
    (DUPLICATES_FILE, "{rows} duplicates of other particles"),
)
_MOST_WEDGES = 4

_LU = (
    "Lü Y, Zeng X, Zhao X, Li S, Li H, Gao X, Xu M (2019) Fine-grained alignment of cryo-electron "
    "subtomograms based on MPI parallel optimization. BMC Bioinformatics 20:443."
)
_XU = (
    "Xu M, Alber F (2012) High precision alignment of cryo-electron subtomograms through gradient-based "
    "parallel optimization. BMC Systems Biology 6(Suppl 1):S18."
)
_CHEN = (
    "Chen Y, Pfeffer S, Hrabe T, Schuller JM, Förster F (2013) Fast and accurate reference-free alignment of "
    "subtomograms. Journal of Structural Biology 182:235-245."
)
_KRUSE = "Kruse et al. (2026) Fast Volume Alignment by Frequency-Marched Newton. arXiv:2603.15285."
# by method
CITATIONS = {
    "levenberg-marquardt": (_XU,),
    "sag": (_LU,),
    "sag-slices": (_LU,),
    "sag-slices-optimized": (_LU,),
    "alternation": (_CHEN,),
    "newton-marching": (_KRUSE,),
}


def sections(run: RunData) -> Iterator[Part]:
    """What the folder of a run holds beside what every run has, finished or not.

    A file that cannot be read is noted in its place, one that is not there leaves its section out.
    """
    for name, value in run.summary.items():
        if name.startswith("resolution_fsc") and math.isfinite(as_number(value)):
            yield Finding(" ".join(summary_entry(name, value)))
    folder = run.path
    yield from what_is_readable(
        lambda: volume_section(folder / VOLUME_FILE),
        lambda: _surface(folder / VOLUME_FILE),
        lambda: _iterations(folder),
        lambda: fitted_section(folder, HEADINGS),
        lambda: _halves(folder),
        lambda: _resolution(run),
        lambda: _directions(folder / DIRECTIONAL_FILE),
        lambda: _progress(folder / ITERATIONS_FILE),
        lambda: _scores(folder),
        lambda: _coverage(folder / COVERAGE_FILE),
        lambda: _wedges(folder),
        *(partial(table_section, folder / file, title) for file, title in _TABLES),
    )
    yield from map(Citation, CITATIONS.get(run.method, ()))


def _section(name: str, figure: Figure, number: int = 0) -> Section:
    title, alternative, caption = _PICTURES[name]
    more = f" {number + 1}" if number else ""
    return Section(title + more, Picture(name + more.strip(), alternative, figure), caption)


def _surface(path: Path) -> Iterator[Section]:
    from manyviews.report.plots import surface_figure

    if not path.exists():
        return
    try:
        model = read_model(path)
    except InputError:
        return  # the slices say why
    if model.has_surface:
        yield _section("surface", surface_figure(model))


def _iterations(folder: Path) -> Iterator[Section]:
    from manyviews.report.plots import planes_figure

    planes = read_planes(folder / SLICES_FILE)
    if not planes:
        return
    captions = {}
    for one in read_iterations(folder / ITERATIONS_FILE):
        known = math.isfinite(one.resolution_angstrom)
        captions[one.iteration] = f"{one.iteration}: {one.resolution_angstrom:.3g} Å" if known else ""
    captions = {key: text or str(key) for key, text in captions.items()}
    yield _section("iterations", planes_figure(planes, captions))


def _halves(folder: Path) -> Iterator[Section]:
    from manyviews.report.plots import planes_figure

    paths = [folder / name for name in (HALF1_FILE, HALF2_FILE)]
    if not all(path.exists() for path in paths):
        return
    maps = [central_slices(path) for path in paths]
    planes = [(half, (one.xy, one.xz, one.yz)) for half, one in enumerate(maps, start=1)]
    yield _section("halves", planes_figure(planes, {1: "half 1", 2: "half 2"}))


def _resolution(run: RunData) -> Iterator[Part]:
    from manyviews.report.plots import resolution_figure

    halves = "halves aligned to one map (optimistic)" if run.options.get("merged") is True else "halves"
    curves, warning, masked = half_map_curves(run.path / FSC_FILE, halves)
    if masked:
        yield Citation(masked_fsc.PAPER)
    reference = FscCurve.read_csv(run.path / REFERENCE_FILE)
    if reference is not None:
        curves.append((reference, "map and reference", 0.5))
    if curves:
        shown = _section("resolution", resolution_figure(curves))
        told = f" {warning[:1].upper()}{warning[1:]}." if warning else ""
        yield replace(shown, caption=shown.caption + told)


def _directions(path: Path) -> Iterator[Part]:
    from manyviews.report.plots import resolution_figure

    cones = read_cones(path)
    if not cones:
        return
    angle = cones[0].half_angle_degrees
    named = [(one.curve, f"within {angle:g}° of {one.name}", 0.143) for one in cones]
    yield _section("directions", resolution_figure(named))
    yield Citation(directional_fsc.PAPER)


def _progress(path: Path) -> Iterator[Section]:
    from manyviews.subtomo.report_figures import progress_figure

    iterations = read_iterations(path)
    if iterations:
        yield _section("progress", progress_figure(iterations))


def _scores(folder: Path) -> Iterator[Section]:
    from manyviews.subtomo.report_figures import scores_figure

    scores = read_scores(folder / SCORES_FILE)
    if scores is not None and np.isfinite(scores.score).any():
        yield _section("scores", scores_figure(scores, read_rejection(folder / REJECTION_FILE)))


def _coverage(path: Path) -> Iterator[Section]:
    particles, measured = (read_fields(path, name) for name in ("particles", "measured"))
    if particles is not None:
        yield _section("coverage", share_figure(particles, "particles / even share"))
    if measured is not None:
        figure = sphere_figure(measured, "measured by this part", largest=max(1.0, float(measured.max())))
        yield _section("measured", figure)


def _wedges(folder: Path) -> Iterator[Section]:
    from manyviews.subtomo.report_figures import wedge_figure

    for number, view in enumerate(read_wedges(folder)[:_MOST_WEDGES]):
        yield _section("wedge", wedge_figure(view), number)
