"""``manyviews particles``: simulate, check and reconstruct single particles, compare maps."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from manyviews.cli.arguments import CommandParser, Layout, add_options, build_options
from manyviews.cli.command import Command
from manyviews.cli.output import print_result
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
        help="Run folder: volume.mrc, particles.star, report.html. The same command on the same folder resumes.",
    )
    output.add_argument("--overwrite", action="store_true", help="Start afresh in a folder that has a run.")
    output.add_argument("--quiet", action="store_true", help="Print the result only, no progress.")


def _add_simulate(parser: CommandParser) -> None:
    from manyviews.particles.simulate_options import SimulateOptions

    for title in ("specimen", "poses", "microscope", "noise", "output"):
        parser.section(title)
    add_options(parser, SimulateOptions, _SIMULATE)
    output = parser.section("output")
    output.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="New folder for images, tables and the truth."
    )
    output.add_argument("--quiet", action="store_true", help="Print the result only, no progress.")


def _abinitio(found: argparse.Namespace) -> int:
    from manyviews.parallel.launch import start_world
    from manyviews.particles.abinitio import abinitio

    world = start_world()
    result = abinitio(
        build_options(ParticleOptions, found),
        build_options(AbinitioOptions, found),
        found.out,
        overwrite=found.overwrite,
        command=("manyviews", *sys.argv[1:]),
        quiet=found.quiet,
        world=world,
    )
    if world.rank == 0:
        print_result(result.summary, result.report)
    return 0


COMMANDS = (
    Command(
        name="particles abinitio",
        summary="Find the structure of single particles from a random start, without any reference.",
        usage="PARTICLES.star --out RUN [options]",
        examples=(
            "manyviews particles abinitio particles.star --out run1",
            "manyviews particles abinitio particles.star --diameter 180 --resolution 9 --out run2",
            "mpiexec -n 4 manyviews particles abinitio J12_particles.cs --symmetry C7 --out run3",
        ),
        add=_add_abinitio,
        run=_abinitio,
    ),
)
