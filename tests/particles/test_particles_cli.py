import subprocess
import sys

import pytest

from manyviews.cli.main import main
from manyviews.metrics.fsc import FscCurve
from manyviews.particles.em import plan as em_plan

COMMANDS = ("simulate", "check", "abinitio", "postprocess", "compare")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """60 simulated particles, made by the command itself."""
    folder = tmp_path_factory.mktemp("cli") / "data"
    words = ["--box", "24", "--pixel-size", "8", "--count", "60", "--snr", "1", "--shift-sigma", "1"]
    assert main(["particles", "simulate", "--out", str(folder), "--quiet", *words]) == 0
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_there_with_examples_and_loads_nothing(command):
    code = (
        "import sys\nfrom manyviews.cli.main import main\n"
        f"main(['particles', '{command}', '--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'torch', 'scipy', 'matplotlib')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"usage: manyviews particles {command}" in done.stdout
    assert done.stdout.count("\n  manyviews particles") >= 1
    assert "[default: None]" not in done.stdout


def test_the_group_lists_its_commands(capsys):
    assert main(["particles"]) == 0
    text = capsys.readouterr().out
    assert all(f"particles {command}" in text for command in COMMANDS)


def test_check_takes_the_options_of_a_run(data, capsys):
    words = ["--symmetry", "C2", "--diameter", "150", "--starts", "2", "--threads", "1", "--all-images"]
    assert main(["particles", "check", str(data / "particles.star"), *words]) == 0
    text = capsys.readouterr().out
    assert "particle of 150 A" in text
    assert "C2" in text
    assert "2 random starts" in text


@pytest.mark.usefixtures("blank_pictures")
def test_from_simulation_to_comparison(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(em_plan, "_START_ITERATIONS", 8)  # enough to see all the parts work together
    run = tmp_path / "run"
    words = ["--starts", "1", "--refinements", "2", "--shift-sigma", "1", "--threads", "1", "--quiet"]
    truth = str(data / "truth.mrc")
    table = str(data / "particles.star")
    assert main(["particles", "abinitio", table, "--out", str(run), "--reference", truth, *words]) == 0
    assert str(run / "report.html") in capsys.readouterr().out
    assert {"surface.png", "directions.png", "spread.png", "resolution.png"} <= {
        path.name for path in (run / "figures").iterdir()
    }
    out = tmp_path / "compared"
    assert main(["particles", "compare", str(run / "volume.mrc"), truth, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "resolution at FSC 0.5" in text
    assert str(out / "aligned.mrc") in text
    assert FscCurve.read_csv(out / "fsc.csv") is not None
    poses = [str(run / "particles.star"), str(data / "truth.star")]
    # written by the run with names relative to the data, so the stacks need not be found
    assert main(["particles", "compare", *poses]) == 0
    assert "particles:           60" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["check", "nowhere.star"], "nowhere.star"),
        (["check", "{data}/particles.star", "--diameter", "9999"], "does not go with a box"),
        (["check", "{data}/particles.star", "--metod", "sagd"], "did you mean --method?"),
        (["check", "{data}/particles.star", "--symmetry", "Q"], "Q"),
        (["compare", "{data}/truth.mrc", "{data}/truth.star"], "a map and a table"),
        (["compare", "{data}/truth.star", "{data}/truth.star", "--out", "x"], "are for maps"),
        (["compare", "{data}/truth.mrc"], "missing: "),
        (["compare", "{data}/truth.mrc", "{data}/simulate.toml"], "simulate.toml"),
        (["simulate", "--out", "{data}"], "data"),
    ],
)
def test_bad_input_gives_one_sentence_and_exit_code_2(data, capsys, words, sentence):
    assert main(["particles", *(word.format(data=data) for word in words)]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert said.count("\n") == 0
    assert "Traceback" not in said
