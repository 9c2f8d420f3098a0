"""The page of a run while it runs, seen in Chromium: how old it gets, what it tells of the time left, a kill.

``python benchmarks/live_page.py NAME --out RUN -- particles abinitio PARTICLES.star --diameter 280 ...``

Starts ``manyviews WORDS... --out RUN``, opens ``RUN/report.html`` from the disk as soon as it is there and looks at it
every five seconds, without touching it: seconds since the last sign of life that is shown, and the time left that is
told, of the task and of the run. A second run of the same kind is killed (SIGKILL) after 20 seconds; the page is looked
at until it says so. Writes ``benchmarks/results/live_page_NAME.json`` and ``.md``. Needs Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
LOOK_SECONDS, KILL_SECONDS, PATIENCE_SECONDS = 5.0, 20.0, 120.0
SHARES = (0.2, 0.4, 0.6, 0.8)
Record = dict[str, Any]
STATUS = """() => { const s = document.getElementById('status'); if (!s) return null;
  const left = [...s.querySelectorAll('[data-left]')].map(e => Number(e.dataset.left));
  return {state: s.dataset.state, updated: Number(s.dataset.updated), left: left,
          lost: s.classList.contains('lost'), text: s.innerText}; }"""


def begin(words: list[str], out: Path) -> subprocess.Popen[bytes]:
    """Start the command in a folder of its own."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "manyviews.cli", *words, "--out", str(out), "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def look(page: Any, out: Path) -> Record | None:
    """What the page shows, None before there is one."""
    if page.url == "about:blank":
        if not (out / "report.html").exists():
            return None
        page.goto((out / "report.html").resolve().as_uri())
    try:
        found: Record | None = page.evaluate(STATUS)
    except Exception as error:  # it is just loading itself again
        print(error, file=sys.stderr)
        return None
    return found


def watch(page: Any, words: list[str], out: Path) -> Record:
    """One run to its end."""
    began = time.time()
    process = begin(words, out)
    rows: list[Record] = []
    while process.poll() is None:
        time.sleep(LOOK_SECONDS)
        found, now = look(page, out), time.time()
        if found is not None and found["state"] == "running":
            age = now - found["updated"]
            left = [max(0.0, one - age) for one in found["left"]]
            rows.append(
                {"at": round(now - began, 1), "age": round(age, 1), "left": left, "text": found["text"]}
            )
            print(rows[-1], flush=True)
    return {"seconds": round(time.time() - began, 1), "rows": rows}


def kill(page: Any, words: list[str], out: Path) -> float | None:
    """Seconds from a kill until the page tells it; None if it does not."""
    process = begin(words, out)
    time.sleep(KILL_SECONDS)
    look(page, out)
    process.kill()
    process.wait()
    killed = time.time()
    while time.time() - killed < PATIENCE_SECONDS:
        time.sleep(1)
        found = look(page, out)
        if found is not None and found["lost"]:
            return round(time.time() - killed, 1)
    return None


def page_of(found: Record) -> str:
    """The record as Markdown."""
    whole, rows = found["run"]["seconds"], found["run"]["rows"]
    ages = [row["age"] for row in rows]
    lines = [
        f"# The page while `{found['command']}` runs",
        "",
        f"{found['machine']}. {whole:.0f} s, looked at {len(rows)} times. Last sign of life shown: "
        f"{statistics.median(ages):.1f} s ago in the median, {max(ages):.1f} s at most. A killed run was told as such "
        + ("never." if found["killed"] is None else f"after {found['killed']:.0f} s."),
        "",
        "| after | share of the run | told left | was left | ratio |",
        "| --- | --- | --- | --- | --- |",
    ]
    for share in SHARES:
        row = min(rows, key=lambda one: abs(one["at"] - share * whole))
        left = whole - row["at"]
        told = (
            f"{row['left'][-1]:.0f} s | {left:.0f} s | {row['left'][-1] / left:.2f}"
            if row["left"]
            else "- | - | -"
        )
        lines.append(f"| {row['at']:.0f} s | {row['at'] / whole:.2f} | {told} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, kill, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("words", nargs="+")
    given = parser.parse_args()
    playwright = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        found = {
            "command": " ".join(
                ["manyviews", *(Path(word).name if "/" in word else word for word in given.words)]
            ),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} in the end",
            "run": watch(browser.new_page(), given.words, given.out),
            "killed": kill(browser.new_page(), given.words, given.out),
        }
        browser.close()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"live_page_{given.name}.json").write_text(json.dumps(found, indent=1))
    (RESULTS / f"live_page_{given.name}.md").write_text(page_of(found))


if __name__ == "__main__":
    main()
