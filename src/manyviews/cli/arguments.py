"""Turn an options dataclass into command-line options; its docstring is their help."""

from __future__ import annotations

import argparse
import difflib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from manyviews.errors import InputError

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
        self._sections: dict[str, argparse._ArgumentGroup] = {}

    def section(self, title: str) -> argparse._ArgumentGroup:
        """The help section of that title, made on first use."""
        if title not in self._sections:
            self._sections[title] = self.add_argument_group(title)
        return self._sections[title]

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse; only what was given is in the result.

        Raises
        ------
        InputError
            One sentence on what cannot be understood.
        """
        options = list(self._option_string_actions)
        for argument in arguments:
            name = argument.split("=", 1)[0]
            if name.startswith("-") and name not in options and not _is_number(argument):
                raise InputError(f"unknown option {name}", fix=_advice(name, options, self.prog))
        # A leading space keeps argparse from taking numbers such as -1e-3 for options.
        protected = [f" {a}" if a.startswith("-") and _is_number(a) else a for a in arguments]
        found, extra = self.parse_known_args(protected)
        if extra:
            raise InputError(f"cannot place {extra[0]!r}", fix=f"see `{self.prog} --help`")
        return found

    def error(self, message: str) -> NoReturn:
        """Say it in one sentence instead of printing the usage."""
        message = message.removeprefix("argument ").replace(_REQUIRED, "missing: ")
        if ";" in message:  # it says already what to do
            raise InputError(message)
        raise InputError(message, fix=f"see `{self.prog} --help`")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


@dataclass(frozen=True)
class Layout:
    """How the fields of one options dataclass are laid out on the command line.

    Attributes
    ----------
    section
        Help section of the fields that `sections` does not name.
    sections
        Field name to help section.
    metavars
        Field name to the word that stands for its value in the help.
    positional
        The field filled by the arguments without a flag, if any.
    required
        Fields that must be given although the dataclass has a default.
    """

    section: str
    sections: Mapping[str, str] = field(default_factory=dict)
    metavars: Mapping[str, str] = field(default_factory=dict)
    positional: str | None = None
    required: tuple[str, ...] = ()


def add_options(parser: CommandParser, options: type[Any], layout: Layout) -> None:
    """Add every field of a dataclass to the parser as ``--field-name``."""
    hints = get_type_hints(options)
    texts: dict[str, str] = {}
    for documented in reversed(options.__mro__):
        texts |= attribute_texts(documented)
    for item in fields(options):
        section = parser.section(layout.sections.get(item.name, layout.section))
        _add_field(section, item, hints[item.name], texts.get(item.name, ""), layout)


def build_options(options: type[Any], arguments: argparse.Namespace) -> Any:
    """The dataclass from what was parsed; fields not given keep their defaults."""
    given = {item.name: getattr(arguments, item.name) for item in fields(options) if item.name in arguments}
    return options(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})


def attribute_texts(documented: type[Any]) -> dict[str, str]:
    """Field name to help text, from the ``Attributes`` section of a NumPy-style docstring."""
    _, _, section = inspect.cleandoc(vars(documented).get("__doc__") or "").partition(
        "Attributes\n----------\n"
    )
    section = re.split(r"\n\w+\n-+\n", section)[0]
    texts: dict[str, list[str]] = {}
    for line in section.splitlines():
        if line and not line.startswith(" "):
            texts[line.split(":")[0].strip()] = []
        elif line.strip():
            texts[list(texts)[-1]].append(line.strip())
    return {name: " ".join(words).replace("``", "") for name, words in texts.items()}


def _add_field(
    section: argparse._ArgumentGroup, item: Field[Any], hint: Any, text: str, layout: Layout
) -> None:
    kind, many = _kind(hint)
    metavar = layout.metavars.get(item.name, _METAVARS.get(kind, "NAME"))
    required = item.name in layout.required
    help_text = text + _choices_text(kind, text) + ("" if required else _default_text(item))
    help_text = help_text.replace("%", "%%")  # argparse formats it
    if item.name == layout.positional:
        count = "+" if many else None
        section.add_argument(item.name, nargs=count, type=_converter(kind), metavar=metavar, help=text)
        return
    flag = "--" + item.name.replace("_", "-")
    settings: dict[str, Any] = {"dest": item.name, "default": argparse.SUPPRESS, "help": help_text}
    if kind is bool:
        action = argparse.BooleanOptionalAction if item.default is True else "store_true"
        section.add_argument(flag, action=action, **settings)
        return
    settings |= {"type": _converter(kind), "metavar": metavar, "required": required}
    if many:
        settings |= {"nargs": "+", "action": "extend"}
    section.add_argument(flag, **settings)


def _kind(hint: Any) -> tuple[Any, bool]:
    """The type of one value and whether several are taken: ``tuple[Path, ...]`` is ``(Path, True)``."""
    if get_origin(hint) in (UnionType, Union):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False


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
        Path: Path,
        str: str.strip,
    }
    return converters[kind]


def _choice(choices: tuple[Any, ...]) -> Callable[[str], Any]:
    by_name = {str(choice): choice for choice in choices}

    def convert(text: str) -> Any:
        if text in by_name:
            return by_name[text]
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
    if not _is_number(text) or not math.isfinite(float(text)):
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a number{_FILES_FIRST}")
    return float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _advice(name: str, options: Sequence[str], program: str) -> str:
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"see `{program} --help`"
