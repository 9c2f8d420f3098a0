"""``manyviews submit``: print a SLURM batch script; submitting it is left to the user."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from manyviews.cli.arguments import CommandParser
from manyviews.cli.command import Command, find_command
from manyviews.errors import InputError, quoted
from manyviews.io.atomic import atomic_write
from manyviews.options import option
from manyviews.parallel.slurm import SubmitOptions, batch_script


# fmt: off
@dataclass(frozen=True)
class _ScriptOptions:
    """What becomes of the script; ``words`` are those after ``--``, the command that it runs."""

    template: bool = option(False, section="output",
        help="Print a batch script. Nothing is ever submitted from here.")
    out: Path | None = option(None, section="output", metavar="FILE",
        help="Write it to this file instead of printing it.")
    overwrite: bool = option(False, section="output", help="Replace that file.")
    words: tuple[str, ...] = ()
# fmt: on


class _Parser(CommandParser):
    """Leaves the words after ``--`` alone."""

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse what is before ``--``; what is after it becomes ``words``."""
        given = list(words)
        end = given.index("--") if "--" in given else len(given)
        arguments = super().parse(given[:end])
        arguments.words = tuple(given[end + 1 :])
        if end < len(given) and not arguments.words:
            raise InputError("there is no command after --", fix="put one there, e.g. tilt reconstruct ...")
        return arguments


def device_of(commands: Sequence[Command], words: Sequence[str]) -> str:
    """What a command line computes on; `InputError` if it is wrong."""
    found = find_command(commands, words)
    if found is None:
        raise InputError(
            f"there is no command {quoted(' '.join(words[:2]))}",
            where="after --",
            fix="see `manyviews --help`",
        )
    command, rest = found
    device: str = getattr(command.parser().parse(rest), "device", "cpu")
    return device


def _submit(commands: Sequence[Command], output: _ScriptOptions, options: SubmitOptions) -> int:
    if not output.template:
        raise InputError(
            "nothing is submitted from here", fix="give --template for a batch script, and hand it to sbatch"
        )
    script = batch_script(options, output.words, partial(device_of, commands))
    if output.out is None:
        print(script, end="")
        return 0
    atomic_write(output.out, script.encode("utf-8", "surrogateescape"), overwrite=output.overwrite)
    print("submit it with:")
    print(f"  {shlex.join(['sbatch', str(output.out)])}")
    return 0


def command(commands: Sequence[Command]) -> Command:
    """The command, which can submit those that it is handed."""
    return Command(
        name="submit",
        summary="Print a SLURM batch script for a command.",
        usage="--template [options] [-- COMMAND ...]",
        examples=(
            "manyviews submit --template --nodes 2 --ranks-per-node 4 --threads 16 --time 12:00:00 "
            "--out job.sh -- tilt reconstruct a.mrc --thickness 200 --out run1",
            "manyviews submit --template --gpus-per-node 4 --time 1-0 --resubmit 5 --scratch '$TMPDIR'",
        ),
        options=(_ScriptOptions, SubmitOptions),
        run=partial(_submit, commands),
        parser_class=_Parser,
    )
