"""``manyviews nano``: scans in parallel beam of specimens that move and change while they are looked at."""

from __future__ import annotations

import sys

from manyviews.cli.command import Command
from manyviews.cli.output import FolderOptions, run_job, simulation_progress
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.nano.trust_options import TrustOptions
from manyviews.options import RunOptions


def _simulate(folder: FolderOptions, options: SimulateOptions) -> int:
    from manyviews.nano.simulate import simulate

    with simulation_progress(quiet=folder.quiet) as tell:
        made = simulate(options, folder.out, tell)
    print(made.scan)
    print(made.truth)
    print(f"center: {made.center:g}")
    print("reconstruct with:")
    print(f"  {made.command}")
    return 0


def _check(options: ScanOptions, how: ReconstructOptions) -> int:
    from manyviews.nano.check import check

    print("\n".join(check(options, how).lines()))
    return 0


def _reconstruct(options: ScanOptions, how: ReconstructOptions, run: RunOptions) -> int:
    from manyviews.nano.reconstruct import reconstruct

    return run_job(reconstruct, options, how, run=run)


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


def _trust(options: TrustOptions, run: RunOptions) -> int:
    from manyviews.nano.trust import trust

    return run_job(trust, options, run=run)


COMMANDS = (
    Command(
        name="nano simulate",
        summary="Simulate a scan of a specimen that moves and deforms, and the truth beside it.",
        usage="--out DIR [options]",
        examples=(
            "manyviews nano simulate --out data --size 128 --views 192 --rotations 2 --deformation-percent 8",
            "manyviews nano simulate --out shrunk --specimen tissue --warp mass --photons 2000 --jitter 1.5",
        ),
        options=(FolderOptions, SimulateOptions),
        run=_simulate,
    ),
    Command(
        name="nano check",
        summary="Look at a scan, and tell what a reconstruction would make of it and take.",
        usage="SCAN [options]",
        examples=(
            "manyviews nano check scan.h5",
            "manyviews nano check folder --angles angles.txt --air 20 --stripes fw --binning 2",
        ),
        options=(ScanOptions, ReconstructOptions),
        run=_check,
        required=False,
    ),
    Command(
        name="nano reconstruct",
        summary="Reconstruct a scan whose specimen or views move and deform, and find how.",
        usage="SCAN --out RUN [options]",
        examples=(
            "manyviews nano reconstruct scan.h5 --out run1",
            "manyviews nano reconstruct folder --angles angles.txt --binning 2 --method shifts --out run2",
            "manyviews nano reconstruct shrunk/scan.h5 --method spacetv --warp mass --out run3",
        ),
        options=(ScanOptions, ReconstructOptions, RunOptions),
        run=_reconstruct,
        parallel=True,
        report="manyviews.nano.report",
    ),
    Command(
        name="nano trust",
        summary="Inject a known motion into the data of a run, solve again, and tell what share comes back.",
        usage="RUN --out TEST [options]",
        examples=(
            "manyviews nano trust run1 --out test1",
            "manyviews nano trust run2 --motion jitter --amount 2 --out test2",
        ),
        options=(TrustOptions, RunOptions),
        run=_trust,
        parallel=True,
        report="manyviews.nano.report",
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
