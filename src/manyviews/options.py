"""How an option is described and checked, and what every job can be told: where it runs, in which folder.

A job's options are a frozen dataclass whose fields are made by `option`: the one place where an option is
described, with its default, its help and the values it may have. The command line (`manyviews.cli.arguments`)
and the check (`check_options`) are made from it.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from textwrap import fill
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from manyviews.errors import InputError, quoted, shortened

T = TypeVar("T")

# The headings of every help, in this order.
Section = Literal[
    "specimen", "input", "geometry", "poses", "microscope", "noise", "imperfections", "volume", "particle",
    "comparison", "method", "resources", "run", "output", "machine", "help",
]  # fmt: skip
SECTIONS: tuple[Section, ...] = get_args(Section)

SEEDS = 2**63
"""How many seeds there are: the whole numbers that a TOML file holds, so that a run can be recorded."""

_KEY = "option"
_NO_DEFAULT: Any = MISSING
_INDENT: Any = dict.fromkeys(("initial_indent", "subsequent_indent"), " " * 8)


@dataclass(frozen=True)
class Option:
    """What there is to know of an option besides its name, type and default.

    Attributes
    ----------
    section, help
        The heading of the help that it stands under, and whole sentences: what it does, in which unit, and
        what holds where it is left out.
    metavar
        The word for its value in the help; empty: what suits its type.
    positional, required
        Whether it is given without a flag; whether a run must be told, though a mere check may do without it.
    methods
        The values of the field ``method`` that have it; empty: all.
    least, above, below
        The range of a number. ``least`` belongs to it, ``above`` and ``below`` do not.
    """

    section: Section
    help: str
    metavar: str = ""
    positional: bool = False
    required: bool = False
    methods: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if self.section not in SECTIONS:
            raise ValueError(f"there is no help section {quoted(self.section)}")


def option(
    default: T = _NO_DEFAULT,
    *,
    section: Section,
    help: str,
    metavar: str = "",
    positional: bool = False,
    required: bool = False,
    methods: tuple[str, ...] = (),
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> T:
    """A dataclass field that is an option; without a default it must always be given. See `Option`."""
    about = Option(section, help, metavar, positional, required, methods, least, above, below)
    made: T = field(default=default, metadata={_KEY: about})
    return made


def option_of(item: Field[Any]) -> Option | None:
    """What is known of a field; None for one that is no option, such as the command line for the record."""
    about: Option | None = item.metadata.get(_KEY)
    return about


def described(options: type[T]) -> type[T]:
    """Put the help of all options into the docstring of their dataclass, for those who read it in Python."""
    known = [(item.name, about) for item in fields(options) if (about := option_of(item))]  # type: ignore[arg-type]
    texts = "\n".join(f"    {name}\n{fill(about.help, 100, **_INDENT)}" for name, about in known)
    options.__doc__ = f"{(options.__doc__ or '').strip()}\n\n    Attributes\n    ----------\n{texts}\n    "
    return options


def is_number(text: str) -> bool:
    """Whether a word is a number, NaN and infinity included: an option's value, or an entry of a list."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def flag(name: str) -> str:
    """The option of a field as it is typed."""
    return "--" + name.replace("_", "-")


def value_kind(hint: Any) -> tuple[Any, bool]:
    """The type of one value and whether several are taken: ``tuple[Path, ...]`` is ``(Path, True)``."""
    if get_origin(hint) in (UnionType, Union):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False


def check_options(options: Any) -> None:
    """Refuse values out of range, and options that the chosen method lacks, with an `InputError`.

    An option counts as given where it differs from its default.
    """
    hints = get_type_hints(type(options))
    for item in fields(options):
        about, value = option_of(item), getattr(options, item.name)
        if about is None or value is None:
            continue
        kind, many = value_kind(hints[item.name])
        for one in value if many else (value,):
            _check_value(item.name, one, kind, about)
        if about.methods and options.method not in about.methods and _differs(value, item.default):
            raise InputError(
                f"{options.method} has no such option",
                where=flag(item.name),
                fix=f"leave it out, or use --method {' or '.join(about.methods)}",
            )


def foreign_options(kind: Any, method: str) -> set[str]:
    """Names of the options of a dataclass that ``method`` lacks: a record of a run has no place for them."""
    known = ((item.name, option_of(item)) for item in fields(kind))
    return {name for name, about in known if about and about.methods and method not in about.methods}


def _differs(value: Any, default: Any) -> bool:
    """Names such as those of point groups may be written in small letters."""
    if isinstance(value, str) and isinstance(default, str):
        return value.upper() != default.upper()
    return bool(value != default)


def _check_value(name: str, value: Any, kind: Any, about: Option) -> None:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            choices = ", ".join(map(str, get_args(kind)))
            what = f"{quoted(value)} is no {name.replace('_', ' ')}"
            raise InputError(what, where=flag(name), fix=f"choose from {choices}")
        return
    if kind not in (int, float):
        return
    fault = ""
    if isinstance(value, float) and not math.isfinite(value):
        fault = "is not a number"
    elif (about.least is not None and value < about.least) or (
        about.above is not None and value <= about.above
    ):
        fault = "is too small"
    elif about.below is not None and value >= about.below:
        fault = "is too large"
    if fault:
        raise InputError(
            f"{shortened(_shown(value))} {fault}", where=flag(name), fix=f"give {_range(about, kind is int)}"
        )


def _range(about: Option, whole: bool) -> str:
    limits = [
        *([] if about.least is None else [f"from {_shown(about.least)} on"]),
        *([] if about.above is None else [f"above {_shown(about.above)}"]),
        *([] if about.below is None else [f"below {_shown(about.below)}"]),
    ]
    return " ".join(["a whole number" if whole else "a number", " and ".join(limits)]).strip()


def _shown(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """What a job may use of the machine."""

    device: Literal["cpu", "cuda", "auto"] = option("cpu", section="machine", metavar="DEVICE",
        help="Compute on this. cpu; cuda: one NVIDIA GPU for each rank, not yet tried on one; auto: cuda if "
        "there is one.")
    threads: int = option(0, section="machine", least=0,
        help="Compute with this many threads in each rank; 0: the cores, divided among the ranks of a host.")
    memory: float | None = option(None, section="machine", metavar="GIB", above=0,
        help="Use at most this much memory in each rank, in GiB. A job that needs more keeps its volumes or "
        "images in files, which is slow but runs. Left out: what is free, divided among the ranks of "
        "a host.")
    scratch: Path | None = option(None, section="machine", metavar="DIR",
        help="Keep such files in this folder, best on a quick local disk. Left out: the run folder.")


@described
@dataclass(frozen=True)
class RunOptions:
    """Where a job leaves what it finds, and how it tells of it.

    Two fields are no options of the command line: ``checkpoint_seconds`` is the least time between
    checkpoints (0: one an iteration), and ``command`` is the command line, for the record.
    """

    out: Path = option(section="output", metavar="RUN",
        help="Write the results and report.html to this run folder. The same command on the same folder "
        "goes on where an earlier one stopped.")
    overwrite: bool = option(False, section="output", help="Start afresh in a folder that has a run.")
    quiet: bool = option(False, section="output", help="Print the result only, no progress.")
    checkpoint_seconds: float = 30.0
    command: tuple[str, ...] = ()
