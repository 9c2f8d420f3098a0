"""``manyviews subtomo``: subtomograms simulated, and what is done with them."""

from __future__ import annotations

from manyviews.cli.command import Command
from manyviews.cli.output import FolderOptions, simulation_progress
from manyviews.subtomo.simulate_options import SimulateOptions


def _simulate(folder: FolderOptions, options: SimulateOptions) -> int:
    from manyviews.subtomo.simulate import simulate

    with simulation_progress(quiet=folder.quiet) as tell:
        made = simulate(options, folder.out, tell)
    for path in (made.particles, made.truth_poses, made.truth, made.reference):
        print(path)
    print(f"signal to noise: {made.signal_to_noise:.3g}")
    print("the molecule is white; align with:")
    print(f"  {made.command}")
    return 0


COMMANDS = (
    Command(
        name="subtomo simulate",
        summary="Simulate noisy subtomograms of a known specimen, their wedge and the truth beside them.",
        usage="--out DIR [options]",
        examples=(
            "manyviews subtomo simulate --out data --count 50 --snr 0.03",
            "manyviews subtomo simulate --out groel --specimen 1oel.pdb.gz --assembly 1 --symmetry D7 "
            "--tilt-range -40 40 --defocus 60000 --snr 0.01",
        ),
        options=(FolderOptions, SimulateOptions),
        run=_simulate,
    ),
)
