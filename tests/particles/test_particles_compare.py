from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manyviews.alignment.map_alignment import move_map
from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.geometry.poses import matrices_to_euler, random_rotations
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.particle_table import OpticsGroup, table_of_stack
from manyviews.io.relion_particles import write_relion_particles
from manyviews.particles.compare import compare_maps, compare_poses
from manyviews.simulate.particles import molecular_complex
from random_steps import random_steps

BOX, PIXEL_SIZE, COUNT = 32, 6.0, 60


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A map, and the same turned, moved, mirrored, scaled and with a little noise."""
    folder = tmp_path_factory.mktemp("maps")
    truth = molecular_complex(BOX, PIXEL_SIZE, seed=4).density((BOX,) * 3, PIXEL_SIZE)
    turn = random_rotations(1, np.random.default_rng(5))[0]
    moved = 3 * move_map(truth, turn, np.array([1.0, -2.0, 0.5]), mirrored=True)
    moved += 0.02 * moved.std() * np.random.default_rng(6).normal(size=moved.shape).astype(np.float32)
    write_mrc(folder / "truth.mrc", truth, PIXEL_SIZE)
    write_mrc(folder / "found.mrc", moved, PIXEL_SIZE)
    return folder


def table_file(path: Path, angles, shifts, order=None) -> Path:
    order = np.arange(len(angles)) if order is None else order
    group = OpticsGroup("one", 300.0, 2.7, 0.1, PIXEL_SIZE, BOX)
    table = table_of_stack(
        Path("images.mrcs"), group, np.full((len(angles), 2), 15_000.0), angles=angles, shifts=shifts
    )
    names = ("section", "stack_index", "optics_index", "defocus", "defocus_angle", "phase_shift", "b_factor")
    columns = {name: getattr(table, name)[order] for name in (*names, "scale")}
    for name in ("angles", "shifts"):
        if getattr(table, name) is not None:
            columns[name] = getattr(table, name)[order]
    write_relion_particles(path, replace(table, **columns))
    return path


def test_a_map_is_laid_over_the_truth_in_the_other_hand(maps, tmp_path):
    found = compare_maps(maps / "found.mrc", maps / "truth.mrc", mask_diameter=180)
    assert found.alignment.mirrored
    assert found.alignment.correlation > 0.97
    assert found.curve.resolution(0.5) < 3 * PIXEL_SIZE
    text = "\n".join(found.lines())
    assert "hand:                     other than the reference" in text
    assert "resolution at FSC 0.143:" in text
    volume, table, picture = found.write(tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        found.write(tmp_path / "out")
    assert found.write(tmp_path / "out", overwrite=True) == (volume, table, picture)
    aligned, header = read_mrc(volume)
    truth, _ = read_mrc(maps / "truth.mrc")
    assert header.pixel_size[0] == pytest.approx(PIXEL_SIZE)
    assert np.corrcoef(aligned.ravel(), truth.ravel())[0, 1] > 0.9
    assert table.read_text().splitlines()[0] == "frequency_per_angstrom,fsc"
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="exist"):
        found.write(tmp_path / "out")


def test_files_that_are_there_are_refused_before_the_maps_are_laid_over_each_other(maps, tmp_path, capsys):
    (tmp_path / "fsc.png").write_bytes(b"mine")
    words = ["particles", "compare", str(maps / "found.mrc"), str(maps / "truth.mrc"), "--out", str(tmp_path)]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "fsc.png: exists already" in said.err
    assert said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["fsc.png"]


def test_maps_that_do_not_go_together_are_refused(maps, tmp_path):
    write_mrc(tmp_path / "small.mrc", np.ones((16, 16, 16), np.float32), PIXEL_SIZE)
    write_mrc(tmp_path / "flat.mrc", np.ones((BOX,) * 3, np.float32), PIXEL_SIZE)
    truth, _ = read_mrc(maps / "truth.mrc")
    write_mrc(tmp_path / "coarse.mrc", truth, 2 * PIXEL_SIZE)
    write_mrc(tmp_path / "slab.mrc", truth[:8], PIXEL_SIZE)
    reference = maps / "truth.mrc"
    for name, words in (
        ("small.mrc", "is 16 x 16 x 16 voxels and"),
        ("slab.mrc", "is 32 x 32 x 8 voxels"),
        ("coarse.mrc", "voxels of the map and of .* differ: 6 to 12"),
        ("flat.mrc", "is constant"),
    ):
        with pytest.raises(InputError, match=words):
            compare_maps(tmp_path / name, reference)
    with pytest.raises(InputError, match="does not go with a box of 192"):
        compare_maps(reference, reference, mask_diameter=500)


def test_poses_are_compared_up_to_a_turn_and_by_the_names_of_images(tmp_path):
    rng = np.random.default_rng(7)
    truth = random_rotations(COUNT, rng)
    whole_turn = random_rotations(1, rng)[0]
    found = random_steps(COUNT, 1.0, rng) @ truth @ whole_turn
    shifts = rng.normal(size=(COUNT, 2))
    order = rng.permutation(COUNT)[:-5]  # in another order, five left out
    a = table_file(tmp_path / "found.star", matrices_to_euler(found), shifts + 0.5, order)
    b = table_file(tmp_path / "truth.star", matrices_to_euler(truth), shifts)
    compared = compare_poses(a, b)
    assert compared.left_out == 5
    assert len(compared.errors.angles) == COUNT - 5
    assert np.median(compared.errors.angles) < 3
    assert not compared.errors.mirrored
    text = "\n".join(compared.lines())
    assert "particles:           55" in text
    assert "in one table only:   5 particles" in text
    same = compare_poses(b, b)
    assert same.errors.angles.max() < 0.01
    assert same.errors.shifts.max() < 1e-6


def test_symmetry_makes_poses_equal(tmp_path):
    truth = random_rotations(COUNT, np.random.default_rng(8))
    half_turn = np.diag([-1.0, -1.0, 1.0])
    found = np.where(np.arange(COUNT)[:, None, None] % 2 == 0, truth, truth @ half_turn)
    a = table_file(tmp_path / "found.star", matrices_to_euler(found), None)
    b = table_file(tmp_path / "truth.star", matrices_to_euler(truth), None)
    assert compare_poses(a, b, "C2").errors.angles.max() < 0.01
    assert compare_poses(a, b).errors.angles.max() > 90


def test_tables_without_poses_or_particles_in_common_are_refused(tmp_path):
    poses = matrices_to_euler(random_rotations(4, np.random.default_rng(9)))
    a = table_file(tmp_path / "a.star", poses, None)
    other = tmp_path / "other.star"
    other.write_text(a.read_text().replace("images.mrcs", "others.mrcs"))
    twice = tmp_path / "twice.star"
    twice.write_text(a.read_text().replace("000002@", "000001@"))
    with pytest.raises(InputError, match="no particle in common"):
        compare_poses(a, other)
    with pytest.raises(InputError, match="names an image twice"):
        compare_poses(twice, a)
    group = OpticsGroup("one", 300.0, 2.7, 0.1, PIXEL_SIZE, BOX)
    without = table_of_stack(Path("images.mrcs"), group, np.full((4, 2), 15_000.0))
    write_relion_particles(tmp_path / "without.star", without)
    with pytest.raises(InputError, match="holds no poses"):
        compare_poses(tmp_path / "without.star", a)
