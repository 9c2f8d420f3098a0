"""JSON and TOML that anyone may have changed: refused where nested so deep that walking it would fail."""

from __future__ import annotations

import json
import tomllib
from typing import Any

MOST_LEVELS = 32


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; `ValueError` if it is none, or has more than 32 levels."""
    try:
        return _shallow(json.loads(text))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text; `ValueError` if it is none, or has more than 32 levels."""
    try:
        found: dict[str, Any] = _shallow(tomllib.loads(text))
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return found


def _shallow(value: Any) -> Any:
    """The value; level by level, so that no depth is too much for the check itself."""
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return value
    raise ValueError("nested too deep")
