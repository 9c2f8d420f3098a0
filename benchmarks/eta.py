"""The time left that runs tell, against what was left: ``python benchmarks/eta.py [--parts NAME ...] [--seeds 1]``.

Starts each job as a user does, on simulated data, and reads ``status.json`` of its folder every half a second: seconds
left of the run as everybody counts them down from there (`manyviews.runs.status.counted_down`), against those that were
left, which are known afterwards; and for how long 0 was told before the end. A seed above 1 is the same job once more.
Data and runs lie in ``$MANYVIEWS_ETA_FOLDER``, or in a folder of the system's.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from manyviews.runs.status import RUNNING, counted_down, read_status
from stored_cases import run_cases

Record = dict[str, Any]
Row = tuple[
    float, float | None, str, float
]  # seconds since the start, seconds told, the task, CPU seconds so far

SHARES = (0.2, 0.4, 0.6, 0.8, 0.9)
PACE_SECONDS = 20.0
LOOK_SECONDS, NOTHING_SECONDS, END_SECONDS = 0.5, 0.5, 1.0
DATA = {
    "tilt": "tilt simulate --size 320 --thickness 64 --noise 0.3",
    "tilt-large": "tilt simulate --size 512 --thickness 96 --noise 0.3",
    "tilt-shifted": "tilt simulate --size 512 --thickness 64 --noise 0.3 --axes 0 90 --drift 0.2",
    "particles": "particles simulate --count 5000 --box 96",
    "particles-many": "particles simulate --count 12000 --box 128",
    "subtomo": "subtomo simulate --box 64 --count 400",
    "subtomo-many": "subtomo simulate --box 80 --count 500",
    "nano": "nano simulate --size 160 --views 320",
    "nano-large": "nano simulate --size 512 --views 720 --deformation none",
}
TILT = "tilt reconstruct {data}/*.mrc --axis-angle 0 45 90 135 --thickness"
JOBS = {
    "tilt reconstruct, cg": ("tilt-large", f"{TILT} 96"),
    "tilt reconstruct, sirt": ("tilt-large", f"{TILT} 96 --method sirt"),
    "tilt reconstruct, consensus": ("tilt", f"{TILT} 64 --method consensus"),
    "tilt reconstruct, admm": ("tilt", f"{TILT} 64 --method admm"),
    "tilt align": ("tilt-shifted", "tilt align {data}/*.mrc --axis-angle 0 90 --thickness 64"),
    "particles abinitio": ("particles", "particles abinitio {data}/particles.star --diameter 200"),
    "particles refine": (
        "particles",
        "particles refine {data}/particles.star --start {data}/truth.mrc --diameter 200",
    ),
    "particles solve": ("particles", "particles solve {data}/particles.star --diameter 200"),
    "particles reconstruct": ("particles-many", "particles reconstruct {data}/truth.star --diameter 200"),
    "particles postprocess": (
        "particles-many",
        "particles postprocess {runs}/particles-reconstruct/half1.mrc {runs}/particles-reconstruct/half2.mrc",
    ),
    "subtomo align": ("subtomo", "subtomo align {data}/particles.star --reference {data}/reference_60A.mrc"),
    "subtomo average": ("subtomo-many", "subtomo average {data}/truth.star"),
    "nano reconstruct": ("nano", "nano reconstruct {data}/scan.h5"),
    "nano reconstruct, oftv": ("nano", "nano reconstruct {data}/scan.h5 --method oftv"),
    "nano reconstruct, fbp": ("nano-large", "nano reconstruct {data}/scan.h5 --method fbp"),
    "nano trust": ("nano", "nano trust {runs}/nano-reconstruct-oftv"),
}


def command(words: str) -> list[str]:
    """A command of this package."""
    return [sys.executable, "-m", "manyviews.cli", *words.split(), "--quiet"]


def data_in(folder: Path, name: str) -> Path:
    """A folder of simulated data, made where it is not there yet."""
    path = folder / name
    if not path.exists():
        subprocess.run([*command(DATA[name]), "--out", str(path)], check=True, stdout=subprocess.DEVNULL)
    return path


def words_of(job: str, folder: Path) -> str:
    """The command line of a job, less its run folder."""
    name, template = JOBS[job]
    data = data_in(folder, name)
    words = template.format(data=data, runs=folder / "runs").split()
    found = [sorted(data.glob("*-*.mrc")) if word.endswith("*.mrc") else [word] for word in words]
    return " ".join(str(word) for some in found for word in some)


def run_folder(job: str, folder: Path) -> Path:
    """Where a job runs."""
    return folder / "runs" / job.replace(", ", "-").replace(" ", "-")


def watched(words: str, out: Path) -> tuple[float, float, list[Row]]:
    """Seconds and seconds of the processor that a command takes, and what it tells meanwhile."""
    shutil.rmtree(out, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.time()
    process = subprocess.Popen([*command(words), "--out", str(out)], stdout=subprocess.DEVNULL)
    rows: list[Row] = []
    while process.poll() is None:
        time.sleep(LOOK_SECONDS)
        now, status = time.time(), read_status(out)
        if status is not None and status.state == RUNNING:
            left = counted_down(status.seconds_left, now - status.updated)
            rows.append((now - began, left, status.task, worked_seconds(process.pid)))
    if process.returncode:
        raise SystemExit(f"{words}: exit {process.returncode}")
    seconds = time.time() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, sum(after[:2]) - sum(before[:2]), rows


def worked_seconds(process: int) -> float:
    """Seconds that all threads of a process had a processor (Linux); 0 once it is gone."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def work_ratio(rows: Sequence[Row], number: int, cpu_seconds: float) -> float | None:
    """Told over true in work: what is told times the share of processors so far, over CPU seconds to come."""
    at, left, _, worked = rows[number]
    before = next(row for row in rows if at - row[0] <= PACE_SECONDS)
    if left is None or at <= before[0] or cpu_seconds <= worked:
        return None
    return round(left * (worked - before[3]) / (at - before[0]) / (cpu_seconds - worked), 2)


def judged(seconds: float, cpu_seconds: float, rows: Sequence[Row]) -> Record:
    """Told over true at some shares of the time; the longest time for which nothing was told to be left."""
    ratios: dict[str, float | None] = {}
    of_work: dict[str, float | None] = {}
    for share in SHARES:
        number = min(range(len(rows)), key=lambda one: abs(rows[one][0] - share * seconds))
        at, left = rows[number][:2]
        there = abs(at - share * seconds) <= 2 * LOOK_SECONDS  # else nothing was told yet
        ratios[f"{share:g}"] = round(left / (seconds - at), 2) if there and left is not None else None
        of_work[f"{share:g}"] = work_ratio(rows, number, cpu_seconds) if there else None
    nothing, longest, since = 0.0, 0.0, None
    for at, left, *_ in rows:
        empty = left is not None and left < NOTHING_SECONDS and seconds - at > END_SECONDS
        since = (at if since is None else since) if empty else None
        nothing = 0.0 if since is None else at - since + LOOK_SECONDS
        longest = max(longest, nothing)
    tasks: dict[str, float] = {}
    ends = [row[0] for row in rows[1:]] + [seconds]
    for (at, _, task, _), end in zip(rows, ends, strict=True):
        tasks[task] = round(tasks.get(task, 0.0) + end - at, 1)
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "first_told": next((round(at, 1) for at, left, *_ in rows if left is not None), None),
        "told_over_true": ratios,
        "told_over_true_in_work": of_work,
        "nothing_left_told_seconds": round(longest, 1),
        "tasks": tasks,
    }


def case(job: str, folder: Path) -> Record:
    """One job."""
    return judged(*watched(words_of(job, folder), run_folder(job, folder)))


def cases(parts: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, Callable[[], Record]]]:
    """All jobs that are asked for, each as often as there are seeds."""
    folder = Path(os.environ.get("MANYVIEWS_ETA_FOLDER") or tempfile.mkdtemp(prefix="eta-"))
    for seed in seeds:
        for job in parts:
            yield job if seed == 1 else f"{job} ({seed})", partial(case, job, folder)


def page(found: Record) -> str:
    """The record as Markdown."""
    heads = " | ".join(f"{100 * share:g} %" for share in SHARES)
    lines = [
        "# The time left that runs tell, over the time that was left",
        "",
        "`python benchmarks/eta.py`: jobs on simulated data, started as a user does "
        f"({found['machine']}, two cores, {found.get('load', 'busy')}). Told as everybody sees it, counted down from the "
        "last `status.json`, at shares of the wall time from the start of the process to its end; in brackets in work: "
        f"what is told times the processors that the run had in the {PACE_SECONDS:g} s before, over the CPU seconds to "
        'come, which other work sways less; "-": nothing was told yet. "0 told": the longest time for which less '
        "than half a second was told although more than one was left.",
        "",
        f"| job | wall s | CPU s | told first, s | {heads} | 0 told, s |",
        f"| --- | --- | --- | --- | {' | '.join(['---'] * len(SHARES))} | --- |",
    ]
    for name, one in found["cases"].items():
        work = one["told_over_true_in_work"]
        shown = " | ".join(
            "-"
            if value is None
            else f"{value:.2f}" + ("" if work[share] is None else f" ({work[share]:.2f})")
            for share, value in one["told_over_true"].items()
        )
        lines.append(
            f"| {name} | {one['seconds']:.0f} | {one['cpu_seconds']:.0f} | "
            f"{'-' if one['first_told'] is None else one['first_told']} | {shown} | "
            f"{one['nothing_left_told_seconds']:g} |"
        )
    told = [value for one in found["cases"].values() for value in one["told_over_true"].values()]
    work = [value for one in found["cases"].values() for value in one["told_over_true_in_work"].values()]
    lines += [
        "",
        f"Within a factor of 1.5: {within(told)} of {len(told)}, in work {within(work)}; {told.count(None)} not told.",
    ]
    return "\n".join(lines) + "\n"


def within(ratios: Sequence[float | None]) -> int:
    """How many are within a factor of 1.5 of one."""
    return sum(value is not None and 1 / 1.5 <= value <= 1.5 for value in ratios)


if __name__ == "__main__":
    run_cases("eta", __doc__ or "", list(JOBS), cases, page)
