"""``run.toml``: what was asked for, and whether an old folder holds the same run."""

from __future__ import annotations

import contextlib
import os
import platform
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from manyviews import __version__
from manyviews.errors import InputError, quoted, shortened
from manyviews.io.nested import parse_toml
from manyviews.runs.toml import TomlValue, dump_toml

RUN_FILE = "run.toml"
_ROOM = 200  # letters
_LIBRARIES = ("numpy", "torch", "numba", "scipy")


def make_record(
    job: str,
    options: Mapping[str, TomlValue],
    inputs: Mapping[str, str],
    command: Sequence[str],
    seed: int | None,
    ranks: int,
    results: Sequence[str] = (),
) -> dict[str, TomlValue]:
    """The record of a run that starts now; the arguments are those of `RunFolder.open`."""
    return {
        "job": job,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "working_directory": os.getcwd(),
        "options": options,
        "inputs": inputs,
        "results": list(results),
        "seeds": {"main": seed},
        "versions": _versions(),
        "host": {"cpus": os.cpu_count(), "ranks": ranks, "system": platform.platform()},
    }


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in a run folder, None if there is none; `InputError` if it is no record."""
    file = path / RUN_FILE
    if not file.exists():
        return None
    try:
        record = parse_toml(file.read_text(encoding="utf-8"))
        tables = [record[name] for name in ("options", "inputs", "versions")]
        if not isinstance(record["job"], str) or not all(isinstance(table, dict) for table in tables):
            raise ValueError("an entry of the wrong kind")
    except (ValueError, KeyError, OSError) as error:
        raise InputError(
            f"is not the record of a run ({shortened(error)})",
            path=file,
            fix="choose another --out or give --overwrite",
        ) from error
    return record


def refuse_other_run(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse two records, both as read back, of different runs: an `InputError` names what differs."""
    fix = "choose another --out or give --overwrite"
    if "results" not in old:
        raise InputError("holds a run of an older version of manyviews", path=path, fix=fix)
    if old["job"] != new["job"]:
        raise InputError(
            f"holds a run of another job ({quoted(old['job'])}, now {quoted(new['job'])})", path=path, fix=fix
        )
    differences = _differences(old["options"], new["options"])
    if [one.partition(" ")[0] for one in differences] == ["iterations"]:
        fix = "its length is fixed when it begins: choose another --out, or begin again with --overwrite"
    if differences:
        raise InputError(f"holds a run with other options: {_first_of(differences)}", path=path, fix=fix)
    changed = [
        name
        for name in sorted(old["inputs"].keys() | new["inputs"].keys())
        if old["inputs"].get(name) != new["inputs"].get(name)
    ]
    if changed:
        raise InputError(
            f"holds a run with other input files: {_first_of(changed)} changed since it started",
            path=path,
            fix=fix,
        )
    if old.get("seeds") != new.get("seeds"):
        raise InputError("holds a run with another seed", path=path, fix=fix)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What is worth a line in the log, though it is no reason to refuse."""
    notes = [
        f"warning: version of {difference}: the result may differ in the last digits"
        for difference in _differences(old["versions"], new["versions"])
    ]
    host = old.get("host")
    before, now = host.get("ranks") if isinstance(host, dict) else None, new["host"]["ranks"]
    if before not in (None, now):
        notes.append(f"ranks: started with {before}, goes on with {now}: the last digits may differ")
    return notes


def _versions() -> dict[str, TomlValue]:
    found: dict[str, TomlValue] = {"manyviews": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def round_trip(table: Mapping[str, TomlValue]) -> dict[str, Any]:
    """A table as it reads back from a file, so that new and old ones can be compared."""
    return tomllib.loads(dump_toml(table))


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The entries of nested tables by name, dots between the parts of a name."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``name was OLD, now NEW`` for every entry that differs."""
    before, after = flatten(old), flatten(new)
    names = sorted(
        name for name in before.keys() | after.keys() if repr(before.get(name)) != repr(after.get(name))
    )

    def shown(table: Mapping[str, Any], name: str) -> str:
        return quoted(table[name]) if name in table else "not given"

    return [f"{shortened(name)} was {shown(before, name)}, now {shown(after, name)}" for name in names]


def _first_of(texts: Sequence[str]) -> str:
    """As many as a sentence has room for, at least one."""
    kept = 1
    while kept < len(texts) and len(", ".join(texts[: kept + 1])) <= _ROOM:
        kept += 1
    more = len(texts) - kept
    shown = ", ".join(texts[:kept])
    return f"{shown} and {more} more" if more else shown
