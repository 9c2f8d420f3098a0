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
from manyviews.report.sections import Finding, Note, Part, Picture, Section, Table
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
    from manyviews.report.plots import slices_figure

    if not path.exists():
        return
    try:
        figure = slices_figure(central_slices(path))
    except InputError as error:
        yield Note(f"The volume is not shown: {error}.")
        return
    alternative = "Central planes of the volume in xy, xz and yz"
    yield Section(title, Picture(name, alternative, figure))


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
