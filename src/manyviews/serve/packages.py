"""The packages that only the server needs."""

from __future__ import annotations

from importlib.util import find_spec

from manyviews.errors import InputError


def require(*names: str) -> None:
    """`InputError` that tells how to get them if one of these packages is missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            fix="run `pip install 'manyviews[serve]'`",
        )
