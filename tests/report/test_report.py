import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from report_example import example_volume, write_example, write_tables

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.metrics.fsc import FscCurve
from manyviews.report.build import build_report
from manyviews.report.citations import citations
from manyviews.report.data import central_slices, read_run
from manyviews.report.figures import crossing_angstrom, ncc_figure, slices_figure
from manyviews.report.style import figure_png
from manyviews.report.text import flatten, format_value, key_figure, verdict
from manyviews.tilt.options import METHODS

PNG_START = b"\x89PNG\r\n\x1a\n"


class PageReader(HTMLParser):
    """Collects tags, addresses and text, and checks that every tag is closed."""

    void = ("meta", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses, self.texts, self.open = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "data")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    folder = write_example(tmp_path_factory.mktemp("report") / "run1")
    return folder, build_report(folder)


def test_page_has_everything_and_asks_for_nothing(example):
    folder, page = example
    assert page == folder / "report.html"
    reader = PageReader(page.read_text(encoding="utf-8"))
    assert len(reader.addresses) == 4
    for address in reader.addresses:
        assert address.startswith("data:image/png;base64,")
        assert base64.b64decode(address.partition(",")[2]).startswith(PNG_START)
    assert "script" not in reader.tags
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


def test_report_can_be_written_again(example):
    _, page = example
    before = page.read_bytes()
    assert build_report(page.parent).read_bytes() == before


def test_texts_of_users_are_escaped(tmp_path):
    hostile = "<script>alert('1')</script>&\"'"
    folder = write_example(
        tmp_path / "a<b>&c", options={"note": hostile, hostile: 1}, summary={hostile: hostile, "x": [hostile]}
    )
    (folder / "geometry.csv").write_text(f"view,{hostile}\n1,{hostile}\n")
    page = build_report(folder).read_text()
    assert "<script" not in page
    reader = PageReader(page)
    assert "script" not in reader.tags
    assert hostile in reader.text


def test_partial_runs(tmp_path):
    folder = write_example(tmp_path / "run")
    names = ["summary.json", "geometry.csv", "fsc.csv", "volume.mrc", "ncc.csv", "events.jsonl"]
    for left, name in enumerate(names):
        (folder / name).unlink()
        reader = PageReader(build_report(folder).read_text())
        assert len(reader.addresses) == [4, 4, 3, 2, 1, 0][left]
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
    assert len(reader.addresses) == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "ncc.csv",
            "series,axis_degrees,tilt_degrees,ncc\n0,0,0,1\n0,0,x,1\n",
            r"line 3: tilt_degrees is 'x'",
        ),
        ("ncc.csv", "a,b\n1,2\n", "has no column"),
        ("summary.json", "[", "cannot be read"),
        ("summary.json", "[]", "not a JSON object"),
        ("run.toml", "[", "cannot be read"),
    ],
)
def test_damaged_tables_are_told(tmp_path, name, content, words):
    folder = write_example(tmp_path / "run")
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=words):
        build_report(folder)


def test_no_run_folder(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        build_report(tmp_path)


def test_central_slices(tmp_path):
    volume = example_volume((5, 8, 7))
    write_mrc(tmp_path / "v.mrc", volume, 2.5)
    slices = central_slices(tmp_path / "v.mrc")
    np.testing.assert_array_equal(slices.xy, volume[2])
    np.testing.assert_array_equal(slices.xz, volume[:, 4])
    np.testing.assert_array_equal(slices.yz, volume[:, :, 3])
    assert slices.voxel_angstrom == pytest.approx(2.5)


@pytest.mark.parametrize("shape", [(1, 40, 40), (60, 20, 20), (2, 30, 300), (1, 1, 1)])
def test_slices_of_any_shape(tmp_path, shape):
    write_mrc(tmp_path / "v.mrc", np.zeros(shape, np.float32), 1.0)
    assert figure_png(slices_figure(central_slices(tmp_path / "v.mrc"))).startswith(PNG_START)


def test_sixteen_axes_and_missing_values(tmp_path):
    write_example(tmp_path / "run")
    write_tables(tmp_path / "run", axes=tuple(np.arange(16) * 11.25), views=5)
    path = tmp_path / "run" / "ncc.csv"
    path.write_text(re.sub(r",[0-9.]+$", ",", path.read_text(), count=3, flags=re.MULTILINE))
    run = read_run(tmp_path / "run")
    assert len(run.ncc) == 16
    assert np.all(np.diff(run.ncc[0].tilt_degrees) > 0)
    assert np.isnan(run.ncc[0].ncc).sum() == 3
    assert figure_png(ncc_figure(run.ncc)).startswith(PNG_START)


def test_crossings():
    curve = FscCurve(np.array([0.1, 0.2, 0.3]), np.array([1.0, 0.75, 0.25]), np.ones(1), 1.0)
    assert crossing_angstrom(curve, 0.5) == pytest.approx(4.0)
    assert crossing_angstrom(curve, 0.143) is None
    assert crossing_angstrom(FscCurve(np.array([0.1]), np.array([0.2]), np.ones(1), 1.0), 0.5) is None


def test_words():
    assert key_figure("wall_seconds", 75.0) == ("wall", "1 min 15 s")
    assert key_figure("peak_memory_bytes", 3 << 30) == ("peak memory", "3.0 GiB")
    assert key_figure("fsc.resolution_angstrom", 12.3456) == ("fsc, resolution", "12.35 Å")
    assert key_figure("device", "cpu") == ("device", "cpu")
    assert key_figure("x_seconds", None) == ("x seconds", "not known")
    assert format_value([1, 2.0, True, None]) == "1, 2, yes, not known"
    assert format_value(list(range(20))).endswith("11, ... (20 in all)")
    assert list(flatten({"a": {"b": 1}, "c": 2})) == [("a.b", 1), ("c", 2)]


def test_every_method_has_its_paper():
    for method in METHODS:
        assert citations(method), method
    assert len(citations("consensus")) == 3
    assert citations("other") == ()


def test_reading_data_does_not_load_matplotlib():
    code = "import sys, manyviews.report.build; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
