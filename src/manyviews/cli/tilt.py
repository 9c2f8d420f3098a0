"""``manyviews tilt``: simulate, check and reconstruct tilt series."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from manyviews.cli.arguments import CommandParser, Layout, add_options, build_options
from manyviews.cli.command import Command
from manyviews.cli.output import print_result
from manyviews.tilt.options import ConvertOptions, ReconstructOptions, SeriesOptions

_SERIES = Layout(
    section="geometry",
    sections={"stacks": "input", "tilt_angles": "input", "exclude": "input", "pixel_size": "input"},
    metavars={
        "stacks": "STACK",
        "axis_angle": "DEG",
        "tilt_offset": "DEG",
        "exclude": "VIEWS",
        "pixel_size": "ANGSTROM",
    },
    positional="stacks",
)
_METHOD_SECTIONS = {
    "thickness": "volume",
    "bin": "volume",
    "normalise": "input",
    "invert_contrast": "input",
    "reference": "output",
    "device": "machine",
    "threads": "machine",
    "memory": "machine",
    "scratch": "machine",
    "layout": "machine",
}
_METHOD_METAVARS = {"method": "METHOD", "device": "DEVICE", "subset_order": "ORDER", "sirt_form": "FORM"}
_CHECK = Layout(section="method", sections=_METHOD_SECTIONS, metavars=_METHOD_METAVARS)
_RECONSTRUCT = Layout(
    section="method", sections=_METHOD_SECTIONS, metavars=_METHOD_METAVARS, required=("thickness",)
)
_CONVERT = Layout(section="output", metavars={"to": "PROGRAM", "out": "DIR"}, required=("to", "out"))


_SIMULATE = Layout(
    section="imperfections",
    sections={
        **dict.fromkeys(("phantom", "size", "thickness", "pixel_size", "extended", "seed"), "specimen"),
        **dict.fromkeys(("axes", "tilt_min", "tilt_max", "tilt_step"), "geometry"),
        **dict.fromkeys(("dtype", "overwrite"), "output"),
    },
    metavars={
        **dict.fromkeys(("axes", "tilt_min", "tilt_max", "tilt_step", "axis_error"), "DEG"),
        "phantom": "PHANTOM",
        "pixel_size": "ANGSTROM",
        "shift_error": "PIXELS",
        "dtype": "TYPE",
    },
)


@dataclass(frozen=True)
class _CheckOptions:
    """What only ``tilt check`` can be told.

    Attributes
    ----------
    ranks
        MPI ranks on this machine to plan for. Left out: as many as --layout needs, 1 without it.
    """

    ranks: int | None = None


def _add_series(parser: CommandParser, method: Layout) -> None:
    for title in ("input", "geometry", "volume", "method", "output", "machine"):
        parser.section(title)  # in the order in which one thinks of them
    add_options(parser, SeriesOptions, _SERIES)
    add_options(parser, ReconstructOptions, method)


def _add_check(parser: CommandParser) -> None:
    _add_series(parser, _CHECK)
    add_options(parser, _CheckOptions, Layout(section="machine"))


def _add_reconstruct(parser: CommandParser) -> None:
    _add_series(parser, _RECONSTRUCT)
    output = parser.section("output")
    output.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="RUN",
        help="Run folder: volume.mrc, ncc.csv, report.html. The same command on the same folder resumes.",
    )
    output.add_argument("--overwrite", action="store_true", help="Start afresh in a folder that has a run.")
    output.add_argument("--quiet", action="store_true", help="Print the result only, no progress.")


def _add_simulate(parser: CommandParser) -> None:
    from manyviews.tilt.options import SimulateOptions

    for title in ("specimen", "geometry", "imperfections", "output"):
        parser.section(title)
    add_options(parser, SimulateOptions, _SIMULATE)
    output = parser.section("output")
    output.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="New folder for stacks, angles and the truth."
    )
    output.add_argument("--quiet", action="store_true", help="Print the result only, no progress.")


def _add_convert(parser: CommandParser) -> None:
    for title in ("input", "geometry", "output"):
        parser.section(title)
    add_options(parser, SeriesOptions, _SERIES)
    add_options(parser, ConvertOptions, _CONVERT)


def _convert(arguments: argparse.Namespace) -> int:
    from manyviews.tilt.convert import convert

    converted = convert(build_options(SeriesOptions, arguments), build_options(ConvertOptions, arguments))
    print(*converted.files, sep="\n")
    print(f"read again with:\n  {converted.command}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from manyviews.tilt.check import check

    series, options = build_options(SeriesOptions, arguments), build_options(ReconstructOptions, arguments)
    checked = check(series, options, build_options(_CheckOptions, arguments).ranks)
    print("\n".join(checked.lines()))
    return 0


def _reconstruct(arguments: argparse.Namespace) -> int:
    from manyviews.parallel.launch import start_world
    from manyviews.tilt.reconstruct import reconstruct

    world = start_world()
    result = reconstruct(
        build_options(SeriesOptions, arguments),
        build_options(ReconstructOptions, arguments),
        arguments.out,
        overwrite=arguments.overwrite,
        command=("manyviews", *sys.argv[1:]),
        quiet=arguments.quiet,
        world=world,
    )
    if world.rank == 0:
        print_result(result.summary, result.report)
    return 0


def _simulate(arguments: argparse.Namespace) -> int:
    from manyviews.runs.progress import Progress
    from manyviews.tilt.options import SimulateOptions
    from manyviews.tilt.simulate import simulate

    with Progress(quiet=arguments.quiet) as progress:

        def tell(name: str, done: int, total: int) -> None:
            if done == 1:
                progress.start(f"simulating {name}", total)
            progress.update(done)

        simulated = simulate(build_options(SimulateOptions, arguments), arguments.out, tell)
    for path in (*simulated.stacks, simulated.truth):
        print(path)
    print("reconstruct with:")
    print(f"  {simulated.command}")
    return 0


COMMANDS = (
    Command(
        name="tilt simulate",
        summary="Simulate tilt series of a known specimen about one or more axes.",
        usage="--out DIR [options]",
        examples=(
            "manyviews tilt simulate --out data",
            "manyviews tilt simulate --out data --axes 0 90 --size 512 --noise 0.5 --drift 0.1",
        ),
        add=_add_simulate,
        run=_simulate,
    ),
    Command(
        name="tilt check",
        summary="Show the geometry of every view, where it came from, and what a reconstruction would cost.",
        usage="STACK [STACK ...] [options]",
        examples=(
            "manyviews tilt check a.mrc --tilt-angles a.tlt --thickness 200",
            "manyviews tilt check a.mrc b.mrc --axis-angle -12.7 77.3 --transform a.xf b.xf",
        ),
        add=_add_check,
        run=_check,
    ),
    Command(
        name="tilt convert",
        summary="Write the geometry of tilt series as the files of another program.",
        usage="STACK [STACK ...] --to PROGRAM --out DIR [options]",
        examples=(
            "manyviews tilt convert a.mrc --tilt-angles a.aln --to imod --out imod",
            "manyviews tilt convert a.mrc b.mrc --tilt-angles a.tlt b.tlt --axis-angle 0 90 --to relion5 "
            "--out relion",
        ),
        add=_add_convert,
        run=_convert,
    ),
    Command(
        name="tilt reconstruct",
        summary="Reconstruct one volume from tilt series about one or more axes.",
        usage="STACK [STACK ...] --out RUN --thickness N [options]",
        examples=(
            "manyviews tilt reconstruct a.mrc --tilt-angles a.tlt --thickness 200 --out run1",
            "manyviews tilt reconstruct a.mrc b.mrc --axis-angle 0 90 --thickness 200 --bin 2 "
            "--method consensus --out run2",
        ),
        add=_add_reconstruct,
        run=_reconstruct,
    ),
)
