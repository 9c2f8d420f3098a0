"""``manyviews subtomo``: subtomograms cut out of tomograms, and their tables as other programs have them."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from manyviews.cli.command import Command
from manyviews.cli.output import simulation_progress
from manyviews.subtomo.options import ConvertOptions, ExtractOptions


def _extract(options: ExtractOptions) -> int:
    from manyviews.subtomo.extract import extract

    with simulation_progress(quiet=options.quiet, doing="cutting out") as tell:
        made = extract(options, tell)
    _say(made.notes, made.warnings)
    print(f"cut out: {made.count}" + (f", of which {made.filled} are filled in part" if made.filled else ""))
    for reason, count in made.skipped.items():
        print(f"skipped: {count} ({reason})")
    print(made.table)
    print(made.listed)
    return 0


def _convert(options: ConvertOptions) -> int:
    from manyviews.subtomo.convert import convert

    converted = convert(options)
    _say(converted.notes, converted.warnings)
    print(f"{converted.count} particles as {converted.kind}")
    print(*converted.files, sep="\n")
    return 0


def _say(notes: Iterable[str], warnings: Iterable[str]) -> None:
    for kind, sentences in (("note", notes), ("warning", warnings)):
        for sentence in sentences:
            print(f"{kind}: {sentence}", file=sys.stderr)


COMMANDS = (
    Command(
        name="subtomo extract",
        summary="Cut subtomograms out of tomograms around given positions.",
        usage="TOMOGRAM POSITIONS --box N --out DIR [options]",
        examples=(
            "manyviews subtomo extract tomo.mrc picks.star --box 64 --out boxes",
            "manyviews subtomo extract tomo.mrc picks.csv --units angstrom --box 48 --edge fill --invert "
            "--out boxes",
        ),
        options=(ExtractOptions,),
        run=_extract,
    ),
    Command(
        name="subtomo convert",
        summary="Write a table of subtomograms as that of another program.",
        usage="TABLE --out FILE [options]",
        examples=(
            "manyviews subtomo convert refined.tbl --pixel-size 2.7 --out refined.star",
            "manyviews subtomo convert particles.star --format stopgap --out motl.star",
        ),
        options=(ConvertOptions,),
        run=_convert,
    ),
)
