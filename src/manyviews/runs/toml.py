"""Writing TOML, which the standard library only reads: the values that options can have, nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import tomli_w

TomlValue = str | bool | int | float | PurePath | None | Sequence["TomlValue"] | Mapping[str, "TomlValue"]


def dump_toml(table: Mapping[str, TomlValue]) -> str:
    """TOML text of nested mappings; None is left out, paths become strings, bytes not in UTF-8 become U+FFFD.

    `TypeError` if a value is of another kind.
    """
    return tomli_w.dumps(_plain(table))


def _plain(value: TomlValue) -> Any:
    """The value in the types that the library knows."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, str | PurePath):
        return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, Sequence):
        return [_plain(entry) for entry in value]
    return value
