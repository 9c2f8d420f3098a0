"""What is said of subtomograms before they are aligned: wedge, noise, faults, doubts, plan and cost."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.relion_subtomogram_writer import write_relion_subtomograms
from manyviews.io.subtomogram_formats import read_subtomograms
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld
from manyviews.subtomo import check as check_module
from manyviews.subtomo.align import align
from manyviews.subtomo.align_options import AlignOptions
from manyviews.subtomo.check import check, sampled
from manyviews.subtomo.estimate import estimate_cost, expected_radii, expected_reach, visible_shell
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.plan import resolve_plan
from manyviews.subtomo.simulate import simulate
from manyviews.subtomo.simulate_options import SimulateOptions
from manyviews.subtomo.volumes import fourier_subtomograms, subtomogram_bytes
from manyviews.subtomo.warnings import brightness, check_ranks, data_warnings

BOX, PIXEL, COUNT, SNR = 32, 12.0, 12, 0.36
ONE = AlignOptions(threads=1)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    options = SimulateOptions(box=BOX, pixel_size=PIXEL, count=COUNT, snr=SNR, tilt_step=3.0, seed=3)
    return simulate(options, tmp_path_factory.mktemp("check") / "data")


@pytest.fixture(scope="module")
def checked(simulated):
    return check(SubtomogramOptions(particles=simulated.particles), ONE)


def changed_copy(simulated, folder: Path, change) -> Path:
    """The same data with other volumes; ``change(number, volume)`` gives them."""
    shutil.copytree(simulated.folder, folder)
    for number, path in enumerate(sorted((folder / "volumes").iterdir())):
        volume = change(number, read_mrc(path)[0].copy()).astype("<f4")
        with open(path, "r+b") as handle:  # our own writer refuses NaN
            handle.seek(1024)
            handle.write(volume.tobytes())
    return folder / simulated.particles.name


def test_tells_what_is_there(checked):
    text = "\n".join(checked.lines())
    for words in (
        "particles: 12",
        "volumes: 32 x 32 x 32 voxels of 12 A, 384 A wide",
        "wedge: measured as one weight volume of the table say",
        "  seen in the mean power of 12 particles: -6",
        "volumes looked at: 12; none is damaged or constant",
        "plan: joint search, levenberg-marquardt, particle of 268.8 A, C1, from the best of 8 draws of "
        "random orientations at 64 A",
        "degrees apart x 19 shifts up to 38.4 A, 10 candidates",
        "halves by particle: 6 and 6; they share what is coarser than 64 A",
        "memory: about",
        "time: about",
        "on 1 thread",
        "no warnings",
    ):
        assert words in text, words


def test_wedge_and_noise_are_measured(checked):
    (wedge,) = checked.wedges
    assert wedge.measured.scheme.low == pytest.approx(-60, abs=3)
    assert wedge.measured.scheme.high == pytest.approx(60, abs=3)
    assert wedge.measured.scheme.axis == (0.0, 1.0, 0.0)
    assert checked.grey.noise == pytest.approx(1, abs=0.1)  # what the simulation promises
    assert checked.grey.sampled == COUNT
    ratio = checked.grey.signal_to_noise
    assert ratio[2:5].min() > 3 > 0.3 > ratio[-3:].max()
    assert 5 < checked.reach <= checked.plan.radius


def test_grey_levels_do_not_matter(simulated, checked, tmp_path):
    path = changed_copy(simulated, tmp_path / "scaled", lambda number, volume: 50 * volume + 1000)
    found = check(SubtomogramOptions(particles=path), ONE).grey
    assert found.noise == pytest.approx(50 * checked.grey.noise, rel=1e-3)
    assert found.background == pytest.approx(50 * checked.grey.background + 1000, rel=1e-3)
    np.testing.assert_allclose(found.signal_to_noise, checked.grey.signal_to_noise, rtol=1e-2, atol=1e-3)


def test_warns_of_dark_particles_and_of_another_wedge(simulated, tmp_path):
    path = changed_copy(simulated, tmp_path / "dark", lambda number, volume: -volume)
    (said,) = check(SubtomogramOptions(particles=path), ONE).warnings
    assert "darker than what is around it" in said
    given = SubtomogramOptions(particles=simulated.particles, tilt_range=(-60.0, 60.0), tilt_axis="x")
    said = " ".join(check(given, ONE).warnings)
    assert "--tilt-range is taken, not the weight volumes" in said
    assert "the tilt axis is another" in said


@pytest.mark.usefixtures("no_page")
def test_a_run_warns_of_what_check_warns_of(simulated, tmp_path):
    path = changed_copy(simulated, tmp_path / "dark", lambda number, volume: -volume)
    given = SubtomogramOptions(particles=path, tilt_range=(-60.0, 60.0), tilt_axis="x")
    options = AlignOptions(iterations=1, candidates=2, resolution=60.0, starts=1, threads=1)
    said = check(given, options).warnings
    assert len(said) == 3
    run = tmp_path / "run"
    align(given, options, RunOptions(run, quiet=True))
    told = json.loads((run / "summary.json").read_text())["warnings"]
    assert set(said) <= set(told)
    with pytest.raises(InputError, match="13 processes are more than there are subtomograms"):
        align(given, options, RunOptions(tmp_path / "other"), world=SimpleNamespace(rank=0, size=13))
    assert not (tmp_path / "other").exists()


def test_faulty_volumes_are_found_in_the_sample_or_in_all(simulated, tmp_path, monkeypatch):
    def spoil(number, volume):
        if number == 4:
            volume[3, 4, 5] = np.nan
        return np.zeros_like(volume) if number == 7 else volume

    given = SubtomogramOptions(particles=changed_copy(simulated, tmp_path / "bad", spoil))
    found = check(given, ONE)
    assert [(one.number, one.reason) for one in found.faulty] == [
        (4, "it holds NaN or infinity"),
        (7, "it is constant"),
    ]
    assert found.grey.sampled == COUNT - 2
    assert "subtomogram 5: it holds NaN or infinity; subtomogram 8: it is constant" in found.warnings[0]
    monkeypatch.setattr(check_module, "_SAMPLE", 6)  # 1, 3, 5, 8, 10 and 12 of twelve
    found = check(given, ONE)
    assert "volumes looked at: 6 of 12 (--all-volumes for all); 2 set aside" in "\n".join(found.lines())
    monkeypatch.setattr(check_module, "_LEAST_SAMPLE", 2)
    monkeypatch.setattr(check_module, "_SAMPLE", 2)  # the first and the last
    assert not check(given, ONE).faulty
    found = check(given, ONE, all_volumes=True)
    assert [one.number for one in found.faulty] == [4, 7]
    assert "volumes looked at: 12; 2 set aside" in "\n".join(found.lines())


def test_tells_poses_priors_filaments_and_halves_of_the_table(simulated, tmp_path):
    table = read_subtomograms(simulated.truth_poses, data_root=simulated.folder)
    priors = np.full((COUNT, 3), np.nan)
    priors[:, 1] = 90.0
    rich = replace(
        table,
        prior_angles=priors,
        prior_sigmas=np.full((COUNT, 3), 7.0),
        tomograms=("a", "b"),
        tomogram_index=np.arange(COUNT) % 2,
        filament=np.arange(COUNT) // 4 % 2 + 1,
        half=np.where(np.arange(COUNT) < 4, 1, 2),
        volume_names=(),
    )
    star = tmp_path / "rich.star"
    write_relion_subtomograms(star, rich)
    given = SubtomogramOptions(particles=star, data_root=simulated.folder)
    found = check(given, replace(ONE, halves="filament", symmetry="C2"))
    text = "\n".join(found.lines())
    for words in (
        "particles: 12, in 2 tomograms",
        "poses: in the table, not used (--known-poses)",
        "priors of orientations: tilt of all +- 7 degrees",
        "filaments: 4",
        "halves: in the table, 4 and 8, not used (--halves table)",
        "symmetry: C2, 2 rotations",
    ):
        assert words in text, words
    known = replace(ONE, known_poses=True, prior_sigma=5.0, halves="table")
    text = "\n".join(check(given, known).lines())
    assert "poses: in the table, used" in text
    assert "tilt of all +- 5 degrees" in text
    assert "4 and 8, used" in text
    assert "from the poses of the table at 64 A" in text
    text = "\n".join(check(given, replace(ONE, ignore_priors=True)).lines())
    assert "priors of orientations: in the table, not used" in text


@pytest.mark.parametrize(
    ("options", "ranks", "words"),
    [
        (AlignOptions(diameter=1000), 1, "does not go with a box"),
        (AlignOptions(symmetry="Q3"), 1, "Q3"),
        (AlignOptions(known_poses=True), 1, "the table has no poses"),
        (AlignOptions(reference=Path("absent.mrc")), 1, "absent"),
        (AlignOptions(), 13, "13 processes are more than there are subtomograms, 12"),
    ],
)
def test_impossible_options_are_refused_as_a_run_would(simulated, options, ranks, words):
    with pytest.raises(InputError, match=words):
        check(SubtomogramOptions(particles=simulated.particles), options, ranks=ranks)


def test_on_the_command_line(simulated, capsys):
    words = [
        "subtomo",
        "check",
        str(simulated.particles),
        "--ranks",
        "2",
        "--method",
        "sag",
        "--threads",
        "1",
    ]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "for each of 2 processes" in told
    assert "time: not estimated for joint search with sag" in told


def test_samples_are_spread_and_smaller_where_volumes_are_large():
    np.testing.assert_array_equal(sampled(5, 64), np.arange(5))
    assert len(sampled(1000, 64)) == 100
    assert sampled(1000, 64)[[0, -1]].tolist() == [0, 999]
    assert len(sampled(1000, 128)) == 2**26 // 128**3
    assert len(sampled(1000, 512)) == 5


def ball_data(sign: float, ctf: float = 1.0):
    """Balls in noise, with a transfer of either sign."""
    box, rng = 24, np.random.default_rng(0)
    place = np.stack(np.meshgrid(*[np.arange(box) - box // 2] * 3, indexing="ij"))
    ball = (np.sqrt((place**2).sum(axis=0)) < 6).astype(np.float32)
    volumes = np.stack([sign * ctf * ball + rng.normal(size=(box,) * 3) for _ in range(8)])
    transfers = np.full((1, box, box, box // 2 + 1), ctf, np.float32)
    return fourier_subtomograms(
        volumes, transfers, np.zeros(8, int), pixel_size=5.0, radius=11, diameter=0.7 * box * 5.0
    )


@pytest.mark.parametrize("ctf", [1.0, -1.0])
def test_brightness_has_the_sign_of_the_particle_whatever_that_of_the_ctf(ctf):
    bright, error = brightness(ball_data(1.0, ctf), 0.7 * 24, SingleWorld())
    assert bright > 10 * error > 0
    dark, _ = brightness(ball_data(-1.0, ctf), 0.7 * 24, SingleWorld())
    assert dark < -10 * error
    plan = resolve_plan(AlignOptions(), 8, 24, 5.0)
    assert data_warnings(ball_data(1.0, ctf), plan) == ()
    assert "darker" in data_warnings(ball_data(-1.0, ctf), plan)[0]
    full = resolve_plan(AlignOptions(diameter=118.0), 8, 24, 5.0)
    assert data_warnings(ball_data(1.0, ctf), full) == (
        "the particle fills the box, so the noise is taken from the corners only",
    )


def test_a_single_subtomogram_says_nothing_of_brightness():
    data = ball_data(-1.0)
    assert brightness(data.select([0]), 16.8, SingleWorld()) == (0.0, math.inf)
    check_ranks(8, 8)


# --- the estimate ---


def test_reach_follows_its_formula():
    flat = np.ones(31)
    assert expected_reach(flat, 100, 100) == 30
    falling = np.exp(-0.5 * np.arange(31.0))
    # N / 2 exp(-k / 2) = 0.143 / 0.857, and beyond what 1,000 show as before
    assert visible_shell(falling, 1000) == 5  # exp(-2.5) is above 0.05, exp(-3) not
    assert expected_reach(falling, 200, 1000) == math.floor(2 * math.log(100 / (0.143 / 0.857)))
    assert expected_reach(falling, 200, 10**9) == expected_reach(falling, 200, 1000)
    assert visible_shell(np.zeros(20), 100) == 1
    assert expected_reach(np.zeros(20), 1000, 100) == 1


def test_radii_follow_the_agreement_of_the_iteration_before():
    plan = resolve_plan(AlignOptions(iterations=4), 50, 64, 6.0)
    assert plan.start_radius == 6
    # agreed 13 at most, in shells up to 1.5 radius + 4, times 1.1 and one more
    assert expected_radii(plan, 12) == (6, 15, 15, 15)
    assert expected_radii(plan, 31) == (6, 16, 31, 31)
    assert expected_radii(plan, 1) == (6, 6, 6, 6)


def test_more_of_anything_costs_more():
    def cost(count=100, box=64, ranks=1, reach=12, **options):
        return estimate_cost(resolve_plan(AlignOptions(**options), count, box, 6.0), count, 1, reach, ranks)

    base = cost()
    assert base.data_bytes == subtomogram_bytes(100, 31)
    assert len(base.radii) == 12
    for more in (cost(count=200), cost(box=96), cost(reach=20), cost(candidates=60), cost(symmetry="C7")):
        assert more.seconds > base.seconds
    assert cost(box=96).working_bytes > base.working_bytes
    assert cost(ranks=2).data_bytes == base.data_bytes / 2
    assert cost(ranks=2).seconds < base.seconds
    assert cost(method="sag").seconds is None
    assert cost(search="rotational").seconds is None


def test_a_map_for_another_box_is_refused(simulated, tmp_path):
    write_mrc(tmp_path / "small.mrc", np.random.default_rng(0).normal(size=(16,) * 3).astype("f4"), PIXEL)
    options = replace(ONE, reference=tmp_path / "small.mrc")
    with pytest.raises(InputError, match="it has 16 x 16 x 16 voxels"):
        check(SubtomogramOptions(particles=simulated.particles), options)
