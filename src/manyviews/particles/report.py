"""What a run over single particles adds to the page of a run."""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.metrics.fsc import FscCurve
from manyviews.particles.fitted import HEADINGS
from manyviews.particles.pass_files import REFINEMENT, passes_section
from manyviews.particles.report_data import Learning, read_learning, read_spread
from manyviews.particles.start_files import PICTURE as STARTS_PICTURE
from manyviews.particles.start_files import starts_section
from manyviews.report.common import resolution_findings, table_section, volume_section, what_is_readable
from manyviews.report.data import RunData
from manyviews.report.fitted_images import PICTURE as FITTED_PICTURE
from manyviews.report.fitted_images import fitted_section
from manyviews.report.sections import Citation, Part, Picture, Section
from manyviews.report.sphere import read_fields, share_figure
from manyviews.report.volume import Model, read_model

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
PICTURES = (
    "slices",
    "surface",
    "resolution",
    "directions",
    "spread",
    "learning",
    "poses",
    STARTS_PICTURE,
    FITTED_PICTURE,
    f"{REFINEMENT}_passes",
)
# what a look at the images has found
_TABLES = (
    ("set_aside.csv", "{rows} particles set aside"),
    ("outliers.csv", "Hot pixels or X-rays in {rows} images"),
    ("copies.csv", "{rows} copies of other particles"),
)
# by method
CITATIONS = {"stochastic-em": (_CAPPE, _SCHERES), "sagd": (_PUNJANI,)}


def sections(run: RunData) -> Iterator[Part]:
    """What the folder of a run holds beside what every run has, finished or not.

    A file that cannot be read is noted in its place.
    """
    yield from resolution_findings(run)
    model = try_model(run.path / "volume.mrc")
    yield from what_is_readable(
        lambda: volume_section(run.path / "volume.mrc"),
        lambda: _surface(model),
        lambda: _resolution(run),
    )
    yield from what_is_readable(
        lambda: starts_section(run.path), lambda: passes_section(run.path, REFINEMENT)
    )
    yield from pose_sections(run, model)
    yield from map(Citation, CITATIONS.get(run.method, ()))


def pose_sections(run: RunData, model: Model | None, stages: Container[str] | None = None) -> Iterator[Part]:
    """What any run that finds poses tells of them, of its iterations and of its images.

    ``stages`` are those whose iterations are shown, see `read_learning`.
    """
    yield from what_is_readable(
        lambda: fitted_section(run.path, HEADINGS),
        lambda: _directions(run.path / "directions.csv"),
        lambda: _spread(run.path / "spread.csv"),
        lambda: _learning(run, model, stages),
        *(partial(table_section, run.path / file, title) for file, title in _TABLES),
    )


def _section(name: str, figure: Figure) -> Section:
    title, alternative, caption = _PICTURES[name]
    return Section(title, Picture(name, alternative, figure), caption)


def _surface(model: Model | None) -> Iterator[Section]:
    from manyviews.report.plots import surface_figure

    if model is not None and model.has_surface:
        yield _section("surface", surface_figure(model))


def _resolution(run: RunData) -> Iterator[Section]:
    from manyviews.report.plots import resolution_figure

    curves = [(curve, name, level) for curve, name, level in _curves(run) if curve is not None]
    if curves:
        yield _section("resolution", resolution_figure(curves))


def reference_section(curve: FscCurve | None) -> Iterator[Section]:
    """The curve of a map and its reference alone, where there is one."""
    from manyviews.report.plots import resolution_figure

    if curve is not None:
        title, alternative = "Resolution with the reference", "Fourier shell correlation with the reference"
        figure = resolution_figure([(curve, "map and reference, aligned", 0.5)])
        yield Section(title, Picture("reference", alternative, figure))


def _directions(path: Path) -> Iterator[Section]:
    directions = read_fields(path, "particles")
    if directions is not None:
        yield _section("directions", share_figure(directions, "particles / even share"))


def _spread(path: Path) -> Iterator[Section]:
    from manyviews.particles.report_figures import spread_figure

    spread = read_spread(path)
    if spread is not None:
        yield _section("spread", spread_figure(spread))


def learning_section(learning: Learning, name: str = "learning", of: str = "") -> Section:
    """The curves of the iterations, ``of`` what, under the ``name`` of their picture."""
    from manyviews.particles.report_figures import learning_figure

    title, alternative, caption = _PICTURES["learning"]
    return Section(title + of, Picture(name, alternative, learning_figure(learning)), caption)


def _learning(run: RunData, model: Model | None, stages: Container[str] | None) -> Iterator[Section]:
    from manyviews.particles.report_figures import poses_figure

    learning = read_learning(run, model, stages)
    if learning is not None:
        yield learning_section(learning)
        if np.isfinite(learning.fraction).any():
            yield _section("poses", poses_figure(learning))


def _curves(run: RunData) -> Iterator[tuple[FscCurve | None, str, float]]:
    """Fourier shell correlations with what they are of and the threshold that counts."""
    of_reference = "map and reference, aligned"
    if "method" not in run.options:
        of_halves, of_reference = "halves of the particles, poses as given", "map and reference, as they lie"
    elif run.options.get("independent_halves") is True:
        of_halves = "halves refined apart"
    else:
        of_halves = "halves found with one map (optimistic)"
    yield FscCurve.read_csv(run.path / "fsc.csv"), of_halves, 0.143
    yield FscCurve.read_csv(run.path / "fsc_reference.csv"), of_reference, 0.5


def try_model(path: Path) -> Model | None:
    """The map; None if it is not there, or not to be read (the report says why beside the slices)."""
    try:
        return read_model(path) if path.exists() else None
    except InputError:
        return None
