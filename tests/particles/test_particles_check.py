import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.io.mrc import read_mrc
from manyviews.io.particle_images import read_particles
from manyviews.io.relion_particles import write_relion_particles
from manyviews.particles import check as check_module
from manyviews.particles.check import check
from manyviews.particles.estimate import estimate_cost, expected_reach
from manyviews.particles.options import AbinitioOptions, ParticleOptions, SimulateOptions
from manyviews.particles.plan import resolve_plan
from manyviews.particles.simulate import simulate

BOX, PIXEL_SIZE, COUNT, SNR = 24, 8.0, 80, 0.5


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    options = SimulateOptions(box=BOX, pixel_size=PIXEL_SIZE, count=COUNT, snr=SNR, shift_sigma=4.0, seed=2)
    return simulate(options, tmp_path_factory.mktemp("check") / "data")


@pytest.fixture(scope="module")
def checked(simulated):
    return check(ParticleOptions(particles=simulated.particles), AbinitioOptions(starts=2, threads=1))


def changed_copy(simulated, folder: Path, change) -> Path:
    """The same table with other images."""
    images, _ = read_mrc(simulated.folder / "particles.mrcs")
    folder.mkdir()
    shutil.copy(simulated.folder / "particles.mrcs", folder)
    with open(folder / "particles.mrcs", "r+b") as handle:  # our own writer refuses NaN
        handle.seek(1024)
        handle.write(change(images.copy()).astype("<f4").tobytes())
    table = read_particles(simulated.particles)
    write_relion_particles(folder / "particles.star", replace(table, stacks=(folder / "particles.mrcs",)))
    return folder / "particles.star"


def test_tells_what_is_there(checked):
    text = "\n".join(checked.lines())
    for words in (
        "particles: 80, in 1 stack",
        "images: 24 x 24 pixels of 8 A, 192 A wide",
        "simulated: 80 particles, 300 kV, Cs 2.7 mm, amplitude contrast 0.07",
        "images looked at: 80;",
        "plan: stochastic-em",
        "2 random starts, each:",
        "memory: about",
        "time: about",
        "on 1 thread",
        "then particles refine, some",
        "or particles solve, both in one run: about",
        "no warnings",
    ):
        assert words in text, words


def test_measures_noise_and_signal(checked):
    grey = checked.grey
    assert grey.noise == pytest.approx(1, abs=0.08)  # what the simulation promises
    assert grey.whole_ratio == pytest.approx(SNR, rel=0.2)
    ratios = np.array(grey.signal_to_noise)
    assert ratios[2:5].min() > 20 * abs(ratios[-2:]).max()


def test_grey_levels_do_not_matter(simulated, checked, tmp_path):
    path = changed_copy(simulated, tmp_path / "scaled", lambda images: 50 * images + 1000)
    found = check(ParticleOptions(particles=path), AbinitioOptions(threads=1)).grey
    assert found.noise == pytest.approx(50 * checked.grey.noise, rel=1e-3)
    assert found.background == pytest.approx(50 * checked.grey.background + 1000, rel=1e-3)
    np.testing.assert_allclose(found.signal_to_noise, checked.grey.signal_to_noise, rtol=1e-2, atol=1e-3)


def test_warns_of_dark_protein(simulated, tmp_path):
    path = changed_copy(simulated, tmp_path / "dark", lambda images: -images)
    dark = check(ParticleOptions(particles=path), AbinitioOptions(threads=1))
    assert any("--dark-protein" in text for text in dark.warnings)
    told = check(ParticleOptions(particles=path, dark_protein=True), AbinitioOptions(threads=1))
    assert not told.warnings


def test_warns_of_missing_defocus_and_of_noise_alone(simulated, tmp_path):
    generator = np.random.default_rng(0)
    noise = changed_copy(simulated, tmp_path / "noise", lambda images: generator.normal(size=images.shape))
    table = read_particles(noise)
    write_relion_particles(noise, replace(table, defocus=np.zeros_like(table.defocus)), overwrite=True)
    said = " ".join(check(ParticleOptions(particles=noise), AbinitioOptions(threads=1)).warnings)
    assert "80 particles have no underfocus" in said
    assert "hardly any signal" in said


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, r"set aside: particle 42 is blank"), (math.nan, r"set aside: particle 42 .* NaN")],
)
def test_bad_images_are_named(simulated, tmp_path, monkeypatch, value, words):
    def spoil(images):
        images[41] = value
        return images

    path = changed_copy(simulated, tmp_path / "bad", spoil)
    found = check(ParticleOptions(particles=path), AbinitioOptions(threads=1))
    assert re.search(words, " ".join(found.warnings))
    assert "images looked at: 80; 1 set aside" in "\n".join(found.lines())
    monkeypatch.setattr(check_module, "_FEW_PIXELS", 0)
    monkeypatch.setattr(check_module, "SAMPLE", 10)  # which leaves out number 42
    found = check(ParticleOptions(particles=path), AbinitioOptions(threads=1))
    assert "images looked at: 10 of 80 (--all-images for all); none is" in "\n".join(found.lines())
    assert not found.warnings
    found = check(ParticleOptions(particles=path), AbinitioOptions(threads=1), all_images=True)
    assert re.search(words, " ".join(found.warnings))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (AbinitioOptions(diameter=1000), "does not go with a box"),
        (AbinitioOptions(resolution=3), "do not reach"),
        (AbinitioOptions(symmetry="Q3"), "Q3"),
        (AbinitioOptions(starts=0), "--starts: 0 is too small"),
    ],
)
def test_impossible_options_are_refused_as_a_run_would(simulated, options, words):
    with pytest.raises(InputError, match=words):
        check(ParticleOptions(particles=simulated.particles), options)


def test_sagd_has_no_time():
    cost = estimate_cost(resolve_plan(AbinitioOptions(method="sagd"), 2000, 64, 4.0), 20)
    assert cost.seconds is None
    assert cost.stages == ()


@settings(max_examples=25, deadline=5000)
@given(st.integers(200, 20_000), st.sampled_from([32, 64, 100]), st.integers(1, 4))
def test_more_of_anything_costs_more(count, box, starts):
    def cost(number, side, tries):
        return estimate_cost(resolve_plan(AbinitioOptions(starts=tries), number, side, 4.0), side // 4)

    base = cost(count, box, starts)
    assert 0 < base.seconds < cost(count, box, starts + 1).seconds
    more = cost(2 * count, box, starts)
    assert base.seconds < more.seconds
    assert more.images_bytes == 2 * base.images_bytes
    assert base.working_bytes > 0
    assert sum(stage.iterations for stage in base.stages) >= 1
    assert base.seconds >= sum(stage.seconds for stage in base.stages)


def test_reach_follows_its_formula():
    flat = [1.0] * 40
    # N s / (4 k share) = 0.143 / 0.857, share = pi / 6 of a particle as wide as the box
    shell = 100 / 4 / (math.pi / 6) / (0.143 / 0.857)
    assert expected_reach(flat, 100, 10_000, 1.0) == 39 < shell
    assert expected_reach(flat, 10, 10_000, 1.0) == math.floor(shell / 10)
    falling = [math.exp(-0.5 * k) for k in range(40)]
    known = expected_reach(falling, 1000, 10**12, 0.8)
    # what cannot be measured falls a quarter less steeply
    lost = next(k for k in range(1, 40) if falling[k] < 3 / math.sqrt(math.pi * k * 2000))
    bent = [math.exp(-0.5 * min(k, lost) - 0.375 * max(k - lost, 0)) for k in range(40)]
    assert expected_reach(falling, 1000, 2000, 0.8) == expected_reach(bent, 1000, 10**12, 0.8) > known
    assert expected_reach([0.0] * 20, 1000, 500, 0.8) == 1
    assert expected_reach(falling, 10_000, 2000, 0.8) > known
