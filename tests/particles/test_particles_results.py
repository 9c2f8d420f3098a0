import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices, random_rotations
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.particle_table import OpticsGroup, table_of_stack
from manyviews.io.relion_particles import read_relion_particles, write_relion_particles
from manyviews.io.tables import read_numbers
from manyviews.metrics.fsc import FscCurve
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.em.pose_summary import mean_poses, summarise_poses
from manyviews.particles.images.look import SIGNS, Look
from manyviews.particles.options import AbinitioOptions
from manyviews.particles.pass_files import REFINEMENT, pass_files
from manyviews.particles.plan import resolve_plan
from manyviews.particles.results import (
    CRYOSPARC_FILE,
    HALF_MAPS,
    PARTICLES_FILE,
    REFERENCE_FILE,
    RESULTS,
    Reconstruction,
    far_from_images,
    in_figures,
    preview,
    write_results,
)
from manyviews.particles.selection import FILES, Selection
from manyviews.particles.start_files import START_PLANES_FILE, STARTS_FILE
from manyviews.report import fitted_images
from random_steps import random_steps

BOX, PIXEL_SIZE, COUNT, DRAWS = 16, 5.0, 60, 4


def table():
    group = OpticsGroup("one", 300.0, 2.7, 0.1, PIXEL_SIZE, BOX)
    return table_of_stack(Path("images.mrcs"), group, np.full((COUNT, 2), 15_000.0))


def chosen(fault=None, of=None):
    """All particles, or those without a fault, some of them copies."""
    zeros, everyone = np.zeros(COUNT), np.arange(COUNT)
    fault = zeros.astype(int) if fault is None else fault
    signs = np.random.default_rng(3).normal(size=(COUNT, SIGNS))
    if of is not None:
        signs = signs[of]
    look = Look(everyone, zeros, zeros, zeros, zeros, zeros.astype(int), zeros, fault, signs,
                np.zeros((0, 2), int))  # fmt: skip
    return Selection.of(table(), look, 50.0, replaces=False)


def samples(spread_degrees=2.0):
    """Four poses an image around one, which has the largest weight."""
    rng = np.random.default_rng(1)
    centre = random_rotations(COUNT, rng)
    rotations = np.repeat(centre, DRAWS, axis=0)
    rotations[1::2] = random_steps(COUNT * DRAWS // 2, spread_degrees, rng) @ rotations[1::2]
    weights = np.tile([0.4, 0.2, 0.2, 0.2], COUNT)
    shifts = np.tile([[0, 0], [1, 0], [0, 0], [-1, 0]], (COUNT, 1))
    parts = rotations.astype(np.float32), shifts.astype(np.float32), weights.astype(np.float32)
    return PoseSamples(np.repeat(np.arange(COUNT), DRAWS), *parts)


def structure(correlation, *, independent=False):
    rough = np.random.default_rng(2).random((BOX,) * 3)
    volume = torch.from_numpy(gaussian_filter(rough, 1.5, mode="wrap").astype(np.float32))
    halves = (volume + 1, volume + 2) if independent else ()
    mask = torch.ones_like(volume) if independent else None
    return Reconstruction(volume, samples(), correlation, {"stopped_because": "iterations"}, halves, mask)


@pytest.fixture
def plan():
    return resolve_plan(AbinitioOptions(), COUNT, BOX, PIXEL_SIZE)


def test_everything_is_written_and_reads_back(tmp_path, plan):
    falling = [1.0, 0.9, 0.5, 0.1, 0.0]
    figures = write_results(tmp_path, plan, chosen(), structure(falling))
    assert {path.name for path in tmp_path.iterdir()} == set(RESULTS) - {
        *HALF_MAPS,
        CRYOSPARC_FILE,
        REFERENCE_FILE,
        STARTS_FILE,
        START_PLANES_FILE,
        *FILES,
        *fitted_images.FILES,  # the job writes these two itself
        *pass_files(REFINEMENT),
    }
    volume, header = read_mrc(tmp_path / "volume.mrc")
    assert volume.shape == (BOX,) * 3
    assert header.pixel_size[0] == pytest.approx(PIXEL_SIZE)
    posed = read_relion_particles(tmp_path / "particles.star", with_images=False)
    assert posed.angles.shape == (COUNT, 3)
    assert posed.half is None  # found with one map
    assert {"manyviewsAngleSpreadDegrees", "manyviewsShiftSpreadAngst"} <= set(posed.extra)
    np.testing.assert_allclose(FscCurve.read_csv(tmp_path / "fsc.csv").correlation, falling)
    directions = read_numbers(tmp_path / "directions.csv", ("z", "longitude_degrees", "particles"))
    assert directions[:, 2].sum() == COUNT
    spread = read_numbers(tmp_path / "spread.csv", ("from_degrees", "to_degrees", "particles"))
    assert spread[:, 2].sum() == COUNT
    crossing = 2 + (0.5 - 0.143) / 0.4
    name = "resolution_fsc0143_of_halves_found_with_one_map_angstrom"
    assert figures[name] == pytest.approx(BOX * PIXEL_SIZE / crossing, abs=0.01)
    json.dumps(figures, allow_nan=False)


def test_a_curve_that_never_falls_claims_no_more_than_its_last_shell(tmp_path, plan):
    figures = write_results(tmp_path, plan, chosen(), structure([1.0, 0.9, 0.8, 0.7], independent=True))
    name = "resolution_fsc0143_of_independent_halves_angstrom"
    assert figures[name] == pytest.approx(BOX * PIXEL_SIZE / 3, abs=0.01)
    posed = read_relion_particles(tmp_path / "particles.star", with_images=False)
    assert posed.half.tolist() == [n % 2 + 1 for n in range(COUNT)]


def test_maps_of_independent_halves_are_written_with_their_mask(tmp_path, plan):
    found = structure([1.0, 0.9, 0.5, 0.1], independent=True)
    write_results(tmp_path, plan, chosen(), found)
    for name, expected in zip(HALF_MAPS, (*found.halves, found.mask), strict=True):
        volume, header = read_mrc(tmp_path / name)
        np.testing.assert_array_equal(volume, expected.numpy())
        assert header.pixel_size == pytest.approx([PIXEL_SIZE] * 3)


def test_particles_from_cryosparc_go_back_there_too(tmp_path, plan):
    """With the fields that they came with, and the poses that the STAR file has."""
    records = np.zeros(COUNT, [("uid", "u8"), ("blob/path", "S12"), ("pick_stats/power", "f4")])
    records["uid"] = np.arange(COUNT) + 900
    whole = replace(table(), records=records)
    write_results(tmp_path, plan, replace(chosen(), whole=whole), structure([1.0, 0.5, 0.1]))
    back = np.load(tmp_path / CRYOSPARC_FILE)
    star = read_relion_particles(tmp_path / PARTICLES_FILE, with_images=False)
    np.testing.assert_array_equal(back["uid"], records["uid"])
    turns = Rotation.from_rotvec(back["alignments3D/pose"].astype(float))
    apart = turns.inv() * Rotation.from_euler("ZYZ", star.angles, degrees=True)
    assert apart.magnitude().max() < 1e-6
    shifts = back["alignments3D/shift"] * back["alignments3D/psize_A"][:, None]
    np.testing.assert_allclose(shifts, star.shifts, atol=1e-5)


def test_halves_of_the_input_do_not_pass_for_those_of_the_run(tmp_path, plan):
    halved = replace(table(), half=np.arange(COUNT) % 2 + 1)
    write_results(tmp_path, plan, replace(chosen(), whole=halved), structure([1.0, 0.5, 0.1]))
    assert read_relion_particles(tmp_path / "particles.star", with_images=False).half is None


def test_a_run_far_from_the_images_tells_which_folder_to_give(tmp_path):
    project = tmp_path / "project"
    (project / "Extract").mkdir(parents=True)
    write_mrc(project / "Extract" / "a.mrcs", np.ones((2, 8, 8), np.float32), 2.0, is_volume=False)
    optics = OpticsGroup("one", 300.0, 2.7, 0.1, 2.0, image_size=8)
    one = table_of_stack(project / "Extract" / "a.mrcs", optics, np.ones((2, 2)))
    named = replace(one, stack_names=("Extract/a.mrcs",))
    assert list(far_from_images(named, project / "Class3D" / "job001")) == []
    (told,) = far_from_images(named, tmp_path / "elsewhere" / "run1")
    assert f"--data-root {project}," in told
    written = tmp_path / "elsewhere" / "run1" / "particles.star"
    written.parent.mkdir(parents=True)
    write_relion_particles(written, named)
    with pytest.raises(InputError, match="--data-root"):
        read_relion_particles(written)
    assert len(read_relion_particles(written, data_root=project)) == 2


def test_no_halves_no_curve(tmp_path, plan):
    figures = write_results(tmp_path, plan, chosen(), structure([]))
    assert FscCurve.read_csv(tmp_path / "fsc.csv") is None
    assert not any("FSC" in name for name in figures)


def test_a_reference_is_compared_with(tmp_path, plan):
    found = structure([1.0, 0.5, 0.1])
    write_mrc(tmp_path / "truth.mrc", found.volume.numpy(), PIXEL_SIZE)
    options = replace(plan.options, reference=tmp_path / "truth.mrc")
    figures = write_results(tmp_path, replace(plan, options=options), chosen(), found)
    assert figures["correlation_with_the_reference"] > 0.95
    assert figures["hand"] == "as the reference"
    assert FscCurve.read_csv(tmp_path / "fsc_reference.csv") is not None


def test_rows_keep_their_order_and_copies_their_half(tmp_path, plan):
    of = np.arange(COUNT)
    of[[7, 31]] = [2, 30]
    some = chosen(of=of)
    assert not np.all(np.diff(some.order) > 0)
    figures = write_results(tmp_path, plan, some, structure([1.0, 0.5], independent=True))
    posed = read_relion_particles(tmp_path / "particles.star", with_images=False)
    assert posed.section.tolist() == list(range(COUNT))
    assert posed.half[7] == posed.half[2]
    assert posed.half[31] == posed.half[30]
    same = np.setdiff1d(np.arange(COUNT), [7, 30, 31])
    np.testing.assert_array_equal(posed.half[same], same % 2 + 1)
    best, _, _ = mean_poses(samples(), COUNT)
    np.testing.assert_allclose(euler_to_matrices(posed.angles)[some.order], best.rotations, atol=1e-4)
    assert figures["copies_of_other_particles"] == 2
    lines = (tmp_path / "copies.csv").read_text().splitlines()
    assert lines[1] == "8,000008@images.mrcs,3,the same pixels"


def test_the_best_pose_and_the_spread_around_it():
    given = samples(0.0)
    best, angle, shift = summarise_poses(given, COUNT)
    assert len(best.image) == COUNT
    np.testing.assert_allclose(best.weights, 0.4)
    np.testing.assert_allclose(angle, 0, atol=0.05)
    np.testing.assert_allclose(shift, np.sqrt(0.4), rtol=1e-5)  # two of the five shares are one pixel off


def test_infinity_is_a_word():
    assert in_figures(float("inf")) == "none"
    assert in_figures(12.3456) == 12.35


def test_a_map_of_low_frequencies_is_shown_in_its_own_voxels(tmp_path, plan):
    job = SimpleNamespace(speaks=True, folder=tmp_path)
    preview(job, plan)(torch.rand((8, 8, 8)))
    _, header = read_mrc(tmp_path / "volume.mrc")
    assert header.pixel_size[0] == pytest.approx(2 * PIXEL_SIZE)
