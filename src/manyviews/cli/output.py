"""How a job is run from the command line, and how its result is printed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyviews.errors import InputError
from manyviews.options import RunOptions, option


# fmt: off
@dataclass(frozen=True)
class FolderOptions:
    """Where simulated data go."""

    out: Path = option(section="output", metavar="DIR",
        help="Write the simulated data and the truth to this new folder, which appears when it is complete.")
    quiet: bool = option(False, section="output", help="Print the result only, no progress.")
# fmt: on


def run_job(job: Callable[..., Any], *options: Any, run: RunOptions) -> int:
    """Run a job in its run folder, with the other ranks if there are any, and print what it found."""
    from manyviews.parallel.launch import start_world

    world = start_world()
    result = job(*options, replace(run, command=command_line()), world=world)
    if world.rank == 0:
        print_result(result.summary, result.report)
    return 0


def require_room(folder: Path | None, names: Sequence[str], *, overwrite: bool) -> None:
    """Refuse, before anything is computed, a ``folder`` with a file of ``names``, or that is no folder."""
    from manyviews.io.atomic import require_absent

    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise InputError("is no folder", path=folder, fix="choose another name")
    require_absent(*(folder / name for name in names), overwrite=overwrite)


def command_line() -> tuple[str, ...]:
    """The words of this process, for the record."""
    return ("manyviews", *sys.argv[1:])


@contextlib.contextmanager
def simulation_progress(
    *, quiet: bool, doing: str = "simulating"
) -> Iterator[Callable[[str, int, int], None]]:
    """What a job calls with the name of a file, how much of it is done and how much there is."""
    from manyviews.runs.progress import Progress

    begun: set[str] = set()
    with Progress(quiet=quiet) as progress:

        def tell(name: str, done: int, total: int) -> None:
            if name not in begun:
                begun.add(name)
                progress.start(f"{doing} {name}", total)
            progress.update(done)

        yield tell


def print_result(summary: Mapping[str, object], report: Path) -> None:
    """Print the key figures, one a line, and the path of the report last; warnings were told before."""
    from manyviews.report.words import summary_entry

    shown = [summary_entry(name, value) for name, value in summary.items() if name != "warnings"]
    width = max((len(name) for name, _ in shown), default=0)
    for name, figure in shown:
        print(f"{name:{width}}  {figure}")
    print(report)
