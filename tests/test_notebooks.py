"""The notebooks of docs/notebooks: every cell runs, its values can be shown, none is kept with outputs."""

from __future__ import annotations

import ast
import code
import json
import sys

import matplotlib as mpl
import pytest

FOLDER = "docs/notebooks"
NAMES = ("particles", "subtomograms", "tilt")


def read(repository, name):
    return json.loads((repository / FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


class Kernel(code.InteractiveInterpreter):
    """Runs cells one after the other, as Jupyter does; errors are raised, values shown as it shows them."""

    def __init__(self):
        super().__init__({"__name__": "__main__"})
        self.shown = []

    def showtraceback(self):
        raise sys.exc_info()[1]

    def show(self, value):
        if value is not None:
            rich = getattr(value, "_repr_html_", None)
            self.shown.append(repr(value) if rich is None else rich())

    def run(self, source, name):
        for statement in ast.parse(source, name).body:
            self.runcode(compile(ast.Interactive([statement]), name, "single"))


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    """In an empty folder; figures are made, but shown to nobody."""
    from matplotlib import pyplot

    made = Kernel()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "displayhook", made.show)
    with mpl.rc_context({"backend": "agg"}):
        yield made
    pyplot.close("all")


def run_notebook(repository, kernel, name):
    for number, cell in enumerate(read(repository, name)["cells"], 1):
        if cell["cell_type"] == "code":
            kernel.run("".join(cell["source"]), f"{name}.ipynb, cell {number}")
    return kernel.locals


def test_all_notebooks_are_known(repository):
    assert sorted(path.stem for path in (repository / FOLDER).iterdir()) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs(repository, name):
    book = read(repository, name)
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert set(book["metadata"]) == {"kernelspec", "language_info"}
    cells = book["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert cell["metadata"] == {}
        assert max(map(len, cell["source"])) <= 121
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
        else:
            assert cell["cell_type"] == "markdown"


@pytest.mark.usefixtures("blank_pictures")
def test_tilt(repository, kernel):
    found = run_notebook(repository, kernel, "tilt")
    assert found["correlation"](found["one_axis"]) > 0.8
    assert found["correlation"](found["two_axes"]) > found["correlation"](found["one_axis"])
    assert found["run"].finished
    assert any("<b>tilt reconstruct</b>: finished" in shown for shown in kernel.shown)
    assert "TiltSeries(42 images of 64 x 64 pixels of 8 A)" in kernel.shown


@pytest.mark.usefixtures("blank_pictures")
def test_particles(repository, kernel):
    found = run_notebook(repository, kernel, "particles")
    assert found["maps"].alignment.correlation > 0.8
    assert found["poses"].angles.shape == (120, 3)
    assert sum("finished" in shown for shown in kernel.shown) == 2


@pytest.mark.usefixtures("blank_pictures")
def test_subtomograms(repository, kernel):
    found = run_notebook(repository, kernel, "subtomograms")
    assert found["correlation"] > 0.8
    assert found["poses"].half.tolist().count(1) == 8
    assert any("<b>subtomo align</b>: finished" in shown for shown in kernel.shown)
