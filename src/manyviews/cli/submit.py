"""``manyviews submit``: print a SLURM batch script; submitting it is left to the user."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manyviews.cli.arguments import CommandParser, Layout, add_options, build_options
from manyviews.cli.command import Command
from manyviews.errors import InputError
from manyviews.io.atomic import atomic_write

_SAVING_SECONDS = 120  # between the request to stop and the time limit
_EARLY_SECONDS = 60  # SLURM may ask that much sooner
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+@-]*"
_NAMES = rf"{_NAME}(,{_NAME})*"
_VARIABLE = r"\$([A-Za-z_][A-Za-z0-9_]*)"
_FOLDER = rf"({_VARIABLE}|[A-Za-z0-9._/+@])({_VARIABLE}|[A-Za-z0-9._/+@-])*"
_TIME = r"(?:(\d{1,4})-)?(\d{1,6})(?::(\d{1,2}))?(?::(\d{1,2}))?"
_TO_FILL_IN = ("tilt", "reconstruct", "STACK", "--tilt-angles", "ANGLES", "--thickness", "N", "--out", "RUN")


@dataclass(frozen=True)
class SubmitOptions:
    """What the batch script asks SLURM for.

    Attributes
    ----------
    nodes
        Nodes.
    ranks_per_node
        MPI ranks on each node. Left out: one for each GPU, 1 where no GPUs are asked for.
    threads
        Processor cores of each rank.
    memory
        Memory on each node, GiB.
    gpus_per_node
        GPUs on each node, one for each rank.
    time
        Longest run time as SLURM writes it: MINUTES, HH:MM:SS, DAYS-HH:MM:SS, ...
    partition
        Partition, or several with commas in between.
    account
        Account that pays.
    job_name
        Name of the job in the queue.
    mpi
        How srun introduces the ranks to each other: pmi2 for MPICH and its relatives (the one that pip
        installs is one), pmix for Open MPI.
    scratch
        Folder for the scratch files of the command, best on a disk of the node; a variable of the job such
        as '$TMPDIR' in single quotes.
    resubmit
        How many times the job goes back into the queue when time is up, to go on where it stopped.
    """

    nodes: int = 1
    ranks_per_node: int | None = None
    threads: int = 1
    memory: int | None = None
    gpus_per_node: int | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    job_name: str = "manyviews"
    mpi: Literal["pmi2", "pmix"] = "pmi2"
    scratch: str | None = None
    resubmit: int = 0

    @property
    def node_ranks(self) -> int:
        """Ranks on each node."""
        return self.ranks_per_node or self.gpus_per_node or 1

    @property
    def ranks(self) -> int:
        """Ranks on all nodes."""
        return self.nodes * self.node_ranks


_OPTIONS = Layout(
    section="resources",
    sections=dict.fromkeys(("mpi", "scratch", "resubmit"), "run"),
    metavars={
        "memory": "GIB",
        "time": "TIME",
        "partition": "NAME",
        "account": "NAME",
        "job_name": "NAME",
        "mpi": "TYPE",
        "scratch": "DIR",
    },
)


def batch_script(options: SubmitOptions, words: Sequence[str] = ()) -> str:
    """The batch script.

    Parameters
    ----------
    options
        What to ask for.
    words
        The command line to run, with or without ``manyviews`` in front; empty: a line to be filled in.

    Raises
    ------
    InputError
        If an option cannot be, or the command line is wrong.
    """
    _check_options(options)
    command = _command(options, words)
    return "\n".join(
        [
            "#!/bin/bash",
            *_requests(options),
            *_stop_request(options),
            "",
            "# What this cluster needs first, e.g.: module load mpich; source .venv/bin/activate",
            "",
            'export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"',
            'export NUMBA_NUM_THREADS="$SLURM_CPUS_PER_TASK"',
            "",
            *([] if words else ["# STACK, ANGLES, N and RUN below are yours to fill in."]),
            *(_run_again(options, command) if options.resubmit else _launch(options, command)),
            "",
        ]
    )


# --- the parts of the script ---


def _requests(options: SubmitOptions) -> list[str]:
    memory = None if options.memory is None else f"{options.memory}G"  # SLURM's G is a GiB
    asked = {
        "job-name": options.job_name,
        "partition": options.partition,
        "account": options.account,
        "time": options.time,
        "nodes": options.nodes,
        "ntasks-per-node": options.node_ranks,
        "cpus-per-task": options.threads,
        "mem": memory,
        "gpus-per-node": options.gpus_per_node,
    }
    return [f"#SBATCH --{name}={value}" for name, value in asked.items() if value is not None]


def _stop_request(options: SubmitOptions) -> list[str]:
    """What makes SLURM ask the ranks to stop in time."""
    if not options.resubmit:
        return [
            "# Two minutes before the time limit SLURM asks the ranks to stop; they save and leave.",
            f"#SBATCH --signal=TERM@{_SAVING_SECONDS}",
        ]
    # Were TERM sent to the ranks, the script could not tell the time limit from a crash: where one rank dies,
    # srun sends TERM to the others. Were it sent to the script, it could not tell the limit from scancel.
    return [
        "# Two minutes before the time limit SLURM tells this script, which asks the ranks to stop;",
        "# they save and leave, and the job goes back into the queue.",
        f"#SBATCH --signal=B:USR1@{_SAVING_SECONDS}",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
    ]


def _launch(options: SubmitOptions, command: str) -> list[str]:
    return [
        "# The type must suit the MPI library: pmi2 for MPICH and its relatives, pmix for Open MPI.",
        "# `srun --mpi=list` shows what this cluster has. If it has neither, write instead of srun",
        f"# and its options: mpiexec -n {options.ranks}",
        # without the last option the others would wait for a rank that was killed
        f'srun --mpi={options.mpi} --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \\',
        f"    {command}",
    ]


def _run_again(options: SubmitOptions, command: str) -> list[str]:
    """Run in the background, because bash takes no signals while it waits for a command in the foreground."""
    return [
        "# MPICH names its shared memory after job and step, and a run that was stopped may leave some",
        "# behind. So each start runs as a step of another number.",
        'for _ in $(seq "${SLURM_RESTART_COUNT:-0}"); do srun true; done',
        "",
        "time_is_up=",
        "trap 'time_is_up=yes; scancel --signal=TERM \"$SLURM_JOB_ID\"' USR1",
        *_launch(options, f"{command} &"),
        'wait "$!"',
        "code=$?",
        'if [ -n "$time_is_up" ]; then',
        '    wait "$!"  # the signal ended the first one',
        "    code=$?",
        "    # The same command on the same folder goes on where it stopped.",
        f'    if [ "$code" -ne 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {options.resubmit} ]; then',
        '        scontrol requeue "$SLURM_JOB_ID"',
        "    fi",
        "fi",
        'exit "$code"',
    ]


def _command(options: SubmitOptions, words: Sequence[str]) -> str:
    """The command line in bash's words, checked as if it had been typed."""
    given = list(words[1:] if words and words[0] == "manyviews" else words)
    if not words:
        given = [*_TO_FILL_IN, *(["--device", "cuda"] if options.gpus_per_node else [])]
    else:
        scratch = [] if options.scratch is None else ["--scratch", options.scratch]
        _check_command(options, given, scratch)
    line = shlex.join(["manyviews", *given])
    if options.scratch is None:
        return line
    folder = re.sub(_VARIABLE, r"${\1:?}", options.scratch)  # one that is not set ends the job
    return f'{line} --scratch "{folder}"'


# --- checks ---


def _check_options(options: SubmitOptions) -> None:
    for name in ("nodes", "ranks_per_node", "threads", "memory", "gpus_per_node"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"{value} is too few", where=_flag(name), fix="give a whole number from 1 on")
    if options.resubmit < 0:
        raise InputError(f"{options.resubmit} is too few", where="--resubmit", fix="give zero or more")
    for name, pattern in {"job_name": _NAME, "partition": _NAMES, "account": _NAME}.items():
        value = getattr(options, name)
        if value is not None and not re.fullmatch(pattern, value):
            raise InputError(
                f"{value!r} is no name", where=_flag(name), fix="use letters, digits and . _ - + @ only"
            )
    if options.scratch is not None and not re.fullmatch(_FOLDER, options.scratch):
        raise InputError(
            f"{options.scratch!r} cannot be put into a script",
            where="--scratch",
            fix="use letters, digits, . _ - + @ / and variables such as $TMPDIR only",
        )
    if options.gpus_per_node is not None and options.node_ranks != options.gpus_per_node:
        raise InputError(
            f"{options.node_ranks} ranks cannot have one each of {options.gpus_per_node} GPUs",
            where="--gpus-per-node",
            fix="give as many ranks as GPUs, or leave --ranks-per-node out",
        )
    _check_time(options.time)


def _check_time(time: str | None) -> None:
    if time is None:
        return
    if (seconds := _time_seconds(time)) is None:
        raise InputError(
            f"{time!r} is no time",
            where="--time",
            fix="write minutes, HH:MM:SS or DAYS-HH:MM:SS",
        )
    if seconds <= _SAVING_SECONDS + _EARLY_SECONDS:
        raise InputError(
            f"{time} is too short: the run is asked to stop two or three minutes before it is over",
            where="--time",
            fix="give more than three minutes; a number alone counts minutes",
        )


def _time_seconds(text: str) -> int | None:
    """Seconds of one of SLURM's six ways to write a time, None for anything else."""
    found = re.fullmatch(_TIME, text, re.ASCII)
    if not found:
        return None
    days, first, second, third = (None if part is None else int(part) for part in found.groups())
    if days is None and third is None:  # MINUTES or MINUTES:SECONDS; after days the first number is hours
        return 60 * (first or 0) + (second or 0)
    return 86400 * (days or 0) + 3600 * (first or 0) + 60 * (second or 0) + (third or 0)


def _check_command(options: SubmitOptions, words: Sequence[str], scratch: Sequence[str]) -> None:
    """Find mistakes now, not after a night in the queue."""
    if scratch and any(word.split("=", 1)[0] == "--scratch" for word in words):
        raise InputError("it is given twice", where="--scratch", fix="leave it out of the command")
    found = _parse([*words, *scratch])
    if options.gpus_per_node and getattr(found, "device", "cpu") == "cpu":
        raise InputError(
            "the command does not use GPUs",
            where="--gpus-per-node",
            fix="add --device cuda to the command",
        )


def _parse(words: Sequence[str]) -> argparse.Namespace:
    from manyviews.cli.main import COMMANDS  # which holds this module's, too

    for command in COMMANDS:
        name = command.name.split()
        if list(words[: len(name)]) == name:
            return command.parser().parse(words[len(name) :])
    raise InputError(
        f"there is no command {' '.join(words[:2])!r}", where="after --", fix="see `manyviews --help`"
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


# --- the command line ---


class _Parser(CommandParser):
    """Leaves the words after ``--`` alone."""

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse what is before ``--``; what is after it becomes ``words``."""
        given = list(arguments)
        end = given.index("--") if "--" in given else len(given)
        found = super().parse(given[:end])
        found.words = tuple(given[end + 1 :])
        if end < len(given) and not found.words:
            raise InputError("there is no command after --", fix="put one there, e.g. tilt reconstruct ...")
        return found


def _add_submit(parser: CommandParser) -> None:
    output = parser.section("output")
    output.add_argument(
        "--template",
        action="store_true",
        help="Print a batch script. Nothing is ever submitted from here.",
    )
    output.add_argument("--out", type=Path, metavar="FILE", help="Write it to a file instead.")
    output.add_argument("--overwrite", action="store_true", help="Replace that file.")
    add_options(parser, SubmitOptions, _OPTIONS)


def _submit(arguments: argparse.Namespace) -> int:
    if not arguments.template:
        raise InputError(
            "nothing is submitted from here", fix="give --template for a batch script, and hand it to sbatch"
        )
    script = batch_script(build_options(SubmitOptions, arguments), arguments.words)
    if arguments.out is None:
        print(script, end="")
        return 0
    atomic_write(arguments.out, script.encode("utf-8", "surrogateescape"), overwrite=arguments.overwrite)
    print("submit it with:")
    print(f"  {shlex.join(['sbatch', str(arguments.out)])}")
    return 0


COMMANDS: tuple[Command, ...] = (
    Command(
        name="submit",
        summary="Print a SLURM batch script for a command.",
        usage="--template [options] [-- COMMAND ...]",
        examples=(
            "manyviews submit --template --nodes 2 --ranks-per-node 4 --threads 16 --time 12:00:00 "
            "--out job.sh -- tilt reconstruct a.mrc --thickness 200 --out run1",
            "manyviews submit --template --gpus-per-node 4 --time 1-0 --resubmit 5 --scratch '$TMPDIR'",
        ),
        add=_add_submit,
        run=_submit,
        parser_class=_Parser,
    ),
)
