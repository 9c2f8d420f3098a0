"""``subtomo simulate``: what it writes, that it is what it says, and what is refused."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manyviews.alignment.map_alignment import move_map
from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.relion_subtomograms import read_relion_subtomograms
from manyviews.simulate.particle_specimens import particle_specimen
from manyviews.subtomo.simulate import low_passed, simulate, simulate_subtomograms
from manyviews.subtomo.simulate_options import SimulateOptions
from manyviews.subtomo.wedge.transfer import frequency_radius
from manyviews.subtomo.wedge.weight_volumes import read_weights

SMALL = SimulateOptions(box=24, pixel_size=10.0, count=3, tilt_range=(-40.0, 60.0), tilt_step=5.0, seed=3)
MODEL = """\
REMARK 350 BIOMOLECULE: 1
REMARK 350 APPLY THE FOLLOWING TO CHAINS: A
REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000
REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000
REMARK 350   BIOMT1   2  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000        0.00000
REMARK 350   BIOMT3   2  0.000000  0.000000 -1.000000        0.00000
ATOM      1  N   ALA A   1      11.104  13.207  22.100  1.00 20.00           N
ATOM      2  CA  ALA A   1      12.560  43.329   2.300  1.00 20.00           C
ATOM      3  C   GLY A   2      53.005  11.959  12.600  1.00 20.00           C
ATOM      4  O   GLY A   2      12.380  40.900   9.100  1.00 20.00           O
END
"""


def files_of(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_writes_volumes_weights_blind_and_true_tables(tmp_path: Path):
    seen = []
    made = simulate(replace(SMALL, defocus=50_000.0), tmp_path / "data", lambda *what: seen.append(what))
    assert sorted(files_of(made.folder)) == [
        "README.txt", "particles.star", "reference_60A.mrc", "simulate.toml", "truth.mrc", "truth.star",
        "volumes/000001.mrc", "volumes/000002.mrc", "volumes/000003.mrc",
        "weights/ctf.mrc", "weights/wedge.mrc",
    ]  # fmt: skip
    blind, true = (read_relion_subtomograms(path) for path in (made.particles, made.truth_poses))
    assert (len(blind), blind.pixel_size, blind.angles) == (3, 10.0, None)
    assert not blind.shifts.any()
    arrays = simulate_subtomograms(replace(SMALL, defocus=50_000.0))
    np.testing.assert_array_equal(true.angles, arrays.poses.angles)
    np.testing.assert_array_equal(true.shifts, arrays.poses.shifts)
    for path, volume in zip(true.volumes, arrays.volumes, strict=True):
        np.testing.assert_array_equal(read_mrc(path)[0], volume)
    np.testing.assert_array_equal(read_weights(true.weights[0], 24).transfer, arrays.transfer)
    np.testing.assert_array_equal(read_weights(made.folder / "weights/wedge.mrc", 24).transfer, arrays.wedge)
    assert arrays.transfer.min() < -0.3  # the CTF's sign is there
    assert arrays.wedge.min() == 0
    np.testing.assert_array_equal(read_mrc(made.truth)[0], arrays.truth)
    assert seen == [("volumes", number, 3) for number in (1, 2, 3)]
    assert shlex.split(made.command)[:4] == ["manyviews", "subtomo", "align", str(made.particles)]
    assert made.command in (made.folder / "README.txt").read_text()
    record = tomllib.loads((made.folder / "simulate.toml").read_text())
    assert record["options"]["tilt_range"] == [-40, 60]
    assert record["grey_levels"]["views"] == 21
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_without_ctf_the_table_names_the_wedge_and_the_same_seed_gives_the_same_files(tmp_path: Path):
    first, second = (simulate(SMALL, tmp_path / name) for name in ("a", "b"))
    table = read_relion_subtomograms(first.particles)
    assert [path.name for path in table.weights] == ["wedge.mrc"] * 3
    ours, theirs = files_of(first.folder), files_of(second.folder)
    ours.pop("README.txt"), theirs.pop("README.txt")
    assert ours == theirs
    with pytest.raises(InputError, match="exists already"):
        simulate(SMALL, tmp_path / "a")
    (tmp_path / "a" / "volumes" / "notes.txt").write_text("mine")
    simulate(replace(SMALL, count=2, overwrite=True), tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a" / "volumes").iterdir()) == [
        "000001.mrc", "000002.mrc", "notes.txt",
    ]  # fmt: skip


@pytest.mark.parametrize("defocus", [None, 50_000.0])
def test_the_ratio_is_of_the_variances_in_the_whole_box_and_two_copies_correlate_so(defocus: float | None):
    options = replace(SMALL, box=20, pixel_size=12.0, count=32, snr=0.5, defocus=defocus, tilt_step=10.0)
    signal = simulate_subtomograms(options).volumes
    noise = simulate_subtomograms(replace(options, noise_only=True)).volumes
    signal = signal - noise
    assert noise.var() == pytest.approx(1, rel=0.03)
    assert signal.var(axis=(1, 2, 3)).mean() == pytest.approx(0.5, rel=0.03)
    copies = zip(signal + noise, signal + noise[::-1], strict=True)
    pairs = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in copies]
    assert np.mean(pairs) / (1 - np.mean(pairs)) == pytest.approx(0.5, rel=0.05)


def test_without_noise_volumes_are_the_transfer_times_the_truth_which_is_white():
    made = simulate_subtomograms(replace(SMALL, noise_free=True, shift_range=0.0, count=1, box=32))
    assert made.signal_to_noise == np.inf
    assert made.truth.sum() > 0
    assert made.volumes[0].max() > -made.volumes[0].min()
    # rotations keep the sum of a shell of power, but for the wedge
    power = [np.abs(np.fft.rfftn(volume)) ** 2 for volume in (made.volumes[0], made.truth)]
    shell = (np.rint(frequency_radius(32)) == 3) & (made.wedge > 0.9)
    assert power[0][shell].mean() == pytest.approx(power[1][shell].mean(), rel=0.5)


def test_a_low_passed_map_has_nothing_beyond_and_all_before():
    volume = np.random.Generator(np.random.PCG64(0)).normal(size=(24, 24, 24)).astype(np.float32)
    found = np.fft.rfftn(low_passed(volume, 10.0, 60.0)) / np.fft.rfftn(volume)  # 4 cycles per box
    radius = frequency_radius(24)
    np.testing.assert_allclose(found[radius <= 3].real, 1, atol=1e-4)
    np.testing.assert_allclose(np.abs(found[radius >= 5]), 0, atol=1e-4)
    np.testing.assert_allclose(found[0, 0, 4].real, 0.5, atol=1e-3)


def test_no_symmetry_is_a_symmetry_too():
    """C1 has no axes to lie on: the specimen is as without, and nothing is divided by nought."""
    plain = SimulateOptions(specimen="complex", box=16, count=1, noise_free=True)
    with_c1 = simulate_subtomograms(replace(plain, symmetry="C1")).truth
    np.testing.assert_array_equal(with_c1, simulate_subtomograms(plain).truth)


def test_assemblies_and_symmetry_of_models(tmp_path: Path):
    model = tmp_path / "model.pdb"
    model.write_text(MODEL)
    options = replace(SMALL, specimen=str(model), noise_free=True, resolution=30.0, count=1)
    one, two = (simulate_subtomograms(replace(options, assembly=name)).truth for name in (None, "1"))
    assert two.sum() == pytest.approx(2 * one.sum(), rel=0.01)
    turned = simulate_subtomograms(replace(options, assembly="1", symmetry="c2")).truth
    half_turn = np.roll(turned[:, ::-1, ::-1], 1, axis=(1, 2))  # about z
    assert np.corrcoef(turned.ravel(), half_turn.ravel())[0, 1] > 0.98
    with pytest.raises(InputError, match=r"no assembly '2' \(its assemblies: 1\)"):
        simulate_subtomograms(replace(options, assembly="2"))
    with pytest.raises(InputError, match="no C3 symmetry"):
        simulate_subtomograms(replace(options, assembly="1", symmetry="C3"))


def test_maps_are_turned_as_formulas_are(tmp_path: Path):
    """About the centre of mass, which is in the middle then; what was at X is at R X."""
    rotation = euler_to_matrices([30.0, 50.0, -70.0]).T
    volume, formula = particle_specimen("complex", 32, 8.0, seed=2)
    assert formula is not None
    write_mrc(tmp_path / "map.mrc", np.roll(volume, (2, -1, 1), axis=(0, 1, 2)), 8.0)
    of_map, _ = particle_specimen(str(tmp_path / "map.mrc"), 32, 8.0, rotation=rotation)
    of_formula, _ = particle_specimen("complex", 32, 8.0, seed=2, rotation=rotation)
    assert np.corrcoef(of_map.ravel(), of_formula.ravel())[0, 1] > 0.995


def test_groel_is_a_14_mer_on_the_axes_of_d7(shared_data: Path):
    groel = shared_data / "pdb" / "1oel.pdb.gz"
    options = SimulateOptions(
        specimen=str(groel), assembly="1", symmetry="D7", box=32, pixel_size=12.0, noise_free=True, count=1
    )
    truth = simulate_subtomograms(options).truth
    for operation in symmetry_rotations("D7")[[1, 3, 7, 10]]:
        moved = move_map(truth, operation, np.zeros(3))
        assert np.corrcoef(moved.ravel(), truth.ravel())[0, 1] > 0.995


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tilt_range": (60.0, -60.0)}, "from 60 to -60 degrees are no range"),
        ({"tilt_range": (60.0,)}, "1 angles are no range"),
        ({"tilt_step": 0.01}, "views"),
        ({"tilt_axis": "z"}, "both along z"),
        ({"noise_only": True, "noise_free": True}, "nothing"),
        ({"specimen": "nothing"}, "no specimen 'nothing'"),
        ({"assembly": "1"}, "no atomic model"),
        ({"symmetry": "Q"}, "no point group 'Q'"),
        ({"snr": 0.0}, "too small"),
    ],
)
def test_what_is_impossible_is_refused_in_one_sentence(tmp_path: Path, changes: dict, words: str):
    with pytest.raises(InputError, match=words):
        simulate(replace(SMALL, **changes), tmp_path / "data")
    assert not list(tmp_path.iterdir())


def test_the_command_prints_what_it_made(tmp_path: Path, capsys):
    words = "--box 16 --pixel-size 15 --count 1 --tilt-range -40 60 --tilt-step 20 --tilt-axis x --snr 0.2"
    assert main(["subtomo", "simulate", "--out", str(tmp_path / "d"), "--quiet", *words.split()]) == 0
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'd' / 'particles.star'}\n" in printed
    assert "signal to noise: 0.2" in printed
    assert "the molecule is white" in printed
    assert "manyviews subtomo align" in printed
