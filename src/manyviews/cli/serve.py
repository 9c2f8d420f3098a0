"""``manyviews serve`` and ``report``: all runs of a folder, and a run's page written again."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from manyviews.cli.command import Command
from manyviews.errors import InputError, quoted
from manyviews.options import option

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}")


# fmt: off
@dataclass(frozen=True)
class _ServeOptions:
    """What ``serve`` can be told."""

    folder: Path = option(section="input", metavar="FOLDER", positional=True,
        help="Show all runs in this folder and below it.")
    host: str = option("127.0.0.1", section="machine", metavar="ADDRESS",
        help="Listen on this address; all but this machine's own are for the network, unencrypted.")
    port: int = option(0, section="machine", metavar="N", least=0, below=65536,
        help="Listen on this port; 0 takes one that is free.")
    token: str | None = option(None, section="machine", metavar="TEXT",
        help="What a browser has to show, 16 letters or more; a new one each time if left out. "
        "Other users of this machine can read it in the list of processes.")


@dataclass(frozen=True)
class _ReportOptions:
    """What ``report`` can be told."""

    folders: tuple[Path, ...] = option(section="input", metavar="FOLDER", positional=True,
        help="Write the report of the run in this folder; if it is none, an index of all runs below it.")
# fmt: on


def _serve(options: _ServeOptions) -> int:
    from manyviews.serve.server import is_loopback, serve

    if options.token is not None and not _TOKEN.fullmatch(options.token):
        raise InputError("--token has letters, digits, - and _ only, 16 to 200 of them", fix="leave it out")
    if not is_loopback(options.host):
        print("warning: others on the network can read along what a browser asks for", file=sys.stderr)
    serve(options.folder, host=options.host, port=options.port, token=options.token)
    return 0


def _report(options: _ReportOptions, modules: Mapping[str, str]) -> int:
    from manyviews.runs.record import RUN_FILE
    from manyviews.serve.static_index import write_index

    for folder in options.folders:
        is_run = (folder / RUN_FILE).is_file()
        print(_run_report(folder, modules) if is_run else write_index(folder), flush=True)
    return 0


def _run_report(folder: Path, modules: Mapping[str, str]) -> Path:
    from manyviews.report.build import build_report
    from manyviews.report.data import read_run

    run = read_run(folder)
    if run.faults and "job" not in run.record:  # the page says so, and shows what every run has
        return build_report(folder, lambda _: ())
    if run.job not in modules:
        raise InputError(
            f"is a run of {quoted(run.job)}, a job that this version does not know",
            path=folder,
            fix=f"give a run of {' or '.join(modules)}",
        )
    return build_report(folder, import_module(modules[run.job]).sections)


SERVE = Command(
    name="serve",
    summary="Show all runs below a folder in a browser, while they live; compare and stop them.",
    usage="FOLDER [options]",
    examples=("manyviews serve .", "manyviews serve /scratch/runs --port 8765"),
    options=(_ServeOptions,),
    run=_serve,
)


def report_command(commands: Sequence[Command]) -> Command:
    """``manyviews report`` for the runs of the jobs among some commands."""
    modules = {command.name: command.report for command in commands if command.report}
    return Command(
        name="report",
        summary="Write the report of a run again, or an index of all runs below a folder.",
        usage="FOLDER...",
        examples=("manyviews report run1", "manyviews report runs"),
        options=(_ReportOptions,),
        run=lambda options: _report(options, modules),
    )
