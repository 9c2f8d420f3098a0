"""Sections that fit more than one job; a job takes those it has the files for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from manyviews.errors import InputError
from manyviews.io.tables import read_table
from manyviews.metrics.fsc import FscCurve
from manyviews.metrics.masked_fsc import FscCurves
from manyviews.report.data import Convergence, RunData, as_number, fault
from manyviews.report.display_volume import DisplayVolume, read_display_volume
from manyviews.report.sections import Finding, Note, Part, Picture, Section, Table, VolumeView
from manyviews.report.volume import central_slices
from manyviews.report.words import summary_entry


def what_is_readable(*makers: Callable[[], Iterable[Part]]) -> Iterator[Part]:
    """The parts that each of these makes; a note in the place of what a damaged file does not give."""
    for make in makers:
        try:
            yield from tuple(make())
        except InputError as error:
            yield Note(f"Not shown: {fault(error)}")


def slices_section(
    path: Path, title: str = "Central slices", name: str = "slices"
) -> Iterator[Section | Note]:
    """The central slices of a volume; a note if it cannot be read, nothing if it is not there."""
    try:
        picture = _slices_picture(path, name) if path.exists() else None
    except InputError as error:
        yield Note(f"The volume is not shown: {error}.")
        return
    if picture is not None:
        yield Section(title, picture)


def volume_section(path: Path, title: str = "Volume") -> Iterator[Section | Note]:
    """The volume that a run is for, to leaf through and to turn; else as `slices_section`."""
    try:
        picture = _slices_picture(path, "slices") if path.exists() else None
        volume = None if picture is None else read_display_volume(path)
    except InputError as error:
        yield Note(f"The volume is not shown: {error}.")
        return
    if picture is not None and volume is not None:
        yield Section(title, VolumeView("volume", volume, picture), _told(volume))


def _slices_picture(path: Path, name: str) -> Picture:
    from manyviews.report.plots import slices_figure

    return Picture(name, "Central planes of the volume in xy, xz and yz", slices_figure(central_slices(path)))


def _told(volume: DisplayVolume) -> str:
    """What a page does not show of a volume."""
    less = "" if volume.block == 1 else f", {volume.block} voxels to one here"
    depth, height, width = volume.shape
    return (
        f"{width} x {height} x {depth} voxels (x, y, z){less}; y and z point up, grey levels are of the file."
    )


def convergence_section(curve: Convergence | None) -> Iterator[Section]:
    """How the objective fell, nothing where it is not told."""
    from manyviews.report.plots import convergence_figure

    if curve is not None:
        alternative = "Objective relative to its start against passes over the data"
        yield Section("Convergence", Picture("convergence", alternative, convergence_figure(curve)))


def fsc_section(path: Path, title: str) -> Iterator[Section]:
    """The Fourier shell correlation of a table, nothing if it is not there."""
    from manyviews.report.plots import fsc_figure

    curve = FscCurve.read_csv(path)
    if curve is not None:
        yield Section(title, Picture("fsc", "Fourier shell correlation", fsc_figure(curve)))


def half_map_curves(
    path: Path, halves: str = "halves"
) -> tuple[list[tuple[FscCurve, str, float | None]], str, bool]:
    """The curves of half maps in a table as `resolution_figure` takes them, none if it is not there.

    ``halves`` is what they are called. Also what is doubtful in them, and whether there is a mask in it.
    """
    masked = FscCurves.read_csv(path)
    if masked is not None:
        curves: list[tuple[FscCurve, str, float | None]] = [
            (masked.corrected, f"{halves}, in the mask, corrected", 0.143),
            (masked.unmasked, f"{halves}, as they are", 0.143),
            (masked.masked, "halves in the mask", None),
            (masked.random, "halves in the mask, phases random", None),
        ]
        return curves, masked.warning(), True
    plain = FscCurve.read_csv(path)
    return ([] if plain is None else [(plain, f"{halves}, as they are", 0.143)]), "", False


def table_section(path: Path, title: str) -> Iterator[Section]:
    """A table, folded; ``{rows}`` in the title becomes their number. Nothing if it is not there or empty."""
    rows = read_table(path, ())
    if rows:
        yield Section(title.format(rows=len(rows)), Table(rows), folded=True)


def resolution_findings(run: RunData) -> Iterator[Finding]:
    """The resolutions that a run came to, of those that there are."""
    for name, value in run.summary.items():
        if name.startswith("resolution_fsc") and math.isfinite(as_number(value)):
            yield Finding(" ".join(summary_entry(name, value)))
