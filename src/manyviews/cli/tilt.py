"""``manyviews tilt``: simulate, check, align and reconstruct tilt series."""

from __future__ import annotations

from dataclasses import dataclass

from manyviews.cli.command import Command
from manyviews.cli.output import FolderOptions, run_job, simulation_progress
from manyviews.options import RunOptions, option
from manyviews.tilt.align.options import AlignOptions
from manyviews.tilt.options import ConvertOptions, ReconstructOptions, SeriesOptions, SimulateOptions


# fmt: off
@dataclass(frozen=True)
class _CheckOptions:
    """What only ``tilt check`` can be told."""

    ranks: int | None = option(None, section="machine", least=1,
        help="Plan for this many MPI ranks on this machine. Left out: as many as --layout needs, 1 without "
        "it.")
# fmt: on


def _simulate(folder: FolderOptions, options: SimulateOptions) -> int:
    from manyviews.tilt.simulate import simulate

    with simulation_progress(quiet=folder.quiet) as tell:
        simulated = simulate(options, folder.out, tell)
    for path in (*simulated.stacks, simulated.truth):
        print(path)
    print("reconstruct with:")
    print(f"  {simulated.command}")
    return 0


def _check(series: SeriesOptions, options: ReconstructOptions, more: _CheckOptions) -> int:
    from manyviews.tilt.check import check

    print("\n".join(check(series, options, more.ranks).lines()))
    return 0


def _reconstruct(series: SeriesOptions, options: ReconstructOptions, run: RunOptions) -> int:
    from manyviews.tilt.reconstruct import reconstruct

    return run_job(reconstruct, series, options, run=run)


def _align(series: SeriesOptions, options: AlignOptions, run: RunOptions) -> int:
    from manyviews.tilt.align.align import align

    return run_job(align, series, options, run=run)


def _convert(series: SeriesOptions, options: ConvertOptions) -> int:
    from manyviews.tilt.convert import convert

    converted = convert(series, options)
    print(*converted.files, sep="\n")
    print(f"read again with:\n  {converted.command}")
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
        options=(FolderOptions, SimulateOptions),
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
        options=(SeriesOptions, ReconstructOptions, _CheckOptions),
        run=_check,
        required=False,
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
        options=(SeriesOptions, ConvertOptions),
        run=_convert,
    ),
    Command(
        name="tilt align",
        summary="Align raw tilt series: shifts, axes and bad views, from the images alone.",
        usage="STACK [STACK ...] --out RUN --thickness N [options]",
        examples=(
            "manyviews tilt align a.mrc --axis-angle -12 --thickness 200 --out aligned",
            "manyviews tilt align a.mrc b.mrc --axis-angle 0 90 --thickness 200 --out aligned",
        ),
        options=(SeriesOptions, AlignOptions, RunOptions),
        run=_align,
        report="manyviews.tilt.align.report",
    ),
    Command(
        name="tilt reconstruct",
        summary="Reconstruct one volume from tilt series about one or more axes.",
        usage="STACK [STACK ...] --out RUN --thickness N [options]",
        examples=(
            "manyviews tilt reconstruct a.mrc --tilt-angles a.tlt --thickness 200 --out run1",
            "manyviews tilt reconstruct a.mrc b.mrc --axis-angle 0 90 --thickness 200 --bin 2 "
            "--method consensus --out run2",
            "manyviews tilt reconstruct a.mrc b.mrc --alignment aligned --thickness 200 --out run3",
        ),
        options=(SeriesOptions, ReconstructOptions, RunOptions),
        run=_reconstruct,
        parallel=True,
        report="manyviews.tilt.report",
    ),
)
