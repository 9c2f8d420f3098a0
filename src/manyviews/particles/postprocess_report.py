"""What finished maps add to the page of a run; a job that ends with them takes these sections too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from manyviews.io.tables import read_numbers, require_ordinary
from manyviews.metrics import directional_fsc, masked_fsc
from manyviews.metrics.directional_fsc import read_cones
from manyviews.particles.postprocess_results import (
    DIRECTIONAL_FILE,
    FILTERED_FILE,
    FSC_FILE,
    GUINIER_COLUMNS,
    GUINIER_FILE,
    LOCAL_FILE,
    LOCAL_TABLE,
    SHARPENED_FILE,
)
from manyviews.report.common import (
    half_map_curves,
    resolution_findings,
    volume_section,
    what_is_readable,
)
from manyviews.report.data import RunData
from manyviews.report.sections import Citation, Part, Picture, Section
from manyviews.report.volume import central_slices, read_model
from manyviews.runs.map_names import MASK_FILE, VOLUME_FILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from manyviews.particles.postprocess_figures import Planes

_PICTURES = {
    "maps": (
        "Maps",
        "Central planes of the mean of the halves, the sharpened and the locally filtered map",
        "xy, xz and yz through the middle; each map has its own grey levels. The locally filtered map is as "
        "strongly filtered in each place as the halves agree there.",
    ),
    "surface": (
        "Surface",
        "The surface of the locally filtered map seen along z, y and x",
        "At the level above which the voxels hold 70 % of all positive density.",
    ),
    "resolution": (
        "Resolution",
        "Fourier shell correlation of half maps without and with the mask",
        "What halves with random phases share is the mask's, and is taken out of the corrected curve, from "
        "two shells behind the first on where the halves as they are correlate by less than 0.8. The legend "
        "gives the end of the longest run of shells above 0.143.",
    ),
    "mask": (
        "Mask",
        "Central planes of the mean of the halves with the outline of the mask",
        "Red: where the mask is a half; blue: where it ends.",
    ),
    "cones": (
        "Resolution by direction",
        "Fourier shell correlation of the half maps in cones about many directions",
        "Frequencies in double cones of 20 degrees about directions of half a sphere, in the mask, not "
        "corrected for it. A cone holds few samples, so its curve scatters.",
    ),
    "local": (
        "Local resolution",
        "Local resolution in colours over central planes of the map, and its histogram",
        "Where soft windows around a place correlate less than the threshold in the halves, band by band. "
        "Where there is no colour nothing is resolved, or it is outside of the mask.",
    ),
    "guinier": (
        "Guinier plot",
        "Logarithm of the amplitudes by shell over squared frequency, with the fitted line",
        "The slope of the line is a quarter of the B factor that the maps are sharpened by.",
    ),
}
PICTURES = ("slices", *_PICTURES)
_ROSENTHAL = (
    "Rosenthal PB, Henderson R (2003) Optimal determination of particle orientation, absolute hand, and "
    "contrast loss in single-particle electron cryomicroscopy. Journal of Molecular Biology 333:721-745."
)
_CARDONE = (
    "Cardone G, Heymann JB, Steven AC (2013) One number does not fit all: mapping local variations in "
    "resolution in cryo-EM reconstructions. Journal of Structural Biology 184:226-236."
)
_PUNJANI = (
    "Punjani A, Zhang H, Fleet DJ (2020) Non-uniform refinement: adaptive regularization improves "
    "single-particle cryo-EM reconstruction. Nature Methods 17:1214-1221."
)
_MOST = 1e15


def sections(run: RunData) -> Iterator[Part]:
    """What the folder of a run over two half maps holds beside what every run has."""
    yield from resolution_findings(run)
    yield from finished_sections(run.path)


def finished_sections(folder: Path) -> Iterator[Part]:
    """Sections of the files that `write_finished` leaves; those of what is not there are left out."""
    yield from what_is_readable(
        lambda: volume_section(folder / FILTERED_FILE, "Locally filtered map"),
        lambda: _maps(folder),
        lambda: _surface(folder / FILTERED_FILE),
        lambda: _resolution(folder / FSC_FILE),
        lambda: _mask(folder),
        lambda: _directions(folder / DIRECTIONAL_FILE),
        lambda: _local(folder),
        lambda: _guinier(folder / GUINIER_FILE),
    )


def _section(name: str, figure: Figure) -> Section:
    title, alternative, caption = _PICTURES[name]
    return Section(title, Picture(name, alternative, figure), caption)


def _planes(path: Path) -> Planes:
    slices = central_slices(path)
    return slices.xy, slices.xz, slices.yz


def _maps(folder: Path) -> Iterator[Section]:
    from manyviews.report.plots import planes_figure

    names = {
        VOLUME_FILE: "mean of the halves",
        SHARPENED_FILE: "sharpened",
        FILTERED_FILE: "locally filtered",
    }
    there = [name for name in names if (folder / name).exists()]
    if there:
        planes = [(number, _planes(folder / name)) for number, name in enumerate(there)]
        yield _section("maps", planes_figure(planes, dict(enumerate(names[name] for name in there))))


def _surface(path: Path) -> Iterator[Section]:
    from manyviews.report.plots import surface_figure

    if path.exists() and (model := read_model(path)).has_surface:
        yield _section("surface", surface_figure(model))


def _resolution(path: Path) -> Iterator[Part]:
    from manyviews.report.plots import resolution_figure

    curves, warning, masked = half_map_curves(path)
    if curves:
        shown = _section("resolution", resolution_figure(curves))
        told = f" {warning[:1].upper()}{warning[1:]}." if warning else ""
        yield replace(shown, caption=shown.caption + told)
    if masked:
        yield Citation(masked_fsc.PAPER)


def _mask(folder: Path) -> Iterator[Section]:
    from manyviews.particles.postprocess_figures import mask_figure

    paths = folder / VOLUME_FILE, folder / MASK_FILE
    if all(path.exists() for path in paths):
        yield _section("mask", mask_figure(*map(_planes, paths)))


def _directions(path: Path) -> Iterator[Part]:
    from manyviews.particles.postprocess_figures import directions_figure

    cones = read_cones(path)
    if cones:
        yield _section("cones", directions_figure(cones))
        yield Citation(directional_fsc.PAPER)


def _local(folder: Path) -> Iterator[Part]:
    from manyviews.particles.postprocess_figures import local_figure

    density, resolution = folder / FILTERED_FILE, folder / LOCAL_FILE
    bins = read_numbers(folder / LOCAL_TABLE, ("from_angstrom", "to_angstrom", "cubic_angstrom"))
    if len(bins) and density.exists() and resolution.exists():
        require_ordinary(bins, folder / LOCAL_TABLE, least=0.0, most=_MOST)
        yield _section("local", local_figure(_planes(density), _planes(resolution), bins))
        yield Citation(_CARDONE)
        yield Citation(_PUNJANI)


def _guinier(path: Path) -> Iterator[Part]:
    from manyviews.particles.postprocess_figures import guinier_figure

    table = read_numbers(path, GUINIER_COLUMNS)
    if len(table) > 1:
        require_ordinary(table[:, :1], path, least=0.0, most=1e3)
        require_ordinary(np.nan_to_num(table[:, 1:]), path, least=-1e6, most=1e6)
        yield _section("guinier", guinier_figure(table))
        yield Citation(_ROSENTHAL)
