"""Series of a known specimen, shifted and turned, aligned from their images alone, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.options import RunOptions
from manyviews.report.drawing import Drawing
from manyviews.tilt.align.align import align
from manyviews.tilt.align.gauge import common_translation, moved_volume
from manyviews.tilt.align.options import AlignOptions
from manyviews.tilt.options import SeriesOptions, SimulateOptions
from manyviews.tilt.series.resolve import resolve_series
from manyviews.tilt.simulate import simulate

pytestmark = pytest.mark.usefixtures("blank_pictures")

SIDE, THICKNESS, PIXEL = 64, 20, 5.0
OPTIONS = AlignOptions(thickness=THICKNESS, threads=1, axis_search=6.0, aligned_stacks=True)
SIMULATED = SimulateOptions(
    size=(SIDE,), thickness=THICKNESS, pixel_size=PIXEL, axes=(0.0,), tilt_step=4.0, noise=0.1,
    shift_error=4.0, axis_error=2.0, bad_views=0.06, seed=4,
)  # fmt: skip


def run_options(folder: Path, **changes):
    return RunOptions(folder, quiet=True, **changes)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Stack of one axis, and its alignment."""
    folder = tmp_path_factory.mktemp("one")
    made = simulate(SIMULATED, folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manyviews.report.drawing.draw", lambda figure: Drawing(b"", b"", b""))
        result = align(given(made.stacks, (0.0,)), OPTIONS, run_options(folder / "run"))
    return made, result


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    made = simulate(replace(SIMULATED, axes=(0.0, 90.0), bad_views=0.0), folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manyviews.report.drawing.draw", lambda figure: Drawing(b"", b"", b""))
        result = align(given(made.stacks, (0.0, 90.0)), OPTIONS, run_options(folder / "run"))
    return made, result


def given(stacks, axes):
    return SeriesOptions(stacks=tuple(stacks), axis_angle=axes)


def residual(made, axes, found):
    """Rms in pixels of what is left of the shifts, less a shift of the volume; and the axes, degrees."""
    true = resolve_series(
        SeriesOptions(
            made.stacks, axis_angle=axes, transform=tuple(s.with_suffix(".xf") for s in made.stacks)
        )
    ).geometry
    places = {pair: k for k, pair in enumerate(zip(true.series, true.sections, strict=True))}
    true = true.select([places[pair] for pair in zip(found.series, found.sections, strict=True)])
    moved = moved_volume(found, common_translation(found, true))
    shifts = (moved.matrices - true.matrices)[:, :2, 3] / PIXEL
    product = np.einsum("vij,vkj->vik", found.matrices[:, :3, :3], true.matrices[:, :3, :3])
    turns = np.rad2deg(np.arctan2(product[:, 1, 0] - product[:, 0, 1], product[:, 0, 0] + product[:, 1, 1]))
    return float(np.sqrt((shifts**2).sum(axis=1).mean())), turns


def aligned(made, run):
    return resolve_series(SeriesOptions(made.stacks, alignment=run))


def test_one_axis_is_found(one):
    made, result = one
    left, turns = residual(made, (0.0,), aligned(made, result.run_folder).geometry)
    assert left < 0.5
    assert np.abs(turns).max() < 1.0


def test_bad_views_are_listed_and_left_out(one):
    made, result = one
    assert result.summary["bad_views"] == 2
    assert len(aligned(made, result.run_folder).excluded[0]) == 2
    assert any("cannot be explained" in text for text in result.summary["warnings"])
    rows = (result.run_folder / "alignment.csv").read_text().splitlines()
    assert len(rows) == 1 + 31
    assert sum(row.split(",")[3] == "0" for row in rows[1:]) == 2


def test_views_agree_better_with_the_others_than_before(one):
    figures = one[1].summary
    assert figures["correlation_with_the_others_after"] > 0.95
    assert figures["correlation_with_the_others_before"] < 0.6
    assert figures["residual_rms_pixels"] < 0.5


def test_two_axes_are_found_in_one_frame(two):
    made, result = two
    left, turns = residual(made, (0.0, 90.0), aligned(made, result.run_folder).geometry)
    assert left < 0.2
    assert np.ptp(turns) < 0.4
    assert np.abs(result.summary["tilt_offset_degrees"]).max() < 0.3


def test_two_axes_of_images_for_which_one_size_does(tmp_path):
    """There is no finer level then for all series together; the coarsest is theirs too."""
    small = replace(SIMULATED, size=(48,), axes=(0.0, 90.0), tilt_step=8.0, shift_error=1.0, bad_views=0.0)
    made = simulate(small, tmp_path / "data")
    options = replace(OPTIONS, keep_axis=True, rotation="never", aligned_stacks=False)
    result = align(given(made.stacks, (0.0, 90.0)), options, run_options(tmp_path / "run"))
    left, _ = residual(made, (0.0, 90.0), aligned(made, result.run_folder).geometry)
    assert left < 0.5


@pytest.mark.parametrize(
    ("files", "atol"), [(("_tilt.com", ".xf"), 3e-3), ((".aln", None), 8e-3), ((".star", None), 1e-5)]
)
def test_files_of_other_programs_read_back_are_the_same_views(two, files, atol):
    made, result = two
    wanted = aligned(made, result.run_folder).geometry
    angles, transform = files
    run = result.run_folder
    options = SeriesOptions(
        made.stacks,
        tilt_angles=tuple(run / f"{stack.stem}{angles}" for stack in made.stacks),
        transform=tuple(run / f"{stack.stem}{transform}" for stack in made.stacks) if transform else (),
        axis_angle=tuple(float(wanted.axis_degrees[wanted.series == k][0]) for k in range(2)),
    )
    found = resolve_series(options).geometry
    np.testing.assert_array_equal(found.sections, wanted.sections)
    np.testing.assert_allclose(found.matrices[:, :3, :3], wanted.matrices[:, :3, :3], atol=2e-4)
    np.testing.assert_allclose(found.matrices[:, :2, 3], wanted.matrices[:, :2, 3], atol=atol * 5)


def test_a_reconstruction_takes_the_alignment(one, tmp_path, capsys):
    made, result = one
    words = ["tilt", "check", *map(str, made.stacks), "--alignment", str(result.run_folder)]
    assert main([*words, "--thickness", str(THICKNESS)]) == 0
    assert "alignment.csv" in capsys.readouterr().out
    assert main([*words, "--axis-angle", "3", "--thickness", "20"]) == 2
    assert "has it already" in capsys.readouterr().err
    other = tmp_path / "other.mrc"
    write_mrc(other, read_mrc(made.stacks[0])[0], PIXEL, is_volume=False)
    assert main(["tilt", "check", str(other), "--alignment", str(result.run_folder)]) == 2
    assert "not of other.mrc" in capsys.readouterr().err
    assert main(["tilt", "check", str(made.stacks[0]), "--alignment", str(tmp_path)]) == 2
    assert "no finished alignment" in capsys.readouterr().err


def test_the_same_call_has_nothing_to_do_and_others_are_refused(one, capsys):
    made, result = one
    again = align(given(made.stacks, (0.0,)), OPTIONS, run_options(result.run_folder))
    assert again.summary == json.loads((result.run_folder / "summary.json").read_text())
    with pytest.raises(InputError, match="other options"):
        align(given(made.stacks, (0.0,)), replace(OPTIONS, thickness=24), run_options(result.run_folder))


def test_a_run_that_was_stopped_ends_as_one_that_was_not(one, tmp_path, monkeypatch):
    from manyviews.tilt.align import stages

    made, result = one
    real = stages.Stages._solve
    calls = []

    def stopping(self, solver, plan, name):
        calls.append(plan.bin)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, solver, plan, name)

    monkeypatch.setattr(stages.Stages, "_solve", stopping)
    with pytest.raises(KeyboardInterrupt):
        align(given(made.stacks, (0.0,)), OPTIONS, run_options(tmp_path / "run"))
    monkeypatch.undo()
    monkeypatch.setattr("manyviews.report.drawing.draw", lambda figure: Drawing(b"", b"", b""))
    align(given(made.stacks, (0.0,)), OPTIONS, run_options(tmp_path / "run"))
    ended = (tmp_path / "run" / "alignment.csv").read_bytes()
    assert ended == (result.run_folder / "alignment.csv").read_bytes()
    assert "done before" in (tmp_path / "run" / "log.txt").read_text()


def test_an_aligned_stack_on_request(one):
    """Untilted, it is the specimen seen from above: the same as the volume's projection."""
    made, result = one
    stack = made.stacks[0].stem
    images, header = read_mrc(result.run_folder / f"{stack}_ali.mrc")
    assert images.shape == (29, SIDE, SIDE)
    assert header.pixel_size[0] == pytest.approx(PIXEL)
    truth = read_mrc(made.truth)[0].sum(axis=0)
    tilts = np.loadtxt(result.run_folder / f"{stack}.tlt")
    used = [k for k in range(31) if k not in aligned(made, result.run_folder).excluded[0]]
    flat = images[int(np.argmin(np.abs(tilts[used])))]
    inner = slice(20, -20)
    shifts = range(-6, 7)
    best = max(
        np.corrcoef(np.roll(flat, (y, x), (0, 1))[inner, inner].ravel(), truth[inner, inner].ravel())[0, 1]
        for y in shifts
        for x in shifts
    )
    assert best > 0.9


def test_different_specimens_are_refused(one, tmp_path):
    made, _ = one
    other = simulate(replace(SIMULATED, seed=11, axes=(90.0,), bad_views=0.0), tmp_path / "other")
    with pytest.raises(InputError, match="different specimens"):
        align(given((*made.stacks, *other.stacks), (0.0, 90.0)), OPTIONS, run_options(tmp_path / "run"))
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("alignment.csv"))


def test_views_without_overlap_are_refused(one, tmp_path):
    images = np.random.default_rng(0).normal(size=(31, SIDE, SIDE)).astype(np.float32)
    write_mrc(tmp_path / "noise.mrc", images, PIXEL, is_volume=False)
    np.savetxt(tmp_path / "noise.rawtlt", np.linspace(-60, 60, 31))
    with pytest.raises(InputError, match="do not overlap"):
        align(given((tmp_path / "noise.mrc",), (0.0,)), OPTIONS, run_options(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_axis_that_cannot_be_found_is_refused(one, tmp_path, capsys):
    """It lies 40 degrees from where it is said to be."""
    made, _ = one
    words = ["tilt", "align", str(made.stacks[0]), "--axis-angle", "40", "--thickness", "20", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "the direction of the tilt axis cannot be found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"thickness": 0}, "thickness of the specimen is not known"),
        ({"bin": 3}, "too small to align"),
        ({"device": "cuda"}, "runs on the CPU"),
        ({"memory": 1e-3}, "of memory"),
    ],
)
def test_what_cannot_be_is_one_sentence(one, tmp_path, change, words):
    made, _ = one
    with pytest.raises(InputError, match=words):
        align(given(made.stacks, (0.0,)), replace(OPTIONS, **change), run_options(tmp_path / "run"))
