"""1,440 views of 1024 x 1024 pixels with little memory: does it run to its end, and as it was estimated?

``python benchmarks/nano_large.py --work FOLDER [--size 1024] [--views 1440] [--memory 20] [--iterations 4 2 1 1]
[--method of] [--threads 2] [--name NAME]``

The scan: Gaussian blobs whose projections are known exactly, in views that drift by up to 1 % of the side over the
scan and shrink by 2 %; made if it is not in FOLDER. The run is ``nano reconstruct --method METHOD --no-halves
--inner-iterations 1`` in a process of its own. Measured are its most anonymous memory, its CPU seconds, the most of the
disk that was taken, and how far the volume is from the blobs (as it lies, and by slices' correlation).

Needs 5.6 GiB for the scan and 60 GiB beside it. Writes ``benchmarks/results/nano_large_NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.io.mrc import MrcStack, MrcWriter

Record = dict[str, Any]
Float64 = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results"
BLOBS, DRIFT, SHRINKING, NOISE = 120, 0.01, 0.02, 0.02
_EACH_SECONDS = 0.1


def blobs(size: int) -> tuple[Float64, Float64, Float64]:
    """Centres ``(blob, z-y-x)`` in pixels from the middle, widths in pixels, and heights."""
    random = np.random.default_rng(5)
    radius = 0.38 * size * np.sqrt(random.random(BLOBS))
    turned = 2 * np.pi * random.random(BLOBS)
    centres = np.stack(
        [size * (random.random(BLOBS) - 0.5) * 0.8, radius * np.sin(turned), radius * np.cos(turned)], axis=1
    )
    return centres, size * (0.012 + 0.03 * random.random(BLOBS)), 0.5 + random.random(BLOBS)


def gaussian(size: int, centre: float, width: float) -> Float64:
    """Along one side, about a centre in pixels from the middle pixel."""
    where = np.arange(size) - size // 2 - centre
    return np.asarray(np.exp(-0.5 * (where / width) ** 2), np.float64)


def make_scan(work: Path, size: int, views: int) -> None:
    """``scan.mrc`` and ``angles.txt``."""
    if (work / "angles.txt").exists():
        return
    centres, widths, heights = blobs(size)
    angles = np.arange(views) * (360.0 / views)
    random = np.random.default_rng(6)
    with MrcWriter(work / "scan.mrc", (views, size, size), 10.0, is_volume=False, overwrite=True) as writer:
        for view, angle in enumerate(np.deg2rad(angles)):
            part = view / views
            grown, drift = 1 - SHRINKING * part, DRIFT * size * part
            image = np.zeros((size, size), np.float64)
            for (z, y, x), width, height in zip(centres, widths, heights, strict=True):
                along = grown * (x * np.cos(angle) + y * np.sin(angle)) + drift
                rows, columns = gaussian(size, grown * z, width), gaussian(size, along, width)
                image += np.sqrt(2 * np.pi) * width * height * rows[:, None] * columns
            image += NOISE * image.max() * random.standard_normal(image.shape)
            writer.write(image.astype(np.float32)[None])
    np.savetxt(work / "angles.txt", angles)


def words(args: argparse.Namespace) -> list[str]:
    """What is said to the program."""
    return [
        "nano", "reconstruct", str(args.work / "scan.mrc"), "--angles", str(args.work / "angles.txt"),
        "--out", str(args.work / "run"), "--overwrite", "--method", args.method, "--no-halves", "--memory",
        str(args.memory), "--iterations", *map(str, args.iterations), "--inner-iterations", "1",
        "--center", str(args.size // 2), "--no-minus-log", "--pixel-size-nm", "10", "--threads", str(args.threads),
    ]  # fmt: skip


def watched(given: list[str], work: Path) -> Record:
    """Most anonymous memory, most of the disk taken, seconds of the wall and of the cores."""
    free, began = shutil.disk_usage(work).free, time.perf_counter()
    with (work / "console.txt").open("w") as console:
        process = subprocess.Popen(
            [sys.executable, "-m", "manyviews.cli", *given], stdout=console, stderr=console
        )
    status = Path(f"/proc/{process.pid}/status")
    anonymous, least = 0, free
    while process.poll() is None:
        try:
            found = re.search(r"RssAnon:\s*(\d+)", status.read_text())
        except OSError:
            break
        anonymous = max(anonymous, 1024 * int(found.group(1)) if found else 0)
        least = min(least, shutil.disk_usage(work).free)
        time.sleep(_EACH_SECONDS)
    process.wait()
    used = os.times()
    return {
        "exit": process.returncode, "anonymous GiB": round(anonymous / 2**30, 2),
        "disk GiB": round((free - least) / 2**30, 1), "wall minutes": round((time.perf_counter() - began) / 60, 1),
        "user minutes": round(used.children_user / 60, 1), "system minutes": round(used.children_system / 60, 1),
    }  # fmt: skip


def error(volume: Path, size: int) -> float:
    """Relative, against the blobs at the mean of drift and shrinking, over every eighth slice."""
    centres, widths, heights = blobs(size)
    grown, stack = 1 - 0.5 * SHRINKING, MrcStack(volume)
    wrong = right = 0.0
    for z in range(0, size, 8):
        truth = np.zeros((size, size), np.float64)
        for (row, y, x), width, height in zip(centres, widths, heights, strict=True):
            up = height * gaussian(size, grown * row, width)[z]
            truth += up * gaussian(size, grown * y, width)[:, None] * gaussian(size, grown * x, width)
        wrong += float(np.sum((stack.read([z])[0] - truth) ** 2))
        right += float(np.sum(truth**2))
    return float(np.sqrt(wrong / right))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--views", type=int, default=1440)
    parser.add_argument("--memory", type=float, default=20.0)
    parser.add_argument("--iterations", nargs="+", default=["4", "2", "1", "1"])
    parser.add_argument("--method", default="of")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default=platform.node())
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    make_scan(args.work, args.size, args.views)
    record: Record = {
        "command": " ".join(words(args)[:2] + words(args)[7:]),
        "size": args.size,
        "views": args.views,
    }
    record |= watched(words(args), args.work)
    if record["exit"] == 0:
        record["relative error"] = round(error(args.work / "run" / "volume.mrc", args.size), 4)
    (RESULTS / f"nano_large_{args.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
