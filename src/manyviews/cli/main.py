"""``manyviews``: find the command, parse, call, and turn whatever goes wrong into one sentence.

Under an MPI launcher every rank comes here. A parallel command is run by all of them, any other by rank 0;
rank 0 alone prints; and whatever goes wrong on any rank ends the whole job with one sentence and its
exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

from manyviews import __version__
from manyviews.cli.command import Command, find_command
from manyviews.cli.commands import COMMANDS
from manyviews.cli.failures import explain
from manyviews.errors import InputError, quoted
from manyviews.parallel import launch

_READER_GONE = 141  # of a job of several processes, which is cut short
_HELP = ("-h", "--help", "help")
# Read by OpenMP and PyTorch when they load. Idle threads that spin starve the others on a shared machine, and
# huge pages save the kernel a third of the time that it spends on handing out memory.
_FOR_LIBRARIES = {"OMP_WAIT_POLICY": "passive", "THP_MEM_ALLOC_ENABLE": "1"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, the words after ``manyviews`` or this process's, and return its exit code."""
    for name, value in _FOR_LIBRARIES.items():
        os.environ.setdefault(name, value)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _printing_on_rank_0_only():
            code = _run([word for word in words if word != "--debug"])
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (head, less) has gone, having read what it wanted.
        _flush_somewhere()
        if launch.is_shared():
            launch.end_job("", _READER_GONE)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return _tell(error, debug="--debug" in words)
    finally:
        _flush_somewhere()


def _flush_somewhere() -> None:
    """Give the interpreter somewhere to flush to where nobody reads any more, or its exit code tells."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def _printing_on_rank_0_only() -> Iterator[None]:
    if launch.launched().rank == 0:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _tell(error: BaseException, *, debug: bool) -> int:
    """One sentence for the error and its exit code; ends the job where there are other ranks."""
    started = launch.launched()
    failure = explain(error)
    text = failure.line(started.rank)
    if debug:
        import traceback

        text = "".join([*traceback.format_exception(error), text])
    if launch.is_shared():
        launch.end_job(text, failure.exit_code, orderly=failure.kind == "interrupted")
    # Before the ranks know of each other they all read the same words, but a library may lack on one machine.
    speaks = started.local_rank == 0 if isinstance(error, launch.LaunchError) else started.rank == 0
    if speaks:
        with contextlib.suppress(OSError):  # a terminal that was closed
            print(text, file=sys.stderr, flush=True)
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
        print(_overview(group, words[0]))
        return 0
    command, rest = _find(words)
    try:
        arguments = command.parser().parse(rest)
    except SystemExit:  # argparse leaves so after --help
        return 0
    return _start(command, arguments)


def _start(command: Command, arguments: argparse.Namespace) -> int:
    """Run a command with the other ranks, if there are any."""
    started = launch.launched()
    if started.size == 1:
        return command.call(arguments)
    if not command.parallel:
        if started.rank > 0:
            return 0
        launch.stay_alone()
        return command.call(arguments)
    launch.start_world()
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _stop)
    code = command.call(arguments)
    launch.leave_together()
    return code


def _stop(number: int, frame: FrameType | None) -> None:
    """A launcher hands SIGTERM and SIGHUP to all ranks; dying of it one by one would hide the exit code."""
    from manyviews.runs.interrupt import Interrupted

    raise Interrupted(number)


def _find(words: list[str]) -> tuple[Command, list[str]]:
    if found := find_command(COMMANDS, words):
        return found
    groups = {command.name.split()[0] for command in COMMANDS if " " in command.name}
    typed = " ".join(words[: 2 if words[0] in groups else 1])
    known = [*(command.name for command in COMMANDS), *sorted(groups)]
    near = difflib.get_close_matches(" ".join(words[:2]), known, n=1, cutoff=0.75)
    near = near or difflib.get_close_matches(typed, known, n=1, cutoff=0.5)
    what = "unknown option" if typed.startswith("-") else "unknown command"
    fix = f"did you mean `manyviews {near[0]}`?" if near else "see `manyviews --help`"
    raise InputError(f"{what} {quoted(typed)}", fix=fix)


def _overview(commands: Sequence[Command], group: str = "") -> str:
    """The list of all commands, or of those of a group."""
    width = max(len(command.name) for command in COMMANDS) + 2
    lines = [f"  {command.name:{width}}{command.summary}" for command in commands]
    if group:
        examples = [f"  {command.examples[0]}" for command in commands]
        usage = f"usage: manyviews {group} COMMAND [options]"
        more = f"  manyviews {group} COMMAND --help   options and examples of a command"
        return "\n".join([usage, "", "commands:", *lines, "", more, "", "examples:", *examples])
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
