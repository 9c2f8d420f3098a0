"""Thirty-two ways in which a scan may be misaligned: does one command put each right?

``python benchmarks/nano_misalignments.py --work FOLDER [--size 128] [--views 128] [--method oftv] [--name NAME] [--only PART]``

After tomojax (Manchester, github.com/tristanmanchester/tomojax, docs/misalign_modes.md), which misaligns by schedules over
the scan: *linear* from nought, *sine* (one arch), *step* in the middle, *box* (a sixth of the scan), and *random*, of
dx and dz (pixels along columns and rows), and of rotations of the specimen: *roll* about the beam (in the plane of the detector),
*pitch* towards the beam, *angle* about the axis of the scan. Which 32 it takes is not said there; these are its kinds and
amounts, alone and together. Blobs whose projections are known exactly, half a turn, 1 % noise.

Every scan goes through ``manyviews nano reconstruct`` with one and the same method. The share of the error of the volume that
comes back is (unaligned - found) / (unaligned - oracle), the oracle being the same scan without misalignment; volumes are laid over
the truth by a shift and a smooth map of 2 cells a side. *strong* from 0.9, *usable* from 0.7, *partial* from 0.4, else *poor*: our words and limits,
tomojax's are not published. Where misalignment costs less than a tenth of the oracle's error it is *harmless*, and counts as usable.

Writes ``benchmarks/results/nano_misalignments_NAME.json`` and ``.md`` after each; what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.nano.motion.registration import register_smoothly
from nano_runs import reconstructed

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Record = dict[str, Any]

RESULTS = Path(__file__).parent / "results"
PARTS = ("dx", "dz", "roll", "pitch", "angle")
BLOBS, NOISE = 160, 0.01
LIMITS = ((0.9, "strong"), (0.7, "usable"), (0.4, "partial"), (-np.inf, "poor"))
Schedule = tuple[str, str, float]  # part, shape, amount in pixels or degrees


def scenarios() -> dict[str, tuple[Schedule, ...]]:
    """By name."""
    shapes = ("linear", "sine", "step", "box")
    found: dict[str, tuple[Schedule, ...]] = {}
    for part, amount in (("dx", 5.0), ("dz", 5.0), ("roll", 2.0), ("pitch", 2.0), ("angle", 3.0)):
        for shape in shapes:
            found[f"{part} {shape} {amount:g}"] = ((part, shape, amount),)
    found["dx step 10 (abrupt jump)"] = (("dx", "step", 10.0),)
    found["dx random 5"] = (("dx", "random", 5.0),)
    found["dz random 5"] = (("dz", "random", 5.0),)
    found["dx, dz random 10"] = (("dx", "random", 10.0), ("dz", "random", 10.0))
    found["roll random 1"] = (("roll", "random", 1.0),)
    found["pitch random 1"] = (("pitch", "random", 1.0),)
    found["angle random 1"] = (("angle", "random", 1.0),)
    every = tuple((part, "random", 1.0) for part in ("roll", "pitch", "angle"))
    found["rotations random 1, dx, dz random 10"] = (
        *every,
        ("dx", "random", 10.0),
        ("dz", "random", 10.0),
    )
    found["angle linear 3, dx sine 5"] = (("angle", "linear", 3.0), ("dx", "sine", 5.0))
    found["dx linear 5, dz sine 5, roll linear 2"] = (
        ("dx", "linear", 5.0),
        ("dz", "sine", 5.0),
        ("roll", "linear", 2.0),
    )
    found["dx step 5, dz step -5, roll step 1"] = (
        ("dx", "step", 5.0),
        ("dz", "step", -5.0),
        ("roll", "step", 1.0),
    )
    found["dx linear 5, dx random 1, dz random 1"] = (
        ("dx", "linear", 5.0),
        ("dx", "random", 1.0),
        ("dz", "random", 1.0),
    )
    assert len(found) == 32
    return found


def schedule(shape: str, amount: float, views: int, random: np.random.Generator) -> Float64:
    """``(view,)``."""
    t = np.arange(views) / max(views - 1, 1)
    values: dict[str, Callable[[], Float64]] = {
        "linear": lambda: t,
        "sine": lambda: np.sin(np.pi * t),
        "step": lambda: (t >= 0.5).astype(float),
        "box": lambda: ((t >= 0.4) & (t < 0.4 + 1 / 6)).astype(float),
        "random": lambda: random.uniform(-1, 1, views),
    }
    return amount * values[shape]()


def blobs(size: int, random: np.random.Generator) -> tuple[Float64, Float64, Float64]:
    """Places ``(n, 3)`` z, y, x from the middle, widths and heights; flattened, as most specimens are."""
    places = random.uniform(-1, 1, (8 * BLOBS, 3))
    places = places[np.linalg.norm(places / [0.8, 0.65, 0.75], axis=1) < 1][:BLOBS] * 0.5 * size
    widths = size / 128 * random.uniform(1.2, 5.0, len(places))
    return places, widths, random.uniform(0.3, 1.0, len(places))


def projections(
    size: int, theta: Float64, moves: dict[str, Float64], of: tuple[Float64, Float64, Float64]
) -> Float32:
    """Exact: a blob is round, so its projection is a blob at the place where the middle falls."""
    places, widths, heights = of
    grid = np.arange(size) - 0.5 * (size - 1)
    found = np.empty((len(theta), size, size), np.float32)
    for view, angle in enumerate(theta):
        turn = np.radians(angle + moves["angle"][view])
        z, y, x = places.T
        column = x * np.cos(turn) + y * np.sin(turn)
        depth = y * np.cos(turn) - x * np.sin(turn)
        pitch, roll = np.radians(moves["pitch"][view]), np.radians(moves["roll"][view])
        row = z * np.cos(pitch) + depth * np.sin(pitch)
        column, row = column * np.cos(roll) - row * np.sin(roll), row * np.cos(roll) + column * np.sin(roll)
        across = np.exp(-0.5 * ((grid[:, None] - column - moves["dx"][view]) / widths) ** 2)
        down = np.exp(-0.5 * ((grid[:, None] - row - moves["dz"][view]) / widths) ** 2)
        found[view] = (down * (heights * widths * np.sqrt(2 * np.pi))) @ across.T
    return found


def truth(size: int, of: tuple[Float64, Float64, Float64]) -> Float32:
    """``(z, y, x)``; slices count from ``size // 2``, rows of the detector from their middle."""
    across, rows = np.arange(size) - size // 2, np.arange(size) - 0.5 * (size - 1)
    found = np.zeros((size, size, size))
    for place, width, height in zip(*of, strict=True):
        z, y, x = (
            np.exp(-0.5 * ((grid - middle) / width) ** 2)
            for grid, middle in zip((rows, across, across), place, strict=True)
        )
        found += height * z[:, None, None] * y[:, None] * x
    return found.astype(np.float32)


def error(volume: Float32, wanted: Float32) -> float:
    """Relative, after a shift by whole voxels and a smooth map."""
    peak = np.fft.irfftn(np.fft.rfftn(wanted) * np.conj(np.fft.rfftn(volume)), s=volume.shape, axes=(0, 1, 2))
    shift = np.unravel_index(int(np.argmax(peak)), volume.shape)
    laid = register_smoothly(np.roll(volume, shift, axis=(0, 1, 2)), wanted)
    return float(np.linalg.norm(laid - wanted) / np.linalg.norm(wanted))


def one_run(args: argparse.Namespace, name: str, moves: tuple[Schedule, ...], wanted: Float32) -> Record:
    random = np.random.default_rng(1)
    theta = np.arange(args.views) * 180.0 / args.views
    of_part = {part: np.zeros(args.views) for part in PARTS}
    for part, shape, amount in moves:
        of_part[part] += schedule(shape, amount, args.views, random)
    images = projections(args.size, theta, of_part, blobs(args.size, np.random.default_rng(0)))
    images += NOISE * images.max() * random.standard_normal(images.shape).astype(np.float32)
    method = args.method if moves else args.method.replace("of", "pcg")
    run = reconstructed(images, theta, 0.5 * (args.size - 1), method, args)
    assert run.before is not None
    return {
        "name": name, "error": round(error(run.volume, wanted), 4),
        "unaligned": round(error(run.before, wanted), 4), "cpu_s": round(run.cpu_seconds, 1),
        "wall_s": round(run.wall_seconds, 1),
    }  # fmt: skip


def judged(row: Record, oracle: float) -> tuple[float, str]:
    """The share that comes back, and a word for it."""
    gap = row["unaligned"] - oracle
    if gap < 0.1 * oracle:
        return 1.0, "harmless"
    share = (row["unaligned"] - row["error"]) / gap
    return share, next(word for limit, word in LIMITS if share >= limit)


def page(record: Record) -> str:
    """The table, from what was stored."""
    oracle = record["oracle"]["error"]
    words = [judged(row, oracle)[1] for row in record["rows"]]
    told = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    lines = [
        f"# Misalignments, {record['size']}^3 voxels, {record['views']} views, `--method {record['method']}`",
        "",
        f"Of {len(words)}: {told}. Error of the oracle: {oracle:.3f}.",
        "",
        "| misalignment (pixels, degrees) | unaligned | found | share that came back | | CPU s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row, word in zip(record["rows"], words, strict=True):
        share = judged(row, oracle)[0]
        lines.append(
            f"| {row['name']} | {row['unaligned']:.3f} | {row['error']:.3f} | {share:.2f} | {word} | {row['cpu_s']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--views", type=int, default=128)
    parser.add_argument("--method", default="oftv")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="128")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    path = RESULTS / f"nano_misalignments_{args.name}.json"
    wanted = truth(args.size, blobs(args.size, np.random.default_rng(0)))
    record: Record = (
        json.loads(path.read_text(encoding="utf-8"))
        if path.exists()
        else {
            "size": args.size, "views": args.views, "method": args.method, "rows": [],
            "oracle": one_run(args, "oracle", (), wanted),
            "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        }
    )  # fmt: skip
    known = {row["name"] for row in record["rows"]}
    for name, moves in scenarios().items():
        if name in known or args.only not in name:
            continue
        record["rows"].append(one_run(args, name, moves, wanted))
        print(record["rows"][-1], judged(record["rows"][-1], record["oracle"]["error"]), flush=True)
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
