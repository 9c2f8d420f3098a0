"""How far the estimated memory of a rank is from the measured one, in several layouts.

    python benchmarks/estimate_per_rank.py [--folder DIR] [--only NAME]

Every case is simulated and reconstructed through the command line, under the ``mpiexec`` beside this interpreter
where it has several ranks, one thread each; ``summary.json`` tells the largest peak of any rank. Times are not
compared: more ranks than cores would tell nothing. Runs with volumes in files are left out, because the peak
counts the files as far as they are mapped; `large_job.py` measures one. Writes
``benchmarks/results/estimate_per_rank.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from manyviews.parallel.layout import Layout
from manyviews.tilt.cost.estimate import Estimator
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.plan import resolve_plan
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import resolve_series
from memory_estimate import CG, CONSENSUS, Data, simulated, told, words_of

RESULT = Path(__file__).parent / "results" / "estimate_per_rank.json"
DATA = Data("four axes, 384", 384, 48, (0.0, 45.0, 90.0, 135.0), 4.0)
WANG = ReconstructOptions(method="wang2020", subsets=8, inner_iterations=1, iterations=2)
CASES: tuple[tuple[ReconstructOptions, tuple[str, ...]], ...] = (
    (CG, ("1x1", "1x2", "1x4")),
    (CONSENSUS, ("1x1", "2x1", "2x2", "4x1", "1x4")),
    (replace(CONSENSUS, total_variation=0.1), ("1x1", "2x1", "1x2")),
    (WANG, ("1x1", "2x2")),
    (ReconstructOptions(method="direct-combine", iterations=2), ("1x1", "2x2")),
    (ReconstructOptions(method="wbp"), ("1x1", "2x2")),
    (ReconstructOptions(method="sirt", iterations=3), ("1x1", "1x2")),
    (ReconstructOptions(method="sirt", sirt_form="normalised", iterations=2), ("1x1", "1x2", "2x1")),
)


def run(series: SeriesOptions, chosen: ReconstructOptions, layout: Layout, out: Path) -> int:
    """Reconstruct; the largest peak of a rank, bytes."""
    launcher = [Path(sys.executable).with_name("mpiexec"), "-n", layout.ranks] if layout.ranks > 1 else []
    words = [
        *launcher, sys.executable, "-m", "manyviews.cli", "tilt", "reconstruct", *series.stacks,
        "--axis-angle", *series.axis_angle, "--thickness", DATA.thickness, "--out", out, "--quiet",
        "--layout", layout, *words_of(chosen),
    ]  # fmt: skip
    subprocess.run(
        [str(word) for word in words],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    )
    return int(json.loads((out / "summary.json").read_text())["peak_memory_of_a_rank_bytes"])


def measure(chosen: ReconstructOptions, layout: Layout, folder: Path) -> dict[str, object]:
    """Estimate and run one case."""
    series = simulated(DATA, folder)
    source = ImageSource(resolve_series(series))
    settings = resolve_plan(replace(chosen, thickness=DATA.thickness), source)
    stored = sum(path.stat().st_size for path in series.stacks)
    expected = Estimator(settings, source.binned_geometry, stored).estimate(layout)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        measured = run(series, chosen, layout, Path(out) / "run")
    return {
        "options": told(chosen),
        "layout": str(layout),
        "measured_mib": round(measured / 2**20),
        "estimated_mib": round(expected.memory_bytes / 2**20),
        "ratio": round(expected.memory_bytes / measured, 3),
        "parts_mib": {name: round(size / 2**20) for name, size in expected.parts.items()},
    }


def main() -> None:
    """Measure all cases and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where the simulated data are kept for another time")
    parser.add_argument("--only", default="", help="cases of methods with this in their name; writes nothing")
    found = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = found.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for chosen, layouts in CASES:
            for layout in layouts if found.only in chosen.method else ():
                rows.append(measure(chosen, Layout.parse(layout), folder))
                print(rows[-1], flush=True)
    ratios = [float(str(row["ratio"])) for row in rows]
    result = {
        "size": f"{DATA.size} x {DATA.size} x {DATA.thickness}, {len(DATA.axes)} axes",
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        "cases": rows,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
    if not found.only:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
