"""How the result of a job is printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def print_result(summary: Mapping[str, object], report: Path) -> None:
    """Print the key figures, one a line, and the path of the report last."""
    width = max((len(name) for name in summary), default=0)
    for name, value in summary.items():
        figure = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"{name.replace('_', ' '):{width}}  {figure}")
    print(report)
