"""Damaged files of every format that anything reads: ``python benchmarks/fuzz.py [--count 2000] [--only mdoc]``.

Each of the formats in ``tests/fuzzing/formats.py`` gets ``--count`` files with flipped bits, lost or doubled lines,
impossible numbers, deep nesting, long words and letters that are none. Each is read in this process, with at most 5 s
of processor time and 1 GiB of memory beyond what was taken before. Anything but our own one-sentence refusal, in at
most 400 letters, is a failure; the first file of each kind of failure is kept in ``--keep``. Writes
``benchmarks/results/fuzz.json``; formats that are left out by ``--only`` keep their counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RESULT = REPOSITORY / "benchmarks" / "results" / "fuzz.json"
sys.path.insert(0, str(REPOSITORY / "tests"))

from fuzzing.formats import FORMATS, Format  # noqa: E402
from fuzzing.harness import MEMORY_BYTES, SECONDS, Tally, fuzz  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="files of each format")
    parser.add_argument(
        "--draws", type=int, default=20, help="of these with pictures, where a report has any"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="formats whose names hold one of these words")
    parser.add_argument("--keep", type=Path, help="folder for files that failed, and where they did")
    arguments = parser.parse_args()
    before = json.loads(RESULT.read_text())["formats"] if RESULT.exists() else {}
    found: dict[str, object] = {}
    for format in FORMATS:
        if arguments.only and not any(word in format.name for word in arguments.only):
            found[format.name] = before.get(format.name)
            continue
        with tempfile.TemporaryDirectory() as folder:
            tally = fuzz(format, Path(folder), arguments.count, draws=arguments.draws, seed=arguments.seed)
        found[format.name] = counts(format, tally, arguments.draws)
        print(format.name, json.dumps(found[format.name]), flush=True)
        if arguments.keep is not None:
            keep(arguments.keep, format, tally)
        write(arguments.seed, {**before, **{name: one for name, one in found.items() if one}})


def counts(format: Format, tally: Tally, draws: int) -> dict[str, object]:
    return {
        "files": tally.files,
        "read": tally.read,
        "refused": tally.refused,
        "failures": dict(tally.failures),
        "worst_processor_seconds": round(tally.worst_seconds, 3),
        "longest_sentence_letters": tally.longest_sentence,
        **({"of_these_drawn": draws} if format.draws else {}),
    }


def keep(folder: Path, format: Format, tally: Tally) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (data, where) in tally.examples.items():
        name = re.sub(r"\W+", "-", f"{format.name} {kind}")
        (folder / name).write_bytes(data)
        (folder / f"{name}.txt").write_text(where)


def write(seed: int, formats: dict[str, object]) -> None:
    record = {
        "limits": {"processor_seconds": SECONDS, "memory_bytes": MEMORY_BYTES},
        "seed": seed,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("numpy", "gemmi", "matplotlib")},
        },
        "formats": formats,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
