"""How near to true poses could any refinement with marginalised poses come?

``python benchmarks/refinement_limit.py DATA [DATA ...] --diameter 280 --resolution 20 --work FOLDER --name NAME``

DATA is a folder of `particles simulate`. Every image's posterior is found once with the true map, to ``--resolution``
(give where the refined halves end): no map made of the images can know more. A map of these images at these posteriors
would flatter itself, since noise turned to fit the truth adds up to it. So it is made of the same
images with other noise, and so is that of true poses.

Writes ``benchmarks/results/refinement_limit_NAME.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.io.mrc import read_mrc
from manyviews.io.particle_images import write_particle_stack
from manyviews.io.particle_table import ParticleTable
from manyviews.operators.fourier_sums import FourierSums
from manyviews.options import RunOptions
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.load import read_fourier_images
from manyviews.particles.options import ParticleOptions, RefineOptions
from manyviews.particles.plan import load_table
from manyviews.particles.refine import refine as job
from manyviews.particles.refine.plan import RefinementPlan
from manyviews.particles.refine.scales import ContrastGroups
from manyviews.particles.refine.solver import HalvesRefinement
from manyviews.simulate.particles import particle_noise
from refinement import OF_TRUTH, true_poses

Record = dict[str, Any]
OTHER_SEED = 1_000_000
RESULTS = Path(__file__).parent / "results"


class OtherNoise(HalvesRefinement):
    """A refinement whose maps are made of other images, ``values (n, P)``, than its poses are found with."""

    values: NDArray[np.complex64]

    def sums(
        self, images: FourierImages, samples: PoseSamples, radius: int, credence: torch.Tensor
    ) -> FourierSums:
        return super().sums(replace(images, values=self.values), samples, radius, credence)


def renewed(data: Path, given: Record, folder: Path) -> ParticleTable:
    """The particles with other noise of the same kind, their stack in ``folder``; ``given`` are the options of `data`."""
    images, _ = read_mrc(data / "particles.mrcs")
    noise = [
        particle_noise(0, len(images), given["box"], given["pixel_size"], given["noise_colour"], seed)
        for seed in (given["seed"], given["seed"] + OTHER_SEED)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    changed = (images - noise[0] + noise[1]).astype(np.float32)
    write_particle_stack(
        folder / "particles.mrcs",
        iter([changed]),
        len(images),
        given["pixel_size"],
        overwrite=True,
    )
    for name in ("particles.star", "truth.star", "truth.mrc"):
        shutil.copy(data / name, folder)
    return load_table(ParticleOptions(folder / "particles.star"))


def limit(data: Path, args: argparse.Namespace) -> Record:
    given = tomllib.loads((data / "simulate.toml").read_text())["options"]
    table = renewed(data, given, args.work / "renewed")

    def solver(
        problem: EmProblem, starts: tuple[torch.Tensor, ...], plan: RefinementPlan, groups: ContrastGroups
    ) -> OtherNoise:
        found = OtherNoise(problem, starts, plan.start_radius, groups)
        found.values = read_fourier_images(
            table, np.arange(len(table)), radius=plan.radius, diameter=plan.diameter
        )[0].values
        return found

    options = RefineOptions(
        start=data / "truth.mrc", start_resolution=args.resolution, diameter=args.diameter, iterations=1,
        reference=data / "truth.mrc", threads=args.threads,
    )  # fmt: skip
    run = RunOptions(args.work / "limit", overwrite=True, quiet=True)
    with mock.patch.object(job, "solver_of", solver):
        told = job.refine(ParticleOptions(data / "particles.star"), options, run).summary
    args.pixel_size = table.pixel_size
    return {
        "box": given["box"], "images": len(table), "snr": given["snr"], "seed": given["seed"], "scored to": args.resolution, "limit": told[OF_TRUTH],
        "true poses": round(true_poses(args.work / "renewed", args.work / "known", args), 2),
    }  # fmt: skip


def page(record: Record) -> str:
    """The table, from what was stored."""
    lines = [
        "# What marginalised poses could reach with the true map",
        "",
        "| box | images | snr | seed | scored to, A | with the true map's posteriors, A | true poses, A | worse by, % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        worse = 100 * (row["limit"] / row["true poses"] - 1)
        cells = [row[name] for name in ("box", "images", "snr", "seed", "scored to", "limit", "true poses")]
        lines.append(f"| {' | '.join(map(str, cells))} | {worse:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--diameter", type=float, default=280.0)
    parser.add_argument("--resolution", type=float, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", required=True)
    args = parser.parse_args()
    path = RESULTS / f"refinement_limit_{args.name}.json"
    record: Record = json.loads(path.read_text()) if path.exists() else {"rows": []}
    for data in args.data:
        record["rows"].append(limit(data, args))
        print(record["rows"][-1], flush=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
        path.with_suffix(".md").write_text(page(record))


if __name__ == "__main__":
    main()
