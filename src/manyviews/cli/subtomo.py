"""``manyviews subtomo``: subtomograms simulated, and what is done with them."""

from __future__ import annotations

from manyviews.cli.command import Command
from manyviews.cli.output import FolderOptions, run_job, simulation_progress
from manyviews.options import RunOptions
from manyviews.subtomo.align_options import AlignOptions
from manyviews.subtomo.options import SubtomogramOptions
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


def _align(particles: SubtomogramOptions, options: AlignOptions, run: RunOptions) -> int:
    from manyviews.subtomo.align import align

    return run_job(align, particles, options, run=run)


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
    Command(
        name="subtomo align",
        summary="Align subtomograms to their average through the missing wedge, and average them.",
        usage="PARTICLES --out RUN [options]",
        examples=(
            "manyviews subtomo align particles.star --tilt-range -60 60 --tilt-axis y --out run1",
            "manyviews subtomo align particles.star --reference map.mrc --symmetry D7 --out run2",
            "mpiexec -n 4 manyviews subtomo align particles.star --halves tomogram --out run3",
        ),
        options=(SubtomogramOptions, AlignOptions, RunOptions),
        run=_align,
        parallel=True,
        report="manyviews.subtomo.report",
    ),
)
