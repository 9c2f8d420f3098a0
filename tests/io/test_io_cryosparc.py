import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from manyviews.errors import InputError
from manyviews.io.cryosparc import read_cryosparc_particles
from manyviews.io.mrc import write_mrc
from manyviews.io.particle_images import ParticleImages, read_particles
from manyviews.io.relion_particles import read_relion_particles, write_relion_particles

QUICK = settings(max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
FIELDS = [
    ("uid", "u8"),
    ("blob/path", "S40"),
    ("blob/idx", "u4"),
    ("blob/shape", "u4", (2,)),
    ("blob/psize_A", "f4"),
    ("blob/sign", "f4"),
    ("ctf/exp_group_id", "u4"),
    ("ctf/accel_kv", "f4"),
    ("ctf/cs_mm", "f4"),
    ("ctf/amp_contrast", "f4"),
    ("ctf/df1_A", "f4"),
    ("ctf/df2_A", "f4"),
    ("ctf/df_angle_rad", "f4"),
    ("ctf/phase_shift_rad", "f4"),
    ("ctf/scale", "f4"),
    ("ctf/bfactor", "f4"),
    ("ctf/tilt_A", "f4", (2,)),
    ("alignments3D/split", "u4"),
    ("alignments3D/shift", "f4", (2,)),
    ("alignments3D/pose", "f4", (3,)),
    ("alignments3D/psize_A", "f4"),
]
POSES = [name for name, *_ in FIELDS if name.startswith("alignments3D")]


def make_records(count=3):
    records = np.zeros(count, dtype=FIELDS)
    records["uid"] = np.arange(count, dtype=np.uint64) + 2**63
    records["blob/path"] = b">J1/imported/012345678901234567890_a.mrc"
    records["blob/idx"] = np.arange(count)
    records["blob/shape"] = 8
    records["blob/psize_A"], records["alignments3D/psize_A"] = 1.5, 3.0
    records["blob/sign"] = -1
    records["ctf/exp_group_id"] = [23, 7, 23][:count]
    for name, value in (("accel_kv", 300), ("cs_mm", 2.7), ("amp_contrast", 0.1), ("scale", 1)):
        records[f"ctf/{name}"] = value
    records["ctf/df1_A"], records["ctf/df2_A"] = 15000, 14000
    records["ctf/df_angle_rad"], records["ctf/phase_shift_rad"] = np.pi / 6, np.pi / 2
    records["alignments3D/split"] = np.arange(count) % 2
    records["alignments3D/shift"] = [2, -1]
    records["alignments3D/pose"] = Rotation.random(count, rng=np.random.default_rng(1)).as_rotvec()
    return records


def save(path, records):
    with open(path, "wb") as handle:
        np.lib.format.write_array(handle, records, allow_pickle=False)
    return path


@pytest.fixture
def folder(tmp_path):
    images = np.arange(3 * 64, dtype=np.float32).reshape(3, 8, 8)
    write_mrc(tmp_path / "a.mrc", images, 1.5, is_volume=False)
    return tmp_path


def test_every_field_finds_its_place(folder):
    records = make_records()
    table = read_particles(save(folder / "p.cs", records))
    assert table.stacks == ((folder / "a.mrc").resolve(),)  # imported name without its number
    assert table.section.tolist() == [0, 1, 2]
    assert [group.name for group in table.optics] == ["exposureGroup7", "exposureGroup23"]
    assert table.optics_index.tolist() == [1, 0, 1]
    assert (table.pixel_size, table.image_size) == (1.5, 8)
    assert table.optics[0].spherical_aberration_mm == 2.7
    np.testing.assert_allclose(table.defocus, [[15000, 14000]] * 3)
    np.testing.assert_allclose(table.defocus_angle, 30, rtol=1e-6)
    np.testing.assert_allclose(table.phase_shift, 90, rtol=1e-6)
    np.testing.assert_allclose(table.shifts, [[6, -3]] * 3)  # in pixels of the alignment, not of the image
    assert table.half.tolist() == [1, 2, 1]
    assert table.contrast_sign.tolist() == [-1, -1, -1]
    assert table.extra["cryosparcUid"][0] == str(2**63)
    assert table.warnings == ()


def test_the_matrix_of_a_pose_is_the_transpose_of_relions():
    """Rows of A are the image's axes, so A is the inverse of the rotation that the vector means."""
    records = make_records()
    vectors = records["alignments3D/pose"].astype(np.float64)
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    x, y, z = (vectors / angle[:, 0]).T
    zero = np.zeros_like(x)
    cross = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]).transpose(2, 0, 1)
    turned = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    from manyviews.io.cryosparc import _angles, _Fields

    fields = _Fields(None, {"alignments3D/pose": records["alignments3D/pose"]}, 3)
    matrices = Rotation.from_euler("ZYZ", _angles(fields), degrees=True).inv().as_matrix()
    np.testing.assert_allclose(matrices, turned.transpose(0, 2, 1), atol=1e-6)


def test_poses_that_euler_angles_cannot_tell_apart_are_still_right(folder):
    records = make_records()
    records["alignments3D/pose"] = [[0, 0, 0], [0, 0, 1.2], [np.pi, 0, 0]]
    table = read_cryosparc_particles(save(folder / "p.cs", records))
    found = Rotation.from_euler("ZYZ", table.angles, degrees=True)
    wanted = Rotation.from_rotvec(records["alignments3D/pose"].astype(np.float64))
    assert (found.inv() * wanted).magnitude().max() < 1e-6


def test_dark_images_are_turned_white_and_survive_relions_form(folder):
    table = read_cryosparc_particles(save(folder / "p.cs", make_records()))
    images = ParticleImages(table).read([1])
    np.testing.assert_array_equal(images[0], -np.arange(64, 128, dtype=np.float32).reshape(8, 8))
    write_relion_particles(folder / "p.star", table)
    again = read_relion_particles(folder / "p.star")
    np.testing.assert_array_equal(ParticleImages(again).read([1]), images)
    np.testing.assert_allclose(again.angles, table.angles, atol=1e-6)
    assert again.extra == table.extra


def test_a_passthrough_file_fills_in_by_uid(folder):
    records = make_records()
    names = [name for name in records.dtype.names if name not in POSES]
    first = save(folder / "p.cs", repack(records, names))
    second = save(folder / "q.cs", repack(records, ["uid", *POSES])[::-1].copy())
    assert read_cryosparc_particles(first).angles is None
    joined = read_cryosparc_particles(first, passthrough=second)
    whole = read_cryosparc_particles(save(folder / "r.cs", records))
    np.testing.assert_array_equal(joined.angles, whole.angles)
    save(folder / "q.cs", repack(records, ["uid", *POSES])[:2])
    with pytest.raises(InputError, match="lacks 1 of the 3 particles"):
        read_cryosparc_particles(first, passthrough=second)


def repack(records, names):
    packed = np.zeros(len(records), dtype=[field for field in FIELDS if field[0] in names])
    for name in names:
        packed[name] = records[name]
    return packed


def test_aberrations_are_warned_about(folder):
    records = make_records()
    records["ctf/tilt_A"] = 0.5
    (sentence,) = read_cryosparc_particles(save(folder / "p.cs", records)).warnings
    assert "tilt_A" in sentence


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("ctf/df1_A", np.nan, "field ctf/df1_A, particle 2"),
        ("alignments3D/pose", np.inf, "field alignments3D/pose, particle 2"),
        ("alignments3D/split", 5, "from 0 to 1"),
        ("blob/idx", 3, "image 4 of .*a.mrc was asked for but it has 3"),
        ("blob/sign", 0, "neither 1 nor -1"),
        ("blob/psize_A", -1, "pixel size"),
        ("blob/shape", [8, 6], "not square"),
        ("blob/path", b"../../x.mrc", "leads out of the project"),
        ("blob/path", b"none.mrc", "'none.mrc' is neither in"),
        ("blob/path", b"", "not a possible file name"),
    ],
)
def test_bad_records_give_one_sentence(folder, field, value, words):
    records = make_records()
    records[field][1] = value
    with pytest.raises(InputError, match=words):
        read_cryosparc_particles(save(folder / "p.cs", records))


def test_missing_fields_are_named(folder):
    records = make_records()
    path = save(folder / "p.cs", repack(records, ["uid", "blob/path", "blob/psize_A"]))
    with pytest.raises(
        InputError, match=r"blob/idx, ctf/accel_kv.* are missing; give cryoSPARC's passthrough"
    ):
        read_cryosparc_particles(path)


def test_a_passthrough_file_beside_is_named(folder):
    records = make_records()
    first = save(
        folder / "J1_particles.cs", repack(records, [n for n in records.dtype.names if "ctf" not in n])
    )
    with pytest.raises(InputError, match=r"passthrough file too \(--passthrough\)"):
        read_cryosparc_particles(first)
    other = save(folder / "J1_passthrough_particles.cs", repack(records, ["uid", "ctf/cs_mm"]))
    with pytest.raises(InputError, match=f"passthrough file too: --passthrough {other}"):
        read_cryosparc_particles(first)


def test_other_files_are_refused(folder):
    for content, words in (
        (b"hello", "not a cryoSPARC table"),
        (b"\x94CSDAT\x00\x00rest", "compressed stream"),
        (b"\x93NUMPY\x01\x00\x05\x00{{{{{", "damaged header"),
    ):
        (folder / "p.cs").write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_cryosparc_particles(folder / "p.cs")
    with pytest.raises(InputError, match="cannot be read"):
        read_cryosparc_particles(folder / "none.cs")
    for array, words in ((np.zeros(3), "records"), (make_records()[:0], "no particles")):
        with pytest.raises(InputError, match=words):
            read_cryosparc_particles(save(folder / "p.cs", array))


def test_objects_are_never_unpickled(folder):
    with open(folder / "p.cs", "wb") as handle:
        header = {"descr": [("uid", "|O")], "fortran_order": False, "shape": (1,)}
        np.lib.format.write_array_header_1_0(handle, header)
        handle.write(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="records"):
        read_cryosparc_particles(folder / "p.cs")


def test_sizes_are_checked_before_anything_is_allocated(folder):
    records = make_records()
    with open(folder / "p.cs", "wb") as handle:
        header = {"descr": records.dtype.descr, "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(handle, header)
        handle.write(records.tobytes())
    with pytest.raises(InputError, match=f"promises {10**12} particles of {records.itemsize} bytes"):
        read_cryosparc_particles(folder / "p.cs")


@QUICK
@given(st.data())
def test_damage_gives_a_table_or_one_sentence(folder, data):
    path = save(folder / "p.cs", make_records())
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw) - 1))
        raw[start : start + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    path.write_bytes(raw)
    try:
        table = read_cryosparc_particles(path, with_images=data.draw(st.booleans()))
    except InputError:
        return
    assert np.isfinite(table.defocus).all()


@QUICK
@given(st.sets(st.sampled_from([name for name, *_ in FIELDS]), min_size=1), st.booleans())
def test_any_fields_may_be_missing(folder, kept, ctf):
    path = save(folder / "p.cs", repack(make_records(), kept))
    needed = {"blob/path", "blob/idx", "blob/psize_A"}
    if ctf:
        needed |= {f"ctf/{name}" for name in ("accel_kv", "cs_mm", "amp_contrast")}
        needed |= {f"ctf/{name}" for name in ("df1_A", "df2_A", "df_angle_rad")}
    if needed <= kept:
        assert len(read_cryosparc_particles(path, ctf=ctf)) == 3
        return
    with pytest.raises(InputError, match="missing"):
        read_cryosparc_particles(path, ctf=ctf)
