import math
import shlex
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.mrc import read_header, read_mrc, write_mrc
from manyviews.io.particle_images import read_particles
from manyviews.operators.contrast_transfer import Optics
from manyviews.particles.options import SimulateOptions
from manyviews.particles.simulate import mask_diameter, simulate
from manyviews.simulate.particles import (
    GaussianProjector,
    Poses,
    molecular_complex,
    particle_images,
)

SMALL = SimulateOptions(box=24, pixel_size=5.0, count=300, seed=3)
MODEL = """\
ATOM      1  N   ALA A   1      11.104  13.207   2.100  1.00 20.00           N
ATOM      2  CA  ALA A   1      12.560  13.329   2.300  1.00 20.00           C
ATOM      3  C   GLY A   2      33.005  11.959   2.600  1.00 20.00           C
ATOM      4  O   GLY A   2      12.380  40.900   9.100  1.00 20.00           O
END
"""


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_writes_a_stack_blind_and_true_tables_and_the_truth(tmp_path):
    seen = []
    made = simulate(SMALL, tmp_path / "data", lambda *what: seen.append(what))
    assert {path.name for path in made.folder.iterdir()} == {
        "particles.mrcs",
        "particles.star",
        "truth.star",
        "truth.mrc",
        "simulate.toml",
        "README.txt",
    }
    header = read_header(made.folder / "particles.mrcs")
    assert header.shape == (300, 24, 24)
    assert not header.is_volume
    blind, truth = read_particles(made.particles), read_particles(made.truth_poses)
    assert blind.angles is None
    assert blind.shifts is None
    assert len(blind) == len(truth) == 300
    np.testing.assert_array_equal(blind.defocus, truth.defocus)
    assert truth.optics[0].voltage_kv == 300
    assert truth.optics[0].pixel_size == 5
    assert read_header(made.truth).shape == (24, 24, 24)
    assert seen == [("particles.mrcs", 256, 300), ("particles.mrcs", 300, 300)]
    assert made.command in (made.folder / "README.txt").read_text()
    words = shlex.split(made.command)
    assert words[:5] == ["manyviews", "particles", "abinitio", str(made.particles), "--diameter"]
    assert words[6:8] == ["--reference", str(made.truth)]
    density = read_mrc(made.truth)[0]
    z, y, x = np.indices(density.shape) - 12
    outside = np.sqrt(x**2 + y**2 + z**2) * 5 > float(words[5]) / 2
    assert density[outside].max() < 0.02 * density.max()
    assert 60 < int(words[5]) <= 120
    record = tomllib.loads((made.folder / "simulate.toml").read_text())
    assert record["options"]["seed"] == 3
    assert record["grey_levels"]["signal_to_noise"] == pytest.approx(0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_diameter_of_a_mask_suits_the_specimen_and_the_box():
    volume = np.zeros((40, 40, 40), np.float32)
    volume[20, 20, 11] = 1.0
    assert mask_diameter(volume, 4.0) == 90  # 9 + 2 pixels of 4 A to either side are 88 A
    volume[0, 0, 0] = 1.0
    assert mask_diameter(volume, 4.0) == 160
    assert mask_diameter(volume * 0, 4.1) == 50


@pytest.mark.parametrize("views", ["uniform", "belt"])
def test_images_without_noise_are_projections_at_the_poses_of_the_table(tmp_path, views):
    options = replace(SMALL, noise=0.0, views=views, b_factor=50.0, count=20)
    made = simulate(options, tmp_path / "data")
    assert made.signal_to_noise == math.inf
    table = read_particles(made.truth_poses)
    group = table.optics[0]
    optics = Optics.make(
        group.voltage_kv,
        group.spherical_aberration_mm,
        group.amplitude_contrast,
        table.defocus,
        table.defocus_angle,
        table.phase_shift,
        table.b_factor,
        table.scale,
    )
    specimen = molecular_complex(24, 5.0, seed=3)
    projector = GaussianProjector(specimen, 24, 5.0)
    expected = particle_images(projector, Poses(table.angles, table.shifts), optics, 5.0)
    images, _ = read_mrc(made.folder / "particles.mrcs")
    np.testing.assert_allclose(images, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(read_mrc(made.truth)[0], specimen.density((24,) * 3, 5.0))


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first = simulate(SMALL, tmp_path / "a")
    again = simulate(replace(SMALL, overwrite=True), tmp_path / "a" / ".." / "b")
    one, two = bytes_of(first.folder), bytes_of(again.folder)
    for name in ("particles.mrcs", "particles.star", "truth.star", "truth.mrc"):
        assert one[name] == two[name]
    other = bytes_of(simulate(replace(SMALL, seed=4), tmp_path / "c").folder)
    assert other["particles.mrcs"] != one["particles.mrcs"]


@pytest.mark.parametrize("snr", [None, 0.02, 3.0])
def test_noise_has_variance_one_and_the_ratio_is_as_asked(tmp_path, snr):
    noisy = simulate(replace(SMALL, snr=snr), tmp_path / "noisy")
    clean = simulate(replace(SMALL, noise=0.0), tmp_path / "clean")
    scale = tomllib.loads((noisy.folder / "simulate.toml").read_text())["grey_levels"]["scale"]
    seen, _ = read_mrc(noisy.folder / "particles.mrcs")
    signal = scale * read_mrc(clean.folder / "particles.mrcs")[0]
    wanted = 0.1 if snr is None else snr
    assert signal.var() == pytest.approx(wanted, rel=1e-3)
    assert (seen - signal).var() == pytest.approx(1, rel=0.02)
    assert noisy.signal_to_noise == pytest.approx(wanted)
    np.testing.assert_allclose(read_mrc(noisy.truth)[0], scale * read_mrc(clean.truth)[0], rtol=1e-5)


def test_noise_can_be_given_against_the_mass_of_the_specimen(tmp_path):
    made = simulate(replace(SMALL, noise=25.0, mass=80_000.0), tmp_path / "data")
    assert read_mrc(made.truth)[0].sum(dtype=np.float64) == pytest.approx(80_000 / 25, rel=1e-3)


def test_coloured_noise_is_stronger_at_low_frequencies(tmp_path):
    made = simulate(replace(SMALL, noise_colour=30.0, snr=0.001), tmp_path / "data")
    power = (np.abs(np.fft.rfft2(read_mrc(made.folder / "particles.mrcs")[0])) ** 2).mean(axis=0)
    assert power[1, 1] > 5 * power[11, 11]


def test_without_ctf_images_are_plain_projections(tmp_path):
    made = simulate(replace(SMALL, no_ctf=True, noise=0.0, shift_sigma=0.0, count=5), tmp_path / "data")
    images, _ = read_mrc(made.folder / "particles.mrcs")
    total = read_mrc(made.truth)[0].sum(dtype=np.float64)
    np.testing.assert_allclose(images.sum(axis=(1, 2), dtype=np.float64), total, rtol=1e-4)
    group = read_particles(made.particles).optics[0]
    assert (group.amplitude_contrast, group.spherical_aberration_mm) == (1, 0)


def test_atomic_models_and_maps_are_specimens_too(tmp_path):
    model = tmp_path / "model.pdb"
    model.write_text(MODEL)
    options = replace(SMALL, specimen=str(model), resolution=15.0, count=4)
    truth, _ = read_mrc(simulate(options, tmp_path / "atoms").truth)
    assert truth.max() > 0
    small = np.zeros((15,) * 3, dtype=np.float32)
    small[7, 7, 7], small[7, 7, 11] = 1, 2  # the centre, and a point along x
    write_mrc(tmp_path / "map.mrc", small, 5.0)
    options = replace(SMALL, specimen=str(tmp_path / "map.mrc"), count=4, noise=0.0)
    truth, _ = read_mrc(simulate(options, tmp_path / "map").truth)
    assert truth[12, 12, 12] == 1
    assert truth[12, 12, 16] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"box": 8}, "--box: 8 is too small; give a whole number from 16 on"),
        ({"pixel_size": 0.0}, "--pixel-size: 0 is too small"),
        ({"pixel_size": math.nan}, "not a number"),
        ({"count": 0}, "count"),
        ({"snr": 0.1, "noise": 3.0}, "two ways"),
        ({"snr": -1.0}, "--snr: -1 is too small"),
        ({"noise": -1.0}, "--noise: -1 is too small"),
        ({"defocus_min": -1.0}, "--defocus-min: -1 is too small"),
        ({"defocus_min": 3e4}, "defocus from 30000 to 25000"),
        ({"amplitude_contrast": 1.0}, "--amplitude-contrast: 1 is too large"),
        ({"shift_sigma": -1.0}, "--shift-sigma: -1 is too small"),
        ({"seed": -1}, "--seed: -1 is too small"),
        (
            {"seed": 2**63},
            "--seed: 9223372036854775808 is too large; give a whole number",
        ),
        ({"views": "top"}, "'top'"),
        ({"specimen": "cube"}, "no specimen 'cube'"),
        ({"specimen": "absent.pdb"}, "absent.pdb"),
        ({"specimen": "absent.mrc"}, "absent.mrc"),
    ],
)
def test_impossible_requests_are_one_sentence_and_leave_nothing(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        simulate(replace(SMALL, **changes), tmp_path / "data")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("shape", "pixel_size", "words"),
    [((9, 9, 8), 5.0, "9 x 9 x 8"), ((30, 30, 30), 5.0, "at most 24"), ((9, 9, 9), 4.0, "voxels of 4 A")],
)
def test_maps_that_do_not_fit_are_refused(tmp_path, shape, pixel_size, words):
    write_mrc(tmp_path / "map.mrc", np.random.default_rng(0).normal(size=shape), pixel_size)
    with pytest.raises(InputError, match=words):
        simulate(replace(SMALL, specimen=str(tmp_path / "map.mrc")), tmp_path / "data")


def test_an_empty_map_is_refused(tmp_path):
    write_mrc(tmp_path / "map.mrc", np.zeros((9, 9, 9)), 5.0)
    with pytest.raises(InputError, match="constant"):
        simulate(replace(SMALL, specimen=str(tmp_path / "map.mrc")), tmp_path / "data")


def test_nothing_is_overwritten_unasked(tmp_path):
    simulate(SMALL, tmp_path / "data")
    (tmp_path / "data" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        simulate(SMALL, tmp_path / "data")
    simulate(replace(SMALL, count=5, overwrite=True), tmp_path / "data")
    assert (tmp_path / "data" / "mine.txt").read_text() == "keep"
    assert read_header(tmp_path / "data" / "particles.mrcs").shape[0] == 5
