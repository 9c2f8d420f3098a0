"""Tilts of tomograms from files, and which of them show a particle."""

from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.wedge.table_transfers import table_transfers

FREQUENCY = 6  # cycles per box


def table(visible: tuple[tuple[bool, ...], ...] = ()) -> SubtomogramTable:
    return SubtomogramTable(
        pixel_size=8.0,
        shifts=np.zeros((3, 3)),
        tomograms=("TS_01.mrc", "TS_02"),
        tomogram_index=np.array([0, 1, 1]),
        visible_tilts=visible,
    )


def write_lists(folder: Path) -> Path:
    (folder / "TS_01.tlt").write_text("-60\n0\n30\n")
    (folder / "TS_02.rawtlt").write_text("0\n45\n")
    return folder


def along(transfer: np.ndarray, degrees: float) -> float:
    """What was measured of the frequency at an angle from +x towards +z, about y."""
    turn = np.deg2rad(degrees)
    x, z = round(FREQUENCY * np.cos(turn)), round(FREQUENCY * np.sin(turn))
    if x < 0:
        x, z = -x, -z
    return float(transfer[z, 0, x])


def test_each_tomogram_has_its_own_tilts(tmp_path):
    options = SubtomogramOptions(particles=tmp_path / "p.star", tilt_angles=write_lists(tmp_path))
    found = table_transfers(table(), options, 32)
    assert found.index.tolist() == [0, 1, 1]
    first, second = found[0], found[1]
    assert min(along(first, tilt) for tilt in (-60, 0, 30)) > 0.2
    assert max(along(first, tilt) for tilt in (45, 60)) == 0
    assert min(along(second, tilt) for tilt in (0, 45)) > 0.2
    assert max(along(second, tilt) for tilt in (-60, -45)) == 0


def test_tilts_that_do_not_show_a_particle_do_not_count(tmp_path):
    seen = ((True, True, True), (True, False), (True, True))
    options = SubtomogramOptions(particles=tmp_path / "p.star", tilt_angles=write_lists(tmp_path))
    found = table_transfers(table(seen), options, 32)
    assert found.index.tolist() == [0, 1, 2]
    assert along(found[1], 45) == 0
    assert along(found[2], 45) > 0.2


def test_one_list_serves_all_tomograms(tmp_path):
    write_lists(tmp_path)
    options = SubtomogramOptions(particles=tmp_path / "p.star", tilt_angles=tmp_path / "TS_02.rawtlt")
    assert table_transfers(table(), options, 32).index.tolist() == [0, 0, 0]


def test_a_tomogram_without_its_list_is_named(tmp_path):
    write_lists(tmp_path)
    (tmp_path / "TS_02.rawtlt").unlink()
    options = SubtomogramOptions(particles=tmp_path / "p.star", tilt_angles=tmp_path)
    with pytest.raises(InputError, match=r"tomogram 'TS_02' has no list of its tilts.*put TS_02\.tlt"):
        table_transfers(table(), options, 32)


def test_a_list_of_another_length_is_refused(tmp_path):
    options = SubtomogramOptions(particles=tmp_path / "p.star", tilt_angles=write_lists(tmp_path))
    seen = ((True, True), (True, True), (True, True))
    with pytest.raises(InputError, match="some of 2 tilts, but the list of its tomogram has 3"):
        table_transfers(table(seen), options, 32)


def test_the_range_and_lists_are_not_taken_together(tmp_path):
    options = SubtomogramOptions(
        particles=tmp_path / "p.star", tilt_angles=write_lists(tmp_path), tilt_range=(-60.0, 60.0)
    )
    with pytest.raises(InputError, match="twice"):
        table_transfers(table(), options, 32)
