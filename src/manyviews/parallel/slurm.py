"""A SLURM batch script for a command; submitting it is left to the user."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from manyviews.errors import InputError, quoted
from manyviews.options import check_options, described, flag, option

_SAVING_SECONDS = 120  # between the request to stop and the time limit
_EARLY_SECONDS = 60  # SLURM may ask that much sooner
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+@-]*"
_NAMES = rf"{_NAME}(,{_NAME})*"
_VARIABLE = r"\$([A-Za-z_][A-Za-z0-9_]*)"
_FOLDER = rf"({_VARIABLE}|[A-Za-z0-9._/+@])({_VARIABLE}|[A-Za-z0-9._/+@-])*"
_TIME = r"(?:(\d{1,4})-)?(\d{1,6})(?::(\d{1,2}))?(?::(\d{1,2}))?"
DeviceOf = Callable[[Sequence[str]], str]
_TO_FILL_IN = ("tilt", "reconstruct", "STACK", "--tilt-angles", "ANGLES", "--thickness", "N", "--out", "RUN")


# fmt: off
@described
@dataclass(frozen=True)
class SubmitOptions:
    """What the batch script asks SLURM for."""

    nodes: int = option(1, section="resources", least=1, help="Ask for this many nodes.")
    ranks_per_node: int | None = option(None, section="resources", least=1,
        help="Start this many MPI ranks on each node. Left out: one for each GPU, 1 where no GPUs are asked "
        "for.")
    threads: int = option(1, section="resources", least=1, help="Give each rank this many processor cores.")
    memory: int | None = option(None, section="resources", metavar="GIB", least=1,
        help="Ask for this much memory on each node, in GiB. Left out: what the cluster gives.")
    gpus_per_node: int | None = option(None, section="resources", least=1,
        help="Ask for this many GPUs on each node, one for each rank. Left out: none.")
    time: str | None = option(None, section="resources", metavar="TIME",
        help="Ask for this run time, as SLURM writes it: MINUTES, HH:MM:SS, DAYS-HH:MM:SS, ... Left out: "
        "what the partition allows.")
    partition: str | None = option(None, section="resources", metavar="NAME",
        help="Run in this partition, or in one of several with commas in between.")
    account: str | None = option(None, section="resources", metavar="NAME", help="Let this account pay.")
    job_name: str = option("manyviews", section="resources", metavar="NAME",
        help="Give the job this name in the queue.")
    mpi: Literal["pmi2", "pmix"] = option("pmi2", section="run", metavar="TYPE",
        help="Let srun introduce the ranks to each other in this way: pmi2 for MPICH and its relatives (the "
        "one that pip installs is one), pmix for Open MPI.")
    scratch: str | None = option(None, section="run", metavar="DIR",
        help="Keep the scratch files of the command in this folder, best on a disk of the node; a variable "
        "of the job such as '$TMPDIR' in single quotes.")
    resubmit: int = option(0, section="run", least=0,
        help="Put the job back into the queue so many times when time is up, to go on where it stopped.")
    # fmt: on

    @property
    def node_ranks(self) -> int:
        """Ranks on each node."""
        return self.ranks_per_node or self.gpus_per_node or 1

    @property
    def ranks(self) -> int:
        """Ranks on all nodes."""
        return self.nodes * self.node_ranks


def batch_script(options: SubmitOptions, words: Sequence[str], device_of: DeviceOf) -> str:
    """The batch script for a command line, with or without ``manyviews``; if empty, to be filled in.

    ``device_of`` reads the words after ``manyviews`` as if they had been typed, and tells what the command
    computes on; raises `InputError` for words that are wrong.

    Raises
    ------
    InputError
        If an option cannot be, or the command line is wrong.
    """
    _check_options(options)
    command = _command(options, words, device_of)
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


def _command(options: SubmitOptions, words: Sequence[str], device_of: DeviceOf) -> str:
    """The command line in bash's words, checked as if it had been typed."""
    given = list(words[1:] if words and words[0] == "manyviews" else words)
    if not words:
        given = [*_TO_FILL_IN, *(["--device", "cuda"] if options.gpus_per_node else [])]
    else:
        scratch = [] if options.scratch is None else ["--scratch", options.scratch]
        _check_command(options, given, scratch, device_of)
    line = shlex.join(["manyviews", *given])
    if options.scratch is None:
        return line
    folder = re.sub(_VARIABLE, r"${\1:?}", options.scratch)  # one that is not set ends the job
    return f'{line} --scratch "{folder}"'


# --- checks ---


def _check_options(options: SubmitOptions) -> None:
    check_options(options)
    for name, pattern in {"job_name": _NAME, "partition": _NAMES, "account": _NAME}.items():
        value = getattr(options, name)
        if value is not None and not re.fullmatch(pattern, value):
            raise InputError(
                f"{quoted(value)} is no name", where=flag(name), fix="use letters, digits and . _ - + @ only"
            )
    if options.scratch is not None and not re.fullmatch(_FOLDER, options.scratch):
        raise InputError(
            f"{quoted(options.scratch)} cannot be put into a script",
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
            f"{quoted(time)} is no time",
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


def _check_command(
    options: SubmitOptions, words: Sequence[str], scratch: Sequence[str], device_of: DeviceOf
) -> None:
    """Find mistakes now, not after a night in the queue."""
    if scratch and any(word.split("=", 1)[0] == "--scratch" for word in words):
        raise InputError("it is given twice", where="--scratch", fix="leave it out of the command")
    if device_of([*words, *scratch]) == "cpu" and options.gpus_per_node:
        raise InputError(
            "the command does not use GPUs",
            where="--gpus-per-node",
            fix="add --device cuda to the command",
        )
