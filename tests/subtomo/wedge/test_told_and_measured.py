"""The wedges of a table beside what its particles show: one, several, one a particle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.subtomo.wedge.table_transfers import TableTransfers
from manyviews.subtomo.wedge.told_and_measured import compare_wedges
from manyviews.subtomo.wedge.transfer import transfer
from manyviews.subtomo.wedge.weight_volumes import write_weights

BOX = 32
LEFT, RIGHT = TiltScheme.of_range(-60, 40), TiltScheme.of_range(-40, 60)
ABOUT_X = TiltScheme.of_range(-60, 60, "x")


def behind(scheme: TiltScheme, number: int) -> np.ndarray:
    noise = np.random.Generator(np.random.PCG64(number)).normal(size=(BOX,) * 3)
    spectrum = np.fft.rfftn(noise) * transfer(BOX, 8.0, scheme)
    return np.fft.irfftn(spectrum, s=(BOX,) * 3, axes=(0, 1, 2)).astype(np.float32)


def told(sources, index) -> TableTransfers:
    return TableTransfers(BOX, 8.0, sources, np.asarray(index, dtype=np.int64))


def test_one_wedge_told_right_and_told_turned():
    transfers = told(((RIGHT,),), [0] * 30)
    (right,) = compare_wedges(lambda number: behind(RIGHT, number), transfers, most=6)
    assert (right.warning, right.scheme, right.particles, right.measured.particles) == ("", RIGHT, 30, 6)
    np.testing.assert_array_equal(right.transfer, transfer(BOX, 8.0, RIGHT))
    assert right.power.shape == right.transfer.shape
    (turned,) = compare_wedges(lambda number: behind(LEFT, number), transfers, most=6)
    assert turned.warning.startswith("the wedge is said to be -40 to 60 degrees about y")
    assert turned.warning.endswith("the sign of the tilts is turned")


def test_each_tomogram_is_judged_by_its_own_particles():
    transfers = told(((RIGHT,), (ABOUT_X,), (RIGHT, ABOUT_X)), [0, 1, 2] * 4)
    true = [RIGHT, ABOUT_X, RIGHT]
    found = compare_wedges(lambda number: behind(true[number % 3], number), transfers)
    assert [one.warning[:22] for one in found] == ["", "", "4 of the particles: th"]
    assert [one.scheme for one in found] == [RIGHT, ABOUT_X, None]


@pytest.mark.parametrize(("shown", "is_right"), [(RIGHT, True), (LEFT, False)])
def test_weights_of_each_particle_are_looked_at_together(tmp_path: Path, shown: TiltScheme, is_right: bool):
    """All tomograms tilted alike, to within some degrees, and the weights in files."""
    paths = []
    for number in range(14):
        paths.append(tmp_path / f"{number}.mrc")
        scheme = TiltScheme.of_range(-40 - number % 3, 60 + number % 2)
        write_weights(paths[-1], transfer(BOX, 8.0, scheme), 8.0)
    found = compare_wedges(lambda number: behind(shown, number), told(tuple(paths), range(14)))
    assert len(found) == 1
    assert (found[0].particles, found[0].scheme) == (14, None)
    assert (found[0].warning == "") == is_right
    assert 0 < found[0].transfer[-20, 0, 10] <= 1


def test_faulty_particles_are_passed_over():
    def read(number: int) -> np.ndarray:
        if number == 0:
            raise InputError("is not there")
        bad = {1: np.zeros((BOX,) * 3), 2: np.full((BOX,) * 3, np.nan), 3: np.ones((8, 8, 8))}
        return bad.get(number, behind(RIGHT, number))

    (found,) = compare_wedges(read, told(((RIGHT,),), [0] * 8))
    assert (found.measured.particles, found.warning) == (4, "")
    assert compare_wedges(read, told(((RIGHT,),), [0] * 4)) == ()
