"""From a notebook to a run and back: series in, volume out, and the same by the recorded command."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

import manyviews as mv
from manyviews.cli.main import main
from manyviews.geometry.poses import angular_distance, euler_to_matrices
from manyviews.io.subtomogram_formats import read_subtomograms
from manyviews.options import RunOptions
from manyviews.particles import abinitio as particle_job
from manyviews.particles import solve as solve_job
from manyviews.particles.options import AbinitioOptions, ParticleOptions, RefineOptions, SolveOptions
from manyviews.particles.refine import refine as refine_job
from manyviews.simulate.phantoms import Gaussians
from manyviews.subtomo.simulate import simulate as simulate_subtomograms
from manyviews.subtomo.simulate_options import SimulateOptions as SubtomogramsOptions
from run_files import write_run

pytestmark = pytest.mark.usefixtures("blank_pictures")

PIXEL, SHAPE = 4.0, (12, 30, 34)
TILTS = np.linspace(-60.0, 60.0, 9)
AXES = (0.0, 90.0)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """Two stacks of a few blobs, with their angles and the truth beside."""
    folder = tmp_path_factory.mktemp("stacks")
    places = np.array([[6.0, -4.0, 2.0], [-8.0, 5.0, -2.0], [2.0, 9.0, 1.0]])
    phantom = Gaussians.isotropic([1.0, 0.8, 1.2], places * PIXEL, 1.5 * PIXEL)
    for number, axis in enumerate(AXES):
        images = phantom.project(mv.TiltGeometry.from_angles(TILTS, axis), SHAPE[1:], PIXEL)
        mv.write_mrc(str(folder / f"{number}.mrc"), images, PIXEL, is_volume=False)
        (folder / f"{number}.rawtlt").write_text("\n".join(map(str, TILTS)))
    mv.write_mrc(folder / "truth.mrc", phantom.density(SHAPE, PIXEL), PIXEL)
    return [str(folder / f"{number}.mrc") for number in range(len(AXES))]


def test_a_series_has_images_and_their_geometry(stacks):
    series = mv.read_tilt_series(stacks, axis_angle=AXES, exclude="2:1-2")
    assert (len(series), series.images.shape, series.pixel_size) == (16, (16, 30, 34), PIXEL)
    assert series.images is series.images
    np.testing.assert_array_equal(series.images[:9], mv.read_mrc(stacks[0])[0])
    np.testing.assert_array_equal(series.geometry.tilt_degrees, [*TILTS, *TILTS[2:]])
    assert series.warnings == ()
    assert [choice.value for choice in series.choices if choice.field == "axis angle"] == ["0", "90"]
    assert repr(series) == "TiltSeries(16 images of 34 x 30 pixels of 4 A)"
    binned = mv.read_tilt_series(stacks[0], bin=2, invert_contrast=True)
    assert (binned.images.shape, binned.pixel_size) == ((9, 15, 17), 2 * PIXEL)
    assert binned.images.mean() < 0
    assert "warnings: 3" in repr(mv.read_tilt_series(stacks))
    with pytest.raises(mv.InputError, match="there is no option 'pixelsize'; did you mean 'pixel_size'"):
        mv.read_tilt_series(stacks, pixelsize=3)


def test_a_reconstruction_and_the_command_that_goes_on_with_it(stacks, tmp_path, capsys):
    out = tmp_path / "run"
    options = {"axis_angle": AXES, "method": "sirt", "iterations": 3, "non_negative": True, "quiet": True}
    run = mv.reconstruct(stacks, out=str(out), thickness=SHAPE[0], **options)
    assert run.finished
    assert run.volume.shape == SHAPE
    assert run.volume.min() >= 0
    truth = mv.read_mrc(tmp_path.parent / stacks[0].replace("0.mrc", "truth.mrc"))[0]
    assert np.corrcoef(run.volume.ravel(), truth.ravel())[0, 1] > 0.7
    assert run.options["iterations"] == 3
    assert set(run.tables) == {"ncc", "geometry", "fitted_images"}
    assert run.tables["ncc"]["view"].dtype == np.int64
    np.testing.assert_array_equal(run.tables["geometry"]["tilt_degrees"], [*TILTS, *TILTS])
    assert "<img" in run._repr_html_()
    volume = (out / "volume.mrc").stat().st_mtime_ns
    command = tomllib.loads((out / "run.toml").read_text())["command"]
    assert command[:3] == ["manyviews", "tilt", "reconstruct"]
    capsys.readouterr()
    assert main([word for word in command[1:] if word != "--quiet"]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert (out / "volume.mrc").stat().st_mtime_ns == volume


@pytest.mark.parametrize(
    "options",
    [
        {"method": "sirt", "iterations": 3, "non_negative": True},
        {"bin": 2, "normalise": "statistics", "iterations": 2, "invert_contrast": True},
    ],
)
def test_images_in_memory_give_the_volume_of_the_run(stacks, tmp_path, options):
    run = mv.reconstruct(stacks, out=tmp_path / "run", thickness=12, axis_angle=AXES, quiet=True, **options)
    series = mv.read_tilt_series(stacks, axis_angle=AXES)
    before = series.images.copy()
    volume = mv.reconstruct(series.images, series.geometry, thickness=12, pixel_size=PIXEL, **options)
    np.testing.assert_array_equal(volume, run.volume)
    np.testing.assert_array_equal(series.images, before)
    assert (type(volume), volume.dtype) == (np.ndarray, np.float32)


def test_the_lines_a_scientist_wants_to_write(rng):
    truth = np.zeros((16, 32, 32))
    truth[5:11, 8:22, 12:20] = 1.0
    geometry = mv.TiltGeometry.from_angles(np.arange(-60, 61, 5), axis_degrees=(0, 90))
    images = mv.project(truth, geometry, pixel_size=8.0)
    noisy = images + rng.normal(0, 0.05 * images.std(), images.shape)
    volume = mv.reconstruct(noisy, geometry, thickness=16, pixel_size=8.0)
    assert volume.shape == truth.shape
    assert np.corrcoef(volume.ravel(), truth.ravel())[0, 1] > 0.85
    assert mv.fsc(volume, truth, 8.0).resolution(0.5) < 40.0  # two axes leave a pyramid out
    assert mv.backproject(images, geometry, thickness=16, pixel_size=8.0).shape == truth.shape
    spoilt = noisy.copy()
    spoilt[3, 10, 10] += 1000.0
    with pytest.warns(
        UserWarning, match="stack 1: 1 pixel stands out as hot pixels and X-rays do, in section 4"
    ):
        mv.reconstruct(spoilt, geometry, thickness=16, pixel_size=8.0, method="wbp")


IMAGES, GEOMETRY = np.ones((9, 8, 8)), mv.TiltGeometry.from_angles(TILTS)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: mv.reconstruct(IMAGES, thickness=4), "views come as a TiltGeometry"),
        (lambda: mv.reconstruct(IMAGES[0], GEOMETRY, thickness=4), r"shape \(8, 8\), not three axes"),
        (lambda: mv.reconstruct(IMAGES[1:], GEOMETRY, thickness=4), "there are 8 images and 9 views"),
        (lambda: mv.reconstruct(IMAGES, GEOMETRY), "the thickness of the volume is not known"),
        (lambda: mv.reconstruct(IMAGES, GEOMETRY, thickness=4, denoiser=np.abs), "cg has no agents"),
        (lambda: mv.reconstruct(["a.mrc"], out="run", denoiser=np.abs), "a function cannot be recorded"),
        (lambda: _denoised(lambda v: v[1:]), r"gave back float32 of shape \(3, 8, 8\)"),
        (lambda: _denoised(lambda v: v * np.nan), "numbers that are not finite"),
        (lambda: mv.reconstruct(IMAGES, GEOMETRY, thickness=4, pixel_size=0), "0 is not a positive number"),
        (lambda: mv.reconstruct(IMAGES, GEOMETRY, thickness=4), "all images are blank"),
        (
            lambda: mv.reconstruct(IMAGES * np.nan, GEOMETRY, thickness=4),
            "stack 1, section 1: 64 pixels are NaN",
        ),
        (lambda: mv.reconstruct(IMAGES, GEOMETRY, thickness=4, out="run"), "option out: is for files"),
        (lambda: mv.reconstruct(IMAGES, GEOMETRY, thickness=4, exclude="1"), "option exclude: is for files"),
        (lambda: mv.reconstruct(IMAGES, GEOMETRY, thickness=4, ctf="3d"), "option ctf: is for runs only"),
        (
            lambda: mv.reconstruct(IMAGES, GEOMETRY, thickness=4, method="admm"),
            "option prior: a prior is chosen",
        ),
        (lambda: mv.reconstruct(IMAGES, GEOMETRY, thickness=4, iteration=3), "did you mean 'iterations'"),
        (lambda: mv.reconstruct("a.mrc", thickness=4), "into a run folder, and none is given; give out"),
    ],
)
def test_images_in_memory_that_cannot_be_are_refused(call, said):
    with pytest.raises(mv.InputError, match=said):
        call()


def test_options_are_refused_before_a_folder_is_made(stacks, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(mv.InputError, match="no option 'iteration'; did you mean 'iterations'"):
        mv.reconstruct(stacks, out=out, thickness=12, iteration=3)
    with pytest.raises(mv.InputError, match="no option 'stars'; did you mean 'starts'"):
        mv.abinitio("particles.star", out=out, stars=3)
    with pytest.raises(mv.InputError, match="sirt"):
        mv.reconstruct(stacks, out=out, thickness=12, method="sirt", subsets=3)
    assert not out.exists()


def test_particles_come_to_their_job_and_back(tmp_path, monkeypatch):
    """The job itself is another test's matter."""
    told = []

    def job(particles, options, run, world):
        told.append((particles, options, run, world.size))
        write_run(run.out, job="particles abinitio")

    monkeypatch.setattr(particle_job, "abinitio", job)
    star, out = tmp_path / "particles.star", tmp_path / "run"
    run = mv.abinitio(str(star), out=out, no_ctf=True, diameter=180, symmetry="C4", quiet=True)
    command = ("manyviews particles abinitio", str(star), "--out", str(out), "--no-ctf --diameter 180.0")
    words = " ".join((*command, "--symmetry C4 --quiet"))
    assert told == [
        (
            ParticleOptions(star, no_ctf=True),
            AbinitioOptions(diameter=180.0, symmetry="C4"),
            RunOptions(out, quiet=True, command=tuple(words.split())),
            1,
        )
    ]
    assert len(run.poses) == 2


@pytest.mark.parametrize(
    ("name", "module", "kind", "more"),
    [
        ("refine", refine_job, RefineOptions, {"start": "first.mrc"}),
        ("solve", solve_job, SolveOptions, {"starts": 6}),
    ],
)
def test_particles_come_to_the_jobs_that_refine(tmp_path, monkeypatch, name, module, kind, more):
    told = []

    def job(particles, options, run, world):
        told.append((particles, options, run.command[:3]))
        write_run(run.out, job=f"particles {name}")

    monkeypatch.setattr(module, name, job)
    out = tmp_path / "run"
    run = getattr(mv, name)("particles.star", out=out, halves="particle", quiet=True, **more)
    given = {key: Path(value) if key == "start" else value for key, value in more.items()}
    command = ("manyviews", "particles", name)
    assert told == [(ParticleOptions(Path("particles.star")), kind(halves="particle", **given), command)]
    assert run.folder == out
    with pytest.raises(mv.InputError, match="no option 'halfs'; did you mean 'halves'"):
        getattr(mv, name)("particles.star", out=out, halfs="table", **more)


def test_subtomograms_are_aligned_and_the_command_goes_on_with_it(tmp_path, capsys):
    options = SubtomogramsOptions(
        box=32, pixel_size=12.0, count=12, snr=1.0, tilt_step=5.0, shift_range=24.0, seed=1
    )
    made = simulate_subtomograms(options, tmp_path / "data")
    out = tmp_path / "run"
    run = mv.align_subtomograms(
        made.particles, out=out, reference=made.reference, iterations=2, candidates=5, threads=1, quiet=True
    )
    truth = mv.read_mrc(made.truth)[0]
    assert np.corrcoef(run.volume.ravel(), truth.ravel())[0, 1] > 0.8
    first, second = run.halves
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.7
    assert run.fsc.resolution(0.143) < 55
    np.testing.assert_array_equal(run.fsc.correlation, run.tables["fsc"]["fsc"])
    true = read_subtomograms(made.truth_poses, data_root=made.folder)
    error = angular_distance(euler_to_matrices(run.poses.angles), euler_to_matrices(true.angles))
    assert np.median(error) < 6
    assert np.median(np.linalg.norm(run.poses.shifts - true.shifts, axis=1)) < 12.0
    assert (run.poses.half == 1).sum() == 6
    assert (run.summary["particles"], run.summary["iterations"]) == (12, 2)
    command = tomllib.loads((out / "run.toml").read_text())["command"]
    assert command[:4] == ["manyviews", "subtomo", "align", str(made.particles)]
    assert main([word for word in command[1:] if word != "--quiet"]) == 0
    assert "nothing to do" in capsys.readouterr().err
    with pytest.raises(mv.InputError, match="no option 'tilts'"):
        mv.align_subtomograms(made.particles, out=out, tilts=(-60, 60))
    with pytest.raises(mv.InputError, match="has no maps of halves"):
        _ = mv.open_run(write_run(tmp_path / "other")).halves


def _denoised(denoiser, **options):
    options = {"method": "consensus", "iterations": 4, "denoiser": denoiser, **options}
    images = np.random.default_rng(5).normal(size=IMAGES.shape)
    return mv.reconstruct(images, GEOMETRY, thickness=4, **options)


def test_a_denoiser_is_an_agent_like_any_other():
    """That of the bound at zero, written by the user, is the bound at zero."""
    own = _denoised(lambda volume: np.maximum(volume, 0.0))
    built_in = _denoised(None, non_negative=True)
    assert np.array_equal(np.maximum(own, 0.0), built_in)
    assert not np.allclose(own, _denoised(None))
