"""Poses of tables are compared particle by particle, whatever the order and the folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.geometry.poses import angular_distance, euler_to_matrices, matrices_to_euler, random_rotations
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.subtomo.compare import compare_tables
from manyviews.subtomo.selection import duplicates_of, make_halves
from random_steps import random_steps

COUNT = 60
RNG = np.random.default_rng(17)
TURNS, MOVES = random_steps(COUNT, 2.0, RNG), RNG.normal(0, 2, (COUNT, 3))
POSES, SHIFTS = random_rotations(COUNT, RNG), RNG.normal(0, 6, (COUNT, 3))
PLACES = RNG.uniform(0, 5000, (COUNT, 3))


def table(poses, shifts, folder="a", **columns):
    volumes = tuple(Path(folder) / f"TS_{row % 2}" / f"{row // 2:04d}.mrc" for row in range(COUNT))
    names = tuple(map(str, volumes))
    return SubtomogramTable(
        6.0, shifts, volumes=volumes, volume_names=names, angles=matrices_to_euler(poses), **columns
    )


TRUTH = table(POSES, SHIFTS, "truth")
GROUP = symmetry_rotations("D7")
FOUND = table(TURNS @ POSES @ GROUP[RNG.integers(14, size=COUNT)], SHIFTS + MOVES, "run/extra")
MADE, MOVED = angular_distance(TURNS, np.eye(3)), np.linalg.norm(MOVES, axis=1)


def test_errors_are_those_that_were_made_whatever_the_order():
    order = np.random.default_rng(3).permutation(COUNT)
    compared = compare_tables(FOUND.select(order), TRUTH, "D7", one_frame=True)
    np.testing.assert_allclose(compared.errors.angles, MADE[order], atol=1e-5)
    np.testing.assert_allclose(compared.errors.shifts, MOVED[order])
    assert compared.names[0] == FOUND.volume_names[order[0]]
    told = "\n".join(compared.lines())
    assert (
        f"angle, degrees:     {np.median(MADE):8.2f} {np.mean(MADE):8.2f} {np.quantile(MADE, 0.9):8.2f}"
        in told
    )
    assert f"shift, angstrom:    {np.median(MOVED):8.2f}" in told
    assert "hand:               as the second table's" in told
    assert "taken out" not in told


def test_a_common_turn_and_move_are_taken_out_and_told():
    turn = euler_to_matrices([20.0, 30.0, 40.0])
    poses = euler_to_matrices(FOUND.angles) @ turn
    moved = replace(FOUND, angles=matrices_to_euler(poses), shifts=FOUND.shifts + poses @ [10.0, 0, -5])
    compared = compare_tables(moved, TRUTH, "D7")
    np.testing.assert_allclose(compared.errors.angles, MADE, atol=1.5)
    np.testing.assert_allclose(compared.errors.centre, [10, 0, -5], atol=1.0)
    assert "taken out of all:" in compared.lines()[-1]
    assert np.median(compare_tables(moved, TRUTH, "D7", one_frame=True).errors.angles) > 5


def test_particles_of_one_table_only_are_told():
    compared = compare_tables(FOUND.select(np.arange(10, COUNT)), TRUTH, "D7", one_frame=True)
    np.testing.assert_allclose(compared.errors.angles, MADE[10:], atol=1e-5)
    assert compared.lines()[-1] == "in one table only:  10 particles, not compared"


def test_without_volumes_the_place_in_the_tomogram_tells():
    index = np.arange(COUNT) % 2
    placed = [
        replace(
            one, volumes=(), volume_names=(), coordinates=PLACES, tomogram_index=index, tomograms=("a", "b")
        )
        for one in (FOUND, TRUTH)
    ]
    compared = compare_tables(placed[0].select(np.arange(COUNT)[::-1]), placed[1], "D7", one_frame=True)
    np.testing.assert_allclose(compared.errors.angles, MADE[::-1], atol=1e-5)
    assert compared.left_out == 0


def test_errors_of_each_particle_are_written(tmp_path):
    compared = compare_tables(FOUND, TRUTH, "D7", one_frame=True)
    path = compared.write(tmp_path / "new")
    lines = path.read_text().splitlines()
    assert lines[0] == "particle,angle_degrees,shift_angstrom"
    assert lines[1] == f"run/extra/TS_0/0000.mrc,{MADE[0]:.4f},{MOVED[0]:.4f}"
    with pytest.raises(InputError, match="exists"):
        compared.write(tmp_path / "new")


STAR = """data_optics

loop_
_rlnOpticsGroup #1
_rlnImagePixelSize #2
1 6.0

data_particles

loop_
_rlnImageName #1
_rlnOpticsGroup #2
_rlnAngleRot #3
_rlnAngleTilt #4
_rlnAnglePsi #5
_rlnOriginXAngst #6
_rlnOriginYAngst #7
_rlnOriginZAngst #8
"""


def write_star(path, some):
    rows = [
        " ".join([name, "1", *(f"{value:.6f}" for value in (*angles, *shift))])
        for name, angles, shift in zip(some.volume_names, some.angles, some.shifts, strict=True)
    ]
    path.write_text(STAR + "\n".join(rows) + "\n")


def test_the_command_tells_medians_and_writes_a_table(tmp_path, capsys):
    write_star(tmp_path / "found.star", FOUND)
    write_star(tmp_path / "truth.star", TRUTH)
    words = ["subtomo", "compare", str(tmp_path / "found.star"), str(tmp_path / "truth.star")]
    assert main([*words, "--symmetry", "D7", "--reference-frame", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert f"angle, degrees:     {np.median(MADE):8.2f} {np.mean(MADE):8.2f}" in told
    assert told.splitlines()[-1] == str(tmp_path / "out" / "pose_errors.csv")
    assert len((tmp_path / "out" / "pose_errors.csv").read_text().splitlines()) == COUNT + 1
    assert main([*words, "--symmetry", "D7", "--out", str(tmp_path / "out")]) == 2
    refused = capsys.readouterr()
    assert "pose_errors.csv: exists already" in refused.err
    assert refused.out == ""
    assert main([*words, "--symmetry", "D7"]) == 0
    assert "taken out of all:" in capsys.readouterr().out
    assert main([*words, "--symmetry", "Q7"]) == 2
    assert "there is no point group" in capsys.readouterr().err


def test_what_cannot_be_compared_is_refused():
    other = replace(TRUTH, volumes=tuple(path.with_suffix(".em") for path in TRUTH.volumes))
    with pytest.raises(InputError, match="no particle in common"):
        compare_tables(FOUND, other)
    with pytest.raises(InputError, match="holds no poses"):
        compare_tables(FOUND, replace(TRUTH, angles=None))
    twice = replace(TRUTH, volumes=TRUTH.volumes[:1] * COUNT)
    with pytest.raises(InputError, match="cannot be told apart"):
        compare_tables(FOUND, twice)
    with pytest.raises(InputError, match="no point group"):
        compare_tables(FOUND, TRUTH, "Q3")


def grouped(**columns):
    index = np.repeat([0, 1], COUNT // 2)
    return replace(TRUTH, coordinates=PLACES, tomogram_index=index, tomograms=("a", "b"), **columns)


def test_filaments_of_two_tomograms_with_one_number_are_two():
    some = grouped(filament=np.tile([1, 2], COUNT // 2))
    half = make_halves(some, "filament").half
    groups = {(tomogram, one): set() for tomogram in (0, 1) for one in (1, 2)}
    for row in range(COUNT):
        groups[(int(some.tomogram_index[row]), int(some.filament[row]))].add(int(half[row]))
    assert all(len(one) == 1 for one in groups.values())
    assert np.bincount(half)[1:].tolist() == [30, 30]
    alone = make_halves(grouped(filament=np.zeros(COUNT, np.int64)), "filament").half
    assert np.bincount(alone)[1:].tolist() == [30, 30]
    assert len(set(alone[:30])) == 2


def test_halves_by_tomogram_position_and_table():
    half = make_halves(grouped(), "tomogram").half
    assert len(set(half[:30])) == len(set(half[30:])) == 1
    assert half[0] != half[-1]
    along = np.arange(COUNT, dtype=np.float64)
    filament = np.ones(COUNT, np.int64)
    told = grouped(
        filament=filament, extra={"rlnHelicalTrackLengthAngst": [f"{41 * a:g}" for a in along % 30]}
    )
    half = make_halves(told, "position", stretch=41 * 5.0).half
    assert (np.diff(half[:30].reshape(6, 5)[:, 0]) != 0).all()
    assert make_halves(grouped(half=np.where(along < 9, 1, 2)), "table").half[:10].tolist() == [1] * 9 + [2]
    with pytest.raises(InputError, match="does not tell the filament"):
        make_halves(grouped(), "position")
    with pytest.raises(InputError, match="neither rlnHelicalTrackLengthAngst nor where"):
        make_halves(replace(TRUTH, filament=filament), "position")


def test_a_table_with_all_particles_at_one_place_tells_none():
    """As tables of Dynamo do that were not cropped from tomograms."""
    one = replace(grouped(), coordinates=np.zeros((COUNT, 3)), shifts=np.eye(3)[np.arange(COUNT) % 3])
    made = make_halves(one, "particle", min_distance=30.0, box_side=100.0)
    assert np.bincount(made.half)[1:].tolist() == [30, 30]
    assert any("one place" in text for text in made.warnings)
    with pytest.raises(InputError, match="does not tell where"):
        duplicates_of(one, 5.0)


def test_copies_and_duplicates_use_where_the_particles_sit():
    """Two boxes at different places whose shifts lead to one particle."""
    shifts, places = np.zeros((COUNT, 3)), PLACES.copy()
    places[7] = places[3] + [0, 0, 30.0]
    shifts[7] = [0, 0, 29.0]
    some = replace(grouped(score=np.arange(COUNT, dtype=np.float64)), shifts=shifts, coordinates=places)
    found = duplicates_of(some, 5.0)
    assert np.flatnonzero(~found.kept).tolist() == [3]
    assert (found.of[3], found.distances[3]) == (7, pytest.approx(1.0))
    for seed in range(6):
        half = make_halves(some, "particle", min_distance=5.0, seed=seed).half
        assert half[3] == half[7]
    with pytest.raises(InputError, match="where in the tomograms"):
        duplicates_of(TRUTH, 5.0)


def test_overlap_of_the_halves_is_told_where_the_box_is_known():
    dense = replace(
        grouped(), coordinates=np.arange(COUNT)[:, None] * [41.0, 0, 0], shifts=np.zeros((COUNT, 3))
    )
    (told,) = make_halves(dense, "particle", box_side=400.0).warnings
    assert "share noise" in told
    assert make_halves(dense, "particle").warnings == ()
    assert make_halves(dense, "tomogram", box_side=400.0).warnings == ()
