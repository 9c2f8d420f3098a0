import html
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from particle_run_example import (
    BOX,
    OF_A_START,
    PIXEL_SIZE,
    REFINEMENTS,
    SHIFT_SIGMA,
    STARTS,
    iterations,
    write_particle_run,
)

from manyviews.geometry.quadrature import pose_quadrature
from manyviews.io.mrc import write_mrc
from manyviews.particles.report import CITATIONS, sections
from manyviews.particles.report_data import read_learning
from manyviews.particles.report_figures import _pieces, _without_outliers
from manyviews.report import build
from manyviews.report.data import convergence, read_run
from manyviews.report.sections import Finding, Section, pictures_of
from manyviews.report.sphere import coarser
from manyviews.report.volume import read_model
from manyviews.report.words import verdict as words_of

pytestmark = pytest.mark.usefixtures("blank_pictures")

PICTURES = ("slices", "surface", "resolution", "directions", "spread", "learning", "poses", "starts")


def build_report(folder):
    return build.build_report(folder, sections)


def verdict(run):
    return words_of(run, [part.text for part in sections(run) if isinstance(part, Finding)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = write_particle_run(tmp_path_factory.mktemp("report") / "run1")
    build_report(folder)
    return folder


def text_of(page):
    return re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8"))


def test_page_has_every_picture_and_asks_for_nothing(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    addresses = re.findall(r"src='([^']{22})", page)
    assert addresses == ["data:image/png;base64,"] * (len(PICTURES) + 1)  # and the volume
    assert sorted(path.stem for path in (finished / "figures").iterdir()) == sorted(PICTURES)
    assert "http-equiv" not in page
    assert page.count("<script") == 1


def test_words_are_those_of_particles(finished):
    text = text_of(finished / "report.html")
    for words in (
        "run1: particles abinitio by stochastic-em",
        "Complete after 16 iterations; resolution at FSC 0.143 of halves found with one map 17.25 Å.",
        "1 of 1 other random starts came to another structure.",
        "24 voxels",
        "1.5°",
        "1 min 53 s",
        "620 MiB",
        "View directions",
        "Learning curves",
        "On-line expectation-maximization",
    ):
        assert words in text, words
    assert "649641984" not in text
    assert "Comparison with the reference" not in text
    assert "objective fell" not in text


def pictures(folder):
    return {picture.name: picture.figure for picture in pictures_of(sections(read_run(folder)))}


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("volume.mrc", {"slices", "surface"}),
        ("directions.csv", {"directions"}),
        ("spread.csv", {"spread"}),
        ("fsc.csv", set()),
        ("fsc_reference.csv", set()),
        ("starts.csv", {"starts"}),
        ("starts.mrc", {"starts"}),
        ("events.jsonl", {"learning", "poses"}),
    ],
)
def test_what_is_missing_is_left_out(tmp_path, name, missing):
    folder = write_particle_run(tmp_path / "run")
    (folder / name).unlink()
    found = pictures(folder)
    assert set(PICTURES) - found.keys() == missing
    curves = {"fsc.csv": ["map"], "fsc_reference.csv": ["halves"]}.get(name, ["halves", "map"])
    assert [text.split()[0] for text in legend(found["resolution"])] == curves


def test_a_run_that_goes_on_is_shown_and_refreshed(tmp_path):
    folder = write_particle_run(tmp_path / "run")
    for path in folder.iterdir():
        if path.name not in ("run.toml", "events.jsonl", "volume.mrc"):
            path.unlink()
    told = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    for count in (0, 7):
        # the last line may just be being written
        (folder / "events.jsonl").write_bytes(b"".join(told[:count]) + told[count][:20])
        page = build_report(folder)
        assert "http-equiv='refresh'" in page.read_text()
        assert f"Not finished: so far {count or 'no'} iteration" in text_of(page)
    (folder / "volume.mrc").unlink()
    assert read_learning(read_run(folder)).side_angstrom is None
    build_report(folder)


@pytest.mark.pictures
def test_an_empty_run_has_a_page(tmp_path):
    folder = write_particle_run(tmp_path / "run", events=[])
    for path in folder.iterdir():
        if path.name != "run.toml":
            path.unlink()
    assert "so far no iteration" in text_of(build_report(folder))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("directions.csv", "z,longitude_degrees,particles\n-1,0,3\n1,0,2\n1,90,2\n", "not a full grid"),
        ("directions.csv", "z,longitude_degrees,particles\n-1,0,x\n", "line 2: particles is 'x'"),
        ("fsc_reference.csv", "a\n1\n", "has no column"),
        ("spread.csv", "from_degrees,to_degrees,particles\n0,?,1\n", "not a number"),
        ("spread.csv", "from_degrees,to_degrees,particles\n0,nan,1\n", "line 2: a number is missing"),
        ("spread.csv", "from_degrees,to_degrees,particles\n0,1,1\n0,1,1\n", "edges of its bins do not rise"),
        (
            "directions.csv",
            "z,longitude_degrees,particles\n-1,0,1e300\n",
            "line 2: a number is missing or not",
        ),
        ("fsc.csv", "frequency_per_angstrom,fsc\n0,1\nnan,1\n", "line 3: a number is missing"),
        ("fsc.csv", "frequency_per_angstrom,fsc\n0,1\n0,1\n", "the frequencies do not rise"),
    ],
)
def test_damaged_tables_are_named_and_the_rest_is_shown(tmp_path, name, content, words):
    folder = write_particle_run(tmp_path / "run")
    (folder / name).write_text(content)
    page = build_report(folder)
    assert f"Not shown: {name} could not be read" in text_of(page)
    assert words in html.unescape(text_of(page))
    assert page.read_text().count("data:image/png") >= len(PICTURES) - 1


def test_a_radius_that_no_box_has_takes_no_memory(tmp_path):
    events = [{**row, "radius": 10.0**n} for n, row in enumerate(iterations())]
    folder = write_particle_run(tmp_path / "run", events=events)
    learning = read_learning(read_run(folder))
    assert learning.all_poses[0] == pose_quadrature(1.0, SHIFT_SIGMA).size
    assert learning.all_poses[8] == pytest.approx(3.6**2 * 2 * math.pi * 1e8**3 * 100**2, rel=1e-6)
    assert "Learning curves" in text_of(build_report(folder))


def test_starts_past_counting_are_not_marked(tmp_path):
    events = [
        {"iteration": 10.0**40, "log_likelihood": 1.0, "starts_done": float(1e25 * (n % 2))}
        for n in range(500)
    ]
    folder = write_particle_run(tmp_path / "run", events=events)
    assert len(_pieces(read_learning(read_run(folder)))) == 1
    assert "Learning curves" in text_of(build_report(folder))


@pytest.mark.pictures
def test_a_map_that_is_no_cube_or_empty_has_no_surface(tmp_path):
    folder = write_particle_run(tmp_path / "run", events=[])
    for volume in (np.ones((4, 6, 6), np.float32), np.zeros((6, 6, 6), np.float32)):
        write_mrc(folder / "volume.mrc", volume, PIXEL_SIZE, overwrite=True)
        build_report(folder)
    (folder / "volume.mrc").write_bytes(b"torn")
    assert "The volume is not shown" in text_of(build_report(folder))


def test_learning_knows_starts_and_the_share_of_the_quadrature(finished):
    learning = read_learning(read_run(finished), read_model(finished / "volume.mrc"))
    assert learning.side_angstrom == pytest.approx(BOX * PIXEL_SIZE)
    expected = [start for start in range(STARTS) for _ in range(OF_A_START)] + [STARTS] * REFINEMENTS
    assert learning.start.tolist() == expected
    every = pose_quadrature(9.0, SHIFT_SIGMA).size
    assert learning.all_poses[-1] == every
    assert learning.fraction[-1] == pytest.approx(1200 / every)
    assert math.isnan(learning.poses[OF_A_START - 1])  # where a start is judged, none is counted


def test_sagd_tells_its_own_fraction(tmp_path):
    events = [{"iteration": n, "objective": 1e5 / n, "lipschitz": 1.0, "work": 1 / n} for n in range(1, 9)]
    folder = write_particle_run(tmp_path / "run", method="sagd", events=events)
    run = read_run(folder)
    assert convergence(run) is not None  # it is of another mini-batch each time, so it is not shown
    titles = [part.title for part in sections(run) if isinstance(part, Section)]
    assert "Convergence" not in titles
    np.testing.assert_allclose(read_learning(run).fraction, 1 / np.arange(1, 9))
    assert "Building proteins in a day" in text_of(build_report(folder))
    assert "objective fell" not in verdict(run)
    assert len(CITATIONS["sagd"]) == 1


def test_a_start_far_below_does_not_hide_the_rest():
    low, high = _without_outliers(np.array([-250_000.0, *np.linspace(40, 200, 100)]))
    assert -200 < low < 40
    assert 200 < high < 250
    assert _without_outliers(np.array([math.nan, 1.0])) is None


@pytest.mark.parametrize(("independent", "words"), [(True, "refined apart"), (False, "one map (optimistic)")])
def test_halves_are_labelled_honestly(tmp_path, independent, words):
    told = legend(pictures(write_particle_run(tmp_path / "run", independent=independent))["resolution"])
    assert words in told[0]
    assert told[1].startswith("map and reference")


@given(st.integers(0, 2000), st.sampled_from([(18, 36), (4, 8), (3, 5), (1, 1)]))
def test_joined_fields_hold_the_same_particles(total, shape):
    counts = np.random.default_rng(total).multinomial(total, [1 / math.prod(shape)] * math.prod(shape))
    assert coarser(counts.reshape(shape)).sum() == total
