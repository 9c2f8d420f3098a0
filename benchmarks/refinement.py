"""How near does refinement come to what true poses give, and what does it take?

``python benchmarks/refinement.py SPECIMEN --work FOLDER [--box 64] [--pixel-size 5] [--count 2000] [--snr 0.1 0.03]
[--diameter 280] [--start truth abinitio] [--start-resolution 40] [--seeds 3] [--name NAME]``

SPECIMEN is what `particles simulate` takes, a map or an atomic model. Starts: the truth, of which the run uses what is
coarser than ``--start-resolution``, or the end of `particles abinitio`. Resolutions against the truth are where FSC
falls to 0.5 after it is laid over it; ``true poses`` is `particles reconstruct` with them; halves in the automatic mask.

Writes ``benchmarks/results/refinement_NAME.json`` and ``.md`` after each run; those that are there are not done again.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
from pathlib import Path
from typing import Any

from manyviews.alignment.map_alignment import aligned_fsc
from manyviews.io.mrc import read_mrc
from manyviews.options import RunOptions
from manyviews.particles.abinitio import abinitio
from manyviews.particles.options import (
    AbinitioOptions,
    ParticleOptions,
    ReconstructOptions,
    RefineOptions,
    SimulateOptions,
)
from manyviews.particles.reconstruct import reconstruct
from manyviews.particles.refine.refine import refine
from manyviews.particles.simulate import simulate

Record = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
OF_TRUTH = "resolution_fsc05_with_the_reference_angstrom"
OF_HALVES = "resolution_fsc0143_of_the_halves_angstrom"


def cpu_seconds(who: int = resource.RUSAGE_SELF) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def true_poses(folder: Path, out: Path, args: argparse.Namespace) -> float:
    """Resolution against the truth, laid over it as the others are."""
    options = ReconstructOptions(diameter=args.diameter, threads=args.threads)
    reconstruct(ParticleOptions(folder / "truth.star"), options, RunOptions(out, overwrite=True, quiet=True))
    volume, header = read_mrc(out / "volume.mrc")[0], args.pixel_size
    return float(aligned_fsc(volume, read_mrc(folder / "truth.mrc")[0], header)[0].resolution(0.5))


def simulated(snr: float, seed: int, args: argparse.Namespace) -> Path:
    """The folder of a set of particles, made where it is not there yet."""
    folder: Path = args.work / f"data_{snr:g}_{seed}"
    if not (folder / "truth.mrc").exists():
        simulate(
            SimulateOptions(
                specimen=str(args.specimen), box=args.box, pixel_size=args.pixel_size, count=args.count,
                snr=snr, seed=seed,
            ),
            folder,
        )  # fmt: skip
    return folder


def one_run(snr: float, seed: int, start: str, args: argparse.Namespace) -> Record:
    folder = simulated(snr, seed, args)
    particles, truth = ParticleOptions(folder / "particles.star"), folder / "truth.mrc"
    found: Record = {"snr": snr, "seed": seed, "start": start, "box": args.box, "images": args.count}
    begin = truth
    if start == "abinitio":
        begin = args.work / "abinitio"
        spent = cpu_seconds()
        first = abinitio(
            particles,
            AbinitioOptions(diameter=args.diameter, seed=seed, reference=truth, threads=args.threads),
            RunOptions(begin, overwrite=True, quiet=True),
        ).summary
        found |= {"abinitio": first[OF_TRUTH], "abinitio cpu seconds": round(cpu_seconds() - spent, 1)}
    spent = cpu_seconds()
    told = refine(
        particles,
        RefineOptions(
            start=begin, start_resolution=args.start_resolution, diameter=args.diameter, seed=seed,
            reference=truth, threads=args.threads,
        ),
        RunOptions(args.work / "refined", overwrite=True, quiet=True),
    ).summary  # fmt: skip
    return found | {
        "refined": told[OF_TRUTH], "halves": told[OF_HALVES], "passes": told["passes"],
        "explained": told["power_explained_at_the_start_resolution"],
        "cpu seconds": round(cpu_seconds() - spent, 1), "peak MiB": round(_number(told["peak_memory_bytes"]) / 2**20),
        "true poses": round(true_poses(folder, args.work / "known", args), 2),
    }  # fmt: skip


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def page(record: Record) -> str:
    """The table, from what was stored: mean and standard deviation over seeds, and by how much true poses are better."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for row in record["rows"]:
        groups.setdefault((row["box"], row["images"], row["snr"], row["start"]), []).append(row)
    names = ["box", "images", "snr", "start", "seeds", "abinitio, A", "refined, A", "true poses, A", "worse by, %",
             "halves, A", "passes", "cpu seconds", "peak MiB"]  # fmt: skip
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    for key, rows in groups.items():
        worse = [100 * (row["refined"] / row["true poses"] - 1) for row in rows]
        cells = [
            *(
                _cell([row[name] for row in rows if name in row], 2)
                for name in ("abinitio", "refined", "true poses")
            ),
            _cell(worse, 1),
            *(_cell([row[name] for row in rows], 2) for name in ("halves",)),
            *(_cell([row[name] for row in rows], 0) for name in ("passes", "cpu seconds", "peak MiB")),
        ]
        lines.append("| " + " | ".join([*map(str, key), str(len(rows)), *cells]) + " |")
    return "# Refinement beside true poses\n\n" + "\n".join(lines) + "\n"


def _cell(values: list[float], digits: int) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({statistics.stdev(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("specimen", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--pixel-size", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--snr", type=float, nargs="+", default=[0.1, 0.03])
    parser.add_argument("--diameter", type=float, default=280.0)
    parser.add_argument("--start", nargs="+", choices=("truth", "abinitio"), default=["truth", "abinitio"])
    parser.add_argument("--start-resolution", type=float, default=40.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default=platform.node())
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"refinement_{args.name}.json"
    record: Record = json.loads(path.read_text()) if path.exists() else {"rows": []}
    known = [(row["snr"], row["seed"], row["start"], row["box"], row["images"]) for row in record["rows"]]
    for seed in range(args.seeds):
        for snr in args.snr:
            for start in args.start:
                if (snr, seed, start, args.box, args.count) in known:
                    continue
                record["rows"].append(one_run(snr, seed, start, args))
                print(record["rows"][-1], flush=True)
                path.write_text(json.dumps(record, indent=1) + "\n")
                path.with_suffix(".md").write_text(page(record))


if __name__ == "__main__":
    main()
