"""Turn a dataclass of options, as `manyviews.options` describes them, into a command line."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from manyviews.errors import InputError, quoted
from manyviews.options import SECTIONS, Option, Section, flag, is_number, option_of, value_kind

T = TypeVar("T")

_REQUIRED = "the following arguments are required: "  # argparse's words


class CommandParser(argparse.ArgumentParser):
    """An argument parser that complains in one sentence, naming the nearest option where one was mistyped."""

    def __init__(self, name: str, summary: str, usage: str, examples: Sequence[str]) -> None:
        lines = "\n".join(f"  {example}" for example in examples)
        super().__init__(
            prog=f"manyviews {name}",
            usage=f"manyviews {name} {usage}",
            description=summary,
            epilog=f"examples:\n{lines}",
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self._sections = {title: self.add_argument_group(title) for title in SECTIONS}

    def section(self, title: Section) -> argparse._ArgumentGroup:
        """The help section of that title; one that stays empty is not shown."""
        return self._sections[title]

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse; only what was given is in the result. `InputError` on what cannot be understood."""
        options = list(self._option_string_actions)
        for word in words:
            name = word.split("=", 1)[0]
            if name.startswith("-") and name not in options and not is_number(word):
                raise InputError(f"unknown option {name}", fix=_advice(name, options, self.prog))
        # A leading space keeps argparse from taking numbers such as -1e-3 for options.
        protected = [f" {word}" if word.startswith("-") and is_number(word) else word for word in words]
        arguments, extra = self.parse_known_args(protected)
        if extra:
            raise InputError(f"cannot place {quoted(extra[0])}", fix=f"see `{self.prog} --help`")
        return arguments

    def error(self, message: str) -> NoReturn:
        """Say it in one sentence instead of printing the usage."""
        message = message.removeprefix("argument ").replace(_REQUIRED, "missing: ")
        if ";" in message:  # it says already what to do
            raise InputError(message)
        raise InputError(message, fix=f"see `{self.prog} --help`")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def add_options(parser: CommandParser, options: type[Any], *, required: bool = True) -> None:
    """Add every option of a dataclass to the parser as ``--field-name``; other fields are left alone.

    Unless ``required``, those that a run requires may be left out.
    """
    hints = get_type_hints(options)
    for item in fields(options):
        if about := option_of(item):
            must = about.positional or item.default is MISSING or (about.required and required)
            _add_option(parser.section(about.section), item, about, *value_kind(hints[item.name]), must)


def build_options(options: type[T], arguments: argparse.Namespace) -> T:
    """The dataclass from what was parsed; fields not given keep their defaults."""
    names = [item.name for item in fields(options) if item.name in arguments]  # type: ignore[arg-type]
    given = {name: getattr(arguments, name) for name in names}
    return options(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})


def _add_option(
    section: argparse._ArgumentGroup, item: Field[Any], about: Option, kind: Any, many: bool, must: bool
) -> None:
    metavar = about.metavar or _METAVARS.get(kind, "NAME")
    text = (
        about.help + _choices_text(kind, about.help) + ("" if must or about.required else _default_text(item))
    )
    settings: dict[str, Any] = {"help": text.replace("%", "%%")}  # argparse formats it
    if about.positional:
        count = "+" if many else None
        section.add_argument(item.name, nargs=count, type=_converter(kind), metavar=metavar, **settings)
        return
    settings |= {"dest": item.name, "default": argparse.SUPPRESS}
    if kind is bool:
        action = argparse.BooleanOptionalAction if item.default is True else "store_true"
        section.add_argument(flag(item.name), action=action, **settings)
        return
    settings |= {"type": _converter(kind), "metavar": metavar, "required": must}
    if many:
        settings |= {"nargs": "+", "action": "extend"}
    section.add_argument(flag(item.name), **settings)


def _choices_text(kind: Any, text: str) -> str:
    """The choices, unless the help text names them all."""
    choices = [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []
    return "" if all(choice in text for choice in choices) else f" One of {', '.join(choices)}."


def _default_text(item: Field[Any]) -> str:
    default = item.default
    if default is MISSING or default is None or isinstance(default, bool) or default in ((), ""):
        return ""
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return f" [default: {shown}]"


_METAVARS: dict[Any, str] = {int: "N", float: "X", Path: "FILE", str: "TEXT"}


def _converter(kind: Any) -> Callable[[str], Any]:
    if get_origin(kind) is Literal:
        return _choice(get_args(kind))
    converters: dict[Any, Callable[[str], Any]] = {
        int: _whole_number,
        float: _number,
        Path: _path,
        str: str.strip,
    }
    return converters[kind]


def _path(text: str) -> Path:
    if not text.strip():  # which `Path` takes for the folder one is in
        raise argparse.ArgumentTypeError("the name of the file is empty; is a variable of the shell not set?")
    return Path(text)


def _choice(choices: tuple[Any, ...]) -> Callable[[str], Any]:
    by_name = {str(choice): choice for choice in choices}

    def convert(text: str) -> Any:
        if text.strip() in by_name:  # a blank goes before what is a negative number
            return by_name[text.strip()]
        near = difflib.get_close_matches(text, by_name, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(by_name)}"
        raise argparse.ArgumentTypeError(f"there is no {text.strip()!r}; {hint}")

    return convert


_FILES_FIRST = "; if it is an input file, put it before the options"


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a whole number{_FILES_FIRST}") from None


def _number(text: str) -> float:
    if not is_number(text) or not math.isfinite(float(text)):
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a number{_FILES_FIRST}")
    return float(text)


def _advice(name: str, options: Sequence[str], program: str) -> str:
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"see `{program} --help`"
