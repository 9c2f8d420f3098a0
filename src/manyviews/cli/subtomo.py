"""``manyviews subtomo``: subtomograms simulated, cut out, aligned and averaged; tables of other programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from manyviews.cli.command import Command
from manyviews.cli.output import FolderOptions, run_job, simulation_progress
from manyviews.options import RunOptions
from manyviews.subtomo.align_options import AlignOptions, AverageOptions
from manyviews.subtomo.options import ConvertOptions, ExtractOptions, SubtomogramOptions
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


def _extract(options: ExtractOptions) -> int:
    from manyviews.subtomo.extract import extract

    with simulation_progress(quiet=options.quiet, doing="cutting out") as tell:
        made = extract(options, tell)
    _say(made.notes, made.warnings)
    print(f"cut out: {made.count}" + (f", of which {made.filled} are filled in part" if made.filled else ""))
    for reason, count in made.skipped.items():
        print(f"skipped: {count} ({reason})")
    print(made.table)
    print(made.listed)
    return 0


def _convert(options: ConvertOptions) -> int:
    from manyviews.subtomo.convert import convert

    converted = convert(options)
    _say(converted.notes, converted.warnings)
    print(f"{converted.count} particles as {converted.kind}")
    print(*converted.files, sep="\n")
    return 0


def _align(particles: SubtomogramOptions, options: AlignOptions, run: RunOptions) -> int:
    from manyviews.subtomo.align import align

    return run_job(align, particles, options, run=run)


def _average(particles: SubtomogramOptions, options: AverageOptions, run: RunOptions) -> int:
    from manyviews.subtomo.average import average

    return run_job(average, particles, options, run=run)


def _say(notes: Iterable[str], warnings: Iterable[str]) -> None:
    for kind, sentences in (("note", notes), ("warning", warnings)):
        for sentence in sentences:
            print(f"{kind}: {sentence}", file=sys.stderr)


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
        name="subtomo extract",
        summary="Cut subtomograms out of tomograms around given positions.",
        usage="TOMOGRAM POSITIONS --box N --out DIR [options]",
        examples=(
            "manyviews subtomo extract tomo.mrc picks.star --box 64 --out boxes",
            "manyviews subtomo extract tomo.mrc picks.csv --units angstrom --box 48 --edge fill --invert "
            "--out boxes",
        ),
        options=(ExtractOptions,),
        run=_extract,
    ),
    Command(
        name="subtomo convert",
        summary="Write a table of subtomograms as that of another program.",
        usage="TABLE --out FILE [options]",
        examples=(
            "manyviews subtomo convert refined.tbl --pixel-size 2.7 --out refined.star",
            "manyviews subtomo convert particles.star --format stopgap --out motl.star",
        ),
        options=(ConvertOptions,),
        run=_convert,
    ),
    Command(
        name="subtomo align",
        summary="Align subtomograms to their average through the missing wedge, and average them.",
        usage="PARTICLES --out RUN [options]",
        examples=(
            "manyviews subtomo align particles.star --tilt-range -60 60 --tilt-axis y --out run1",
            "manyviews subtomo align particles.star --reference map.mrc --symmetry D7 --out run2",
            "manyviews subtomo align particles.star --halves tomogram --candidates 40 --out run3",
        ),
        options=(SubtomogramOptions, AlignOptions, RunOptions),
        run=_align,
        parallel=True,
        report="manyviews.subtomo.report",
    ),
    Command(
        name="subtomo average",
        summary="Average subtomograms whose poses are known, in two halves.",
        usage="PARTICLES --out RUN [options]",
        examples=(
            "manyviews subtomo average run1/particles.star --halves table --out map1",
            "manyviews subtomo average refined.tbl --pixel-size 2.7 --symmetry C6 --out map2",
        ),
        options=(SubtomogramOptions, AverageOptions, RunOptions),
        run=_average,
        parallel=True,
        report="manyviews.subtomo.report",
    ),
)
