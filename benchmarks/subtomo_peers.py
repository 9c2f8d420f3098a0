"""Other programs on the same subtomograms in the same run: RELION, acryo, and the methods of Chen and of Xu.

``python benchmarks/subtomo_peers.py --data DATA --cache FOLDER --work FOLDER [--acryo PYTHON] [--relion PROGRAM]``

GroEL, 64 voxels of 6 angstrom, CTF, +-60 degrees, SNR 0.03, written by ``subtomo simulate``; the reference ends at 60
angstrom. CPU seconds a particle, each program on one thread; reading files and starting up is taken off RELION's by a
run with two particles.

RELION 3.1: 3-D subtomograms with their wedge times CTF as ``rlnCtfImage``, one iteration of ``relion_refine`` from
nothing on a grid of 15 degrees and two-voxel shifts, no oversampling: coarse, nothing is made fine. acryo: zero-mean
normalised correlation with the wedge, over a grid of rotations with a third of the points of ours, on volumes binned
twice (12 angstrom: nothing of the reference is lost), turning the templates not counted; no refinement, no CTF. Ours: candidates
*and* refinement, to 60 and to 40 angstrom. Chen is Fourier alternation of all 10 candidates, Xu is
Levenberg-Marquardt on all frequencies of all 10 candidates, both from rotational matching, as published.

Writes ``benchmarks/results/subtomo_peers.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from manyviews.geometry.poses import angular_distance, euler_to_matrices
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.mrc import write_mrc
from manyviews.io.subtomogram_formats import read_subtomograms
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.subtomo.candidates.joint_search import PoseGrid
from manyviews.subtomo.candidates.rotational_matching import rotational_matching
from manyviews.subtomo.inputs import open_subtomograms
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.pose_search import SearchPlan, find_poses
from manyviews.subtomo.refine.levenberg_marquardt import LevenbergMarquardt
from manyviews.subtomo.refine.objective import PoseObjective
from manyviews.subtomo.simulate import simulate
from manyviews.subtomo.simulate_options import SimulateOptions
from manyviews.subtomo.volumes import FourierSubtomograms, fourier_subtomograms
from subtomo_data import BOX, DEFOCUS, RESULTS, Float64, Specimen, machine, rounded, specimen

T = TypeVar("T")

SNR, CANDIDATES, SHIFT_RANGE = 0.03, 10, 6.4
ACRYO_GRID = 4.0  # cycles per box that the rotations are fine enough for
FEWEST = 2  # RELION makes nothing of the noise of one


@dataclass(frozen=True)
class Particles:
    """What all programs are given, and the true poses."""

    folder: Path
    own: Specimen
    data: FourierSubtomograms
    volumes: np.ndarray
    truth: Float64


def prepared(given: argparse.Namespace) -> Particles:
    own = specimen("groel", given.data, given.cache)
    folder = given.work / "particles"
    options = SimulateOptions(
        specimen=str(given.cache / "groel.mrc"),
        box=BOX,
        count=given.particles,
        defocus=DEFOCUS,
        snr=SNR,
        overwrite=True,
    )
    simulate(options, folder)
    found = open_subtomograms(SubtomogramOptions(particles=folder / "particles.star"))
    volumes = np.stack([found.read(number) for number in range(len(found))])
    transfers = np.stack([found.transfers[number] for number in np.unique(found.transfers.index)])
    data = fourier_subtomograms(
        volumes,
        transfers,
        found.transfers.index,
        pixel_size=own.pixel_size,
        radius=own.radius(40.0),
        diameter=own.diameter,
    )
    angles = read_subtomograms(folder / "truth.star").angles
    assert angles is not None
    return Particles(folder, own, data, volumes, euler_to_matrices(angles))


def errors(found: Float64, truth: Float64, group: Float64) -> Float64:
    return np.asarray(np.min([angular_distance(found @ turn, truth) for turn in group], axis=0))


def row(name: str, cpu: float, found: Float64, particles: Particles, **more: Any) -> dict[str, Any]:
    off = errors(found, particles.truth[: len(found)], particles.own.group)
    one = {"program": name, "cpu_s": cpu, "median_angle": float(np.median(off)), "wrong": float((off > 10).mean()),
           "particles": len(found), **more}  # fmt: skip
    print(rounded(one), flush=True)
    return one


def cpu_of(work: Callable[[], T], count: int, repeats: int = 3) -> tuple[float, T]:
    """Least CPU seconds a particle, the first call apart, and the result."""
    found = work()
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        found = work()
        spent.append(time.process_time() - began)
    return min(spent) / count, found


def ours(particles: Particles) -> list[dict[str, Any]]:
    own, rows = particles.own, []
    for resolution in (60.0, 40.0):
        data = particles.data.crop(own.radius(resolution))
        for symmetry in ("D7", "C1"):
            plan = SearchPlan(
                own.diameter_voxels, SHIFT_RANGE, CANDIDATES, np.asarray(symmetry_rotations(symmetry))
            )
            cpu, found = cpu_of(partial(find_poses, data, own.reference, plan), len(data))
            poses = found.poses.rotations[found.best()]
            rows.append(row(f"manyviews, to {resolution:g} A, {symmetry}", cpu, poses, particles))
    return rows


def published(particles: Particles) -> list[dict[str, Any]]:
    """Chen and Xu."""
    own = particles.own
    data = particles.data.select(np.arange(min(4, len(particles.data))))
    plan = SearchPlan(own.diameter_voxels, SHIFT_RANGE, CANDIDATES, own.group, "rotational", "alternation")
    cpu, found = cpu_of(lambda: find_poses(data, own.reference, plan), len(data), 1)
    rows = [row("Chen, ours", cpu, found.poses.rotations[found.best()], particles)]

    def xu() -> Float64:
        reference = FourierVolume.of(own.reference, float(data.radius))
        seeds = rotational_matching(
            data, reference, CANDIDATES, diameter=plan.diameter, shift_range=SHIFT_RANGE, symmetry=own.group
        )
        method = LevenbergMarquardt(steps=12, radius=0.39 * plan.diameter)
        refined = method.refine(PoseObjective(data, reference), seeds.poses)
        order = np.lexsort((-refined.fit.gain, refined.poses.particle))
        _, first = np.unique(refined.poses.particle[order], return_index=True)
        return refined.poses.rotations[order[first]]

    cpu, poses = cpu_of(xu, len(data))
    return [*rows, row("Xu, ours", cpu, poses, particles)]


def relion(particles: Particles, program: str, symmetry: str, count: int) -> dict[str, Any]:
    """One coarse iteration."""
    folder = particles.folder
    star = (folder / "particles.star").read_text().splitlines()
    rows = [number for number, line in enumerate(star) if ".mrc" in line]
    write_mrc(
        folder / "reference.mrc", particles.own.reference.numpy(), particles.own.pixel_size, overwrite=True
    )
    spent = []
    for some in (FEWEST, count):
        kept = [line for number, line in enumerate(star) if number not in rows[some:]]
        (folder / "some.star").write_text("\n".join(kept) + "\n")
        out = folder / f"relion{some}"
        out.mkdir(exist_ok=True)
        words = [program, "--i", "some.star", "--o", f"{out.name}/run", "--ref", "reference.mrc", "--ini_high", "60",
                 "--iter", "1", "--particle_diameter", f"{particles.own.diameter:g}", "--angpix", "6", "--ctf",
                 "--sym", symmetry, "--healpix_order", "2", "--oversampling", "0", "--offset_range", "6",
                 "--offset_step", "2", "--tau2_fudge", "1", "--K", "1", "--pad", "2", "--j", "1", "--zero_mask",
                 "--dont_check_norm", "--norm"]  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    found = read_subtomograms(out / "run_it001_data.star", with_volumes=False)
    assert found.angles is not None
    names = [Path(found.name_of(one)).stem for one in range(len(found))]
    order = np.argsort(names)
    cpu = (spent[1] - spent[0]) / (count - FEWEST)
    return row(
        f"RELION, {symmetry}", cpu, euler_to_matrices(found.angles)[order], particles, whole_run_cpu_s=spent
    )


def binned(volume: np.ndarray) -> np.ndarray:
    """By Fourier cropping, half the side; the origin stays at the middle voxel."""
    spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume)))
    quarter = len(volume) // 4
    middle = slice(quarter, -quarter)
    return np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(spectrum[middle, middle, middle])).real).astype(
        np.float32
    )


def acryo(particles: Particles, python: str, work: Path, count: int) -> dict[str, Any]:
    own = particles.own
    plan = SearchPlan(own.diameter_voxels, SHIFT_RANGE, CANDIDATES, own.group)
    grid = PoseGrid.of(ACRYO_GRID, BOX, plan.diameter, plan.shift_range, own.group, coarseness=1.4)
    size = BOX // 2
    along = np.arange(size) - size // 2
    distance = np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + along**2)
    mask = np.clip(own.diameter_voxels / 4 + 4 - distance, 0, 1)
    np.savez(
        work / "given.npz", volumes=np.stack([binned(one) for one in particles.volumes[:count]]),
        reference=binned(own.reference.numpy()), mask=mask, rotations=grid.rotations, tilt=60.0,
        cutoff=0.5 * 2 * (size * 12 / 60) / size, shift=SHIFT_RANGE / 2,
    )  # fmt: skip
    worker = Path(__file__).parent / "peers" / "acryo_align.py"
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [python, str(worker), str(work / "given.npz"), str(work / "found.npz")], check=True, env=plain
    )
    found = np.load(work / "found.npz")
    return row(
        f"acryo, {len(grid.rotations)} rotations, 32 voxels", float(found["spent"].mean()), found["rotations"], particles,
        templates_cpu_s=float(found["first"]),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--particles", type=int, default=20)
    parser.add_argument("--peer-particles", type=int, default=4)
    parser.add_argument("--acryo-particles", type=int, default=2)
    parser.add_argument("--relion")
    parser.add_argument(
        "--relion-symmetry", nargs="+", default=["D7"], help="without symmetry it takes 14 times as long"
    )
    parser.add_argument("--acryo")
    given = parser.parse_args()
    import numba

    torch.set_num_threads(1)
    numba.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    particles = prepared(given)
    rows = ours(particles)
    rows += published(particles)
    if given.relion:
        rows += [
            relion(particles, given.relion, symmetry, given.peer_particles)
            for symmetry in given.relion_symmetry
        ]
    if given.acryo:
        rows.append(acryo(particles, given.acryo, given.work, given.acryo_particles))
    base = {
        one["program"].rsplit(" ", 1)[1]: one["cpu_s"]
        for one in rows
        if one["program"].startswith("manyviews, to 60")
    }
    lines = [
        "| program | particles | CPU s a particle | over ours to 60 A | median angle | over 10 degrees |",
        "| " + "--- | " * 6,
    ]
    for one in rows:
        one["ratio"] = one["cpu_s"] / base["C1" if one["program"].endswith("C1") else "D7"]
        lines.append(
            f"| {one['program']} | {one['particles']} | {one['cpu_s']:.3g} | {one['ratio']:.3g} | "
            f"{one['median_angle']:.1f} | {100 * one['wrong']:.0f} % |"
        )
    what = {"what": __doc__.splitlines()[0], "snr": SNR, "threads": 1, "rows": [rounded(one) for one in rows]}
    (RESULTS / "subtomo_peers.json").write_text(json.dumps(what | machine(), indent=1) + "\n")
    (RESULTS / "subtomo_peers.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
