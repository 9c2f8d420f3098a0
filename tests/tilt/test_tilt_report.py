import base64
import json
import re

import numpy as np
import pytest
from tilt_run_example import write_example, write_tables

from manyviews.report import build
from manyviews.report.data import read_run
from manyviews.report.sections import Finding
from manyviews.report.style import figure_png
from manyviews.report.words import verdict as words_of
from manyviews.tilt.options import METHODS
from manyviews.tilt.report import CITATIONS, ncc_curves, ncc_figure, sections
from page_reader import PageReader

pytestmark = pytest.mark.usefixtures("blank_pictures")

PNG_START = b"\x89PNG\r\n\x1a\n"


def build_report(folder):
    return build.build_report(folder, sections)


def verdict(run):
    return words_of(run, [part.text for part in sections(run) if isinstance(part, Finding)])


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    folder = write_example(tmp_path_factory.mktemp("report") / "run1")
    return folder, build_report(folder)


def test_page_has_everything_and_asks_for_nothing(example):
    folder, page = example
    assert page == folder / "report.html"
    reader = PageReader(page.read_text(encoding="utf-8"))
    assert reader.pictures == 4
    links = [address for address in reader.addresses if not address.startswith("data:image/png;base64,")]
    for address in set(reader.addresses) - set(links):
        assert base64.b64decode(address.partition(",")[2]).startswith(PNG_START)
    assert "figures/slices.png" in links
    assert all((folder / link).is_file() for link in links)
    assert reader.tags.count("script") == 1
    assert "fetch(" not in page.read_text()
    assert "link" not in reader.tags
    assert "url(" not in page.read_text()
    assert "@import" not in page.read_text()
    for words in (
        "run1: tilt reconstruct by consensus",
        "Complete after 20 iterations",
        "164 views",
        "wall",
        "3 min 23 s",
        "3.2 GiB",
        "31.7 Å",
        "Geometry of the 164 views",
        "series3.rawtlt",
        "manyviews tilt reconstruct data/a.mrc",
        "reconstruct.subsets",
        "numpy",
        "sha256:0123",
        "Buzzard",
        "Sridhar",
        "Wang Z",
    ):
        assert words in reader.text, words


def test_pictures_lie_beside_the_page(example):
    folder, _ = example
    names = sorted(path.name for path in (folder / "figures").iterdir())
    assert names == ["convergence.png", "fsc.png", "ncc.png", "slices.png"]
    for path in (folder / "figures").iterdir():
        assert path.read_bytes().startswith(PNG_START)


@pytest.mark.pictures
def test_report_can_be_written_again(example):
    _, page = example
    before = page.read_bytes()
    assert build_report(page.parent).read_bytes() == before


@pytest.mark.pictures
def test_texts_of_users_are_escaped(tmp_path):
    hostile = "<script>alert('1')</script>&\"'"
    folder = write_example(
        tmp_path / "a<b>&c", options={"note": hostile, hostile: 1}, summary={hostile: hostile, "x": [hostile]}
    )
    (folder / "geometry.csv").write_text(f"view,{hostile}\n1,{hostile}\n")
    page = build_report(folder).read_text()
    reader = PageReader(page)
    assert hostile not in page
    assert page.count("<script") == reader.tags.count("script") == 1  # the page's own
    assert hostile in reader.text


def test_partial_runs(tmp_path):
    folder = write_example(tmp_path / "run")
    names = ["summary.json", "geometry.csv", "fsc.csv", "volume.mrc", "ncc.csv", "events.jsonl"]
    for left, name in enumerate(names):
        (folder / name).unlink()
        reader = PageReader(build_report(folder).read_text())
        assert reader.pictures == [4, 4, 3, 2, 1, 0][left]
    assert "Not finished: so far no iteration" in reader.text


def test_verdicts(tmp_path):
    folder = write_example(tmp_path / "run")
    told = verdict(read_run(folder))
    assert "the objective fell to" in told
    assert "correlate at 0.9" in told
    for name in ("volume.mrc", "ncc.csv"):
        (folder / name).unlink()
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(lines[:5]))
    assert verdict(read_run(folder)).startswith("Not finished: so far 5 iterations; the objective fell to")
    stop = json.dumps(
        {"kind": "stop", "iteration": 6, "reason": "diverged", "message": "iteration 6 made NaN"}
    )
    (folder / "events.jsonl").write_text("".join(lines[:5]) + stop + "\n")
    assert verdict(read_run(folder)).startswith("Failed: iteration 6 made NaN")


def test_unreadable_volume_is_noted(tmp_path):
    folder = write_example(tmp_path / "run")
    (folder / "volume.mrc").write_bytes(b"no volume")
    reader = PageReader(build_report(folder).read_text())
    assert "The volume is not shown" in reader.text
    assert reader.pictures == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "ncc.csv",
            "series,axis_degrees,tilt_degrees,ncc\n0,0,0,1\n0,0,x,1\n",
            r"line 3: tilt_degrees is 'x'",
        ),
        ("ncc.csv", "a,b\n1,2\n", "has no column"),
        ("ncc.csv", "series,axis_degrees,tilt_degrees,ncc\nnan,0,0,1\n", "line 2: a number is missing"),
        ("ncc.csv", "series,axis_degrees,tilt_degrees,ncc\n1,0,0,1\n1,0,1e300,1\n", "line 3: a number is"),
        ("ncc.csv", "series,axis_degrees,tilt_degrees,ncc\n0.5,0,0,1\n", "the series are not numbered"),
        ("geometry.csv", '"' + "x" * 200_000, "geometry.csv could not be read: cannot be read"),
        ("summary.json", "[", "summary.json could not be read: Expecting value"),
        ("summary.json", "[]", "summary.json could not be read: it is no table"),
        ("summary.json", "[" * 5000, "summary.json could not be read: nested too deep"),
        ("run.toml", "[", "run.toml could not be read"),
        ("run.toml", "a = " + "[" * 5000, "run.toml could not be read: nested too deep"),
    ],
)
def test_damaged_tables_are_told_and_the_rest_is_shown(tmp_path, name, content, words):
    folder = write_example(tmp_path / "run")
    (folder / name).write_text(content)
    reader = PageReader(build_report(folder).read_text())
    assert re.search(words, reader.text)
    assert reader.pictures >= 3


def test_sixteen_axes_and_missing_values(tmp_path):
    write_example(tmp_path / "run")
    write_tables(tmp_path / "run", axes=tuple(np.arange(16) * 11.25), views=5)
    path = tmp_path / "run" / "ncc.csv"
    path.write_text(re.sub(r",[0-9.]+$", ",", path.read_text(), count=3, flags=re.MULTILINE))
    curves = ncc_curves(path)
    assert len(curves) == 16
    assert np.all(np.diff(curves[0].tilt_degrees) > 0)
    assert np.isnan(curves[0].ncc).sum() == 3
    assert figure_png(ncc_figure(curves)).startswith(PNG_START)


def test_every_method_has_its_paper():
    for method in METHODS:
        assert CITATIONS[method], method
    assert len(CITATIONS["consensus"]) == 3


def test_a_run_whose_results_are_still_being_made_is_not_complete(tmp_path):
    folder = write_example(tmp_path / "run")
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(lines[:-1]))
    assert verdict(read_run(folder)).startswith("Not finished: so far 20 iterations")


def test_warnings_of_the_log_are_shown(tmp_path):
    folder = write_example(tmp_path / "run")
    with open(folder / "log.txt", "a") as log:
        log.write("2026-01-01T00:00:00+00:00 warning: axis 2 has no shifts\n")
    assert "Axis 2 has no shifts." in PageReader(build_report(folder).read_text()).text
