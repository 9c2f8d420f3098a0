"""4096 x 4096 x 121 x 4 views in 16 GiB of memory: volumes in files, windows of them in memory.

    python benchmarks/large_job.py DATA RUN [--thickness 96] [--iterations 2] [--limit GROUP] --json FILE

DATA is made if it is not there: a series of 1024 x 1024 images from ``manyviews tilt simulate``, each pixel
enlarged to 4 x 4 by linear interpolation and stored as int16, 16 GB in all. ``--limit`` names an existing control
group (a folder with ``memory.limit_in_bytes`` or ``memory.max``) that the run is put into, so that what it does
not fit into it cannot have; its largest use of memory, file cache included, and the largest resident memory that
is not file cache (anonymous) are recorded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import scipy.ndimage

from manyviews.io.mrc import MrcStack, MrcWriter
from paper_job import AXES

FACTOR, SIZE = 4, 1024


def make_data(data: Path, thickness: int) -> None:
    if (data / "done").exists():
        return
    small = data / "small"
    if not (small / "simulate.toml").exists():
        subprocess.run(
            [sys.executable, "-m", "manyviews.cli", "tilt", "simulate", "--out", str(small), "--size", str(SIZE),
             "--thickness", str(thickness // FACTOR), "--tilt-step", "1", "--noise", "0.3",
             "--pixel-size", "13.6", "--seed", "1", "--quiet"],
            check=True,
        )  # fmt: skip
    for axis in AXES:
        stack = MrcStack(small / f"axis-{axis}.mrc")
        count, height, width = stack.shape
        shape = (count, FACTOR * height, FACTOR * width)
        scale = 3000.0 / float(np.abs(stack.read([count // 2])).max())
        with MrcWriter(
            data / f"axis-{axis}.mrc", shape, 13.6 / FACTOR, dtype=np.int16, is_volume=False, overwrite=True
        ) as writer:
            for section in range(count):
                image = scipy.ndimage.zoom(
                    stack.read([section])[0] * scale, FACTOR, order=1, grid_mode=True, mode="nearest"
                )
                writer.write(np.rint(image).astype(np.int16)[None])
        angles = (small / f"axis-{axis}.rawtlt").read_text()
        (data / f"axis-{axis}.rawtlt").write_text(angles)
    (data / "done").touch()


def reconstruct(data: Path, out: Path, found: argparse.Namespace) -> dict[str, object]:
    command = [
        sys.executable, "-m", "manyviews.cli", "tilt", "reconstruct",
        *(str(data / f"axis-{axis}.mrc") for axis in AXES), "--axis-angle", "0", "45", "90", "135",
        "--thickness", str(found.thickness), "--out", str(out), "--overwrite", "--method", found.method,
        "--iterations", str(found.iterations), "--memory", str(found.memory), *found.options,
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(command)
    if found.limit:
        (found.limit / "cgroup.procs").write_text(
            str(process.pid)
        )  # before it has taken any memory to speak of
    anonymous = 0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            anonymous = max(
                anonymous, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
            )
        except (OSError, TypeError):
            pass
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}")
    group = None
    for name in ("memory.max_usage_in_bytes", "memory.peak"):
        if found.limit and (found.limit / name).exists():
            group = int((found.limit / name).read_text())
    return {
        "options": [word.replace(str(out), "RUN") for word in command[command.index("--thickness") :]],
        "wall_seconds": round(time.perf_counter() - began),
        "largest_anonymous_memory_gib": round(anonymous / 2**20, 2),
        "largest_memory_of_the_group_gib": None if group is None else round(group / 2**30, 2),
        "summary": json.loads((out / "summary.json").read_text()),
        "log": [
            line.replace(str(data), "DATA").replace(str(out), "RUN")
            for line in (out / "log.txt").read_text().splitlines()
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--thickness", type=int, default=96)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--method", default="sirt")
    parser.add_argument("--memory", type=float, default=14.0)
    parser.add_argument("--limit", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only-data", action="store_true")
    parser.add_argument("options", nargs="*", help="further options of the reconstruction, after --")
    found = parser.parse_args()
    found.data.mkdir(parents=True, exist_ok=True)
    make_data(found.data, found.thickness)
    if found.only_data:
        return
    result = reconstruct(found.data, found.run, found)
    if found.json:
        found.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "log"}, indent=1))


if __name__ == "__main__":
    main()
