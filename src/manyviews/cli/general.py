"""``manyviews demo``, ``doctor``, ``compare`` and ``report``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from manyviews.cli.arguments import CommandParser
from manyviews.cli.command import Command
from manyviews.cli.output import print_result
from manyviews.errors import InputError

if TYPE_CHECKING:
    from manyviews.report.sections import Sections

# the module of each job that says what a page of its runs shows
_REPORTS = {
    "tilt reconstruct": "manyviews.tilt.report",
    "particles abinitio": "manyviews.particles.report",
}


def _add_demo(parser: CommandParser) -> None:
    output = parser.section("output")
    output.add_argument(
        "--out",
        type=Path,
        default=Path("demo-run"),
        metavar="DIR",
        help="Folder for the simulated data and the run. [default: demo-run]",
    )
    output.add_argument("--overwrite", action="store_true", help="Replace an earlier demo in that folder.")
    output.add_argument("--quiet", action="store_true", help="Print the result only, no progress.")


def _demo(arguments: argparse.Namespace) -> int:
    from manyviews.tilt.demo import demo

    result = demo(
        arguments.out,
        overwrite=arguments.overwrite,
        quiet=arguments.quiet,
        command=("manyviews", *sys.argv[1:]),
    )
    print_result(result.summary, result.report)
    return 0


def _add_doctor(parser: CommandParser) -> None:
    parser.section("options").add_argument(
        "--folder",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="Folder whose free disk space counts. [default: this folder]",
    )


def _doctor(arguments: argparse.Namespace) -> int:
    from manyviews.doctor import examine

    failed = False
    for finding in examine(arguments.folder):
        print(finding.line(), flush=True)
        failed |= finding.state == "fail"
    return 1 if failed else 0


def _add_compare(parser: CommandParser) -> None:
    parser.section("input").add_argument(
        "volumes", nargs=2, type=Path, metavar="VOLUME", help="Two MRC volumes of the same size."
    )
    parser.section("output").add_argument(
        "--out", type=Path, metavar="DIR", help="New folder for fsc.csv and fsc.png."
    )


def _compare(arguments: argparse.Namespace) -> int:
    from manyviews.compare import compare

    comparison = compare(*arguments.volumes)
    print("\n".join(comparison.lines()))
    if arguments.out is not None:
        for path in comparison.write(arguments.out):
            print(path)
    return 0


def _add_report(parser: CommandParser) -> None:
    parser.section("input").add_argument("run", type=Path, metavar="RUN", help="Folder of a run.")


def _report(arguments: argparse.Namespace) -> int:
    from manyviews.report.build import build_report
    from manyviews.report.data import read_run

    print(build_report(arguments.run, _sections_of(read_run(arguments.run).job, arguments.run)))
    return 0


def _sections_of(job: str, run: Path) -> Sections:
    """What the job of a run adds to its page."""
    from importlib import import_module

    if job not in _REPORTS:
        raise InputError(
            f"is a run of {job!r}, a job that this version does not know",
            path=run,
            fix=f"give a run of {' or '.join(_REPORTS)}",
        )
    sections: Sections = import_module(_REPORTS[job]).sections
    return sections


COMMANDS = (
    Command(
        name="demo",
        summary="Simulate a small four-axis data set, reconstruct it and write a report.",
        usage="[--out DIR] [options]",
        examples=("manyviews demo", "manyviews demo --out /tmp/demo --quiet"),
        add=_add_demo,
        run=_demo,
    ),
    Command(
        name="doctor",
        summary="Check this installation and machine, with a fix for whatever is wrong.",
        usage="[options]",
        examples=("manyviews doctor", "manyviews doctor --folder /scratch"),
        add=_add_doctor,
        run=_doctor,
    ),
    Command(
        name="compare",
        summary="Compare two volumes: correlation, Fourier shell correlation and resolution.",
        usage="A.mrc B.mrc [--out DIR]",
        examples=(
            "manyviews compare run1/volume.mrc truth.mrc",
            "manyviews compare half1.mrc half2.mrc --out fsc",
        ),
        add=_add_compare,
        run=_compare,
    ),
    Command(
        name="report",
        summary="Write the report of a run again.",
        usage="RUN",
        examples=("manyviews report run1", "manyviews report demo-run/reconstruction"),
        add=_add_report,
        run=_report,
    ),
)
