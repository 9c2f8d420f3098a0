"""The words of a report: names and numbers as people write them, and the verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from manyviews.io.sizes import format_bytes
from manyviews.runs.progress import format_seconds

if TYPE_CHECKING:
    from manyviews.report.data import RunData

_UNITS = {
    "_square_angstrom": " Å²",
    "_angstrom": " Å",
    "_nm": " nm",
    "_degrees": "°",
    "_voxels": " voxels",
    "_pixels": " pixels",
}
_UNITS |= {" (angstrom)": " Å", " (degrees)": "°", " (voxels)": " voxels"}  # as older runs wrote them
_THRESHOLD = re.compile(r"_fsc0(\d+)")
_ABBREVIATION = re.compile(r"\b[bcdfghjklmnpqrstvwxz]{3}\b")  # three letters, none of them a vowel
_SHOWN_ITEMS = 12


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


def summary_entry(name: str, value: Any) -> tuple[str, str]:
    """Name and value of an entry for people: the unit moves from the end of the name to the value."""
    words = _THRESHOLD.sub(r" at FSC 0.\1", name)
    words = re.sub(r"\.(?!\d)", ", ", words)  # not the dot of a number
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
                break
    return _ABBREVIATION.sub(lambda match: match[0].upper(), words.replace("_", " ")), text


def verdict(run: RunData, findings: Sequence[str] = ()) -> str:
    """One sentence: how the run ended, and what its job found."""
    return "; ".join([_ending(run), *findings]) + "."


def _ending(run: RunData) -> str:
    stops, iterations = run.told("stop"), run.told("iteration")
    count = iterations[-1].get("iteration") if iterations else None
    counted = "" if count is None else f" {count} iteration{'' if count == 1 else 's'}"
    after = counted and f" after{counted}"
    last = stops[-1] if stops else {}
    if last.get("reason") == "diverged":
        return f"Failed: {last.get('message') or 'the iteration diverged'}"
    if last.get("reason") == "converged":
        return f"Converged{after}"
    # the last iteration is not the end: results are made of it, and another stage may follow
    return f"Complete{after}" if run.done else f"Not finished: so far{counted or ' no iteration'}"


def in_figures(resolution: float) -> float | str:
    """A resolution for a summary; infinity, which JSON does not know, in a word."""
    return round(resolution, 2) if math.isfinite(resolution) else "none"
