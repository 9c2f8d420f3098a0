"""``manyviews nano``: scans in parallel beam of specimens that move and deform."""

from __future__ import annotations

from manyviews.cli.command import Command
from manyviews.cli.output import FolderOptions, simulation_progress
from manyviews.nano.simulate_options import SimulateOptions


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
)
