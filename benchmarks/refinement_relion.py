"""RELION's auto-refine beside `particles refine`: the same particles, the same start.

``python benchmarks/refinement_relion.py DATA START --work FOLDER --diameter 280 [--minutes 60] [--relion-run FOLDER
--relion-cpu-seconds N] [--name NAME]``

DATA is a folder of `particles simulate`, START the map (MRC) that both begin with, low-passed to 40 A by both. RELION 3.1
(``relion_refine_mpi``, ``mpirun.openmpi``) runs with three processes, one of which only directs, until it ends or ``--minutes``
are over; with ``--relion-run`` one that ran before is read. Its resolution against the truth after each of its iterations is
that of the mean of its two halves, laid over the truth as ours is; ours runs with one thread.

Writes ``benchmarks/results/refinement_relion_NAME.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

from manyviews.alignment.map_alignment import aligned_fsc
from manyviews.io.mrc import read_mrc
from manyviews.io.volume_files import read_volume
from manyviews.options import RunOptions
from manyviews.particles.options import ParticleOptions, RefineOptions
from manyviews.particles.refine.refine import refine
from refinement import cpu_seconds

Record = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
FLAGS = (
    "--auto_refine --split_random_halves --firstiter_cc --ini_high 40 --dont_combine_weights_via_disc "
    "--preread_images --pool 10 --pad 2 --ctf --flatten_solvent --zero_mask --oversampling 1 --healpix_order 2 "
    "--auto_local_healpix_order 4 --offset_range 5 --offset_step 2 --sym C1 --low_resol_join_halves 40 --norm "
    "--scale --j 1 --random_seed 1"
)


def ours(args: argparse.Namespace) -> Record:
    spent = cpu_seconds(resource.RUSAGE_SELF)
    told = refine(
        ParticleOptions(args.data / "particles.star"),
        RefineOptions(start=args.start, diameter=args.diameter, reference=args.data / "truth.mrc", threads=1),
        RunOptions(args.work / "refined", overwrite=True, quiet=True),
    ).summary
    return {
        "passes": told["passes"], "resolution": told["resolution_fsc05_with_the_reference_angstrom"],
        "cpu seconds": round(cpu_seconds(resource.RUSAGE_SELF) - spent, 1),
    }  # fmt: skip


def run_relion(args: argparse.Namespace) -> tuple[Path, float, bool]:
    """The folder, CPU seconds of all its processes, and whether it came to its end."""
    folder = args.work / "relion"
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        "mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1", "-n", "3",
        "relion_refine_mpi", "--o", str(folder / "r"), "--i", "particles.star", "--ref", str(args.start.resolve()),
        "--particle_diameter", f"{args.diameter:g}", *FLAGS.split(),
    ]  # fmt: skip
    before = cpu_seconds(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(command, cwd=args.data, start_new_session=True) as process:
        try:
            ended = process.wait(60 * args.minutes) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            ended = False
    return folder, cpu_seconds(resource.RUSAGE_CHILDREN) - before, ended


def iterations(folder: Path, truth: Path) -> list[float]:
    """Resolution of each iteration after the first, which is the start as RELION takes it."""
    known, header = read_volume(truth)
    assert header.pixel_size is not None
    pixel_size = header.pixel_size
    found = []
    for path in sorted(folder.glob("r_it*_half1_class001.mrc"))[1:]:
        other = path.with_name(path.name.replace("half1", "half2"))
        mean = (read_mrc(path)[0] + read_mrc(other)[0]) / 2
        curve, _ = aligned_fsc(mean, known, pixel_size)
        found.append(round(float(curve.resolution(0.5)), 2))
    return found


def page(record: Record) -> str:
    """The table, from what was stored."""
    mine, other = record["ours"], record["relion"]
    end = "came to its end" if other["ended"] else "was stopped before its end"
    ratio = other["cpu seconds"] / mine["cpu seconds"]
    return "\n".join(
        [
            "# Refinement beside RELION 3.1.3",
            "",
            f"{record['images']} images of {record['box']} pixels. RELION {end}.",
            "",
            "| | passes | resolution with the truth, A | CPU seconds |",
            "| --- | --- | --- | --- |",
            f"| particles refine | {mine['passes']} | {mine['resolution']} | {mine['cpu seconds']:.0f} |",
            f"| relion_refine_mpi --auto_refine | {len(other['resolution'])} | {other['resolution'][-1]} "
            f"| {other['cpu seconds']:.0f} |",
            "",
            f"RELION's iterations one after another: {', '.join(map(str, other['resolution']))} A. "
            f"It {'took' if other['ended'] else 'had taken'} {ratio:.0f} times the CPU seconds.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--diameter", type=float, default=280.0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--relion-run", type=Path)
    parser.add_argument("--relion-cpu-seconds", type=float)
    parser.add_argument("--name", default=platform.node())
    args = parser.parse_args()
    truth = args.data / "truth.mrc"
    if args.relion_run is None:
        folder, spent, ended = run_relion(args)
    else:
        folder, spent = args.relion_run, args.relion_cpu_seconds
        ended = (folder / "r_class001.mrc").exists()
    with (args.data / "particles.star").open() as lines:
        images = sum("@" in line for line in lines)
    record: Record = {
        "box": len(read_mrc(truth)[0]), "images": images, "ours": ours(args),
        "relion": {"ended": ended, "cpu seconds": round(spent, 1), "resolution": iterations(folder, truth)},
    }  # fmt: skip
    path = RESULTS / f"refinement_relion_{args.name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(record))


if __name__ == "__main__":
    main()
