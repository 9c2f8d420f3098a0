import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from particle_run_example import (
    BOX,
    OF_A_START,
    PIXEL_SIZE,
    REFINEMENTS,
    SHIFT_SIGMA,
    STARTS,
    ball,
    write_particle_run,
)

from manyviews.errors import InputError
from manyviews.geometry.quadrature import pose_quadrature
from manyviews.io.mrc import write_mrc
from manyviews.metrics.fsc import FscCurve
from manyviews.report.build import build_report
from manyviews.report.citations import citations
from manyviews.report.data import read_run
from manyviews.report.isosurface import level_by_mass, smooth_and_fine, surface_image, three_views
from manyviews.report.particle_data import read_model
from manyviews.report.particle_figures import _coarser, _without_outliers, crossing, resolution_figure
from manyviews.report.text import key_figure, verdict

PICTURES = ("slices", "surface", "resolution", "directions", "spread", "learning", "poses")


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
    assert addresses == ["data:image/png;base64,"] * len(PICTURES)
    assert sorted(path.stem for path in (finished / "figures").iterdir()) == sorted(PICTURES)
    assert "http-equiv" not in page
    assert "script" not in page


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


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("volume.mrc", "model"),
        ("directions.csv", "directions"),
        ("spread.csv", "spread"),
        ("fsc.csv", "halves"),
        ("fsc_reference.csv", "reference"),
        ("events.jsonl", "learning"),
    ],
)
def test_what_is_missing_is_left_out(tmp_path, name, field):
    folder = write_particle_run(tmp_path / "run")
    (folder / name).unlink()
    particles = vars(read_run(folder).particles)
    assert {key for key, value in particles.items() if value is None} == {field}


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
    assert read_run(folder).particles.learning.side_angstrom is None


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
    ],
)
def test_damaged_tables_are_named(tmp_path, name, content, words):
    folder = write_particle_run(tmp_path / "run")
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=words):
        build_report(folder)


def test_a_map_that_is_no_cube_or_empty_has_no_surface(tmp_path):
    folder = write_particle_run(tmp_path / "run", events=[])
    for volume in (np.ones((4, 6, 6), np.float32), np.zeros((6, 6, 6), np.float32)):
        write_mrc(folder / "volume.mrc", volume, PIXEL_SIZE, overwrite=True)
        build_report(folder)
    (folder / "volume.mrc").write_bytes(b"torn")
    assert "The volume is not shown" in text_of(build_report(folder))


def test_learning_knows_starts_and_the_share_of_the_quadrature(finished):
    learning = read_run(finished).particles.learning
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
    assert run.convergence is None
    np.testing.assert_allclose(run.particles.learning.fraction, 1 / np.arange(1, 9))
    assert "Building proteins in a day" in text_of(build_report(folder))
    assert "objective fell" not in verdict(run)
    assert len(citations("sagd")) == 1


def test_a_start_far_below_does_not_hide_the_rest():
    low, high = _without_outliers(np.array([-250_000.0, *np.linspace(40, 200, 100)]))
    assert -200 < low < 40
    assert 200 < high < 250
    assert _without_outliers(np.array([math.nan, 1.0])) is None


@pytest.mark.parametrize(("independent", "words"), [(True, "refined apart"), (False, "one map (optimistic)")])
def test_halves_are_labelled_honestly(independent, words):
    curve = FscCurve(np.arange(5) / 100, np.array([1.0, 0.9, 0.6, 0.2, 0.0]), np.ones(1), 1.0)
    figure = resolution_figure(curve, curve, independent=independent)
    legend = figure.axes[0].get_legend().get_texts()
    assert words in legend[0].get_text()
    assert legend[1].get_text().startswith("map and reference")


def test_crossings_of_particles():
    curve = FscCurve(np.arange(4) / 100, np.array([1.0, 0.9, 0.7, 0.3]), np.ones(1), 1.0)
    assert crossing(curve, 0.5) == (pytest.approx(40.0), True)
    assert crossing(curve, 0.143) == (pytest.approx(100 / 3), False)
    assert crossing(FscCurve(np.arange(3) / 100, np.array([1.0, 0.1, 0.1]), np.ones(1), 1.0), 0.5) is None


@given(st.integers(0, 2000), st.sampled_from([(18, 36), (4, 8), (3, 5), (1, 1)]))
def test_joined_fields_hold_the_same_particles(total, shape):
    counts = np.random.default_rng(total).multinomial(total, [1 / math.prod(shape)] * math.prod(shape))
    assert _coarser(counts.reshape(shape)).sum() == total


def test_level_holds_the_share():
    volume = np.array([-5.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    assert level_by_mass(volume, 0.4) == 4.0
    assert level_by_mass(volume, 0.7) == 3.0
    assert level_by_mass(volume, 1.0) == 1.0
    assert level_by_mass(np.zeros(3)) == 0.0


@pytest.mark.parametrize("box", [15, 16])
def test_a_finer_map_keeps_its_place(box):
    smooth = ball(box, radius=box / 3)
    fine = smooth_and_fine(smooth, 2)
    same = smooth_and_fine(smooth, 1)
    assert fine.shape == (2 * box,) * 3
    np.testing.assert_allclose(fine[::2, ::2, ::2], same, atol=2e-3)


def test_the_surface_of_a_ball_is_a_disc_lit_from_the_upper_left():
    radius = 7.0
    image = surface_image(ball(), float(np.exp(-2)), np.eye(3), BOX // 2, 96)  # the level at its radius
    seen = np.isfinite(image)
    assert math.sqrt(seen.sum() / math.pi) * BOX / 96 == pytest.approx(radius, rel=0.03)
    y, x = np.unravel_index(np.nanargmax(image), image.shape)
    middle = 48 + (BOX // 2 - BOX / 2) * 96 / BOX
    assert x < middle < y
    assert np.nanmin(image) >= 0
    assert np.nanmax(image) <= 1


def test_views_show_the_right_sides():
    long_in_x = ball(stretch=(1.0, 0.7, 1.5))  # (z, y, x)
    extents = []
    for _, rotation in three_views():
        np.testing.assert_allclose(np.linalg.det(rotation), 1)
        seen = np.isfinite(surface_image(long_in_x, float(np.exp(-2)), rotation, BOX // 2, 96))
        down, across = np.nonzero(seen)
        extents.append((np.ptp(across) * BOX / 96 / 14, np.ptp(down) * BOX / 96 / 14))
    np.testing.assert_allclose(extents, [(1.5, 0.7), (1.5, 1.0), (0.7, 1.0)], atol=0.06)


def test_large_maps_are_averaged(tmp_path):
    volume = np.arange(7**3, dtype=np.float32).reshape(7, 7, 7)
    write_mrc(tmp_path / "v.mrc", volume, 2.0)
    model = read_model(tmp_path / "v.mrc", largest=4)
    assert model.volume.shape == (3, 3, 3)
    assert model.voxel_angstrom == pytest.approx(4.0)
    assert model.volume[1, 2, 0] == pytest.approx(volume[2:4, 4:6, :2].mean())


def test_units_move_behind_the_figures():
    assert key_figure("map (voxels)", 64) == ("map", "64 voxels")
    assert key_figure("pixel size (angstrom)", 4.0) == ("pixel size", "4 Å")
    assert key_figure("spread of angles (degrees)", 1.09) == ("spread of angles", "1.09°")
    assert key_figure("wall seconds", 75.0) == ("wall", "1 min 15 s")
    assert key_figure("resolution at FSC 0.5 (angstrom)", "none") == ("resolution at FSC 0.5", "none")
