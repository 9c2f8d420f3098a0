"""What a run over a scan adds to the page of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from manyviews.metrics.fsc import FscCurve
from manyviews.nano.results import (
    BEFORE_FILE,
    CENTER_FILE,
    CHOICE_FILE,
    FSC_FILE,
    FSC_REFERENCE_FILE,
    FSC_SLICES_FILE,
    GAUGE_FILE,
    ITERATIONS_FILE,
    PITCH_FILE,
    RETURNED_FILE,
    SHIFTS_FILE,
    VIEWS_FILE,
    Views,
    read_center,
    read_choice,
    read_examples,
    read_gauge,
    read_iterations,
    read_motion,
    read_pitch,
    read_returned,
    read_shifts,
    read_views,
)
from manyviews.report import fitted_images
from manyviews.report.common import what_is_readable
from manyviews.report.data import RunData, as_number
from manyviews.report.fitted_images import fitted_section
from manyviews.report.sections import Citation, Finding, Note, Part, Picture, Section, Table
from manyviews.report.volume import central_slices
from manyviews.report.words import summary_entry
from manyviews.runs.map_names import VOLUME_FILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# title, what it shows, and what a reader must know, by name and in the order of the page
_PICTURES = {
    "slices": (
        "Slices",
        "Central planes of the volume in xy, xz and yz, without and with alignment",
        "Above what the same projections give without alignment, each with its own grey levels. Sharper "
        "edges and streaks that are gone say more than a smaller residual.",
    ),
    "views": (
        "Projections and flow",
        "A few views as measured, aligned, and as the volume projects, and the flow between them",
        "The hue of the flow is its direction, as in the wheel; white is no motion. What moved is looked for "
        "where aligned and projected differ. Where the specimen moves in space, the flow is the mean along "
        "rays, and aligned is the projection of the volume at rest with what the motion does not explain.",
    ),
    "displacement": (
        "Displacement of the specimen",
        "Central planes of the volume with arrows of the displacement in the first and the last view",
        "From where a part is in the volume to where it is in that view. All arrows are drawn on one scale, "
        "which makes the longest plain to see; the longest displacement of each view is told at its side.",
    ),
    "iterations": (
        "Iterations",
        "Misfit, augmented Lagrangian and flow over the iterations",
        "A dashed line is where the pixels became finer, so curves may jump there.",
    ),
    "residuals": (
        "Views one by one",
        "Residual, weight, deformation and shift of each view",
        "A view whose residual stands out was moved in a way that no flow describes, or shows something "
        "else; it counts less, and is listed below.",
    ),
    "resolution": (
        "Resolution",
        "Fourier shell correlation of independent halves with the half-bit line",
        "Two halves of the views, reconstructed and aligned apart, one laid over the other as a whole and "
        "then slice by slice: projections do not tell where a slice lies within itself. Registration adds "
        "correlation at coarse frequencies only.",
    ),
    "gauge": (
        "Motion that no view tells apart",
        "Common motion of slices along x, y and z, and their dilation",
        "Taken out of the flows, as it is a motion of the specimen and no view contradicts it.",
    ),
    "trust": (
        "A known motion, injected and looked for",
        "Motion that was injected into each view, and what of it did not come back",
        "The data were deformed once more by a motion that is known, and solved again. What no view tells "
        "apart was left out on both sides.",
    ),
}
PICTURES = (*list(_PICTURES)[:2], fitted_images.PICTURE, *list(_PICTURES)[2:])

_NIKITIN = (
    "Nikitin V, De Andrade V, Slyamov A, Gould BJ, Zhang Y, Sampathkumar V, Kasthuri N, Gürsoy D, De Carlo F "
    "(2021) Distributed optimization for nonrigid nano-tomography. IEEE Transactions on Computational "
    "Imaging 7:272-287."
)
_FARNEBACK = (
    "Farnebäck G (2003) Two-frame motion estimation based on polynomial expansion. Scandinavian Conference "
    "on Image Analysis, LNCS 2749:363-370."
)
_HALF_BIT = (
    "van Heel M, Schatz M (2005) Fourier shell correlation threshold criteria. Journal of Structural Biology "
    "151:250-262."
)
# by method
CITATIONS = {
    "auto": (_NIKITIN,),
    "oftv": (_NIKITIN,),
    "of": (_NIKITIN,),
    "oftv-printed": (_NIKITIN, _FARNEBACK),
    "of-printed": (_NIKITIN, _FARNEBACK),
    "shifts": (_NIKITIN,),
    "pcg": (_NIKITIN,),
    "pcgtv": (_NIKITIN,),
}
_MOST_LISTED = 200
_FITTED = "view, angle, correlation with its reprojection. Views whose flow is known are shown aligned"


def sections(run: RunData) -> Iterator[Part]:
    """What the folder of a run holds beside what every run has, finished or not.

    A file that cannot be read is noted in its place, one that is not there leaves its section out.
    """
    for name, value in run.summary.items():
        if name.startswith("resolution_half_bit") and math.isfinite(as_number(value)):
            yield Finding(" ".join(summary_entry(name, value)))
    folder = run.path
    yield from what_is_readable(
        lambda: _slices(folder),
        lambda: _examples(folder),
        lambda: fitted_section(folder, _FITTED),
        lambda: _displacement(folder),
        lambda: _iterations(folder / ITERATIONS_FILE),
        lambda: _views(folder),
        lambda: _pitch(folder / PITCH_FILE),
        lambda: _resolution(folder),
        lambda: _gauge(folder / GAUGE_FILE),
        lambda: _returned(folder / RETURNED_FILE),
        lambda: _choice(folder / CHOICE_FILE),
        lambda: _center(folder / CENTER_FILE),
    )
    yield from map(Citation, CITATIONS.get(run.method.lower(), ()))


def _section(name: str, figure: Figure) -> Section:
    title, alternative, caption = _PICTURES[name]
    return Section(title, Picture(name, alternative, figure), caption)


def _slices(folder: Path) -> Iterator[Section]:
    from manyviews.nano.report_figures import before_after_figure

    after, before = folder / VOLUME_FILE, folder / BEFORE_FILE
    if after.exists():
        planes = central_slices(before) if before.exists() else None
        yield _section("slices", before_after_figure(planes, central_slices(after)))


def _examples(folder: Path) -> Iterator[Section]:
    from manyviews.nano.report_figures import examples_figure

    examples = read_examples(folder)
    if examples is not None:
        yield _section("views", examples_figure(examples))


def _displacement(folder: Path) -> Iterator[Section]:
    from manyviews.nano.report_motion import displacement_figure

    motion = read_motion(folder)
    if motion is not None and (folder / VOLUME_FILE).exists():
        yield _section("displacement", displacement_figure(central_slices(folder / VOLUME_FILE), motion))


def _choice(path: Path) -> Iterator[Section]:
    choice = read_choice(path)
    if choice is None:
        return
    rows = [
        {"what moves": name, "misfit / data": f"{misfit:.4f}", "method": method}
        for name, misfit, method in (
            ("views, by flows of projections", choice.misfit_flows, "oftv"),
            ("the specimen, in space", choice.misfit_space, "spacetv"),
            ("nothing more: white noise alone", choice.misfit_noise, ""),
        )
    ]
    yield Section(
        f"What moves: {choice.method} was taken",
        Table(rows),
        f"Both were tried with {choice.columns} columns, their volumes damped alike; the one that leaves "
        "clearly less was taken, flows where neither does. Another is taken by --method.",
    )


def _iterations(path: Path) -> Iterator[Section]:
    from manyviews.nano.report_figures import iterations_figure

    iterations = read_iterations(path)
    if iterations:
        yield _section("iterations", iterations_figure(iterations))


def _views(folder: Path) -> Iterator[Part]:
    from manyviews.nano.report_figures import views_figure

    views = read_views(folder / VIEWS_FILE)
    if views is None:
        return
    found = read_shifts(folder / SHIFTS_FILE)
    shifts = None if found is None or len(found[1]) != len(views.theta_degrees) else found[1]
    yield _section("residuals", views_figure(views, shifts))
    yield from _listed(views)


def _pitch(path: Path) -> Iterator[Note]:
    pitch = read_pitch(path)
    if pitch is not None:
        yield Note(
            f"Views are pitched, tilted towards the beam by {pitch.min():.2g} to {pitch.max():.2g} degrees, "
            f"and were reconstructed so; {path.name} has each. Aligned projections are those of level views."
        )


def _listed(views: Views) -> Iterator[Part]:
    """The views that do not fit, and those at which the scan jumped."""
    chosen = np.flatnonzero((views.bad > 0) | (views.jump > 0))
    if not len(chosen):
        return
    rows = [
        {
            "view": str(view + 1),
            "angle (degrees)": f"{views.theta_degrees[view]:.6g}",
            "residual / data": f"{views.residual[view]:.3g}",
            "weight": f"{views.weight[view]:.3g}",
            "why": " and ".join(
                words
                for words, is_so in (("does not fit", views.bad[view]), ("jump", views.jump[view]))
                if is_so
            ),
        }
        for view in chosen[:_MOST_LISTED]
    ]
    yield Note(
        f"{len(chosen)} of {len(views.theta_degrees)} views do not fit or jump; they are listed below."
    )
    more = f", the first {_MOST_LISTED} of them here" if len(chosen) > _MOST_LISTED else ""
    yield Section(f"{len(chosen)} views that do not fit or jump{more}", Table(rows), folded=True)


def _resolution(folder: Path) -> Iterator[Part]:
    from manyviews.nano.report_figures import half_bit_figure

    named = (
        (FSC_FILE, "halves, shifted as a whole", None),
        (FSC_SLICES_FILE, "halves, slice by slice", None),
        (FSC_REFERENCE_FILE, "volume and reference", 0.5),
    )
    curves = [(FscCurve.read_csv(folder / file), name, level) for file, name, level in named]
    known = [(curve, name, level) for curve, name, level in curves if curve is not None]
    if known:
        yield _section("resolution", half_bit_figure(known))
        yield Citation(_HALF_BIT)


def _gauge(path: Path) -> Iterator[Section]:
    from manyviews.nano.report_figures import gauge_figure

    gauge = read_gauge(path)
    if gauge is not None:
        yield _section("gauge", gauge_figure(gauge))


def _returned(path: Path) -> Iterator[Section]:
    from manyviews.nano.report_figures import returned_figure

    found = read_returned(path)
    if found is not None:
        yield _section("trust", returned_figure(*found[1:]))


def _center(path: Path) -> Iterator[Section]:
    center = read_center(path)
    if center is None:
        return
    words = f"Column {center.center:.6g} of the projections that were used, by {center.by}"
    if center.center != center.center_unbinned:
        words += f"; {center.center_unbinned:.6g} of those of the scan"
    yield Section("Rotation axis", f"{words}. The centre of the first column is 0.")
