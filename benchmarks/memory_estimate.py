"""How far estimated memory and time are from measured ones: ``python benchmarks/memory_estimate.py``.

Every case is simulated and reconstructed through the command line, each in a process of its own, whose peak
memory and time its ``summary.json`` tells; of runs with their volumes in files what is not mapped from a file,
looked at ten times a second. Few iterations are enough: no array is made later than in the second round. Writes ``benchmarks/results/memory_estimate.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from manyviews.tilt.cost.schedule import make_schedule
from manyviews.tilt.ctf.apply import transfer_costs
from manyviews.tilt.ctf.transfer import resolve_transfer
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.plan import resolve_plan
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import resolve_series

# Pages of Python and its libraries that are mapped from files.
_LIBRARIES = 150 * 2**20
RESULT = Path(__file__).parent / "results" / "memory_estimate.json"


@dataclass(frozen=True)
class Data:
    """A simulated series."""

    name: str
    size: int
    thickness: int
    axes: tuple[float, ...]
    tilt_step: float
    defocus: float | None = None


ONE_AXIS = Data("one axis", 256, 64, (0.0,), 2.0)
FOUR_AXES = Data("four axes", 256, 64, (0.0, 45.0, 90.0, 135.0), 2.0)
DEMO = Data("demo", 192, 48, (0.0, 45.0, 90.0, 135.0), 3.0)
LARGE = Data("large", 512, 58, (0.0, 45.0, 90.0, 135.0), 2.0)
OFF_GRID = Data("oblique", 384, 40, (12.0, 77.0), 2.0)

SMALL = Data("small", 256, 48, (0.0, 45.0, 90.0, 135.0), 3.0)
DEFOCUS = Data("defocus", 256, 48, (0.0, 45.0), 3.0, 20000.0)
STREAMED = Data("streamed", 512, 58, (0.0, 45.0, 90.0, 135.0), 3.0)
GIBIBYTE = 1 << 30

CG = ReconstructOptions(method="cg", iterations=4, refresh=2)
CONSENSUS = ReconstructOptions(method="consensus", subsets=4, inner_iterations=2, iterations=2)
WANG = ReconstructOptions(method="wang2020", subsets=16, inner_iterations=1, iterations=2)
CASES: tuple[tuple[Data, ReconstructOptions], ...] = (
    (DEMO, ReconstructOptions(method="cg")),
    (DEMO, WANG),
    (ONE_AXIS, CG),
    (ONE_AXIS, CONSENSUS),
    (FOUR_AXES, CG),
    (FOUR_AXES, ReconstructOptions(method="sirt", iterations=3)),
    (FOUR_AXES, ReconstructOptions(method="sirt", sirt_form="normalised", iterations=1)),
    (FOUR_AXES, ReconstructOptions(method="admm", iterations=3)),
    (FOUR_AXES, ReconstructOptions(method="admm", prior="smooth", iterations=3)),
    (FOUR_AXES, ReconstructOptions(method="admm", prior="none", total_variation=10.0, iterations=3)),
    (FOUR_AXES, CONSENSUS),
    (FOUR_AXES, replace(CONSENSUS, total_variation=10.0)),
    (FOUR_AXES, replace(CONSENSUS, smoothness=1.0)),
    (FOUR_AXES, WANG),
    (FOUR_AXES, ReconstructOptions(method="direct-combine", iterations=2)),
    (FOUR_AXES, ReconstructOptions(method="wbp")),
    (OFF_GRID, CG),
    (LARGE, CG),
    (LARGE, ReconstructOptions(method="wbp")),
    (LARGE, CONSENSUS),
    (LARGE, WANG),
    (SMALL, replace(CG, edges="weigh")),
    (SMALL, ReconstructOptions(method="sirt", iterations=2, edges="weigh")),
    (SMALL, replace(CONSENSUS, edges="weigh")),
    (SMALL, ReconstructOptions(method="wbp", edges="weigh")),
    (DEFOCUS, replace(CG, ctf="phase-flip", defocus_hand="none")),
    (DEFOCUS, replace(CG, ctf="wiener", defocus_hand="none")),
    (DEFOCUS, replace(CG, ctf="3d", defocus_hand="-1")),
    (DEFOCUS, ReconstructOptions(method="admm", iterations=3, ctf="3d", defocus_hand="-1")),
    (DEFOCUS, replace(CG, ctf="3d", defocus_hand="-1", memory=0.75)),
    (STREAMED, replace(CG, memory=0.9)),
    (STREAMED, replace(CG, memory=0.6)),
    (STREAMED, replace(CG, memory=0.7, edges="weigh")),
    (STREAMED, ReconstructOptions(method="admm", iterations=3, memory=0.7)),
    (
        STREAMED,
        ReconstructOptions(method="admm", prior="none", total_variation=10.0, iterations=3, memory=0.9),
    ),
    (STREAMED, replace(CONSENSUS, total_variation=10.0, memory=0.7)),
    (STREAMED, ReconstructOptions(method="wbp", memory=0.8)),
    (STREAMED, ReconstructOptions(method="sirt", iterations=1, memory=0.6)),
    (STREAMED, ReconstructOptions(method="sirt", iterations=1, memory=0.7, edges="weigh")),
)


def command(*words: object) -> int:
    """Run one command line of ours; the most memory it had that is not mapped from a file, in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "manyviews.cli", *map(str, words)], stdout=subprocess.DEVNULL
    )
    most = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        most = max([most, *(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))])
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{words[:2]} ended with {process.returncode}")
    return most


def told(options: ReconstructOptions) -> dict[str, object]:
    """The method, and what is not left at its default."""
    chosen = {one.name: getattr(options, one.name) for one in fields(options)}
    defaults = {one.name: one.default for one in fields(options)}
    return {name: v for name, v in chosen.items() if name == "method" or v != defaults[name]}


def words_of(options: ReconstructOptions) -> list[object]:
    """The same as a command line."""
    return [word for name, v in told(options).items() for word in (f"--{name.replace('_', '-')}", v)]


def simulated(data: Data, folder: Path) -> SeriesOptions:
    """The stacks of a series, simulated once."""
    out = folder / data.name.replace(" ", "-")
    if not out.exists():
        command(
            "tilt", "simulate", "--out", out, "--size", data.size, "--thickness", data.thickness,
            "--axes", *data.axes, "--tilt-step", data.tilt_step, "--quiet",
            *(() if data.defocus is None else ("--defocus", data.defocus)),
        )  # fmt: skip
    return SeriesOptions(stacks=tuple(sorted(out.glob("axis-*.mrc"))), axis_angle=data.axes)


def measure(data: Data, chosen: ReconstructOptions, folder: Path) -> dict[str, object]:
    """Estimate and run one case."""
    series = simulated(data, folder)
    resolved = resolve_series(series)
    source = ImageSource(resolved)
    options = replace(chosen, thickness=data.thickness)
    settings = resolve_plan(options, source)
    transfer = transfer_costs(settings, resolve_transfer(options, resolved), source)
    stored = sum(path.stat().st_size for path in series.stacks)
    schedule = make_schedule(
        settings,
        source.binned_geometry,
        stored,
        memory_gib=chosen.memory or 1024.0,
        weighed=chosen.edges == "weigh",
        transfer=transfer,
    )
    expected = schedule.estimate
    with tempfile.TemporaryDirectory(dir=folder) as run:
        anonymous = command(
            "tilt", "reconstruct", *series.stacks, "--axis-angle", *data.axes, "--thickness", data.thickness,
            "--out", Path(run) / "run", "--quiet", *words_of(chosen),
        )  # fmt: skip
        summary = json.loads((Path(run) / "run" / "summary.json").read_text())
    # pages of libraries that are mapped count in what is estimated
    streamed = anonymous + _LIBRARIES if schedule.streamed else summary["peak_memory_bytes"]
    measured, seconds = streamed, summary["wall_seconds"]
    return {
        "data": asdict(data),
        "views": len(source.binned_geometry),
        "options": told(chosen),
        "measured_mib": round(measured / 2**20),
        "estimated_mib": round(expected.memory_bytes / 2**20),
        "memory_ratio": round(expected.memory_bytes / measured, 3),
        "measured_seconds": seconds,
        "estimated_seconds": round(expected.wall_seconds, 1),
        "time_ratio": round(expected.wall_seconds / seconds, 2),
        "parts_mib": {name: round(size / 2**20) for name, size in expected.parts.items()},
    }


def main() -> None:
    """Measure all cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the simulated data are kept for another time")
    parser.add_argument(
        "--only", nargs="+", help="series by their names; the other cases are left as they are in the file"
    )
    found = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = found.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        names = found.only or sorted({data.name for data, _ in CASES})
        rows = _stored_without(names) if found.only else []
        for data, chosen in CASES:
            if data.name in names:
                rows.append(measure(data, chosen, folder))
                print({name: rows[-1][name] for name in list(rows[-1])[2:]}, flush=True)
    ratios = [float(str(row["memory_ratio"])) for row in rows]
    result = {
        "memory_ratio_lowest": min(ratios),
        "memory_ratio_highest": max(ratios),
        "cases": rows,
        "load_average_at_the_end": os.getloadavg()[0],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def _stored_without(names: list[str]) -> list[dict[str, object]]:
    """Cases of the file, but for those of series of these names."""
    stored = json.loads(RESULT.read_text())["cases"]
    return [row for row in stored if row["data"]["name"] not in names]


if __name__ == "__main__":
    main()
