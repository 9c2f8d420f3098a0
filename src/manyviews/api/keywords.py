"""Keywords of a function to dataclasses of options, with the same checks as on the command line."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from manyviews.errors import InputError, quoted
from manyviews.options import value_kind

Files: TypeAlias = str | PathLike[str] | Iterable[str | PathLike[str]]
F = TypeVar("F", bound=Callable[..., Any])
_MADE = "command"  # of RunOptions: made from the others
_NOT_IN_COMMANDS = (_MADE, "checkpoint_seconds")
_KINDS: dict[Any, tuple[str, tuple[type, ...]]] = {
    Path: ("the path of a file or folder", (str, PathLike)),
    bool: ("True or False", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("a text", (str,)),
}


def shows_options(*kinds: type[Any]) -> Callable[[F], F]:
    """Let ``help`` and completion show the fields of ``kinds`` in place of a function's ``**options``."""

    def decorate(function: F) -> F:
        given = inspect.signature(function)
        own = [one for one in given.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
            )
            for kind in kinds
            for field in fields(kind)
            if field.name not in {*given.parameters, _MADE}
        ]
        function.__signature__ = given.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        return function

    return decorate


def build_options(given: Mapping[str, Any], *kinds: type[Any]) -> tuple[Any, ...]:
    """One instance of each of ``kinds``, dataclasses of options, from keywords named as their fields.

    Texts and numbers do where paths and tuples are wanted: ``stacks="a.mrc"``, ``axis_angle=90``.
    `InputError` if there is no such option, or its value is of the wrong kind.
    """
    homes = {field.name: kind for kind in kinds for field in fields(kind) if field.name != _MADE}
    for name in given:
        if name not in homes:
            raise InputError(f"there is no option {quoted(name)}", fix=_advice(name, homes))
    hints = {kind: get_type_hints(kind) for kind in kinds}
    values = {name: _converted(name, value, hints[homes[name]][name]) for name, value in given.items()}
    return tuple(kind(**{n: value for n, value in values.items() if homes[n] is kind}) for kind in kinds)


def command_line(name: str, positional: str, options: Iterable[Any], given: Iterable[str]) -> tuple[str, ...]:
    """The words of the command ``name`` that does the same, for the record of a run.

    ``positional`` is the field that is given without a flag, ``given`` are the fields of ``options`` that
    were given.
    """
    values = {field.name: getattr(one, field.name) for one in options for field in fields(one)}
    words = ["manyviews", *name.split(), *_words(values.pop(positional))]
    for field in given:
        if field in values and field not in _NOT_IN_COMMANDS and values[field] not in (None, False):
            words += ["--" + field.replace("_", "-"), *_words(values[field])]
    return tuple(words)


def _words(value: Any) -> list[str]:
    if value is True:
        return []
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


def _advice(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), [str(one) for one in known], n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(map(str, known))}"


def _converted(name: str, value: Any, hint: Any) -> Any:
    """The value as the field's type wants it."""
    if value is None and NoneType in get_args(hint):
        return None
    kind, many = value_kind(hint)
    if not many:
        return _converted_one(name, value, kind)
    single = isinstance(value, str | PathLike) or not isinstance(value, Iterable)
    return tuple(_converted_one(name, item, kind) for item in ([value] if single else value))


def _converted_one(name: str, value: Any, kind: Any) -> Any:
    where = f"option {name}"
    if get_origin(kind) is Literal:
        if not isinstance(value, str) or value not in get_args(kind):
            raise InputError(f"there is no {quoted(value)}", where=where, fix=_advice(value, get_args(kind)))
        return value
    wanted, accepted = _KINDS[kind]
    plain = value.item() if getattr(value, "shape", None) == () else value  # a number of NumPy
    fits = isinstance(plain, accepted) and (kind is bool or not isinstance(plain, bool))
    if not fits or (kind is float and not math.isfinite(plain)):
        raise InputError(f"{quoted(value)} is not {wanted}", where=where)
    return kind(plain)
