"""``manyviews particles``: simulate, check, solve, refine, reconstruct, finish, convert, compare."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from manyviews.cli.command import Command
from manyviews.cli.output import FolderOptions, require_room, run_job, simulation_progress
from manyviews.errors import InputError
from manyviews.options import RunOptions, option
from manyviews.particles.options import (
    AbinitioOptions,
    ConditionOptions,
    ConvertOptions,
    ParticleOptions,
    PostprocessOptions,
    ReconstructOptions,
    RefineOptions,
    SimulateOptions,
    SolveOptions,
)


# fmt: off
@dataclass(frozen=True)
class _CheckOptions:
    """What only ``particles check`` can be told."""

    all_images: bool = option(False, section="input",
        help="Look at all images for faults, outliers and copies, not at 500 of them where there are many.")


@dataclass(frozen=True)
class _CompareOptions:
    """What ``particles compare`` can be told."""

    found: Path = option(section="input", metavar="FOUND", positional=True,
        help="Compare this map (.mrc), or this table with poses (.star, .cs).")
    truth: Path = option(section="input", metavar="TRUTH", positional=True,
        help="Compare with this map, over which the first is laid in either hand, or with this table of "
        "poses of the same images.")
    mask_diameter: float | None = option(None, section="comparison", metavar="ANGSTROM", above=0,
        help="Compare maps within a soft sphere of this diameter, in angstrom. Left out: the largest in the "
        "box.")
    symmetry: str = option("C1", section="comparison", metavar="GROUP",
        help="Count poses as equal that this point group makes equal, in the frame of the second table.")
    out: Path | None = option(None, section="output", metavar="DIR",
        help="Write aligned.mrc, fsc.csv and fsc.png to this folder (maps only).")
    overwrite: bool = option(False, section="output", help="Replace such files of an earlier comparison.")
# fmt: on


def _simulate(folder: FolderOptions, options: SimulateOptions) -> int:
    from manyviews.particles.simulate import simulate

    with simulation_progress(quiet=folder.quiet) as tell:
        made = simulate(options, folder.out, tell)
    for path in (made.particles, made.truth_poses, made.truth):
        print(path)
    print(f"signal to noise: {made.signal_to_noise:.3g}")
    print("reconstruct with:")
    print(f"  {made.command}")
    return 0


def _check(particles: ParticleOptions, options: AbinitioOptions, more: _CheckOptions) -> int:
    from manyviews.particles.check import check

    print("\n".join(check(particles, options, all_images=more.all_images).lines()))
    return 0


def _compare(options: _CompareOptions) -> int:
    from manyviews.particles.compare import FILES, TABLES, compare_maps, compare_poses

    first, second = options.found, options.truth
    tables = [path.suffix.lower() in TABLES for path in (first, second)]
    if tables[0] != tables[1]:
        raise InputError("a map and a table cannot be compared", fix="give two maps or two tables of poses")
    if all(tables):
        if options.out is not None or options.mask_diameter is not None:
            raise InputError("--out and --mask-diameter are for maps", fix="leave them out")
        print("\n".join(compare_poses(first, second, options.symmetry).lines()))
        return 0
    require_room(options.out, FILES, overwrite=options.overwrite)
    compared = compare_maps(first, second, options.mask_diameter)
    print("\n".join(compared.lines()))
    for path in () if options.out is None else compared.write(options.out, overwrite=options.overwrite):
        print(path)
    return 0


def _convert(particles: ParticleOptions, options: ConvertOptions) -> int:
    from manyviews.particles.convert import convert

    converted = convert(particles, options)
    for text in converted.warnings:
        print(f"warning: {text}", file=sys.stderr)
    print(f"{converted.count} particles for {converted.program}")
    print(converted.path)
    return 0


def _abinitio(particles: ParticleOptions, options: AbinitioOptions, run: RunOptions) -> int:
    from manyviews.particles.abinitio import abinitio

    return run_job(abinitio, particles, options, run=run)


def _refine(particles: ParticleOptions, options: RefineOptions, run: RunOptions) -> int:
    from manyviews.particles.refine.refine import refine

    return run_job(refine, particles, options, run=run)


def _solve(particles: ParticleOptions, options: SolveOptions, run: RunOptions) -> int:
    from manyviews.particles.solve import solve

    return run_job(solve, particles, options, run=run)


def _reconstruct(particles: ParticleOptions, options: ReconstructOptions, run: RunOptions) -> int:
    from manyviews.particles.reconstruct import reconstruct

    return run_job(reconstruct, particles, options, run=run)


def _postprocess(options: PostprocessOptions, run: RunOptions) -> int:
    from manyviews.particles.postprocess import postprocess

    return run_job(postprocess, options, run=run)


def _condition(particles: ParticleOptions, options: ConditionOptions, run: RunOptions) -> int:
    from manyviews.particles.condition import condition

    return run_job(condition, particles, options, run=run)


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
        options=(FolderOptions, SimulateOptions),
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
        options=(ParticleOptions, AbinitioOptions, _CheckOptions),
        run=_check,
        required=False,
    ),
    Command(
        name="particles solve",
        summary="Find a structure from nothing and refine two halves apart: ab initio and refine in one run.",
        usage="PARTICLES.star --out RUN [options]",
        examples=(
            "manyviews particles solve particles.star --diameter 180 --out run1",
            "manyviews particles solve particles.star --diameter 180 --starts 6 --seed 1 --out run2",
            "manyviews particles solve J12_particles.cs --symmetry C7 --halves micrograph --out run3",
        ),
        options=(ParticleOptions, SolveOptions, RunOptions),
        run=_solve,
        parallel=True,
        report="manyviews.particles.solve_report",
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
        options=(ParticleOptions, AbinitioOptions, RunOptions),
        run=_abinitio,
        parallel=True,
        report="manyviews.particles.report",
    ),
    Command(
        name="particles refine",
        summary="Refine particles from a map at low resolution, two halves of them apart.",
        usage="PARTICLES.star --start MAP|RUN --out RUN [options]",
        examples=(
            "manyviews particles refine particles.star --start run1 --diameter 180 --out refined",
            "manyviews particles refine particles.star --start emd_1234.mrc --symmetry C7 --out refined",
        ),
        options=(ParticleOptions, RefineOptions, RunOptions),
        run=_refine,
        parallel=True,
        report="manyviews.particles.refine.report",
    ),
    Command(
        name="particles reconstruct",
        summary="Make a map and its half maps from particles whose poses are known.",
        usage="PARTICLES.star --out RUN [options]",
        examples=(
            "manyviews particles reconstruct run1/particles.star --diameter 180 --out map1",
            "manyviews particles reconstruct refined.star --symmetry C7 --reference truth.mrc --out map2",
        ),
        options=(ParticleOptions, ReconstructOptions, RunOptions),
        run=_reconstruct,
        report="manyviews.particles.report",
    ),
    Command(
        name="particles condition",
        summary="Tell how hard the map is to solve for by gradients: condition numbers at known poses.",
        usage="PARTICLES.star --out RUN [options]",
        examples=(
            "manyviews particles condition run1/particles.star --out hard1",
            "manyviews particles condition refined.star --resolution 8 --count 2000 --out hard2",
        ),
        options=(ParticleOptions, ConditionOptions, RunOptions),
        run=_condition,
        report="manyviews.particles.fixed_poses.condition_report",
    ),
    Command(
        name="particles postprocess",
        summary="Make of two half maps a mask, their resolution, a sharpened and a locally filtered map.",
        usage="HALF1.mrc HALF2.mrc --out RUN [options]",
        examples=(
            "manyviews particles postprocess map1/half1.mrc map1/half2.mrc --out finished1",
            "manyviews particles postprocess half1.mrc half2.mrc --mask mask.mrc --b-factor -90 --out "
            "finished2",
        ),
        options=(PostprocessOptions, RunOptions),
        run=_postprocess,
        report="manyviews.particles.postprocess_report",
    ),
    Command(
        name="particles convert",
        summary="Write a table of particles for RELION (.star) or cryoSPARC (.cs), poses included.",
        usage="PARTICLES.star|PARTICLES.cs --out TABLE.cs|TABLE.star [options]",
        examples=(
            "manyviews particles convert run1/particles.star --out for_cryosparc.cs",
            "manyviews particles convert J12_particles.cs --passthrough J12_passthrough.cs --out J12.star",
        ),
        options=(ParticleOptions, ConvertOptions),
        run=_convert,
    ),
    Command(
        name="particles compare",
        summary="Compare a map with the truth, laid over it in either hand, or found poses with true ones.",
        usage="MAP REFERENCE [options], or POSES.star TRUTH.star [options]",
        examples=(
            "manyviews particles compare run1/volume.mrc truth.mrc --mask-diameter 200 --out compared",
            "manyviews particles compare run1/particles.star truth.star --symmetry C7",
        ),
        options=(_CompareOptions,),
        run=_compare,
    ),
)
