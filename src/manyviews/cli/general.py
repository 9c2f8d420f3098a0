"""``manyviews demo``, ``doctor``, ``compare`` and ``convert``."""

from __future__ import annotations

import sys
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


@dataclass(frozen=True)
class _ConvertOptions:
    """What ``convert`` can be told."""

    volume: Path = option(section="input", metavar="RUN|VOLUME", positional=True,
        help="Copy the volume of this run folder, or this volume (MRC or EM).")
    out: Path = option(section="output", metavar="NAME.ome.zarr",
        help="Write it to this folder as OME-Zarr: in chunks and at several sizes, as napari and Fiji read "
        "it. It needs the package zarr: pip install 'manyviews[zarr]'.")
    overwrite: bool = option(False, section="output", help="Replace an earlier OME-Zarr of this name.")
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


def _convert(options: _ConvertOptions) -> int:
    from manyviews.io.ome_zarr import copy_to_ome_zarr, require_zarr
    from manyviews.runs.map_names import VOLUME_FILE

    require_zarr()
    source = options.volume / VOLUME_FILE if options.volume.is_dir() else options.volume
    if copy_to_ome_zarr(source, options.out, overwrite=options.overwrite) is None:
        print("warning: the header tells no size of voxels, or three: lengths have no unit", file=sys.stderr)
    print(options.out)
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
CONVERT = Command(
    name="convert",
    summary="Copy a volume to OME-Zarr, which opens at once however large it is.",
    usage="RUN|VOLUME.mrc --out NAME.ome.zarr",
    examples=(
        "manyviews convert run1 --out run1.ome.zarr",
        "manyviews convert run1/half1.mrc --out half1.ome.zarr",
    ),
    options=(_ConvertOptions,),
    run=_convert,
)
