"""Writing TOML, which the standard library only reads: the values that options can have, nothing more."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

TomlValue = str | bool | int | float | PurePath | None | Sequence["TomlValue"] | Mapping[str, "TomlValue"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def dump_toml(table: Mapping[str, TomlValue]) -> str:
    """TOML text of nested mappings; None is left out, paths become strings, bytes not in UTF-8 become U+FFFD.

    Raises
    ------
    TypeError
        If a value is of another kind.
    """
    return "\n".join(_table_lines(table, ())) + "\n"


def _table_lines(table: Mapping[str, TomlValue], path: tuple[str, ...]) -> list[str]:
    lines = [f"[{'.'.join(map(_key, path))}]"] if path else []
    nested = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            nested.append((key, value))
        elif value is not None:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in nested:
        lines += ["", *_table_lines(value, (*path, key))]
    return lines


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    # a JSON string is a TOML string but for the one control character that JSON leaves as it is
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007F")


def _float(number: float) -> str:
    if math.isnan(number):
        return "nan"
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    return repr(float(number))


def _value(value: TomlValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str | PurePath):
        return _string(str(value))
    if isinstance(value, Sequence):
        return f"[{', '.join(_value(item) for item in value)}]"
    raise TypeError(f"a {type(value).__name__} cannot be written to TOML")
