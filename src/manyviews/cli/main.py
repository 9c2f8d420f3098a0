"""``manyviews``: find the command, parse, call, and turn whatever goes wrong into one sentence."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence

from manyviews import __version__
from manyviews.cli import general, tilt
from manyviews.cli.command import Command
from manyviews.cli.failures import explain
from manyviews.errors import InputError

COMMANDS: tuple[Command, ...] = (*general.COMMANDS[:2], *tilt.COMMANDS, *general.COMMANDS[2:])
_HELP = ("-h", "--help", "help")
# Read by OpenMP and PyTorch when they load. Idle threads that spin starve the others on a shared machine, and
# huge pages save the kernel a third of the time that it spends on handing out memory.
_FOR_LIBRARIES = {"OMP_WAIT_POLICY": "passive", "THP_MEM_ALLOC_ENABLE": "1"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Parameters
    ----------
    arguments
        The words after ``manyviews``; left out: those of this process.
    """
    for name, value in _FOR_LIBRARIES.items():
        os.environ.setdefault(name, value)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run([word for word in words if word != "--debug"])
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (head, less) has gone; give the interpreter somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in words:
            import traceback

            traceback.print_exception(error)
        failure = explain(error)
        print(f"manyviews: {failure.kind}: {failure.sentence}", file=sys.stderr)
        return failure.exit_code


def _run(words: list[str]) -> int:
    if not words or words[0] in _HELP:
        print(_overview(COMMANDS))
        return 0
    if words[0] == "--version":
        print(f"manyviews {__version__}")
        return 0
    group = [command for command in COMMANDS if command.name.startswith(f"{words[0]} ")]
    if group and (len(words) == 1 or words[1] in _HELP):
        print(_overview(group))
        return 0
    command, rest = _find(words)
    try:
        found = command.parser().parse(rest)
    except SystemExit:  # argparse leaves so after --help
        return 0
    return command.run(found)


def _find(words: list[str]) -> tuple[Command, list[str]]:
    for command in COMMANDS:
        name = command.name.split()
        if words[: len(name)] == name:
            return command, words[len(name) :]
    groups = {command.name.split()[0] for command in COMMANDS if " " in command.name}
    typed = " ".join(words[: 2 if words[0] in groups else 1])
    known = [*(command.name for command in COMMANDS), *sorted(groups)]
    near = difflib.get_close_matches(" ".join(words[:2]), known, n=1, cutoff=0.75)
    near = near or difflib.get_close_matches(typed, known, n=1, cutoff=0.5)
    what = "unknown option" if typed.startswith("-") else "unknown command"
    fix = f"did you mean `manyviews {near[0]}`?" if near else "see `manyviews --help`"
    raise InputError(f"{what} {typed!r}", fix=fix)


def _overview(commands: Sequence[Command]) -> str:
    width = max(len(command.name) for command in COMMANDS) + 2
    lines = [f"  {command.name:{width}}{command.summary}" for command in commands]
    return "\n".join(
        [
            "usage: manyviews COMMAND [options]",
            "",
            "Many views, one volume: 3-D reconstruction from tomographic projections.",
            "",
            "commands:",
            *lines,
            "",
            "  manyviews COMMAND --help   options and examples of a command",
            "  manyviews --version        version",
            "",
            "examples:",
            "  manyviews demo",
            "  manyviews tilt reconstruct a.mrc b.mrc --tilt-angles a.tlt b.tlt --axis-angle 0 90 "
            "--thickness 200 --out run1",
        ]
    )
