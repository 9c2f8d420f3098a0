"""The table of subtomograms: what it refuses, and what stays together when particles are chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.subtomogram_table import SubtomogramTable

COUNT = 4


def a_table(**changes: Any) -> SubtomogramTable:
    given: dict[str, Any] = {
        "pixel_size": 6.0,
        "shifts": np.arange(12.0).reshape(COUNT, 3),
        "volumes": tuple(Path(f"{n}.mrc") for n in range(COUNT)),
        "weights": (Path("w.mrc"), None, None, None),
        "tomograms": ("a", "b"),
        "tomogram_index": np.array([0, 1, 1, 0]),
        "coordinates": np.full((COUNT, 3), 100.0),
        "angles": np.arange(12.0).reshape(COUNT, 3) + 10,
        "prior_angles": np.full((COUNT, 3), np.nan),
        "half": np.array([1, 2, 1, 2]),
        "visible_tilts": ((True, False),) * 2 + ((True, True),) * 2,
        "extra": {"rlnGroupNumber": list("abcd")},
    }
    return SubtomogramTable(**{**given, **changes})


def test_chosen_particles_keep_what_is_theirs():
    chosen = a_table().select([3, 1])
    assert [path.name for path in chosen.volumes] == ["3.mrc", "1.mrc"]
    assert np.array_equal(chosen.shifts, [[9, 10, 11], [3, 4, 5]])
    assert [chosen.tomogram_of(n) for n in range(2)] == ["a", "b"]
    assert chosen.visible_tilts == ((True, True), (True, False))
    assert chosen.extra == {"rlnGroupNumber": ["d", "b"]}
    assert chosen.weights == (None, None)
    assert [path.name for path in a_table().subset(1).volumes] == ["0.mrc", "2.mrc"]
    assert len(a_table().select(np.array([True, False, False, False]))) == 1


def test_a_particle_sits_where_its_shift_takes_it_from():
    positions = a_table().positions
    assert positions is not None
    assert np.array_equal(positions[1], [97, 96, 95])


def test_a_turned_box_turns_angles_and_shifts():
    """RELION's own formulas: the box by 90 degrees about z takes its x axis to -y of the tomogram."""
    table = a_table(
        box_angles=np.tile([0.0, 0.0, 90.0], (COUNT, 1)), shifts=np.tile([5.0, 0.0, 1.0], (COUNT, 1))
    )
    flat = table.in_tomogram()
    assert flat.box_angles is None
    np.testing.assert_allclose(flat.shifts[0], [0, -5, 1], atol=1e-12)
    assert table.positions is not None
    np.testing.assert_allclose(table.positions[0], [100, 105, 99])
    assert table.angles is not None
    assert flat.angles is not None
    np.testing.assert_allclose(flat.angles - table.angles, np.tile([0, 0, 90], (COUNT, 1)), atol=1e-9)
    assert flat.prior_angles is None


def test_the_prior_on_a_filament_is_turned_with_its_box():
    """A filament along x of its box: whatever rot is, its axis lies where the turned prior says."""
    rng = np.random.Generator(np.random.PCG64(2))
    boxes = rng.uniform(-180, 180, (COUNT, 3)) * [1, 0.5, 1] + np.array([0, 90, 0])
    priors = np.tile([np.nan, 90.0, 15.0], (COUNT, 1))
    priors[3] = [np.nan, 90, np.nan]
    table = a_table(
        box_angles=boxes, prior_angles=priors, prior_sigmas=np.full((COUNT, 3), 3.0),
        angles=np.column_stack([rng.uniform(-180, 180, COUNT), np.full(COUNT, 90.0), np.full(COUNT, 15.0)]),
    )  # fmt: skip
    flat = table.in_tomogram()
    assert flat.prior_angles is not None
    assert flat.angles is not None
    np.testing.assert_allclose(flat.prior_angles[:3, 1:], flat.angles[:3, 1:], atol=1e-9)
    assert np.isnan(flat.prior_angles[:, 0]).all()
    assert np.isnan(flat.prior_angles[3]).all()
    assert "the priors of 1 particles" in flat.warnings[-1]


def test_new_poses_leave_the_rest():
    score = np.arange(4.0)
    moved = a_table().with_poses(np.ones((4, 3)), np.zeros((4, 3)), score=score, extra={"new": list("wxyz")})
    for found, wanted in ((moved.angles, np.ones((4, 3))), (moved.half, [1, 2, 1, 2]), (moved.score, score)):
        np.testing.assert_array_equal(found, wanted)
    assert list(moved.extra) == ["rlnGroupNumber", "new"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixel_size": np.nan}, "pixel size of the subtomograms is nan A"),
        ({"shifts": np.zeros((0, 3))}, "is empty"),
        ({"angles": np.zeros((3, 3))}, r"angles .* has shape \(3, 3\)"),
        ({"angles": np.full((4, 3), np.nan)}, "angles of particle 1 is not a finite number"),
        ({"prior_angles": np.full((4, 3), np.inf)}, "prior_angles of particle 1 is not a finite"),
        ({"half": np.array([1, 2, 0, 1])}, "half of particle 3 is 0, not from 1 to 2"),
        ({"half": np.array([1.0, 2.0, 1.0, 1.0])}, "half .* type float64"),
        ({"weight": np.array([1.0, 2.0, 1.0, -1.0])}, "weight of particle 4 is -1, not 0 or more"),
        ({"tomogram_index": np.array([0, 1, 2, 0])}, "tomogram_index of particle 3 is 2"),
        ({"tomograms": ()}, "tomograms without their index"),
        ({"volumes": (Path("a.mrc"),)}, "volumes has 1 values but there are 4"),
        ({"extra": {"rlnX": ["1"]}}, "column rlnX has 1 values"),
    ],
)
def test_what_is_impossible_is_refused(changes: dict[str, Any], words: str):
    with pytest.raises(InputError, match=words):
        a_table(**changes)


def test_what_is_not_there_cannot_be_chosen():
    with pytest.raises(InputError, match="not among the 4"):
        a_table().select([4])
    with pytest.raises(InputError, match="no particles are left"):
        a_table().select([])
    with pytest.raises(InputError, match="no half sets"):
        a_table(half=None).subset(1)
