"""``manyviews nano``: scans in parallel beam of specimens that move and change while they are looked at."""

from __future__ import annotations

import sys

from manyviews.cli.command import Command
from manyviews.nano.scan.options import ScanOptions


def _check(options: ScanOptions) -> int:
    from manyviews.nano.check import check

    print("\n".join(check(options).lines()))
    return 0


def _center(options: ScanOptions) -> int:
    from manyviews.nano.check import find_scan_center

    correction, found = find_scan_center(options)
    scan = correction.scan
    notes = (*scan.notes, *correction.notes)
    warnings = (*scan.warnings, *correction.warnings, *found.warnings)
    for kind, sentences in (("note", notes), ("warning", warnings)):
        for sentence in sentences:
            print(f"{kind}: {sentence}", file=sys.stderr)
    print(*found.notes, sep="\n")
    print(f"middle of the detector: {(scan.shape[2] - 1) / 2:g}")
    print(f"centre: {found.center:.2f}, by {found.by}")
    return 0


COMMANDS = (
    Command(
        name="nano check",
        summary="Look at a scan, and tell what a reconstruction would make of it and take.",
        usage="SCAN [options]",
        examples=(
            "manyviews nano check scan.h5",
            "manyviews nano check folder --angles angles.txt --air 20 --stripes fw --binning 2",
        ),
        options=(ScanOptions,),
        run=_check,
        required=False,
    ),
    Command(
        name="nano center",
        summary="Find the rotation axis of a scan on the detector, by opposite views and by sharpest slices.",
        usage="SCAN [options]",
        examples=(
            "manyviews nano center scan.h5",
            "manyviews nano center stack.tif --angle-range 0 180 --center-search-width 200",
        ),
        options=(ScanOptions,),
        run=_center,
        required=False,
    ),
)
