"""The way back to cryoSPARC: what was written reads back, and what came from there keeps its fields."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from test_io_cryosparc import make_records, save

from manyviews.errors import InputError
from manyviews.io.cryosparc import UID_LABEL, as_records, read_cryosparc_particles
from manyviews.io.cryosparc_writer import lost_in_cryosparc, write_cryosparc_particles
from manyviews.io.mrc import write_mrc
from manyviews.io.particle_table import OpticsGroup, ParticleTable
from manyviews.io.relion_particles import read_relion_particles, write_relion_particles

QUICK = settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
BOX = 8
OWN = ("alignments3D/split", "alignments3D/shift", "alignments3D/pose", "alignments3D/psize_A")
SINGLE = {"rtol": 1e-6, "atol": 2e-6}  # cryoSPARC's fields are of single precision, STAR has six decimals


@st.composite
def tables(draw):
    """What both programs can tell, of two stacks and one to three optics groups; tilts of 0 and 180 too."""
    count = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    optics = tuple(
        OpticsGroup(f"exposureGroup{7 - number}", 200.0 + number, 2.7, 0.1, size, BOX)
        for number, size in enumerate(
            draw(st.lists(st.sampled_from([0.83, 1.5, 4.0]), min_size=1, max_size=3))
        )
    )
    tilt = draw(st.lists(st.sampled_from([0.0, 180.0, 1e-3, 90.0, 54.7]), min_size=count, max_size=count))
    turns = rng.uniform(-180, 180, (2, count))
    return ParticleTable(
        stacks=(Path("a.mrcs"), Path("job1/b.mrcs")),
        stack_names=("a.mrcs", "job1/b.mrcs"),
        stack_index=rng.integers(2, size=count),
        section=rng.permutation(20)[:count],
        optics=optics,
        optics_index=rng.integers(len(optics), size=count),
        defocus=rng.uniform(-5e4, 5e4, (count, 2)),
        defocus_angle=rng.uniform(-180, 180, count),
        phase_shift=rng.uniform(0, 180, count),
        b_factor=rng.uniform(0, 500, count),
        scale=rng.uniform(0.1, 2, count),
        angles=np.stack([turns[0], tilt, turns[1]], axis=1),
        shifts=rng.uniform(-50, 50, (count, 2)),
        half=draw(st.sampled_from([None, rng.integers(1, 3, count)])),
        contrast_sign=draw(st.sampled_from([None, rng.choice([-1, 1], count)])),
    )


def turns_apart(first, second):
    """Radians between two sets of Euler angles."""
    one, other = (Rotation.from_euler("ZYZ", angles, degrees=True) for angles in (first, second))
    return (one.inv() * other).magnitude()


def assert_same_particles(found, table):
    assert [found.image_name(row) for row in range(len(found))] == [
        table.image_name(row) for row in range(len(table))
    ]
    assert turns_apart(found.angles, table.angles).max() < 1e-6
    np.testing.assert_allclose(found.shifts, table.shifts, **SINGLE)
    for name in ("defocus", "defocus_angle", "phase_shift", "b_factor", "scale"):
        np.testing.assert_allclose(getattr(found, name), getattr(table, name), rtol=1e-6, atol=2e-5)
    for name in ("voltage_kv", "spherical_aberration_mm", "amplitude_contrast", "pixel_size", "image_size"):
        np.testing.assert_allclose(found.per_particle(name), table.per_particle(name), **SINGLE)
    groups = [[one.optics[index].name for index in one.optics_index] for one in (found, table)]
    assert groups[0] == groups[1]
    assert (found.half is None) == (table.half is None)
    assert found.half is None or (found.half == table.half).all()
    signs = [np.ones(len(one)) if one.contrast_sign is None else one.contrast_sign for one in (found, table)]
    np.testing.assert_array_equal(signs[0], signs[1])


@QUICK
@given(table=tables())
def test_from_star_to_cryosparc_and_back(tmp_path, table):
    star, cs, again = (tmp_path / name for name in ("p.star", "p.cs", "q.star"))
    write_relion_particles(star, table, overwrite=True)
    first = read_relion_particles(star, with_images=False)
    write_cryosparc_particles(cs, first, overwrite=True)
    found = read_cryosparc_particles(cs, with_images=False)
    assert_same_particles(found, table)
    assert len(set(found.extra[UID_LABEL])) == len(table)
    write_relion_particles(again, found, overwrite=True)
    assert_same_particles(read_relion_particles(again, with_images=False), table)


@QUICK
@given(table=tables(), seed=st.integers(0, 2**32 - 1))
def test_what_came_from_cryosparc_goes_back_with_its_fields(tmp_path, table, seed):
    """New poses, fewer particles in another order: all other fields are to the last bit those of the file."""
    cs, back = tmp_path / "p.cs", tmp_path / "back.cs"
    write_cryosparc_particles(cs, table, overwrite=True)
    given_table = read_cryosparc_particles(cs, with_images=False)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(table))[: 1 + len(table) // 2]
    angles = np.stack([rng.uniform(-180, 180, len(rows)) for _ in range(3)], axis=1)
    shifts = rng.uniform(-20, 20, (len(rows), 2))
    posed = replace(given_table.select(rows), half=None).with_poses(angles, shifts)
    write_cryosparc_particles(back, posed, overwrite=True)
    before, after = np.load(cs), np.load(back)
    kept = [name for name in before.dtype.names if name not in OWN]
    assert {"uid", "blob/path", "blob/idx", "ctf/df1_A"} <= set(kept)
    for name in kept:
        np.testing.assert_array_equal(after[name], before[name][rows])
    assert "alignments3D/split" not in after.dtype.names  # no halves were refined apart
    found = read_cryosparc_particles(back, with_images=False)
    assert turns_apart(found.angles, angles).max() < 1e-6
    np.testing.assert_allclose(found.shifts, shifts, **SINGLE)


@pytest.fixture
def folder(tmp_path):
    write_mrc(tmp_path / "a.mrc", np.ones((3, 8, 8), np.float32), 1.5, is_volume=False)
    return tmp_path


def test_fields_that_we_know_nothing_of_and_imported_names_stay(folder):
    """cryoSPARC's name of a stack begins with its job; here the stack lies beside the table without it."""
    records = make_records()
    fields = {name: records[name] for name in records.dtype.names}
    fields |= {"pick_stats/power": np.array([1.0, 2.0, 3.0], "f8"), "location/path": np.array([b"m.mrc"] * 3)}
    source = save(folder / "p.cs", as_records(fields, 3))
    table = read_cryosparc_particles(source)
    assert table.stack_names == ("a.mrc",)
    write_cryosparc_particles(folder / "back.cs", table)
    back = np.load(folder / "back.cs")
    assert back["blob/path"][0] == b">J1/imported/012345678901234567890_a.mrc"
    np.testing.assert_array_equal(back["pick_stats/power"], [1, 2, 3])
    np.testing.assert_array_equal(back["location/path"], [b"m.mrc"] * 3)
    np.testing.assert_array_equal(back["uid"], records["uid"])
    assert back["alignments3D/split"].tolist() == [0, 1, 0]
    # shifts were in pixels of 3 angstrom and are now in those of the images
    np.testing.assert_allclose(back["alignments3D/shift"], 2 * records["alignments3D/shift"])
    np.testing.assert_allclose(back["alignments3D/psize_A"], records["blob/psize_A"])
    np.testing.assert_allclose(back["alignments3D/pose"], records["alignments3D/pose"], atol=1e-6)


def test_fields_of_a_passthrough_file_come_along(folder):
    records = make_records()
    names = [name for name in records.dtype.names if name != "uid"]
    first = save(folder / "p.cs", records[["uid", *[name for name in names if name.startswith("align")]]])
    other = records[["uid", *[name for name in names if not name.startswith("align")]]][::-1]
    table = read_cryosparc_particles(first, passthrough=save(folder / "pass.cs", other))
    write_cryosparc_particles(folder / "back.cs", table)
    back = np.load(folder / "back.cs")
    assert set(back.dtype.names) == set(records.dtype.names)
    np.testing.assert_array_equal(back["ctf/exp_group_id"], records["ctf/exp_group_id"])


def test_particles_without_poses_have_none(folder):
    names = [name for name in make_records().dtype.names if not name.startswith("align")]
    table = read_cryosparc_particles(save(folder / "p.cs", make_records()[names]))
    write_cryosparc_particles(folder / "back.cs", replace(table, records=None))
    assert not [name for name in np.load(folder / "back.cs").dtype.names if name.startswith("align")]


def test_an_image_twice_is_two_particles(folder):
    table = replace(read_cryosparc_particles(save(folder / "p.cs", make_records())), records=None, extra={})
    write_cryosparc_particles(folder / "back.cs", table.select([0, 0, 1]))
    assert len(set(np.load(folder / "back.cs")["uid"].tolist())) == 3


@pytest.mark.parametrize(
    ("uids", "message"),
    [
        (["1", "2", "x"], "'x' is no number that cryoSPARC knows a particle by"),
        (["1", "2", str(2**64)], "is no number"),
        (["1", "2", "-3"], "is no number"),
        (["1", "2", "9" * 400], "is no number"),
        (["1", "2", "²"], "is no number"),
        (["1", "2", "2"], "two particles have the same number"),
    ],
)
def test_numbers_that_cryosparc_cannot_have_given(folder, uids, message):
    table = read_cryosparc_particles(save(folder / "p.cs", make_records()))
    foreign = replace(table, records=None, extra={UID_LABEL: uids})
    with pytest.raises(InputError, match=message):
        write_cryosparc_particles(folder / "back.cs", foreign)
    assert not (folder / "back.cs").exists()


def test_a_file_is_not_replaced_unasked(folder):
    table = read_cryosparc_particles(save(folder / "p.cs", make_records()))
    with pytest.raises(InputError, match="exists already"):
        write_cryosparc_particles(folder / "p.cs", table)


def test_what_has_no_place_is_told(folder):
    table = read_cryosparc_particles(save(folder / "p.cs", make_records()))
    assert lost_in_cryosparc(table) == ()
    tilted = replace(table.optics[0], beam_tilt_mrad=(0.1, 0.0), ctf_premultiplied=True)
    extra = {"rlnGroupName": ["a"] * 3, **table.extra}
    other = replace(table, records=None, optics=(tilted, *table.optics[1:]), extra=extra)
    told = lost_in_cryosparc(other)
    assert [word in text for word, text in zip(("beam tilt", "multiplied", "columns"), told, strict=True)]
    assert len(told) == 3


def test_records_that_are_not_one_a_particle_are_refused(folder):
    table = read_cryosparc_particles(save(folder / "p.cs", make_records()))
    with pytest.raises(InputError, match="one a particle"):
        replace(table, records=table.records[:2])
