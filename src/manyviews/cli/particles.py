"""``manyviews particles``: simulate, check and reconstruct single particles, compare maps."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from manyviews.cli.arguments import CommandParser, Layout, add_options, build_options
from manyviews.cli.command import Command
from manyviews.cli.output import print_result
from manyviews.errors import InputError
from manyviews.options import RunOptions
from manyviews.particles.options import AbinitioOptions, ParticleOptions

_PARTICLES = Layout(
    section="input",
    metavars={"particles": "PARTICLES", "pixel_size": "ANGSTROM"},
    positional="particles",
)
_ABINITIO = Layout(
    section="method",
    sections={
        **dict.fromkeys(("diameter", "resolution", "symmetry", "shift_sigma", "allow_negative"), "particle"),
        **dict.fromkeys(("independent_halves", "reference"), "output"),
        **dict.fromkeys(("device", "threads", "memory", "scratch"), "machine"),
    },
    metavars={
        **dict.fromkeys(("diameter", "resolution", "shift_sigma"), "ANGSTROM"),
        "method": "METHOD",
        "prior": "PRIOR",
        "device": "DEVICE",
        "symmetry": "GROUP",
    },
)
_SIMULATE = Layout(
    section="microscope",
    sections={
        **dict.fromkeys(("specimen", "box", "pixel_size", "count", "resolution", "seed"), "specimen"),
        **dict.fromkeys(("shift_sigma", "views", "belt_width"), "poses"),
        **dict.fromkeys(("snr", "noise", "mass", "noise_colour"), "noise"),
        "overwrite": "output",
    },
    metavars={
        **dict.fromkeys(("pixel_size", "resolution", "shift_sigma"), "ANGSTROM"),
        "views": "VIEWS",
    },
)


@dataclass(frozen=True)
class _CheckOptions:
    """What only ``particles check`` can be told.

    Attributes
    ----------
    all_images
        Look at all images for blank ones and NaN, not at 500 of them.
    """

    all_images: bool = False


@dataclass(frozen=True)
class _CompareOptions:
    """What ``particles compare`` can be told.

    Attributes
    ----------
    mask_diameter
        Of the soft sphere within which maps are compared. Left out: the largest in the box.
    symmetry
        Point group of the particle in the frame of the second table; what it makes equal counts as equal.
    """

    mask_diameter: float | None = None
    symmetry: str = "C1"


_COMPARE = Layout(section="comparison", metavars={"mask_diameter": "ANGSTROM", "symmetry": "GROUP"})


def _add_particles(parser: CommandParser) -> None:
    for title in ("input", "particle", "method", "output", "machine"):
        parser.section(title)
    add_options(parser, ParticleOptions, _PARTICLES)
    add_options(parser, AbinitioOptions, _ABINITIO)


def _add_abinitio(parser: CommandParser) -> None:
    _add_particles(parser)
    output = parser.section("output")
    output.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="RUN",
        help="Run folder: volume.mrc, particles.star, report.html. The same command on the same folder "
        "resumes.",
    )
    output.add_argument("--overwrite", action="store_true", help="Start afresh in a folder that has a run.")
    output.add_argument("--quiet", action="store_true", help="Print the result only, no progress.")


def _add_simulate(parser: CommandParser) -> None:
    from manyviews.particles.options import SimulateOptions

    for title in ("specimen", "poses", "microscope", "noise", "output"):
        parser.section(title)
    add_options(parser, SimulateOptions, _SIMULATE)
    output = parser.section("output")
    output.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="New folder for images, tables and the truth."
    )
    output.add_argument("--quiet", action="store_true", help="Print the result only, no progress.")


def _add_check(parser: CommandParser) -> None:
    _add_particles(parser)
    add_options(parser, _CheckOptions, Layout(section="input"))


def _add_compare(parser: CommandParser) -> None:
    given = parser.section("input")
    given.add_argument(
        "found", type=Path, metavar="FOUND", help="A map (.mrc), or a table with poses (.star, .cs)."
    )
    given.add_argument(
        "truth",
        type=Path,
        metavar="TRUTH",
        help="The map that the first is laid over, in either hand; or a table with poses of the same images.",
    )
    add_options(parser, _CompareOptions, _COMPARE)
    parser.section("output").add_argument(
        "--out", type=Path, metavar="DIR", help="New folder for aligned.mrc, fsc.csv and fsc.png (maps only)."
    )


def _simulate(arguments: argparse.Namespace) -> int:
    from manyviews.particles.options import SimulateOptions
    from manyviews.particles.simulate import simulate
    from manyviews.runs.progress import Progress

    with Progress(quiet=arguments.quiet) as progress:
        begun: set[str] = set()

        def tell(name: str, done: int, total: int) -> None:
            if name not in begun:
                begun.add(name)
                progress.start(f"simulating {name}", total)
            progress.update(done)

        made = simulate(build_options(SimulateOptions, arguments), arguments.out, tell)
    for path in (made.particles, made.truth_poses, made.truth):
        print(path)
    print(f"signal to noise: {made.signal_to_noise:.3g}")
    print("reconstruct with:")
    print(f"  {made.command}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from manyviews.particles.check import check

    checked = check(
        build_options(ParticleOptions, arguments),
        build_options(AbinitioOptions, arguments),
        all_images=build_options(_CheckOptions, arguments).all_images,
    )
    print("\n".join(checked.lines()))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from manyviews.particles.compare import TABLES, compare_maps, compare_poses

    options = build_options(_CompareOptions, arguments)
    first, second = arguments.found, arguments.truth
    tables = [path.suffix.lower() in TABLES for path in (first, second)]
    if tables[0] != tables[1]:
        raise InputError("a map and a table cannot be compared", fix="give two maps or two tables of poses")
    if all(tables):
        if arguments.out is not None or options.mask_diameter is not None:
            raise InputError("--out and --mask-diameter are for maps", fix="leave them out")
        print("\n".join(compare_poses(first, second, options.symmetry).lines()))
        return 0
    compared = compare_maps(first, second, options.mask_diameter)
    print("\n".join(compared.lines()))
    if arguments.out is not None:
        for path in compared.write(arguments.out):
            print(path)
    return 0


def _abinitio(arguments: argparse.Namespace) -> int:
    from manyviews.parallel.launch import start_world
    from manyviews.particles.abinitio import abinitio

    world = start_world()
    result = abinitio(
        build_options(ParticleOptions, arguments),
        build_options(AbinitioOptions, arguments),
        RunOptions(
            arguments.out,
            overwrite=arguments.overwrite,
            quiet=arguments.quiet,
            command=("manyviews", *sys.argv[1:]),
        ),
        world=world,
    )
    if world.rank == 0:
        print_result(result.summary, result.report)
    return 0


COMMANDS = (
    Command(
        name="particles simulate",
        summary="Simulate noisy images of single particles of a known specimen, with the truth beside them.",
        usage="--out DIR [options]",
        examples=(
            "manyviews particles simulate --out data",
            "manyviews particles simulate --out groel --specimen 1aon.pdb.gz --box 128 --pixel-size 2.8 "
            "--count 5000",
        ),
        add=_add_simulate,
        run=_simulate,
    ),
    Command(
        name="particles check",
        summary="Look at particles and their images, and tell what a reconstruction would do and take.",
        usage="PARTICLES.star [options]",
        examples=(
            "manyviews particles check particles.star",
            "manyviews particles check J12_particles.cs --passthrough J12_passthrough.cs --all-images",
        ),
        add=_add_check,
        run=_check,
    ),
    Command(
        name="particles abinitio",
        summary="Find the structure of single particles from a random start, without any reference.",
        usage="PARTICLES.star --out RUN [options]",
        examples=(
            "manyviews particles abinitio particles.star --out run1",
            "manyviews particles abinitio particles.star --diameter 180 --resolution 9 --out run2",
            "manyviews particles abinitio J12_particles.cs --symmetry C7 --out run3",
        ),
        add=_add_abinitio,
        run=_abinitio,
    ),
    Command(
        name="particles compare",
        summary="Compare a map with the truth, laid over it in either hand, or found poses with true ones.",
        usage="MAP REFERENCE [options], or POSES.star TRUTH.star [options]",
        examples=(
            "manyviews particles compare run1/volume.mrc truth.mrc --mask-diameter 200 --out compared",
            "manyviews particles compare run1/particles.star truth.star --symmetry C7",
        ),
        add=_add_compare,
        run=_compare,
    ),
)
