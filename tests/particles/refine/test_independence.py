"""Halves that know nothing of each other: other labels, copies, starts, noise; and junk that is told."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace

import numpy as np
import pytest
from em_example import BOX, COUNT, RADIUS, example, write_example

from manyviews.io.particle_images import ParticleImages, read_particles, write_particle_stack
from manyviews.io.relion_particles import write_relion_particles
from manyviews.jobs import run as job
from manyviews.metrics.fsc import agreed_radius
from manyviews.options import RunOptions
from manyviews.particles.em.maximisation import half_correlation
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.options import ParticleOptions, RefineOptions
from manyviews.particles.refine.refine import refine
from manyviews.particles.refine.solver import HalvesRefinement
from manyviews.particles.refine.start import low_passed

IMAGES, START = 160, 6


@pytest.fixture(autouse=True)
def _quick(one_thread, monkeypatch):
    monkeypatch.setattr(job, "build_report", lambda folder, sections, tell=None: folder / "report.html")


def problem_of(images):
    plan = EmPlan(len(images), starts=0, refinements=3, batch=len(images), filled=1.0, most_radius=RADIUS)
    return EmProblem(images, np.arange(len(images)), plan, 0.6, 0, positive=False, independent=True)


def refined(images, volume, passes):
    low = low_passed(volume, START)
    solver = HalvesRefinement(problem_of(images), (low, low * 1.001), START)
    state = solver.init()
    for _ in range(passes):
        state = solver.step(state)
    return solver, state


def correlation_of(images, samples):
    """FSC of the halves that even and odd numbers are, of all frequencies."""
    problem = problem_of(images)
    sums = problem.sums(images, samples, problem.numbers, RADIUS, len(images), problem.symmetry)
    return half_correlation(sums, problem.constraint(BOX))


def test_labels_of_halves_shuffled_afterwards_change_nothing():
    made = example(IMAGES, noise=1.0)
    _, state = refined(made.images, made.volume, 3)
    order = np.random.default_rng(0).permutation(IMAGES)
    mixed = correlation_of(made.images.select(order), state.samples.among(order, IMAGES))
    own = correlation_of(made.images, state.samples)
    assert abs(agreed_radius(mixed.tolist()) - agreed_radius(own.tolist())) <= 1
    np.testing.assert_allclose(mixed[1:], own[1:], atol=0.12)


def test_pure_noise_agrees_in_nothing_beyond_the_start():
    """But for the shells into which a mask carries what the halves share; and no image is disbelieved."""
    made = example(IMAGES, noise=1.0)
    rng = np.random.default_rng(1)
    parts = rng.standard_normal((2, *made.images.values.shape))
    scale = np.sqrt(made.images.noise_variance[0][made.images.shells()] / 2)
    noise = replace(made.images, values=((parts[0] + 1j * parts[1]) * scale).astype(np.complex64))
    _, state = refined(noise, made.volume, 3)
    assert max(correlation_of(noise, state.samples)[START + 2 :]) < 0.143
    assert not state.noise_gain[:, 2].any()
    assert (state.credence == 1).all()


def test_images_of_noise_lose_their_weight_and_particles_do_not():
    made = example(IMAGES, noise=0.5)
    junk = np.arange(IMAGES) % 5 == 2
    rng = np.random.default_rng(2)
    parts = rng.standard_normal((2, *made.images.values.shape))
    scale = np.sqrt(made.images.noise_variance[0][made.images.shells()] / 2)
    values = np.where(junk[:, None], (parts[0] + 1j * parts[1]) * scale, made.images.values)
    _, state = refined(replace(made.images, values=values.astype(np.complex64)), made.volume, 3)
    credence = state.credence.numpy()
    assert (credence[junk] < 0.5).mean() > 0.9
    assert (credence[~junk] > 0.5).mean() > 0.98


def run(particles, out, **given):
    options = RefineOptions(
        start=particles.with_name("truth.mrc"), start_resolution=60.0, threads=1, iterations=3
    )
    return refine(ParticleOptions(particles), replace(options, **given), RunOptions(out, quiet=True))


def test_copies_never_straddle_and_the_halves_begin_and_end_differently(tmp_path):
    """Copies that their table has in both halves are in one in the end, and so in one map."""
    given = write_example(tmp_path / "data")
    table = read_particles(given)
    twice = table.select(np.concatenate([np.arange(COUNT), np.arange(9)]))
    half = np.concatenate([np.arange(COUNT) % 2 + 1, 2 - np.arange(9) % 2])
    write_relion_particles(given, replace(twice, half=half), overwrite=True)
    found = run(given, tmp_path / "run", iterations=1)
    posed = read_particles(tmp_path / "run" / "particles.star", data_root=given.parent)
    np.testing.assert_array_equal(posed.half[:9], posed.half[COUNT:])
    assert found.summary["copies_of_other_particles"] == 9
    digests = {
        hashlib.sha256((tmp_path / "run" / name).read_bytes()).hexdigest()
        for name in ("half1.mrc", "half2.mrc")
    }
    assert len(digests) == 2


def test_junk_is_listed_told_and_has_no_part_in_the_map(tmp_path):
    given = write_example(tmp_path / "data", snr=1.0)
    table = read_particles(given)
    images = ParticleImages(table).read()
    junk = np.arange(7, COUNT, 10)
    images[junk] = np.random.default_rng(3).standard_normal(images[junk].shape)
    write_particle_stack(
        given.with_name("particles.mrcs"), [images], len(images), table.pixel_size, overwrite=True
    )
    found = run(given, tmp_path / "run")
    with (tmp_path / "run" / "doubtful.csv").open() as file:
        rows = list(csv.DictReader(file))
    listed = {int(row["particle"]) - 1 for row in rows}
    assert set(junk.tolist()) <= listed
    assert len(listed) <= len(junk) + 2
    assert found.summary["particles_not_believed"] == len(rows)
    assert any("count for little" in text for text in found.summary["warnings"])
    posed = read_particles(tmp_path / "run" / "particles.star", data_root=given.parent)
    credence = np.array(posed.extra["manyviewsCredence"], float)
    assert credence[junk].max() < 0.5 < np.median(credence)
