"""The words of a report: names and figures as people write them, and the verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from manyviews.io.sizes import format_bytes
from manyviews.report.data import RunData
from manyviews.runs.progress import format_seconds

_UNITS = {"_angstrom": " Å", "_degrees": "°", " (angstrom)": " Å", " (degrees)": "°", " (voxels)": " voxels"}
_SHOWN_ITEMS = 12


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested tables as ``(name, value)``, dots between the parts of a name."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def format_value(value: Any) -> str:
    """A number to four digits, a list with commas, anything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "not known"
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = ", ".join(format_value(item) for item in value[:_SHOWN_ITEMS])
        return shown if len(value) <= _SHOWN_ITEMS else f"{shown}, ... ({len(value)} in all)"
    return "not known" if value is None else str(value)


def key_figure(name: str, value: Any) -> tuple[str, str]:
    """Name and value of a figure for people: the unit moves from the end of the name to the value."""
    words = re.sub(r"\.(?!\d)", ", ", name)  # not the dot of a number
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    text = format_value(value)
    if name.endswith(("_seconds", " seconds")) and math.isfinite(number):
        words = words[: -len("_seconds")]
        text = format_seconds(number) if number >= 10 else f"{number:.2g} s"
    elif name.endswith("_bytes") and math.isfinite(number):
        words, text = words.removesuffix("_bytes"), format_bytes(number)
    else:
        for suffix, unit in _UNITS.items():
            if name.endswith(suffix):
                behind = "" if value is None or isinstance(value, str) else unit
                words, text = words.removesuffix(suffix), text + behind
    return words.replace("_", " "), text


def method_of(run: RunData) -> str:
    """The method among the run's options, empty if there is none."""
    names = dict(flatten(run.record.get("options", {})))
    found = [value for name, value in names.items() if name.rpartition(".")[2] == "method"]
    return str(found[0]) if found else ""


def verdict(run: RunData) -> str:
    """One sentence: whether the run ended well, and how the result fits the data."""
    parts = [_ending(run)]
    if run.convergence is not None and run.convergence.name == "objective":
        parts.append(f"the objective fell to {100 * run.convergence.values[-1]:.3g} % of its start")
    every = np.concatenate([curve.ncc for curve in run.ncc]) if run.ncc else np.empty(0)
    known = every[np.isfinite(every)]
    if len(known):
        parts.append(
            f"views and reprojections correlate at {known.mean():.3f} on average ({len(known)} views)"
        )
    if run.particles is not None:
        parts += [f"{name} {format_value(value)} Å" for name, value in _resolutions(run)]
    return "; ".join(parts) + "."


def _resolutions(run: RunData) -> Iterator[tuple[str, float]]:
    """The summary's resolutions, without the unit in their names."""
    for name, value in run.summary.items():
        if (
            name.startswith("resolution at")
            and name.endswith(" (angstrom)")
            and isinstance(value, int | float)
        ):
            yield name.removesuffix(" (angstrom)"), float(value)


def is_done(run: RunData) -> bool:
    """Whether the run says that it is complete."""
    return any(event.get("kind") == "done" for event in run.events)


def _ending(run: RunData) -> str:
    done = is_done(run)
    stops = [event for event in run.events if event.get("kind") == "stop"]
    iterations = [event for event in run.events if event.get("kind") == "iteration"]
    count = iterations[-1].get("iteration") if iterations else None
    counted = "" if count is None else f" {count} iteration{'' if count == 1 else 's'}"
    after = counted and f" after{counted}"
    if stops and stops[-1].get("reason") == "diverged":
        return f"Failed: {stops[-1].get('message') or 'the iteration diverged'}"
    if stops and stops[-1].get("reason") == "converged":
        return f"Converged{after}"
    # a map of particles may lie there before the end, and poses may be looked for after the last iteration
    if done or (run.particles is None and (stops or run.slices is not None)):
        return f"Complete{after}"
    return f"Not finished: so far{counted or ' no iteration'}"
