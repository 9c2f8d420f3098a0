"""All commands, in the order in which ``manyviews --help`` shows them.

A new command is a `Command` in the list of its group, e.g. ``tilt.COMMANDS``, made of the dataclasses of its
options and a function that is handed them.
"""

from __future__ import annotations

from manyviews.cli import general, nano, particles, serve, submit, subtomo, subtomo_compare, tilt
from manyviews.cli.command import Command

_JOBS: tuple[Command, ...] = (
    general.DEMO,
    general.DOCTOR,
    *tilt.COMMANDS,
    *particles.COMMANDS,
    *subtomo.COMMANDS,
    subtomo_compare.COMPARE,
    *nano.COMMANDS,
)
_RESULTS: tuple[Command, ...] = (general.COMPARE, general.CONVERT, serve.report_command(_JOBS))
COMMANDS: tuple[Command, ...] = (
    *_JOBS,
    submit.command((*_JOBS, *_RESULTS)),
    *_RESULTS,
    serve.SERVE,
)
