"""The page of a run over a scan: every picture from its own files, none where they are missing."""

from __future__ import annotations

import html
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from nano_run_example import ITERATIONS, VIEWS, write_nano_run

from manyviews.metrics.fsc import FscCurve
from manyviews.nano import report_figures, report_motion
from manyviews.nano.report import CITATIONS, PICTURES, sections
from manyviews.nano.report_figures import flow_colours, half_bit_figure, half_bit_resolution_nm
from manyviews.nano.results import write_pitch
from manyviews.report import build
from manyviews.report.data import read_run
from manyviews.report.sections import Citation, Finding, Note, Picture, Section, Table
from manyviews.report.style import figure_png
from manyviews.report.words import summary_entry

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return write_nano_run(tmp_path_factory.mktemp("nano") / "run1")


@pytest.fixture
def folder(example, tmp_path):
    return shutil.copytree(example, tmp_path / "run1")


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are left empty: that they are asked for is all that counts."""
    for module in (report_figures, report_motion):
        for name in vars(module):
            if name.endswith("_figure"):
                monkeypatch.setattr(module, name, lambda *given: Figure())


def parts(folder):
    return list(sections(read_run(folder)))


def pictures(folder):
    bodies = [part.body for part in parts(folder) if isinstance(part, Section)]
    return {body.name: body.figure for body in bodies if isinstance(body, Picture)}


def text_of(folder):
    page = build.build_report(folder, sections)
    return html.unescape(re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8")))


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_every_picture_is_drawn_from_its_file(example):
    found = pictures(example)
    assert tuple(found) == PICTURES
    titles = [axes.get_title() for axes in found["views"].axes]
    assert titles[:4] == ["measured", "aligned", "projected", "flow"]
    assert found["views"].axes[0].get_ylabel() == "view 1, 0°"
    assert len(found["slices"].axes) == 6
    curve = found["iterations"].axes[0].lines[0]
    np.testing.assert_allclose(curve.get_ydata(), [one.misfit for one in ITERATIONS], rtol=1e-6)
    # the levels compare in pixels of the scan
    assert found["iterations"].axes[2].lines[0].get_ydata()[0] == pytest.approx(2 * 1.1)
    residuals = found["residuals"].axes
    assert legend(residuals[0]) == ["not aligned", "aligned", "do not fit: 2"]
    np.testing.assert_array_equal(residuals[0].lines[2].get_xdata(), [8, 9])
    told = legend(found["resolution"].axes[0])
    assert told[0].startswith("halves, shifted as a whole: half bit at")
    assert told[1].startswith("halves, slice by slice: half bit at")
    assert told[3:] == ["half bit", "one bit"]
    rigid, slices = (float(re.search(r"at ([\d.]+) nm", text)[1]) for text in told[:2])
    assert slices < rigid
    np.testing.assert_allclose(found["gauge"].axes[1].lines[0].get_ydata()[-1], 1.0)
    put_in, left = (line.get_ydata() for line in found["trust"].axes[0].lines)
    np.testing.assert_allclose(put_in, 4 * left, rtol=1e-6)
    first, *_, last = found["displacement"].axes
    # parts move by less w: to the right in the first view, all alike; across the yz plane in the last
    arrows = first.collections[0]
    np.testing.assert_allclose(arrows.U, 3, atol=1e-5)
    np.testing.assert_allclose(arrows.V, 0, atol=1e-5)
    np.testing.assert_allclose(last.collections[0].U, 0, atol=1e-6)
    assert first.get_ylabel() == "view 1, up to 3 px"


def test_the_page_names_bad_views_the_axis_and_the_papers(example):
    found = parts(example)
    assert [part.text for part in found if isinstance(part, Finding)] == ["resolution half bit 61.5 nm"]
    (told,) = [part.text for part in found if isinstance(part, Note)]
    assert told.startswith(f"3 of {VIEWS} views")
    table, moves = [part.body for part in found if isinstance(part, Section) and isinstance(part.body, Table)]
    assert [(row["misfit / data"], row["method"]) for row in moves.rows] == [
        ("0.0600", "oftv"), ("0.1200", "spacetv"), ("0.0500", ""),
    ]  # fmt: skip
    assert [(row["view"], row["why"]) for row in table.rows] == [
        ("8", "does not fit"), ("9", "does not fit"), ("16", "jump"),
    ]  # fmt: skip
    (axis,) = [part.body for part in found if isinstance(part, Section) and part.title == "Rotation axis"]
    assert axis.startswith("Column 15.25 of the projections that were used, by opposite views; 31 of")
    papers = [part.paper for part in found if isinstance(part, Citation)]
    assert set(CITATIONS["oftv"]) < set(papers)
    text = text_of(example)
    assert "resolution half bit 61.5 nm" in text
    assert "Not shown" not in text


def test_the_page_says_that_views_are_pitched(folder, undrawn):
    write_pitch(folder / "pitch.csv", np.array([0.0, 90.0]), np.array([-0.5, 2.25]))
    told = [part.text for part in parts(folder) if isinstance(part, Note) and "pitched" in part.text]
    assert len(told) == 1
    assert "by -0.5 to 2.2 degrees" in told[0]


@pytest.mark.pictures
def test_pictures_are_drawn(example):
    for name, figure in pictures(example).items():
        assert len(figure_png(figure)) > 5000, name


@pytest.mark.parametrize(
    ("files", "lost"),
    [
        (["volume.mrc"], {"slices", "displacement"}),
        (["motion.npy"], {"displacement"}),
        (["motion.csv"], {"displacement"}),
        (["examples.npy"], {"views"}),
        (["examples.csv"], {"views"}),
        (["iterations.csv"], {"iterations"}),
        (["views.csv"], {"residuals"}),
        (["fsc.csv", "fsc_slices.csv", "fsc_reference.csv"], {"resolution"}),
        (["gauge.csv"], {"gauge"}),
        (["trust.csv"], {"trust"}),
        (["volume_before.mrc", "shifts.csv", "center.toml", "fsc_slices.csv"], set()),
    ],
)
def test_what_is_not_there_is_left_out(folder, undrawn, files, lost):
    for name in files:
        (folder / name).unlink()
    assert set(PICTURES) - set(pictures(folder)) == lost
    assert not [part for part in parts(folder) if isinstance(part, Note) and "Not shown" in part.text]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("examples.npy", b"\x93NUMPY no array"),
        ("examples.npy", b""),
        ("examples.csv", b"view,theta_degrees\n1,nan\n"),
        ("iterations.csv", b"level,iteration\n1,1\n"),
        ("views.csv", b"view,theta_degrees\n1,many\n"),
        ("shifts.csv", b"view\n1\n"),
        ("pitch.csv", b"view,theta_degrees,pitch_degrees\n1,0,75\n"),
        ("gauge.csv", b"slice,cosine,sine,vertical,dilation\n1,inf,0,0,0\n"),
        ("trust.csv", b"view,theta_degrees,injected_rms_pixels,left_rms_pixels\n1,0,,1\n"),
        ("center.toml", b"center = 'left'\n"),
        ("center.toml", b"center = nan\ncenter_unbinned = 1.0\nby = 'x'\n"),
        ("motion.npy", b"\x93NUMPY no array"),
        ("motion.csv", b"view,theta_degrees\n1,0\n"),
        ("choice.toml", b"method = 'oftv'\n"),
        ("volume_before.mrc", b"short"),
        ("fsc.csv", b"frequency_per_angstrom,fsc\n0,7\n"),
    ],
)
def test_damaged_files_are_told_of_in_their_place(folder, undrawn, file, content):
    (folder / file).write_bytes(content)
    told = [part.text for part in parts(folder) if isinstance(part, Note) and "Not shown" in part.text]
    assert len(told) == 1
    assert file in told[0]


def test_directions_have_the_colours_of_the_wheel():
    right, left, up, still = (np.array(v, float).reshape(2, 1, 1) for v in ((2, 0), (-2, 0), (0, 2), (0, 0)))
    np.testing.assert_allclose(flow_colours(right, 2.0)[0, 0], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(flow_colours(left, 2.0)[0, 0], [0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(flow_colours(up, 2.0)[0, 0], [0.5, 1, 0], atol=1e-6)
    np.testing.assert_allclose(flow_colours(still, 2.0)[0, 0], [1, 1, 1])
    np.testing.assert_allclose(flow_colours(right, 4.0)[0, 0], [1, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(flow_colours(still, 0.0)[0, 0], [1, 1, 1])


def test_resolution_is_where_the_curve_meets_the_half_bit_line():
    frequency = np.arange(17) / (32 * 200.0)
    curve = FscCurve(frequency, np.clip(1.5 - np.arange(17) / 10, -1, 1), np.full(17, 1e9), 200.0)
    line = 0.2071 / 1.2071
    assert half_bit_resolution_nm(curve) == pytest.approx(640 / (15 - 10 * line), rel=1e-3)
    never = replace(curve, correlation=np.zeros(17))
    unknown = replace(curve, samples=np.full(17, np.nan))
    assert half_bit_resolution_nm(never) == np.inf
    assert np.isnan(half_bit_resolution_nm(unknown))
    told = legend(half_bit_figure([(curve, "a", None), (never, "b", 0.5), (unknown, "c", None)]).axes[0])
    assert told[0] == "a: half bit at 48.18 nm"
    assert told[1:3] == ["b: below 0.5 everywhere", "c: samples not known"]


def test_units_of_the_summary():
    assert summary_entry("resolution_half_bit_nm", 61.5) == ("resolution half bit", "61.5 nm")
    assert summary_entry("largest_shift_pixels", 3.25) == ("largest shift", "3.25 pixels")
