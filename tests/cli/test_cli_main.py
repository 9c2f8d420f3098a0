"""The command line from the words typed to the exit code."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from manyviews import __version__
from manyviews.cli import main as main_module
from manyviews.cli.commands import COMMANDS
from manyviews.cli.main import main
from manyviews.errors import DivergedError, InputError
from manyviews.options import RunOptions
from manyviews.parallel import launch
from manyviews.runs.interrupt import Interrupted
from manyviews.tilt.options import METHODS

HEAVY = {"numpy", "torch", "numba", "scipy", "matplotlib", "mrcfile", "rich", "gemmi", "triton"}
RECONSTRUCT = ["tilt", "reconstruct", "a.mrc"]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make ``manyviews doctor`` raise."""

    def fail_with(error: BaseException) -> None:
        def run(options: object) -> int:
            raise error

        commands = tuple(replace(c, run=run) if c.name == "doctor" else c for c in COMMANDS)
        monkeypatch.setattr(main_module, "COMMANDS", commands)

    return fail_with


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([*RECONSTRUCT, "--out", "r", "--thicknes", "9"], ["unknown option --thicknes", "--thickness?"]),
        ([*RECONSTRUCT, "--thickness", "9"], ["missing: --out"]),
        (["tilt", "reconstruct", "--out", "r", "--thickness", "9"], ["missing: STACK"]),
        ([*RECONSTRUCT, "--out", "r", "--thickness", "9.5"], ["'9.5' is not a whole number"]),
        ([*RECONSTRUCT, "--out", "r", "--thickness", "9", "--mann", "x"], ["'x' is not a number"]),
        ([*RECONSTRUCT, "--out", "r", "--thickness", "9", "--method", "sirtt"], ["'sirtt'", "mean sirt?"]),
        ([*RECONSTRUCT, "--out", "r", "--thickness", "9", "--method", "?"], ["choose from", *METHODS]),
        (["tilt", "reconstuct"], ["'tilt reconstuct'", "did you mean `manyviews tilt reconstruct`?"]),
        (["reconstruct", "a.mrc"], ["'reconstruct'", "did you mean `manyviews tilt reconstruct`?"]),
        (["docter"], ["'docter'", "did you mean `manyviews doctor`?"]),
        (["qqq"], ["unknown command 'qqq'", "manyviews --help"]),
        (["--verbose"], ["unknown option '--verbose'"]),
        (["serve", "a", "b"], ["cannot place 'b'"]),
        (["compare", "a.mrc"], ["missing: VOLUME"]),
    ],
)
def test_usage_errors(words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("manyviews: error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (InputError("is empty", path="a.mrc", fix="give another"), 2, "error: a.mrc: is empty; give another"),
        (DivergedError("the volume is constant"), 1, "error: the volume is constant"),
        (Interrupted(15, iteration=3), 143, "interrupted: stopped by SIGTERM after iteration 3"),
        (KeyboardInterrupt(), 130, "interrupted: "),
        (MemoryError(), 2, "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), 2, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "run/x"), 2, "run/x: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "run"), 2, "run: Permission denied"),
        (ValueError("two\nlines"), 1, "unexpected ValueError (two lines); run again with --debug"),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    part: str,
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
):
    failing(error)
    assert main(["doctor"]) == code
    err = capsys.readouterr().err
    assert part in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_traceback(
    words: list[str], failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
):
    failing(InputError("is empty"))
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.rstrip().endswith("manyviews: error: is empty")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["tilt"], ["tilt", "--help"]])
def test_overviews(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(words) == 0
    assert "tilt reconstruct" in capsys.readouterr().out


@pytest.mark.parametrize("group", ["tilt", "particles"])
@pytest.mark.parametrize("help_word", [[], ["--help"], ["-h"]])
def test_a_group_has_a_page_of_its_own(group, help_word, capsys: pytest.CaptureFixture[str]):
    assert main([group, *help_word]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: manyviews {group} COMMAND")
    for command in COMMANDS:
        assert (f"  {command.name} " in text) == command.name.startswith(f"{group} ")
    assert text.split("examples:")[1].count("manyviews ") == text.count(f"\n  {group} ")


def test_folders_are_called_so_in_the_help(capsys: pytest.CaptureFixture[str]):
    """An option that wants a folder says DIR."""
    for words in (["tilt", "reconstruct"], ["particles", "abinitio"], ["particles", "check"]):
        assert main([*words, "--help"]) == 0
        text = capsys.readouterr().out
        for option in ("--scratch", "--data-root"):
            if option in text:
                assert f"{option} DIR" in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help_with_two_examples(command, capsys: pytest.CaptureFixture[str]):
    assert main([*command.name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: manyviews {command.name}")
    assert text.split("examples:")[1].count("manyviews ") >= 2
    for example in command.examples:
        assert example.startswith(f"manyviews {command.name}")


@pytest.mark.parametrize(
    "words",
    [example.split()[1:] for command in COMMANDS for example in command.examples],
    ids=" ".join,
)
def test_examples_parse(words: list[str]):
    command, rest = main_module._find(words)
    command.parser().parse(rest)


def test_which_commands_are_for_all_ranks_and_which_have_a_report():
    parallel = {command.name for command in COMMANDS if command.parallel}
    reports = {command.name: command.report for command in COMMANDS if command.report}
    assert parallel == {"tilt reconstruct", "particles abinitio", "particles refine", "particles solve",
                        "subtomo align", "subtomo average", "nano reconstruct", "nano trust"}  # fmt: skip
    assert reports == {
        "tilt align": "manyviews.tilt.align.report",
        "tilt reconstruct": "manyviews.tilt.report",
        "particles abinitio": "manyviews.particles.report",
        "particles reconstruct": "manyviews.particles.report",
        "particles refine": "manyviews.particles.refine.report",
        "particles solve": "manyviews.particles.solve_report",
        "particles postprocess": "manyviews.particles.postprocess_report",
        "particles condition": "manyviews.particles.fixed_poses.condition_report",
        "subtomo align": "manyviews.subtomo.report",
        "subtomo average": "manyviews.subtomo.report",
        "nano reconstruct": "manyviews.nano.report",
        "nano trust": "manyviews.nano.report",
    }


def test_what_is_out_of_range_is_refused_before_the_job_is_loaded(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "manyviews.tilt.check", None)
    assert main(["tilt", "check", "a.mrc", "--ranks", "0"]) == 2
    assert "--ranks: 0 is too small; give a whole number from 1 on" in capsys.readouterr().err
    assert (
        main(["particles", "abinitio", "a.star", "--out", "r", "--refinements", "3", "--method", "sagd"]) == 2
    )
    assert "--refinements: sagd has no such option" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"manyviews {__version__}\n"


@pytest.mark.parametrize(
    "words", [["--help"], ["tilt", "reconstruct", "--help"], ["tilt", "reconstruct", "-x"]]
)
def test_help_imports_nothing_heavy(words: list[str]):
    """Measured: 0.06 s; what keeps it so is that these are not imported."""
    script = (
        "import sys; from manyviews.cli.main import main; main(sys.argv[1:]);"
        "print('MODULES', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("MODULES")[1].split())
    assert not loaded & HEAVY


@pytest.fixture
def launched_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Make this process one of three that a launcher started on two machines."""

    def become(rank: int, local_rank: int) -> None:
        monkeypatch.setattr(launch, "_world", None)
        for name, value in (("PMI_RANK", rank), ("PMI_SIZE", 3), ("MPI_LOCALRANKID", local_rank)):
            monkeypatch.setenv(name, str(value))

    return become


@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_tells_what_all_ranks_read(rank: int, launched_as, capsys: pytest.CaptureFixture[str]):
    launched_as(rank, rank)
    assert main(["docter"]) == 2
    assert main(["--version"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == err.count("\n") == (rank == 0)


@pytest.mark.parametrize(("rank", "local_rank"), [(0, 0), (1, 1), (2, 0)])
def test_each_machine_tells_what_it_lacks(
    rank: int, local_rank: int, launched_as, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    launched_as(rank, local_rank)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert main([*RECONSTRUCT, "--out", "r", "--thickness", "9"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == (local_rank == 0)
    if rank == 2:
        assert err.startswith("manyviews: error: rank 2: an MPI launcher started this process, but mpi4py ")
        assert 'pip install "manyviews[mpi]"' in err


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_0_alone_runs_what_is_not_shared(rank: int, launched_as, failing, capsys):
    launched_as(rank, rank)
    failing(InputError("it ran"))
    assert main(["doctor"]) == (2 if rank == 0 else 0)
    assert capsys.readouterr().err == ("manyviews: error: it ran\n" if rank == 0 else "")


def test_a_closed_pipe_is_silent():
    script = "import sys; from manyviews.cli.main import main; sys.exit(main(['--help']))"
    with subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep(0.2); {script}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


def fake_module(monkeypatch: pytest.MonkeyPatch, name: str, **contents: object) -> None:
    module = ModuleType(name)
    module.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, module)


def test_reconstruct_passes_everything_on(monkeypatch, tmp_path, capsys):
    calls = []

    def reconstruct(series, options, run, world):
        calls.append((series, options, run, world))
        return SimpleNamespace(summary={"mean_ncc": 0.98765, "method": "cg"}, report=run.out / "report.html")

    fake_module(monkeypatch, "manyviews.tilt.reconstruct", reconstruct=reconstruct)
    monkeypatch.setattr(sys, "argv", ["manyviews", "typed"])
    words = ["a.mrc", "b.mrc", "--axis-angle", "-12.7", "77.3", "--thickness", "9", "--bin", "2", "--quiet"]
    assert main(["tilt", "reconstruct", *words, "--out", str(tmp_path)]) == 0
    ((series, options, run, world),) = calls
    assert [path.name for path in series.stacks] == ["a.mrc", "b.mrc"]
    assert series.axis_angle == (-12.7, 77.3)
    assert (options.thickness, options.bin, options.method) == (9, 2, "cg")
    assert world.size == 1
    assert run == RunOptions(tmp_path, overwrite=False, quiet=True, command=("manyviews", "typed"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["mean", "NCC", "0.9877"]
    assert lines[-1] == str(tmp_path / "report.html")


def test_simulate_writes_and_tells_how_to_go_on(tmp_path, capsys):
    words = ["--axes", "-30", "--size", "24", "--thickness", "20", "--tilt-step", "60", "--quiet"]
    assert main(["tilt", "simulate", *words, "--out", str(tmp_path / "data")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(Path(line).is_file() for line in out.splitlines()[:2])
    said = out.splitlines()[-1].split()
    command, rest = main_module._find(said[1:])
    assert command.parser().parse(rest).axis_angle == [-30.0]


def test_compare_writes_the_curve(tmp_path, capsys):
    words = ["--axes", "0", "--size", "24", "--thickness", "20", "--tilt-step", "60", "--quiet"]
    assert main(["tilt", "simulate", *words, "--out", str(tmp_path / "data")]) == 0
    capsys.readouterr()
    truth = str(tmp_path / "data" / "truth.mrc")
    assert main(["compare", truth, truth, "--out", str(tmp_path / "fsc")]) == 0
    out = capsys.readouterr().out
    assert "NCC: 1.0000" in out
    assert all(Path(line).is_file() for line in out.splitlines()[-2:])


def test_bad_input_is_one_sentence_from_the_entry_point(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "manyviews.cli", "compare", str(tmp_path / "a.mrc"), str(tmp_path / "b.mrc")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("manyviews: error: ")
    assert done.stderr.count("\n") == 1
    assert "a.mrc" in done.stderr


def test_check_prints_the_lines(monkeypatch, capsys):
    fake_module(
        monkeypatch,
        "manyviews.tilt.check",
        check=lambda *options: SimpleNamespace(lines=lambda: ["one", "two"]),
    )
    assert main(["tilt", "check", "a.mrc"]) == 0
    assert capsys.readouterr().out == "one\ntwo\n"


@pytest.mark.parametrize("job", ["tilt reconstruct", "particles abinitio"])
def test_report_is_that_of_the_job_in_the_record(tmp_path, capsys, job):
    (tmp_path / "run.toml").write_text(f'job = "{job}"\n')
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert job in (tmp_path / "report.html").read_text()


def test_report_refuses_a_job_that_it_does_not_know(tmp_path, capsys):
    (tmp_path / "run.toml").write_text('job = "sheep count"\n')
    assert main(["report", str(tmp_path)]) == 2
    assert "is a run of 'sheep count', a job that this version does not know" in capsys.readouterr().err
