"""A job of several ranks ends when one fails: its sentence once and last, its exit code, and nobody left."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

RANKS = Path(__file__).with_name("failing_ranks.py")
LOST_SECONDS = 20  # a job that is still there then would be there for ever


@pytest.mark.parametrize(
    ("way", "code", "said"),
    [
        ("everyone", 2, "manyviews: error: a.mrc: is empty\n"),
        ("first", 2, "manyviews: error: a.mrc: is empty\n"),
        ("one", 2, "manyviews: error: rank 1: a.mrc: is empty\n"),
        ("threads", 2, "manyviews: error: rank 1: a.mrc: is empty\n"),
        (
            "interrupted",
            143,
            "manyviews: interrupted: stopped by SIGTERM after iteration 3; "
            "the same command goes on from there\n",
        ),
        ("one_interrupted", 130, "manyviews: interrupted: rank 1: stopped by the user\n"),
        ("reader_gone", 141, ""),
    ],
)
def test_one_sentence_and_the_exit_code(way: str, code: int, said: str, run_warm_ranks):
    done = run_warm_ranks(3, RANKS, way, seconds=LOST_SECONDS)
    assert (done.returncode, done.stderr, done.stdout) == (code, said, "")


@pytest.mark.parametrize(
    ("way", "code", "said"),
    [
        ("others_hang", 1, "error: rank 1: unexpected ValueError (two lines); run again with --debug"),
        ("memory", 2, "error: rank 1: out of memory"),
    ],
)
def test_the_start_of_the_sentence(way: str, code: int, said: str, run_warm_ranks):
    done = run_warm_ranks(2, RANKS, way, seconds=LOST_SECONDS)
    assert done.returncode == code
    assert done.stderr.startswith(f"manyviews: {said}")
    assert done.stderr.count("\n") == 1


def test_debug_tells_one_traceback(run_warm_ranks):
    done = run_warm_ranks(2, RANKS, "everyone", "--debug", seconds=LOST_SECONDS)
    assert done.returncode == 2
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("\nmanyviews: error: a.mrc: is empty\n")


def test_a_killed_rank_ends_the_job(run_ranks):
    """The launcher says so, Hydra on stdout; nothing of ours is left to speak."""
    done = run_ranks(3, RANKS, "killed", seconds=LOST_SECONDS)
    assert done.returncode != 0
    assert "Killed" in done.stdout + done.stderr


def test_an_uncaught_exception_of_a_script_ends_the_job(run_warm_ranks):
    done = run_warm_ranks(2, RANKS, "script", seconds=LOST_SECONDS)
    assert done.returncode == 2
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("InputError: a.mrc: is empty\n")


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "by the user")]
)
def test_signals_to_the_launcher(number: signal.Signals, code: int, said: str, run_warm_ranks):
    """Ranks that wait for others in a call of the world take the signal too."""
    process = run_warm_ranks.start(3, RANKS, "waits")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    done = run_warm_ranks.end(process, LOST_SECONDS)
    assert done.returncode == code
    assert done.stderr.count("manyviews: ") == 1
    assert "manyviews: interrupted: stopped " in done.stderr
    assert said in done.stderr.splitlines()[-1]


def test_only_rank_0_prints(run_warm_ranks):
    done = run_warm_ranks(3, RANKS, "done", seconds=LOST_SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "printed by 0\n", "")


def test_usage_errors_are_told_once(run_warm_ranks):
    done = run_warm_ranks(3, RANKS, "done", "--thicknes", "9", seconds=LOST_SECONDS)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("manyviews: error: unknown option --thicknes")


@pytest.mark.parametrize("words", [["--version"], ["tilt", "simulate", "--help"], ["report", "--help"]])
def test_help_is_printed_once(words: list[str], run_warm_ranks):
    done = run_warm_ranks(2, "-m", "manyviews.cli", *words, seconds=LOST_SECONDS)
    assert done.returncode == 0
    assert done.stdout.count(done.stdout.splitlines()[0]) == 1


def test_commands_for_one_process_run_on_rank_0(run_warm_ranks, tmp_path: Path):
    done = run_warm_ranks(2, "-m", "manyviews.cli", "report", tmp_path / "absent", seconds=LOST_SECONDS)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "absent" in done.stderr


def test_mpi4py_is_missing(run_ranks, tmp_path: Path):
    (tmp_path / "mpi4py.py").write_text("raise ModuleNotFoundError('no mpi4py')\n")
    done = run_ranks(2, RANKS, "done", seconds=LOST_SECONDS, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'pip install "manyviews[mpi]"' in done.stderr


def test_a_launcher_of_another_mpi(run_warm_ranks):
    """What Open MPI's mpiexec looks like to an mpi4py with MPICH: every process finds itself alone."""
    done = run_warm_ranks(
        1, RANKS, "done", seconds=LOST_SECONDS, OMPI_COMM_WORLD_SIZE="4", OMPI_COMM_WORLD_RANK="0"
    )
    assert done.returncode == 2
    assert "started 4 processes, but mpi4py finds 1" in done.stderr
