"""What a command is: a name, a summary, examples, a parser and the function that runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from manyviews.cli.arguments import CommandParser


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Attributes
    ----------
    name
        As typed, e.g. ``"tilt reconstruct"``.
    summary
        One sentence for the list of commands and the top of the help.
    usage
        What follows the name in the usage line.
    examples
        Two command lines that teach.
    add
        Adds the options to a parser.
    run
        Does the job with what was parsed and returns the exit code.
    parser_class
        What parses the words after the name.
    """

    name: str
    summary: str
    usage: str
    examples: tuple[str, ...]
    add: Callable[[CommandParser], None]
    run: Callable[[argparse.Namespace], int]
    parser_class: type[CommandParser] = CommandParser

    def parser(self) -> CommandParser:
        """The command's parser, with ``--help`` and ``--debug`` as every command has them."""
        parser = self.parser_class(self.name, self.summary, self.usage, self.examples)
        self.add(parser)
        section = parser.section("help")
        section.add_argument("-h", "--help", action="help", help="Show this text.")
        section.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
        return parser
