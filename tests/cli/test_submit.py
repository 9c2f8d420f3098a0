"""``manyviews submit``: the script asks for what was asked for, and bash does with it what it should.

Where a script is run, srun, scancel and scontrol are small scripts that write down how they were called.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from manyviews.cli.commands import COMMANDS
from manyviews.cli.main import main
from manyviews.cli.submit import device_of
from manyviews.errors import InputError
from manyviews.parallel import slurm
from manyviews.parallel.slurm import SubmitOptions

BASH = shutil.which("bash")
RECONSTRUCT = ("tilt", "reconstruct", "a.mrc", "--thickness", "200", "--out", "run1")
NASTY = (
    "a b.mrc",
    "it's.mrc",
    '"; touch owned; "',
    "$(touch owned)",
    "`touch owned`",
    "new\n#SBATCH --nodes=9",
)
SECONDS = 20

pytestmark = pytest.mark.skipif(BASH is None, reason="no bash")


def submit(*words: str) -> int:
    """``manyviews submit WORDS``."""
    return main(["submit", *words])


def batch_script(options: SubmitOptions, words: Sequence[str] = ()) -> str:
    """The script of a command line that is checked as ``submit`` checks it."""
    return slurm.batch_script(options, words, partial(device_of, COMMANDS))


def requests(script: str) -> list[str]:
    """What the script asks SLURM for."""
    return [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]


def check_syntax(script: str) -> None:
    done = subprocess.run([str(BASH), "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_asks_for_nothing_more_than_was_asked():
    script = batch_script(SubmitOptions(), RECONSTRUCT)
    check_syntax(script)
    assert requests(script) == [
        "job-name=manyviews",
        "nodes=1",
        "ntasks-per-node=1",
        "cpus-per-task=1",
        "signal=TERM@120",
    ]
    assert "manyviews tilt reconstruct a.mrc --thickness 200 --out run1\n" in script
    for word in ("requeue", "scancel", "sbatch", "scratch", "gpu", "mem="):
        assert word not in script


def test_asks_for_everything_that_was_asked():
    options = SubmitOptions(
        nodes=2,
        threads=8,
        memory=500,
        gpus_per_node=4,
        time="1-12",
        partition="long,short",
        account="abc@gpu",
        job_name="my-job.1",
        mpi="pmix",
        scratch="$TMPDIR/mine",
        resubmit=3,
    )
    script = batch_script(options, ("manyviews", *RECONSTRUCT, "--device", "cuda"))
    check_syntax(script)
    assert requests(script) == [
        "job-name=my-job.1",
        "partition=long,short",
        "account=abc@gpu",
        "time=1-12",
        "nodes=2",
        "ntasks-per-node=4",
        "cpus-per-task=8",
        "mem=500G",
        "gpus-per-node=4",
        "signal=B:USR1@120",
        "requeue",
        "open-mode=append",
    ]
    assert "srun --mpi=pmix " in script
    assert "mpiexec -n 8\n" in script
    assert '--device cuda --scratch "${TMPDIR:?}/mine" &\n' in script


@pytest.mark.parametrize(
    "options",
    [SubmitOptions(), SubmitOptions(resubmit=1), SubmitOptions(gpus_per_node=2, scratch="/scratch/$USER")],
)
def test_line_to_fill_in(options: SubmitOptions):
    script = batch_script(options)
    check_syntax(script)
    assert "manyviews tilt reconstruct STACK --tilt-angles ANGLES --thickness N --out RUN" in script
    assert ("--device cuda" in script) == (options.gpus_per_node is not None)
    assert "yours to fill in" in script


def test_requests_come_before_the_first_command():
    lines = batch_script(SubmitOptions(resubmit=1), RECONSTRUCT).splitlines()
    assert lines[0] == "#!/bin/bash"
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


@pytest.mark.parametrize(
    "text", ["4", "90", "30:00", "01:30:00", "100:00:00", "1-0", "1-12:30", "2-03:04:05", "03:01"]
)
def test_times(text: str):
    assert f"#SBATCH --time={text}\n" in batch_script(SubmitOptions(time=text), RECONSTRUCT)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (SubmitOptions(nodes=0), "--nodes"),
        (SubmitOptions(ranks_per_node=-1), "--ranks-per-node"),
        (SubmitOptions(threads=0), "--threads"),
        (SubmitOptions(memory=0), "--memory"),
        (SubmitOptions(gpus_per_node=0), "--gpus-per-node"),
        (SubmitOptions(gpus_per_node=4, ranks_per_node=2), "--gpus-per-node"),
        (SubmitOptions(gpus_per_node=1), "--gpus-per-node"),  # the command is for the CPU
        (SubmitOptions(resubmit=-1), "--resubmit"),
        *((SubmitOptions(time=time), "--time") for time in ("", "0", "3", "2:59", "1h", "-1", "1:2:3:4")),
        *((SubmitOptions(time=time), "--time") for time in ("10\n#SBATCH --nodes=9", "1-", "٩٩", "1:000")),
        *(
            (SubmitOptions(job_name=name), "--job-name")
            for name in ("", "a b", "a\nb", "$x", "-a", "a;b", "a'b")
        ),
        *((SubmitOptions(partition=name), "--partition") for name in ("a,", "a b", "a\n", "`a`")),
        (SubmitOptions(account="a&b"), "--account"),
        *(
            (SubmitOptions(scratch=name), "--scratch")
            for name in ("", "a b", '"', "$(x)", "$", "-x", "/a\n", "$1")
        ),
    ],
)
def test_bad_options(options: SubmitOptions, where: str):
    with pytest.raises(InputError) as caught:
        batch_script(options, RECONSTRUCT)
    assert caught.value.where == where
    assert caught.value.fix
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--template", "--nodes", "two"], "'two' is not a whole number"),
        (["--template", "--nodes", "1.5"], "'1.5' is not a whole number"),
        (["--template", "--node", "2"], "did you mean --nodes?"),
        (["--template", "--mpi", "pmi"], "did you mean pmi"),
        (["--template", "--"], "there is no command after --"),
        (["--template", "--", "ls"], "there is no command 'ls'"),
        (["--template", "--", "submit"], "there is no command 'submit'"),
        (["--template", "--", "tilt", "reconstruct", "a.mrc", "--thickness", "9"], "missing: --out"),
        (["--template", "--", *RECONSTRUCT, "--thicknes", "9"], "did you mean --thickness?"),
        (["--template", "--scratch", "/s", "--", *RECONSTRUCT, "--scratch=/t"], "it is given twice"),
        (["--template", "--scratch", "/s", "--", "demo"], "unknown option --scratch"),
        (["--template", "--resubmit", "-1"], "--resubmit: -1 is too small"),
        (["--nodes", "2"], "give --template for a batch script"),
    ],
)
def test_bad_words(words: list[str], part: str, capsys: pytest.CaptureFixture[str]):
    assert submit(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err
    assert err.count("\n") == 1


def test_prints(capsys: pytest.CaptureFixture[str]):
    assert submit("--template", "--nodes", "2", "--", *RECONSTRUCT) == 0
    assert capsys.readouterr().out == batch_script(SubmitOptions(nodes=2), RECONSTRUCT)


def test_writes_a_file_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "my job.sh"
    words = ("--template", "--out", str(path))
    assert submit(*words, "--", *RECONSTRUCT) == 0
    assert capsys.readouterr().out == f"submit it with:\n  sbatch '{path}'\n"
    assert path.read_text() == batch_script(SubmitOptions(), RECONSTRUCT)
    assert submit(*words) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == batch_script(SubmitOptions(), RECONSTRUCT)
    assert submit(*words, "--overwrite") == 0
    assert path.read_text() == batch_script(SubmitOptions())


# --- scripts that run ---

RUNS = 'printf "%s\\0" "$@" > words; echo "$OMP_NUM_THREADS $NUMBA_NUM_THREADS" > threads; '
RUNS_UNTIL_TOLD = (
    '[ "$1" = true ] && exit; ' + RUNS + "trap 'kill $!; exit 143' TERM; sleep 60 & echo $$ > srun.pid; wait"
)


class Cluster:
    """A folder with stand-ins for SLURM's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs = folder / "bin"
        self._programs.mkdir()
        self.program("scancel", 'echo "$@" >> scancelled; kill -TERM "$(cat srun.pid)"')
        self.program("scontrol", 'echo "$@" >> controlled')

    def program(self, name: str, body: str) -> None:
        """Put a stand-in into the path."""
        path = self._programs / name
        path.write_text(f"#!{BASH}\n{body}\n")
        path.chmod(0o755)

    def start(self, script: str, **variables: str) -> subprocess.Popen[bytes]:
        """Run a batch script."""
        (self.folder / "job.sh").write_text(script)
        known = {"SLURM_CPUS_PER_TASK": "3", "SLURM_JOB_ID": "77", **variables}
        path = f"{self._programs}:{os.environ['PATH']}"
        with open(self.folder / "output", "wb") as output:
            return subprocess.Popen(
                [str(BASH), "job.sh"],
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": path, **known},
            )

    def end(self, script: str, **variables: str) -> int:
        """Run a batch script to its end; its exit code."""
        return self.start(script, **variables).wait(SECONDS)

    def signal(self, script: str, number: int, **variables: str) -> int:
        """Run a batch script, send it a signal when its command runs, and return its exit code."""
        process = self.start(script, **variables)
        deadline = time.monotonic() + SECONDS
        while not self.read("srun.pid").endswith("\n"):
            assert time.monotonic() < deadline, self.read("output")
            time.sleep(0.01)
        process.send_signal(number)
        return process.wait(SECONDS)

    def read(self, name: str) -> str:
        """A file of the folder, empty where there is none."""
        path = self.folder / name
        return path.read_text() if path.exists() else ""


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """SLURM's commands, of which srun ends well at once."""
    found = Cluster(tmp_path)
    found.program("srun", RUNS)
    return found


@pytest.mark.parametrize("resubmit", [0, 2])
def test_words_reach_the_command_as_they_are(resubmit: int, cluster: Cluster):
    words = (*RECONSTRUCT[:2], *NASTY, *RECONSTRUCT[3:])
    options = SubmitOptions(scratch="$TMPDIR/$WHO-1", resubmit=resubmit)
    script = batch_script(options, words)
    check_syntax(script)
    assert cluster.end(script, TMPDIR="/tmp/with a space", WHO="me") == 0, cluster.read("output")
    assert cluster.read("words").split("\0")[:-1] == [
        "--mpi=pmi2",
        "--cpus-per-task=3",
        "--kill-on-bad-exit=1",
        "manyviews",
        *words,
        "--scratch",
        "/tmp/with a space/me-1",
    ]
    assert cluster.read("threads") == "3 3\n"
    assert cluster.read("output") == ""
    assert not (cluster.folder / "owned").exists()


@pytest.mark.parametrize("resubmit", [0, 2])
def test_a_variable_that_is_not_set_ends_the_job(resubmit: int, cluster: Cluster):
    script = batch_script(SubmitOptions(scratch="$LOCAL_DISK", resubmit=resubmit), RECONSTRUCT)
    assert cluster.end(script) != 0
    assert "LOCAL_DISK" in cluster.read("output")
    assert cluster.read("words") == cluster.read("controlled") == ""


@pytest.mark.parametrize("resubmit", [0, 2])
@pytest.mark.parametrize("code", [0, 2, 137, 143])
def test_exit_code_is_that_of_the_command(resubmit: int, code: int, cluster: Cluster):
    """Also 143: with time left it is a crash, after which srun ended the other ranks."""
    cluster.program("srun", f"exit {code}")
    assert cluster.end(batch_script(SubmitOptions(resubmit=resubmit), RECONSTRUCT)) == code
    assert cluster.read("controlled") == ""


@pytest.mark.parametrize(("restarts", "again"), [("", True), ("1", True), ("2", False), ("9", False)])
def test_goes_back_into_the_queue_when_time_is_up(restarts: str, again: bool, cluster: Cluster):
    cluster.program("srun", RUNS_UNTIL_TOLD)
    variables = {"SLURM_RESTART_COUNT": restarts} if restarts else {}
    script = batch_script(SubmitOptions(resubmit=2), RECONSTRUCT)
    assert cluster.signal(script, signal.SIGUSR1, **variables) == 143
    assert cluster.read("scancelled") == "--signal=TERM 77\n"
    assert cluster.read("controlled") == ("requeue 77\n" if again else "")


def test_each_start_is_a_step_of_another_number(cluster: Cluster):
    cluster.program("srun", 'echo "${@: -1}" >> steps')
    script = batch_script(SubmitOptions(resubmit=5), RECONSTRUCT)
    assert cluster.end(script) == 0
    assert cluster.end(script, SLURM_RESTART_COUNT="2") == 0
    assert cluster.read("steps").split() == ["run1", "true", "true", "run1"]


def test_a_command_that_ends_well_in_the_last_minutes_is_done(cluster: Cluster):
    cluster.program("srun", RUNS_UNTIL_TOLD.replace("exit 143", "exit 0"))
    assert cluster.signal(batch_script(SubmitOptions(resubmit=2), RECONSTRUCT), signal.SIGUSR1) == 0
    assert cluster.read("controlled") == ""


def test_a_cancelled_job_stays_cancelled(cluster: Cluster):
    """Scancel sends SIGTERM to the script as well."""
    cluster.program("srun", RUNS_UNTIL_TOLD)
    script = batch_script(SubmitOptions(resubmit=2), RECONSTRUCT)
    assert cluster.signal(script, signal.SIGTERM) == -signal.SIGTERM
    os.kill(int(cluster.read("srun.pid")), signal.SIGTERM)
    assert cluster.read("scancelled") == cluster.read("controlled") == ""
