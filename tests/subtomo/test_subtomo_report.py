"""The page of a run over subtomograms: every picture from its own files, none where they are missing."""

from __future__ import annotations

import html
import re
import shutil

import numpy as np
import pytest
from subtomo_run_example import ITERATIONS, write_subtomo_run

from manyviews.metrics.fsc import FscCurve
from manyviews.report import build
from manyviews.report.data import read_run
from manyviews.report.sections import Citation, pictures_of
from manyviews.report.style import figure_png
from manyviews.subtomo.report import CITATIONS, FILES, PICTURES, sections
from manyviews.subtomo.score_files import Scores, write_scores

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return write_subtomo_run(tmp_path_factory.mktemp("subtomo") / "run1")


@pytest.fixture
def folder(example, tmp_path):
    return shutil.copytree(example, tmp_path / "run1")


def pictures(folder):
    return {picture.name: picture.figure for picture in pictures_of(sections(read_run(folder)))}


def text_of(folder):
    page = build.build_report(folder, sections)
    return html.unescape(re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8")))


def legend(figure, panel=0):
    return [text.get_text() for text in figure.axes[panel].get_legend().get_texts()]


def test_every_picture_is_drawn_from_its_file(example):
    found = pictures(example)
    assert set(found) == set(PICTURES)
    assert set(FILES) <= {path.name for path in example.iterdir()}
    assert legend(found["directions"])[2].startswith("within 20° of z: 0.143 at")
    told = legend(found["resolution"])
    assert told[0].startswith("halves, in the mask, corrected: 0.143 at")
    assert told[2:4] == ["halves in the mask", "halves in the mask, phases random"]
    assert told[4].startswith("map and reference: 0.5 at")
    (told,) = found["wedge"].legends
    assert [text.get_text() for text in told.get_texts()] == [
        "told: -60 to 60 degrees about y", "measured: -58 to 61 degrees about y, beam z",
    ]  # fmt: skip
    titles = [axes.get_title() for axes in found["iterations"].axes]
    assert [title for title in titles if title] == ["1", "2: 40 Å", "3: 30 Å"]
    titles = [axes.get_title() for axes in found["halves"].axes]
    assert [title for title in titles if title] == ["half 1", "half 2"]


def test_pose_changes_are_drawn_as_they_were(example):
    axes = pictures(example)["progress"].axes
    turns, moves = (panel.lines[0].get_ydata() for panel in axes[:2])
    np.testing.assert_array_equal(turns[1:], [14.0, 0.6])
    np.testing.assert_array_equal(moves[1:], [9.0, 0.5])
    assert np.isnan(turns[0])
    assert axes[0].lines[1].get_ydata()[0] == 1.0  # degree
    searched = axes[2].lines[2].get_ydata()
    np.testing.assert_allclose(searched, [1 / one.frequency_limit for one in ITERATIONS], rtol=1e-6)


def test_scores_show_what_is_left_out(folder):
    figure = pictures(folder)["scores"]
    assert len(figure.axes) == 2
    assert [text.split()[0] for text in legend(figure)] == ["half", "half", "left"]
    (folder / "rejection.csv").unlink()
    write_scores(folder / "scores.csv", Scores(np.zeros(4, int), np.arange(4.0), np.ones(4, bool)))
    figure = pictures(folder)["scores"]
    assert len(figure.axes) == 1
    assert legend(figure) == ["all"]
    assert figure.axes[0].patches[0].get_data().values.sum() == 4


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("volume.mrc", {"slices", "surface"}),
        ("slices.mrc", {"iterations"}),
        ("iterations.csv", {"progress"}),
        ("fsc.csv", set()),
        ("directional_fsc.csv", {"directions"}),
        ("scores.csv", {"scores"}),
        ("rejection.csv", set()),
        ("coverage.csv", {"coverage", "measured"}),
        ("wedge.csv", {"wedge"}),
        ("wedge_power.mrc", {"wedge"}),
        ("half1.mrc", {"halves"}),
    ],
)
def test_what_is_missing_is_left_out(folder, name, missing):
    (folder / name).unlink()
    assert set(PICTURES) - pictures(folder).keys() == missing


def test_a_run_that_has_just_begun_has_a_page(folder):
    for path in folder.iterdir():
        if path.name not in ("run.toml", "events.jsonl", "volume.mrc", "slices.mrc"):
            path.unlink()
    (folder / "events.jsonl").write_bytes((folder / "events.jsonl").read_bytes().splitlines(True)[0])
    assert "http-equiv='refresh'" in build.build_report(folder, sections).read_text()
    assert set(pictures(folder)) == {"slices", "surface", "iterations"}


def test_words_of_the_page(example):
    text = text_of(example)
    for words in (
        "run1: subtomo align by sag",
        "Complete after 3 iterations; resolution at FSC 0.143 of independent halves 30.25 Å.",
        "2 particles set aside",
        "1 duplicates of other particles",
        "High-resolution noise substitution",
        "Addressing preferred specimen orientation",
        "The wedges of all particles",
    ):
        assert words in text, words


def test_plain_halves_need_no_mask_and_cite_none(folder):
    curve = FscCurve.read_csv(folder / "fsc.csv")
    curve.write_csv(folder / "fsc.csv", overwrite=True)
    assert legend(pictures(folder)["resolution"])[0].startswith("halves, as they are: 0.143 at")
    papers = [part.paper for part in sections(read_run(folder)) if isinstance(part, Citation)]
    assert [paper.split()[0] for paper in papers] == ["Tan", "Lü"]


def test_halves_aligned_to_one_map_are_called_optimistic(tmp_path):
    folder = write_subtomo_run(tmp_path / "run", merged=True)
    told = legend(pictures(folder)["resolution"])
    assert told[0].startswith("halves aligned to one map (optimistic), in the mask, corrected: 0.143 at")


def test_every_method_is_cited():
    assert all(papers for papers in CITATIONS.values())


def test_a_mask_that_is_too_tight_is_told_beside_the_curves(folder):
    frequency = np.arange(17) / (32 * 6.0)
    shells = np.arange(17)
    masked = np.where(shells < 12, 1.0, 0.05)
    random = np.where(shells < 4, 1.0, np.where(shells < 13, 0.5, 0.0))
    unmasked = np.where(shells < 4, 1.0, 0.0)
    rows = [
        f"{f:.8f},{(m - r) / (1 - r + 1e-9) if s >= 6 else m:.6f},{u},{m},{r}"
        for s, f, u, m, r in zip(shells, frequency, unmasked, masked, random, strict=True)
    ]
    header = "frequency_per_angstrom,fsc,fsc_unmasked,fsc_masked,fsc_random_phases"
    (folder / "fsc.csv").write_text("\n".join([header, *rows]) + "\n")
    assert "The mask is too tight or its edge too sharp: halves with random phases" in text_of(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("iterations.csv", "iteration\n1\n", "has no column"),
        ("scores.csv", "particle,half,score,kept\n1,1,x,1\n", "score is 'x', not a number"),
        ("coverage.csv", "z,longitude_degrees,particles,measured\n-1,0,3,nan\n", "a number is missing"),
        ("directional_fsc.csv", "direction\nz\n", "has no column"),
        ("wedge.csv", "particles\n3\n", "has no column"),
        ("slices.mrc", "torn", "slices.mrc could not be read"),
        ("fsc.csv", "frequency_per_angstrom,fsc\n0,1\nnan,1\n", "line 3: a number is missing"),
        ("half2.mrc", "torn", "half2.mrc could not be read"),
    ],
)
def test_damaged_files_are_named_and_the_rest_is_shown(folder, name, content, words):
    (folder / name).write_text(content)
    text = text_of(folder)
    assert f"Not shown: {name} could not be read" in text
    assert words in text
    assert len(pictures(folder)) >= len(PICTURES) - 2


@pytest.mark.pictures
def test_the_pictures_can_be_drawn(example):
    for name, figure in pictures(example).items():
        if name not in ("slices", "surface", "resolution", "directions"):  # drawn elsewhere
            assert figure_png(figure).startswith(b"\x89PNG")
