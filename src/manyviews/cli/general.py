"""``manyviews demo``, ``doctor``, ``compare`` and ``report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manyviews.cli.command import Command
from manyviews.cli.output import command_line, print_result, require_room
from manyviews.options import option


# fmt: off
@dataclass(frozen=True)
class _DemoOptions:
    """What ``demo`` can be told."""

    out: Path = option(Path("demo-run"), section="output", metavar="DIR",
        help="Write the simulated data and the run to this folder.")
    overwrite: bool = option(False, section="output", help="Replace an earlier demo in that folder.")
    quiet: bool = option(False, section="output", help="Print the result only, no progress.")


@dataclass(frozen=True)
class _DoctorOptions:
    """What ``doctor`` can be told."""

    folder: Path = option(Path(), section="machine", metavar="DIR",
        help="Count the free disk space of this folder.")


@dataclass(frozen=True)
class _CompareOptions:
    """What ``compare`` can be told."""

    first: Path = option(section="input", metavar="VOLUME", positional=True,
        help="Compare this volume (MRC).")
    second: Path = option(section="input", metavar="VOLUME", positional=True,
        help="Compare it with this one, of the same size.")
    out: Path | None = option(None, section="output", metavar="DIR",
        help="Write fsc.csv and fsc.png to this folder.")
    overwrite: bool = option(False, section="output", help="Replace such files of an earlier comparison.")
# fmt: on


def _demo(options: _DemoOptions) -> int:
    from manyviews.tilt.demo import demo

    result = demo(options.out, overwrite=options.overwrite, quiet=options.quiet, command=command_line())
    print_result(result.summary, result.report)
    return 0


def _doctor(options: _DoctorOptions) -> int:
    from manyviews.doctor import examine

    failed = False
    for finding in examine(options.folder):
        print(finding.line(), flush=True)
        failed |= finding.state == "fail"
    return 1 if failed else 0


def _compare(options: _CompareOptions) -> int:
    from manyviews.compare import FILES, compare

    require_room(options.out, FILES, overwrite=options.overwrite)
    comparison = compare(options.first, options.second)
    print("\n".join(comparison.lines()))
    for path in () if options.out is None else comparison.write(options.out, overwrite=options.overwrite):
        print(path)
    return 0


DEMO = Command(
    name="demo",
    summary="Simulate a small four-axis data set, reconstruct it and write a report.",
    usage="[--out DIR] [options]",
    examples=("manyviews demo", "manyviews demo --out /tmp/demo --quiet"),
    options=(_DemoOptions,),
    run=_demo,
)
DOCTOR = Command(
    name="doctor",
    summary="Check this installation and machine, with a fix for whatever is wrong.",
    usage="[options]",
    examples=("manyviews doctor", "manyviews doctor --folder /scratch"),
    options=(_DoctorOptions,),
    run=_doctor,
)
COMPARE = Command(
    name="compare",
    summary="Compare two volumes: correlation, Fourier shell correlation and resolution.",
    usage="A.mrc B.mrc [--out DIR]",
    examples=(
        "manyviews compare run1/volume.mrc truth.mrc",
        "manyviews compare half1.mrc half2.mrc --out fsc",
    ),
    options=(_CompareOptions,),
    run=_compare,
)
