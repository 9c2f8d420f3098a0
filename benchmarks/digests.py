"""Digests of what 16 runs leave behind, to show that a change of the code changed no bit of the results.

``python benchmarks/digests.py FOLDER write BEFORE.json`` simulates data in FOLDER if there are none, runs every
method on one process, on two ranks and with volumes or images in files, and notes the SHA-256 of the voxels, tables
and poses. ``python benchmarks/digests.py FOLDER compare BEFORE.json`` does the same again and tells what differs.
Digests hold for one machine, one set of versions and one FOLDER.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

MANYVIEWS = str(Path(sys.executable).with_name("manyviews"))
MPIEXEC = str(Path(sys.executable).with_name("mpiexec"))
STACKS = "tilt reconstruct axis-000.mrc axis-090.mrc --axis-angle 0 90"
DATA = {
    "tilt": (
        "tilt simulate --axes 0 90 --size 96 --thickness 24 --tilt-step 6 --noise 0.3 --seed 3",
        f"{STACKS} --thickness 24",
    ),
    "large": (
        "tilt simulate --axes 0 90 --size 256 --thickness 64 --tilt-step 20 --noise 0.3 --seed 3",
        f"{STACKS} --thickness 64",
    ),
    "particles": (
        "particles simulate --box 32 --pixel-size 4 --count 300 --seed 3",
        "particles abinitio particles.star --diameter 90 --batch 60",
    ),
}
# name: ranks, data, options
RUNS: dict[str, tuple[int, str, str]] = {
    "cg": (1, "tilt", "--method cg --reference truth.mrc"),
    "cg, statistics, binned": (1, "tilt", "--method cg --bin 2 --normalise statistics"),
    "cg, exact": (1, "tilt", "--method cg --normal exact --iterations 4"),
    "cg, 2 ranks in slabs": (2, "tilt", "--method cg --layout 1x2"),
    "cg, in files": (1, "large", "--method cg --iterations 4 --memory 0.56"),
    "sirt": (1, "tilt", "--method sirt --iterations 20"),
    "sirt, normalised": (1, "tilt", "--method sirt --sirt-form normalised --iterations 5 --non-negative"),
    "wbp": (1, "tilt", "--method wbp"),
    "consensus, non-negative": (1, "tilt", "--method consensus --non-negative --iterations 6"),
    "consensus, priors": (1, "tilt", "--method consensus --total-variation 0.1 --smoothness 0.1 --iterations 4"),
    "consensus, 2 groups": (2, "tilt", "--method consensus --layout 2x1 --iterations 6"),
    "wang2020": (1, "tilt", "--method wang2020 --iterations 3"),
    "direct-combine": (1, "tilt", "--method direct-combine --iterations 10"),
    "stochastic-em": (1, "particles", "--refinements 2 --starts 2"),
    "stochastic-em, 2 ranks": (2, "particles", "--refinements 2 --starts 1"),
    "stochastic-em, C2, halves apart, in files": (
        1, "particles", "--refinements 2 --starts 1 --symmetry C2 --independent-halves --memory 0.001"
    ),
    "sagd": (1, "particles", "--method sagd --starts 1 --iterations 45"),
    "sagd, 2 starts": (1, "particles", "--method sagd --starts 2 --iterations 110 --schedule paper"),
}  # fmt: skip


def simulate(folder: Path) -> None:
    """Two axes, and particles with a CTF, of little size."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (command, _) in DATA.items():
        if not (folder / name).exists():
            subprocess.run([MANYVIEWS, *command.split(), "--out", str(folder / name), "--quiet"], check=True)


def run(folder: Path, name: str) -> dict[str, str]:
    """Digests of what one run leaves, by file."""
    ranks, data, options = RUNS[name]
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    launcher = [MPIEXEC, "-n", str(ranks)] if ranks > 1 else []
    words = [
        MANYVIEWS,
        *DATA[data][1].split(),
        *options.split(),
        "--threads",
        "1",
        "--out",
        str(out),
        "--quiet",
    ]
    subprocess.run([*launcher, *words], cwd=folder / data, check=True, stdout=subprocess.DEVNULL)
    files = sorted([*out.glob("*.mrc"), *out.glob("*.csv"), *out.glob("*.star")])
    return {path.name: digest(path) for path in files}


def digest(path: Path) -> str:
    """Of a table whole, of a map without its header."""
    data = path.read_bytes()
    return hashlib.sha256(data[1024:] if path.suffix == ".mrc" else data).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("verb", choices=("write", "compare"))
    parser.add_argument("digests", type=Path)
    parser.add_argument("--only", default="", help="runs whose name holds this text")
    given = parser.parse_args()
    simulate(given.folder)
    before = json.loads(given.digests.read_text()) if given.verb == "compare" else {}
    found: dict[str, dict[str, str]] = {}
    failed = False
    for name in (name for name in RUNS if given.only in name):
        found[name] = run(given.folder, name)
        old = before.get(name, found[name])
        differ = [file for file in old | found[name] if old.get(file) != found[name].get(file)]
        failed |= bool(differ)
        print(
            f"{name}: {'differs in ' + ', '.join(differ) if differ else 'same' if before else 'noted'}",
            flush=True,
        )
    if given.verb == "write":
        given.digests.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
