"""Two ways to sum over poses: branch and bound by frequency, and importance sampling, against the full sum.

``python benchmarks/pose_search.py FOLDER [--images 40] [--radii 8 10 13 16] [--repeats 3]``

FOLDER has ``gt.star``, ``noisy.mrcs`` and ``truth.mrc`` (of RELION's projections). Images are prepared as ``manyviews
particles abinitio`` does, the map is the truth, as bright as the images ask for. Per radius:

- *full*: `marginal` over the paper's lattice.
- *search, everywhere*: `PoseSearch` from no knowledge: a coarse grid at radius 8, finer levels around what is left;
  also with one and two more levels at the end, each of half the spacing.
- *search, known*: from the poses found at the radius before, then once more from its own.
- *importance, full posteriors*: `sampled_marginal` from posteriors of the full sum at the same radius: the best it
  can have. *importance, carried*: from those it found itself at the radius before, then once more from its own; the
  first are of a full sum at the lowest radius. *importance, half spacing*: on a lattice with half the spacing in
  angles and twice the shifts along an axis, from posteriors of the full sum on the other lattice, then once more from
  its own. Trust is that of the paper after 5,000 iterations.

The reference is neither: a sum at a quarter of the lattice's spacing and twice the shifts along an axis, over all
rotations within three of the lattice's spacings of one that has 1e-4 of the mass of the best. Measures:
``nats_rms``, error of log p against it after its mean over images is taken off (the search's log likelihood is a sum
over the finest poses without weights, some of them counted twice, so it is known up to a constant, at best);
``sampling_rms``, error against the full sum on the same lattice, nothing taken off; ``posterior_error``, total
variation between direction posteriors, both spread by eq. 21's kernel with the lattice's spacing; ``mass_kept``, what
the reference has within 1.5 spacings of rotations that a method ends up with (1/4096 of its mass or more);
``best_degrees``, from the most likely rotation to the true one. The specimen is nearly seven-fold (found from its
moments, checked), so angles and posteriors are modulo its seven turns. The time is the processor's, value only,
with everything that a batch of 200 images needs: the map's transform, coarse grid, draws.

Writes ``benchmarks/results/pose_search.json``, radius by radius.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.poses import euler_to_matrices, random_rotations
from manyviews.geometry.quadrature import pose_quadrature
from manyviews.io.mrc import read_mrc
from manyviews.io.relion_particles import read_relion_particles
from manyviews.particles.em import pose_grids
from manyviews.particles.em import pose_search as pose_finder
from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples
from manyviews.particles.em.pose_search import PoseEstimates, PoseSearch
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.load import noise_spectrum, read_fourier_images
from manyviews.particles.images.random_start import power_scale
from manyviews.particles.options import AbinitioOptions
from manyviews.particles.plan import resolve_plan
from manyviews.particles.sagd.importance import PoseDraw, draw_poses, sampled_marginal
from manyviews.particles.sagd.lattice import PoseLattice
from manyviews.particles.sagd.likelihood import ImageTerms
from manyviews.particles.sagd.marginal import Marginal, marginal
from manyviews.particles.sagd.memory import PoseMemory, SparseRows
from manyviews.particles.sagd.sagd import Sagd, SagdOptions
from pose_search_reference import (
    EVERY_POSE,
    Answer,
    Case,
    Floats,
    Rotations,
    by_direction,
    full_posterior,
    judge,
    near_by,
    sevenfold,
    spread,
    that_matter,
)

RESULT = Path(__file__).parent / "results" / "pose_search.json"
SHIFT_SIGMA = 5.0  # angstrom
SCALES = (2.0, 10.0, 50.0)
HALF_SCALES = (2.0, 10.0)
SETTLED = 5000
TIMED = 200  # images of a batch that is timed
LEVELS = {"search, everywhere": 1, "search, one more level": 2, "search, two more levels": 4}


def load(folder: Path, count: int, radius: int) -> tuple[FourierImages, Floats, torch.Tensor]:
    """Some images, their true poses, and the map as bright as all of them ask for."""
    table = read_relion_particles(folder / "gt.star")
    truth, _ = read_mrc(folder / "truth.mrc")
    assert table.angles is not None
    settings = resolve_plan(AbinitioOptions(), len(table), len(truth), table.pixel_size)
    numbers = np.arange(len(table))
    images, spectra, counts = read_fourier_images(table, numbers, radius=radius, diameter=settings.diameter)
    images.noise_variance[:] = noise_spectrum(spectra, counts, images.box)
    volume = torch.from_numpy(np.array(truth, np.float32))
    volume *= power_scale(volume, images.crop(10))
    chosen = numbers[:: len(table) // count][:count]
    return images.select(chosen), euler_to_matrices(table.angles[chosen]), volume


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of the process, for one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def repeated(images: FourierImages) -> FourierImages:
    """As many images as a mini-batch has, the same ones over and over."""
    return images.select(np.resize(np.arange(len(images)), TIMED))


# --- the search ---


def finder(case: Case, turn: NDArray[np.float32]) -> PoseSearch:
    images = case.images
    settings = resolve_plan(AbinitioOptions(), 2000, images.box, images.pixel_size)
    sigma = SHIFT_SIGMA / images.pixel_size
    return PoseSearch(case.volume, images.radius, settings.em, images.box, sigma, turn)


def searched(case: Case, turn: NDArray[np.float32], known: PoseSamples, draws: int) -> PoseEstimates:
    usual, pose_finder.DRAWS = pose_finder.DRAWS, draws
    try:
        count = len(case.images)
        return finder(case, turn).find(
            case.images, np.arange(count), known, np.random.default_rng(1).random(count)
        )
    finally:
        pose_finder.DRAWS = usual


def search_answer(case: Case, turn: NDArray[np.float32], known: PoseSamples) -> tuple[Answer, PoseSamples]:
    """Weights of the usual draws; what is kept, of all that was scored on the finest level."""
    found = searched(case, turn, known, pose_finder.DRAWS)
    every = searched(case, turn, known, EVERY_POSE).samples
    count = len(case.images)
    of = [found.samples.select(found.samples.image == image) for image in range(count)]
    all_of = [every.rotations[every.image == image] for image in range(count)]
    log_p = found.log_likelihood - ImageTerms.of(case.images).energy
    weights = [one.weights.astype(float) for one in of]
    best = np.array([one.rotations[one.weights.argmax()] for one in of])
    directions = [one.rotations[:, 2].astype(float) for one in of]
    answer = Answer(log_p, directions, weights, best, all_of, found.searched / count)
    return answer, found.samples


def search_ms(case: Case, turn: NDArray[np.float32], known: PoseSamples) -> float:
    """Milliseconds an image in a mini-batch, the map's transform included."""
    images, count = repeated(case.images), len(case.images)
    parts = [known.select(known.image < min(count, TIMED - first)) for first in range(0, TIMED, count)]
    start = PoseSamples.concatenate(
        [part.renumbered(np.arange(count) + count * number) for number, part in enumerate(parts)]
    )
    offsets = np.random.default_rng(2).random(TIMED)
    seconds = cpu_seconds(lambda: finder(case, turn).find(images, np.arange(TIMED), start, offsets))
    return 1e3 * seconds / TIMED


# --- importance sampling ---


def draws_of(
    memory: PoseMemory, old: PoseLattice, new: PoseLattice, scale: float, seed: int, count: int
) -> list[PoseDraw]:
    have = len(memory.factors[0])
    return [
        draw_poses(memory, image % have, old, new, scale, np.random.default_rng([seed, image]))
        for image in range(count)
    ]


def sampled_answer(
    case: Case, memory: PoseMemory, old: PoseLattice, scale: float, seed: int
) -> tuple[Answer, PoseMemory]:
    """From a memory; which of the drawn rotations weigh most is looked up in the full posterior."""
    draws = draws_of(memory, old, case.lattice, scale, seed, len(case.images))
    found = sampled_marginal(case.images, case.volume, case.lattice, draws, iteration=SETTLED, gradient=False)
    directions, weights, best, kept = [], [], [], []
    for image, one in enumerate(draws):
        columns, masses = found.memory.factors[0].row(image)
        directions.append(case.lattice.directions[columns])
        weights.append(masses.astype(float) / masses.sum(dtype=float))
        own = case.joint[image].drawn(one)
        kept.append(own.rotations)
        best.append(own.rotations[own.masses.argmax()])
    points = float(np.mean([one.size for one in draws]))
    return Answer(found.log_probability, directions, weights, np.array(best), kept, points), found.memory


def sampled_ms(case: Case, memory: PoseMemory, old: PoseLattice, scale: float) -> float:
    """Milliseconds an image in a mini-batch, drawing and the map's transform included."""
    images = repeated(case.images)

    def work() -> None:
        draws = draws_of(memory, old, case.lattice, scale, 5, TIMED)
        sampled_marginal(images, case.volume, case.lattice, draws, iteration=SETTLED, gradient=False)

    return 1e3 * cpu_seconds(work) / TIMED


# --- all of it ---


class Study:
    """What is carried from radius to radius, and the rows of the table."""

    def __init__(self, images: FourierImages, truth: Floats, volume: torch.Tensor, repeats: int) -> None:
        self.images, self.truth, self.volume, self.repeats = images, truth, volume, repeats
        self.sagd = Sagd(images, SagdOptions(shift_sigma=SHIFT_SIGMA))
        self.turns, self.fit = sevenfold(volume.numpy())
        self.poses: list[PoseSamples] = []
        self.memories: dict[tuple[float, int], PoseMemory] = {}

    def case(self, radius: int) -> tuple[Case, Marginal, float]:
        """The full sum at a radius, the reference, and the full sum's milliseconds an image."""
        low, lattice = self.images.crop(radius), self.sagd.lattice(radius)
        began = time.process_time()
        full = marginal(low, self.volume, lattice, gradient=False)
        ms = 1e3 * (time.process_time() - began) / len(low)
        _, joint = full_posterior(low, self.volume, lattice, that_matter(lattice, full))
        fine = finer(low, 4)
        exact_log_p, exact = self.local(low, fine, joint, lattice)
        smooth = [by_direction(fine, one) for one in exact]
        case = Case(
            low, self.volume, lattice, full.log_probability, joint, self.turns, self.truth, lattice,
            exact_log_p, exact, [spread(*one, lattice, self.turns) for one in smooth],
        )  # fmt: skip
        return case, full, ms

    def local(
        self, images: FourierImages, fine: PoseLattice, seeds: list[Rotations], lattice: PoseLattice
    ) -> tuple[Floats, list[Rotations]]:
        """The sum over a finer lattice, near what matters on another one."""
        return full_posterior(images, self.volume, fine, near_by(fine, seeds, lattice.direction_spacing))

    def rows(self, radius: int) -> list[dict[str, Any]]:
        """Every method at a radius."""
        case, found, ms = self.case(radius)
        every = [by_direction(case.lattice, one) for one in case.joint]
        full = Answer(
            case.log_p,
            [directions for directions, _ in every],
            [masses for _, masses in every],
            np.array([one.rotations[one.masses.argmax()] for one in case.joint]),
            [one.select(one.masses > one.masses.sum() / EVERY_POSE).rotations for one in case.joint],
            float(case.lattice.size),
        )
        rows = [{"method": "full", "cpu_ms": ms, **judge(case, full)}]
        rows += self.searches(case)
        memory = remembered(found, radius)
        for scale in SCALES:
            rows += self.draws(case, memory, scale)
        rows += self.finer_draws(case, memory)
        head = {"radius": radius, "resolution_A": round(case.images.box * case.images.pixel_size / radius, 1)}
        rows = [head | {k: rounded(v) for k, v in row.items()} for row in rows]
        for row in rows:
            print(row, flush=True)
        return rows

    def searches(self, case: Case) -> list[dict[str, Any]]:
        """From everywhere, with more candidates, and from known poses."""
        turns = [
            random_rotations(1, np.random.default_rng([case.images.radius, number]))[0].astype(np.float32)
            for number in range(self.repeats)
        ]
        rows = []
        usual = pose_grids._FINE, pose_grids._FINE_SHIFTS_PER_WAVE
        for name, factor in LEVELS.items():
            pose_grids._FINE, pose_grids._FINE_SHIFTS_PER_WAVE = usual[0] / factor, usual[1] * factor
            answers = [search_answer(case, turn, NO_SAMPLES) for turn in turns]
            ms = search_ms(case, turns[0], NO_SAMPLES)
            rows.append({"method": name, "cpu_ms": ms, **mean([judge(case, one) for one, _ in answers])})
            if factor == 1:
                first = [samples for _, samples in answers]
        pose_grids._FINE, pose_grids._FINE_SHIFTS_PER_WAVE = usual
        self.poses = [
            search_answer(case, turn, known)[1]
            for turn, known in zip(turns, self.poses or first, strict=True)
        ]
        answers = [search_answer(case, turn, known) for turn, known in zip(turns, self.poses, strict=True)]
        ms = search_ms(case, turns[0], self.poses[0])
        judged = mean([judge(case, one) for one, _ in answers])
        return [*rows, {"method": "search, known", "cpu_ms": ms, **judged}]

    def finer_draws(self, case: Case, memory: PoseMemory) -> list[dict[str, Any]]:
        """On a finer lattice."""
        fine, rows = finer(case.images, 2), []
        log_p, joint = self.local(case.images, fine, case.joint, case.lattice)
        own = replace(case, lattice=fine, log_p=log_p, joint=joint)
        for scale in HALF_SCALES:
            judged = []
            for seed in range(self.repeats):
                first = sampled_answer(own, memory, case.lattice, scale, 300 + seed)[1]
                answer, second = sampled_answer(own, first, fine, scale, 400 + seed)
                judged.append(judge(own, answer))
            ms = sampled_ms(own, second, fine, scale)
            rows.append({"method": "importance, half spacing", "s0": scale, "cpu_ms": ms, **mean(judged)})
        return rows

    def draws(self, case: Case, full: PoseMemory, scale: float) -> list[dict[str, Any]]:
        """From posteriors of the full sum, and carried."""
        lattice = case.lattice
        ideal = mean([judge(case, sampled_answer(case, full, lattice, scale, seed)[0])
                      for seed in range(self.repeats)])  # fmt: skip
        carried = []
        for number in range(self.repeats):
            memory = self.memories.get((scale, number), full)
            old = self.sagd.lattice(memory.radius)
            memory = sampled_answer(case, memory, old, scale, 100 + number)[1]
            answer, memory = sampled_answer(case, memory, lattice, scale, 200 + number)
            self.memories[scale, number] = memory
            carried.append(judge(case, answer))
        ms = sampled_ms(case, full, lattice, scale), sampled_ms(case, memory, lattice, scale)
        return [
            {"method": "importance, full posteriors", "s0": scale, "cpu_ms": ms[0], **ideal},
            {"method": "importance, carried", "s0": scale, "cpu_ms": ms[1], **mean(carried)},
        ]


def finer(images: FourierImages, factor: int) -> PoseLattice:
    """The paper's lattice with a part of its spacing in angles, and twice the shifts along an axis."""
    quadrature = pose_quadrature(
        images.radius,
        SHIFT_SIGMA,
        undersampling=1 / factor,
        shift_points=2 * images.radius,
        least_weight=SagdOptions.least_shift_weight,
    )
    return PoseLattice.of(quadrature, images.pixel_size)


def remembered(found: Marginal, radius: int) -> PoseMemory:
    """The posteriors of a full sum as what is kept of them."""
    rows = [SparseRows.of_dense(part) for part in (found.direction, found.in_plane, found.shift)]
    return PoseMemory(radius, SETTLED, (rows[0], rows[1], rows[2]))


def mean(judged: list[dict[str, float]]) -> dict[str, float]:
    """Over repeats."""
    return {name: float(np.mean([one[name] for one in judged])) for name in judged[0]}


def rounded(value: Any) -> Any:
    """Four digits are enough."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--radii", type=int, nargs="+", default=[8, 10, 13, 16])
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    import numba

    torch.set_num_threads(1)
    numba.set_num_threads(1)
    study = Study(*load(given.folder, given.images, max(given.radii)), given.repeats)
    study_warm = Study(study.images.select(slice(0, 2)), study.truth[:2], study.volume, 1)
    study_warm.rows(min(given.radii))  # compiles
    print("--- seven-fold to", study.fit, flush=True)
    rows: list[dict[str, Any]] = []
    for radius in given.radii:
        rows += study.rows(radius)
        data = {
            "what": __doc__.splitlines()[0],
            "images": given.images,
            "repeats": given.repeats,
            "box": study.images.box,
            "pixel_size": study.images.pixel_size,
            "shift_sigma": SHIFT_SIGMA,
            "seven_fold_correlation": round(study.fit, 5),
            "rows": rows,
            "threads": 1,
            "load_average": round(os.getloadavg()[0], 1),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {"python": platform.python_version(), "numpy": np.__version__,
                         "numba": numba.__version__, "torch": torch.__version__},
        }  # fmt: skip
        RESULT.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
