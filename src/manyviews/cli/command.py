"""What a command is: a name, a summary, examples, its options and the function that runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from manyviews.cli.arguments import CommandParser, add_options, build_options
from manyviews.options import check_options


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Attributes
    ----------
    name
        As typed, e.g. ``"tilt reconstruct"``.
    summary
        One sentence for the list of commands and the top of the help.
    usage, examples
        What follows the name in the usage line, and two command lines that teach.
    options
        Dataclasses of the options that it takes; see `manyviews.options`.
    run
        Does the job with these dataclasses, in their order, and returns the exit code.
    required
        Whether the options that a run requires must be given; a check may do without.
    parallel
        Whether all ranks of an MPI launcher run it, not the first alone.
    report
        Module with the sections of the job's report; empty where there is none.
    parser_class
        What parses the words after the name.
    """

    name: str
    summary: str
    usage: str
    examples: tuple[str, ...]
    options: tuple[type[Any], ...]
    run: Callable[..., int]
    required: bool = True
    parallel: bool = False
    report: str = ""
    parser_class: type[CommandParser] = CommandParser

    def parser(self) -> CommandParser:
        """The command's parser, with ``--help`` and ``--debug`` as every command has them."""
        parser = self.parser_class(self.name, self.summary, self.usage, self.examples)
        for options in self.options:
            add_options(parser, options, required=self.required)
        section = parser.section("help")
        section.add_argument("-h", "--help", action="help", help="Show this text.")
        section.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
        return parser

    def call(self, arguments: argparse.Namespace) -> int:
        """Run it with what was parsed; `InputError` if an option is out of range, and what the job raises."""
        built = [build_options(options, arguments) for options in self.options]
        for options in built:
            check_options(options)
        return self.run(*built)


def find_command(commands: Sequence[Command], words: Sequence[str]) -> tuple[Command, list[str]] | None:
    """The command that the first words name and the words after its name; None where they name none."""
    for command in commands:
        name = command.name.split()
        if list(words[: len(name)]) == name:
            return command, list(words[len(name) :])
    return None
