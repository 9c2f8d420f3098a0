"""What does a refinement make of bad data, and does it say so?

``python benchmarks/refinement_robustness.py SPECIMEN OTHER --work FOLDER [--case NAME ...] [--name NAME]``

SPECIMEN and OTHER (another object, for junk and wrong starts) are what `particles simulate` takes. Starts are the truth,
of which the run uses what is coarser than 40 A. Resolutions against the truth are where FSC falls to 0.5 after it is laid
over it; ``true poses`` is `particles reconstruct` with those of the good images and their true contrast. An image is
listed if `doubtful.csv`, `set_aside.csv` or `outliers.csv` has it.

Writes ``benchmarks/results/refinement_robustness_NAME.json`` and ``.md`` after each run; those that are there are not done
again.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from manyviews.alignment.map_alignment import aligned_fsc
from manyviews.geometry.poses import euler_to_matrices
from manyviews.io.mrc import read_mrc
from manyviews.io.particle_images import read_particles
from manyviews.metrics.pose_error import pose_errors
from manyviews.options import RunOptions
from manyviews.particles.options import ParticleOptions, ReconstructOptions, RefineOptions
from manyviews.particles.reconstruct import reconstruct
from manyviews.particles.refine.refine import refine
from spoiled_particles import Recipe, Spoiled, clean_images, spoiled, without_phases

Record = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
OF_TRUTH = "resolution_fsc05_with_the_reference_angstrom"
OF_HALVES = "resolution_fsc0143_of_the_halves_angstrom"
LISTS = ("doubtful.csv", "set_aside.csv", "outliers.csv")
FOUND_DEGREES = 20.0
START_RADIUS = 8  # 40 A in 64 pixels of 5 A
# a sentence of a warning, and what it is called here
WARNED = {
    "of another structure": "map explains little",
    "no further than the start": "halves agree no further",
    "than images of noise do": "no more than noise",
    "count for little": "images doubted",
    "set aside: ": "images set aside",
}
CASES: dict[str, tuple[str, Recipe]] = {
    "clean": ("as they are", Recipe()),
    "faults": ("1 % hot pixels, empty, NaN, inverted", Recipe(faults=0.01)),
    "junk": ("30 % junk: noise, another object, ice", Recipe(junk=0.3)),
    "junk left out": ("the 70 % without it", Recipe(junk=0.3, leave_out_junk=True)),
    "hard": (
        "25 % noise images, coloured noise, contrast 0.5 to 1.5 by micrograph",
        Recipe(junk=0.25, junk_kinds=("noise",), colour=4.0, spread=0.5),
    ),
    "hard left out": (
        "the 75 % of these without the noise images",
        Recipe(junk=0.25, junk_kinds=("noise",), colour=4.0, spread=0.5, leave_out_junk=True),
    ),
    "weak": ("as they are", Recipe(snr=0.03)),
    "weak junk": ("25 % junk: noise, another object, ice", Recipe(snr=0.03, junk=0.25)),
    "weak junk left out": ("the 75 % without it", Recipe(snr=0.03, junk=0.25, leave_out_junk=True)),
    "noise": ("noise alone", Recipe(noise_only=True)),
    "wrong start": ("start from another object", Recipe()),
    "wrong object": ("images of another object", Recipe()),
    "phases": ("phases beyond the start at random in the images", Recipe()),
}


def make(case: str, args: argparse.Namespace, noise_seed: int | None = None) -> tuple[Spoiled, Path]:
    """The set of a case, and the map that its refinement begins with; ``noise_seed`` gives it other noise."""
    own, other = args.work / "specimen", args.work / "other"
    clean_images(args.specimen, own, args.box, args.pixel_size, args.count, args.seed)
    clean_images(args.other, other, args.box, args.pixel_size, args.count, args.seed + 1)
    other_noise = "" if noise_seed is None else f"_{noise_seed}"
    out, recipe = args.work / (case.replace(" ", "_") + other_noise), CASES[case][1]
    if case == "wrong object":
        return spoiled(other, own, out, recipe, args.seed, noise_seed), own / "truth.mrc"
    found = spoiled(own, other, out, recipe, args.seed, noise_seed)
    if case == "phases":
        found = without_phases(found, args.work / "phases_random", START_RADIUS, args.seed)
    return found, (other if case == "wrong start" else own) / "truth.mrc"


def true_poses(given: Spoiled, out: Path, args: argparse.Namespace) -> float:
    """Resolution against the truth of the good images at their true poses."""
    options = ReconstructOptions(diameter=args.diameter, threads=args.threads)
    reconstruct(
        ParticleOptions(given.folder / "truth.star"), options, RunOptions(out, overwrite=True, quiet=True)
    )
    volume, truth = read_mrc(out / "volume.mrc")[0], read_mrc(given.folder / "truth.mrc")[0]
    return float(aligned_fsc(volume, truth, args.pixel_size)[0].resolution(0.5))


def listed(folder: Path, count: int) -> np.ndarray:
    """Which particles a run lists as bad."""
    found = np.zeros(count, bool)
    for name in LISTS:
        if (folder / name).exists():
            with (folder / name).open() as file:
                found[[int(row["particle"]) - 1 for row in csv.DictReader(file)]] = True
    return found


def lost(folder: Path, given: Spoiled, bad: np.ndarray) -> float:
    """Share of the good images that are listed though their pose was found, within 20 degrees."""
    truth = read_particles(given.folder / "truth.star")
    posed = read_particles(folder / "particles.star", data_root=given.folder)
    place = {int(section): row for row, section in enumerate(posed.section)}
    kept = np.array([number for number, section in enumerate(truth.section) if int(section) in place])
    rows = [place[int(section)] for section in truth.section[kept]]
    assert truth.angles is not None
    assert posed.angles is not None
    errors = pose_errors(euler_to_matrices(posed.angles[rows]), euler_to_matrices(truth.angles[kept])).angles
    return round(float(np.mean((errors < FOUND_DEGREES) & bad[truth.section[kept]])), 4)


def contrast_error(folder: Path, given: Spoiled) -> float | None:
    """Root mean square error of the groups' contrast over their mean, if there is any to be found."""
    if not np.ptp(given.scale) or not (folder / "contrast.csv").exists():
        return None
    with (folder / "contrast.csv").open() as file:
        found = np.array([float(row["contrast"]) for row in csv.DictReader(file)])
    _, first = np.unique(given.micrograph, return_index=True)
    true = given.scale[first]
    return round(float(np.std(found / found.mean() - true / true.mean())), 4)


def beyond_the_start(folder: Path) -> list[float]:
    """FSC of the halves in the shells beyond those that they share, as the run tells it: masked and corrected."""
    with (folder / "fsc.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [round(float(row["fsc"]), 3) for row in rows[START_RADIUS + 1 :][:6]]


def one_run(case: str, args: argparse.Namespace) -> Record:
    given, start = make(case, args)
    out = args.work / "refined"
    began = time.process_time()
    told = refine(
        ParticleOptions(given.folder / "particles.star"),
        RefineOptions(
            start=start, start_resolution=args.start_resolution, diameter=args.diameter, threads=args.threads,
            reference=given.folder / "truth.mrc",
        ),
        RunOptions(out, overwrite=True, quiet=True),
    ).summary  # fmt: skip
    spent, warnings = time.process_time() - began, told.get("warnings", [])
    assert isinstance(warnings, list)
    bad = listed(out, len(given.kind))
    kinds = {str(kind): round(float(bad[given.kind == kind].mean()), 4) for kind in np.unique(given.kind)}
    known = given.good.any() and case not in ("phases", "wrong start", "wrong object")
    return {
        "case": case,
        "snr": CASES[case][1].snr,
        "images": len(given.kind),
        "refined": told[OF_TRUTH],
        "true poses": round(true_poses(given, args.work / "known", args), 2) if known else None,
        "halves": told[OF_HALVES],
        "explained": told["power_explained"],
        "listed": kinds,
        "found but listed": lost(out, given, bad) if known else None,
        "contrast off by": contrast_error(out, given),
        "beyond the start": beyond_the_start(out),
        "warned": [name for words, name in WARNED.items() if any(words in text for text in warnings)],
        "passes": told["passes"],
        "cpu seconds": round(spent, 1),
    }


def page(record: Record) -> str:
    """The table, from what was stored."""
    names = ["SNR", "images", "refined, A", "true poses, A", "worse by, %", "halves, A", "explained", "listed", "listed of the good in right pose, %", "contrast off by, %",
             "FSC in shells beyond the start", "warned", "passes", "cpu seconds"]  # fmt: skip
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    for row in sorted(record["rows"], key=lambda row: list(CASES).index(row["case"])):
        known, shares = row["true poses"], row["listed"]
        worse = f"{100 * (row['refined'] / known - 1):.1f}" if known else ""
        cells = [
            row["snr"], f"{row['images']}, {CASES[row['case']][0]}", row["refined"], known or "", worse, row["halves"],
            row["explained"], ", ".join(f"{100 * share:.4g} % of {kind}" for kind, share in shares.items()),
            "" if row["found but listed"] is None else f"{100 * row['found but listed']:.2g}",
            "" if row["contrast off by"] is None else f"{100 * row['contrast off by']:.1f}",
            ", ".join(f"{value:.2f}" for value in row["beyond the start"][:4]), ", ".join(row["warned"]),
            row["passes"], f"{row['cpu seconds']:.0f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "# Refinement of bad data\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("specimen", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--pixel-size", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--diameter", type=float, default=280.0)
    parser.add_argument("--start-resolution", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default=platform.node())
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"refinement_robustness_{args.name}.json"
    record: Record = json.loads(path.read_text()) if path.exists() else {"rows": []}
    for case in args.case:
        if case in [row["case"] for row in record["rows"]]:
            continue
        record["rows"].append(one_run(case, args))
        print(record["rows"][-1], flush=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
        path.with_suffix(".md").write_text(page(record))


if __name__ == "__main__":
    main()
