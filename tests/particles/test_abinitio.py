"""From a STAR file and nothing else to the map that made the images."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from em_example import COUNT, FILE_PIXEL, QUICK, likeness, reconstruct, write_example
from em_ranks import SHORT, shorten

from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.particle_images import ParticleImages, read_particles, write_particle_stack
from manyviews.io.relion_particles import write_relion_particles
from manyviews.jobs import run as job
from manyviews.metrics.pose_error import pose_errors
from manyviews.particles.check import check
from manyviews.particles.em import plan as em_plan
from manyviews.particles.methods import check_ranks
from manyviews.particles.options import ParticleOptions

TWO_STARTS = replace(QUICK, starts=2)  # one may end elsewhere; the better one is kept


@pytest.fixture(autouse=True)
def _quick(one_thread, monkeypatch):
    monkeypatch.setattr(job, "build_report", lambda folder, sections, tell=None: folder / "report.html")


@pytest.fixture
def _short(monkeypatch):
    monkeypatch.setattr(em_plan, "_START_ITERATIONS", em_plan._START_ITERATIONS)
    shorten()


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("particles") / "data")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("small") / "data", count=60)


def test_the_structure_and_the_poses_are_found(particles, tmp_path):
    """Up to what no image can tell: the map's own orientation, place and hand."""
    out, truth = tmp_path / "run", particles.with_name("truth.mrc")
    found = reconstruct(particles, out, replace(TWO_STARTS, reference=truth))
    assert found.summary["correlation_with_the_reference"] > 0.9
    assert found.summary["particles"] == COUNT
    assert json.loads((out / "summary.json").read_text()) == found.summary
    true, posed = (
        read_particles(particles.with_name("truth.star")),
        read_particles(out / "particles.star", data_root=particles.parent),
    )
    errors = pose_errors(
        euler_to_matrices(posed.angles),
        euler_to_matrices(true.angles),
        found_shifts=posed.shifts,
        true_shifts=true.shifts,
    )
    assert np.median(errors.angles) < 8
    assert np.median(errors.shifts) < 0.5 * FILE_PIXEL
    assert errors.mirrored == (found.summary["hand"] == "other than the reference")


def resolutions(found):
    """What the resolution of the halves is called."""
    return [name for name in found.summary if name.startswith("resolution_fsc0143")]


def test_coloured_noise_and_independent_halves(tmp_path):
    star = write_example(tmp_path / "data", noise_colour=6.0)
    found = reconstruct(star, tmp_path / "run", replace(TWO_STARTS, independent_halves=True))
    assert likeness(tmp_path / "run", star.with_name("truth.mrc")) > 0.9
    assert resolutions(found) == ["resolution_fsc0143_of_independent_halves_angstrom"]


def test_a_symmetric_particle_without_a_ctf(tmp_path):
    star = write_example(tmp_path / "data", fold=2, no_ctf=True)
    done = reconstruct(star, tmp_path / "run", replace(TWO_STARTS, symmetry="C2"))
    assert resolutions(done) == ["resolution_fsc0143_of_halves_found_with_one_map_angstrom"]
    assert likeness(tmp_path / "run", star.with_name("truth.mrc")) > 0.9
    found = read_mrc(tmp_path / "run" / "volume.mrc")[0][:, 1:, 1:]
    turned = found[:, ::-1, ::-1]
    assert np.linalg.norm(found - turned) < 0.03 * np.linalg.norm(found)


@pytest.mark.usefixtures("_short")
def test_images_in_files_give_the_same_bits(small, tmp_path):
    reconstruct(small, tmp_path / "memory", SHORT)
    reconstruct(small, tmp_path / "files", replace(SHORT, memory=1e-6, scratch=tmp_path))
    for name in ("volume.mrc", "particles.star"):
        assert (tmp_path / "files" / name).read_bytes() == (tmp_path / "memory" / name).read_bytes()
    assert "images are kept in files" in (tmp_path / "files" / "log.txt").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "memory"]


@pytest.mark.usefixtures("_short")
def test_several_optics_groups(small, tmp_path):
    """Images of the second group are four times as noisy; each group has its own spectrum."""
    table = read_particles(small)
    images = ParticleImages(table).read(np.arange(60)).copy()
    second = np.arange(60) % 3 == 1
    images[second] += 2 * np.random.default_rng(0).normal(size=images[second].shape)
    write_particle_stack(tmp_path / "particles.mrcs", [images], 60, FILE_PIXEL)
    group = table.optics[0]
    groups = (group, replace(group, name="other"))
    split = replace(table, optics=groups, optics_index=second.astype(table.optics_index.dtype),
                    stacks=(tmp_path / "particles.mrcs",))  # fmt: skip
    write_relion_particles(tmp_path / "particles.star", split)
    found = reconstruct(tmp_path / "particles.star", tmp_path / "run", SHORT)
    again = read_particles(tmp_path / "run" / "particles.star", data_root=tmp_path)
    assert len(again.optics) == 2
    np.testing.assert_array_equal(again.optics_index, second)
    assert found.summary["particles"] == 60


def test_too_many_ranks_are_refused():
    plan = SimpleNamespace(options=SHORT)
    check_ranks(plan, 8)
    with pytest.raises(InputError, match="9 ranks are more than can share the particles"):
        check_ranks(plan, 9)
    with pytest.raises(InputError, match="sagd runs in one process"):
        check_ranks(SimpleNamespace(options=replace(SHORT, method="sagd")), 2)


def spoilt(folder, spoil, count=60):
    """Example files whose images are changed."""
    star = write_example(folder, count=count)
    stack = ParticleImages(read_particles(star)).read(np.arange(count)).copy()
    spoil(stack)
    star.with_name("particles.mrcs").unlink()
    write_particle_stack(star.with_name("particles.mrcs"), [stack], count, FILE_PIXEL)
    return star


def test_blank_images_leave_no_begun_run_behind(tmp_path):
    star = spoilt(tmp_path / "data", lambda stack: stack[17:].fill(3.0))
    with pytest.raises(InputError, match=r"particle 18 .* is blank"):
        reconstruct(star, tmp_path / "run", SHORT)
    assert not (tmp_path / "run").exists()
    star = spoilt(tmp_path / "few", lambda stack: stack[17:30].fill(3.0))
    with pytest.raises(InputError, match="47 images of 20 pixels are too little"):
        reconstruct(star, tmp_path / "run", SHORT)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("_short")
def test_a_blank_image_is_set_aside_and_listed_and_the_job_goes_on(tmp_path, capsys):
    def spoil(stack):
        stack[17] = 3.0
        stack[30, 10, 10] = 1e5
        stack[41] = 20 * stack[8] + 5

    star = spoilt(tmp_path / "data", spoil)
    told = check(ParticleOptions(star), SHORT).warnings
    found = reconstruct(star, tmp_path / "run", SHORT)
    (far,) = [text for text in found.summary["warnings"] if "lies outside of the project" in text]
    assert [text for text in found.summary["warnings"] if text != far][: len(told)] == list(told)
    assert "set aside: particle 18 is blank: all its pixels are the same" in told
    assert any("particle 31, by" in text and "--remove-outliers" in text for text in told)
    assert any(
        "1 particle is a copy of others, from the same pixels (particle 42 of 9)" in text for text in told
    )
    said, log = capsys.readouterr().err, (tmp_path / "run/log.txt").read_text()
    assert all(text in said and text in log for text in told)
    assert found.summary["particles"] == 59
    assert found.summary["particles_set_aside"] == 1
    assert (tmp_path / "run/set_aside.csv").read_text().splitlines()[1:] == [
        "18,000018@particles.mrcs,is blank: all its pixels are the same"
    ]
    assert (tmp_path / "run/copies.csv").read_text().splitlines()[1:] == [
        "42,000042@particles.mrcs,9,the same pixels"
    ]
    posed = read_particles(tmp_path / "run/particles.star", data_root=star.parent)
    assert posed.section.tolist() == [row for row in range(60) if row != 17]
    assert posed.half is None  # both halves share one map
    assert reconstruct(star, tmp_path / "run", SHORT).summary == found.summary


@pytest.mark.usefixtures("_short")
def test_one_image_with_a_huge_pixel_changes_next_to_nothing(small, tmp_path):
    def spoil(stack):
        stack[30, 10, 10] = 1e5

    star = spoilt(tmp_path / "data", spoil)
    reconstruct(small, tmp_path / "clean", SHORT)
    truth, _ = read_mrc(tmp_path / "clean/volume.mrc")
    for name, options in (("cut", SHORT), ("replaced", replace(SHORT, remove_outliers=True))):
        reconstruct(star, tmp_path / name, options)
        found, _ = read_mrc(tmp_path / name / "volume.mrc")
        assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.98, name


@pytest.mark.usefixtures("_short")
def test_what_check_warns_of_is_said_again(tmp_path, monkeypatch, capsys):
    star = write_example(tmp_path / "data", count=60)
    stack = ParticleImages(read_particles(star)).read(np.arange(60)).copy()
    star.with_name("particles.mrcs").unlink()
    write_particle_stack(star.with_name("particles.mrcs"), [-stack], 60, FILE_PIXEL)
    words = "the middle of the images is darker than their rim"
    assert any(words in text for text in check(ParticleOptions(star), SHORT).warnings)
    found = reconstruct(star, tmp_path / "run", SHORT)
    assert any(words in text for text in found.summary["warnings"])
    assert words in capsys.readouterr().err
    assert words in (tmp_path / "run/log.txt").read_text()


def test_a_reference_of_another_size_is_refused_before_any_work(small, tmp_path):
    write_mrc(tmp_path / "other.mrc", np.ones((8, 8, 8), np.float32), FILE_PIXEL)
    with pytest.raises(InputError, match="8 x 8 x 8 voxels"):
        reconstruct(small, tmp_path / "run", replace(SHORT, reference=tmp_path / "other.mrc"))
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_refused_before_any_work(small, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no usable CUDA device"):
        reconstruct(small, tmp_path / "run", replace(SHORT, device="cuda"))
    assert not (tmp_path / "run").exists()


@pytest.mark.cuda
@pytest.mark.usefixtures("_short")
def test_a_gpu_finds_the_structure_too(particles, tmp_path):
    reconstruct(particles, tmp_path / "run", replace(QUICK, device="cuda"))
    assert (tmp_path / "run" / "volume.mrc").exists()


def test_few_images_are_refused(tmp_path):
    star = write_example(tmp_path / "data", count=20)
    with pytest.raises(InputError, match="20 images of 20 pixels are too little"):
        reconstruct(star, tmp_path / "run")
