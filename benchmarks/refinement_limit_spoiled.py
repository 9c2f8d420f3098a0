"""How near to true poses could refinement come where images are spoiled: junk, coloured noise, contrast that varies?

``python benchmarks/refinement_limit_spoiled.py SPECIMEN OTHER --work FOLDER [--case NAME ...] [--name NAME]``

The sets of `refinement_robustness.py`. As in `refinement_limit.py` posteriors are found with a map that the images did not
make, in every pass, so that the contrast of groups and what is believed of images are found too, and maps are made of
the same images with other noise, at these poses and at true ones. The map is the true one, or, each half with its own, that
of half the images with noise of a third kind at true poses, damped by the correlation of the halves: what halves that are
to stay independent have to find their poses with, once nothing is left to find.

Writes ``benchmarks/results/refinement_limit_spoiled_NAME.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.io.mrc import read_mrc
from manyviews.maps.radial import radial_filter
from manyviews.metrics.fsc import fsc
from manyviews.operators.fourier_sums import FourierSums
from manyviews.options import RunOptions
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.load import read_fourier_images
from manyviews.particles.options import ParticleOptions, RefineOptions
from manyviews.particles.plan import load_table
from manyviews.particles.refine import refine as job
from manyviews.particles.refine.plan import RefinementPlan
from manyviews.particles.refine.scales import ContrastGroups
from manyviews.particles.refine.state import HalvesState
from refinement_limit import OTHER_SEED, OtherNoise
from refinement_robustness import CASES, OF_TRUTH, make, true_poses

Record = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
ASKED = ("clean", "junk left out", "hard", "hard left out")
PASSES = 6


class HeldMaps(OtherNoise):
    """Poses of all passes are found with ``maps``, one for each half."""

    maps: tuple[torch.Tensor, ...]

    def init(self) -> HalvesState:
        return replace(super().init(), halves=self.maps)

    def halves(
        self, sums: FourierSums, correlation: list[float], box: int
    ) -> tuple[tuple[torch.Tensor, ...], float]:
        return self.maps, 1.0


def limits(case: str, args: argparse.Namespace) -> Record:
    given, start = make(case, args)
    renewed, _ = make(case, args, args.seed + OTHER_SEED)
    third, _ = make(case, args, args.seed + 2 * OTHER_SEED)
    true_poses(third, args.work / "third", args)
    halves = damped_halves(args.work / "third", args)
    record = {"case": case, "snr": CASES[case][1].snr, "images": len(given.kind)}
    for name, maps in (("true map", None), ("half maps", halves)):
        record[name] = limit(given.folder, renewed.folder, start, maps, args)
    return record | {"true poses": round(true_poses(renewed, args.work / "known", args), 2)}


def limit(
    data: Path, renewed: Path, start: Path, maps: tuple[torch.Tensor, ...] | None, args: argparse.Namespace
) -> float:
    """Resolution against the truth where poses are found with these maps of the halves, or with the true one."""
    table = load_table(ParticleOptions(renewed / "particles.star"))

    def solver(
        problem: EmProblem, starts: tuple[torch.Tensor, ...], plan: RefinementPlan, groups: ContrastGroups
    ) -> HeldMaps:
        found = HeldMaps(problem, starts, plan.start_radius, groups)
        found.maps = maps or starts
        found.values = read_fourier_images(
            table, np.arange(len(table)), radius=plan.radius, diameter=plan.diameter
        )[0].values
        return found

    options = RefineOptions(
        start=start, start_resolution=args.resolution, diameter=args.diameter, iterations=PASSES, reference=start,
        threads=args.threads,
    )  # fmt: skip
    run = RunOptions(args.work / "limit", overwrite=True, quiet=True)
    with mock.patch.object(job, "solver_of", solver):
        told = job.refine(ParticleOptions(data / "particles.star"), options, run).summary
    reached = told[OF_TRUTH]
    assert isinstance(reached, float)
    return reached


def damped_halves(folder: Path, args: argparse.Namespace) -> tuple[torch.Tensor, ...]:
    """The half maps of a reconstruction, each coefficient times what the halves have in common in its shell."""
    halves = [read_mrc(folder / f"half{number}.mrc")[0] for number in (1, 2)]
    sphere = soft_sphere(len(halves[0]), args.diameter / args.pixel_size / 2, 5.0)
    common = fsc(halves[0] * sphere, halves[1] * sphere, args.pixel_size).correlation
    kept = np.maximum(common, 0.0)
    shells = np.arange(len(kept)) / (len(halves[0]) * args.pixel_size)
    return tuple(
        torch.from_numpy(radial_filter(half, args.pixel_size, lambda f: np.interp(f, shells, kept)) * sphere)
        for half in halves
    )


def page(record: Record) -> str:
    """The table, from what was stored."""
    lines = [
        "# What marginalised poses could reach with the true map where images are spoiled",
        "",
        "| snr | images | poses by the true map, A | by half maps of true poses, A | true poses, A | worse by, % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        worse = ", ".join(
            f"{100 * (row[name] / row['true poses'] - 1):.1f}" for name in ("true map", "half maps")
        )
        images = f"{row['images']}, {CASES[row['case']][0]}"
        lines.append(
            f"| {row['snr']} | {images} | {row['true map']} | {row['half maps']} | {row['true poses']} | {worse} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("specimen", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(ASKED))
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--pixel-size", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--diameter", type=float, default=280.0)
    parser.add_argument("--resolution", type=float, default=16.0, help="to which poses are found")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"refinement_limit_spoiled_{args.name}.json"
    record: Record = json.loads(path.read_text()) if path.exists() else {"rows": []}
    for case in args.case:
        record["rows"].append(limits(case, args))
        print(record["rows"][-1], flush=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
        path.with_suffix(".md").write_text(page(record))


if __name__ == "__main__":
    main()
