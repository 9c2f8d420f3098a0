from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.io.relion_particles import read_relion_particles, write_relion_particles
from manyviews.io.star import read_star

QUICK = settings(max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
OPTICS = {
    "rlnOpticsGroup": ["7", "3"],
    "rlnOpticsGroupName": ["late", "early"],
    "rlnVoltage": ["200", "300"],
    "rlnSphericalAberration": ["2.0", "2.7"],
    "rlnAmplitudeContrast": ["0.07", "0.1"],
    "rlnImagePixelSize": ["1.5", "1.5"],
    "rlnMtfFileName": ["a.star", "b.star"],
}
PARTICLES = {
    "rlnImageName": ["3@s/a.mrcs", "000001@s/a.mrcs", "2@s/b.mrcs"],
    "rlnOpticsGroup": ["3", "7", "3"],
    "rlnDefocusU": ["10000", "11000", "12000"],
    "rlnDefocusV": ["9000", "9500", "9800"],
    "rlnDefocusAngle": ["10", "-20", "30"],
    "rlnPhaseShift": ["0", "90", "0"],
    "rlnAngleRot": ["1", "2", "3"],
    "rlnAngleTilt": ["40", "50", "60"],
    "rlnAnglePsi": ["-7", "-8", "-9"],
    "rlnOriginXAngst": ["1", "2", "3"],
    "rlnOriginYAngst": ["-1", "-2", "-3"],
    "rlnRandomSubset": ["1", "2", "1"],
    "rlnMicrographName": ["m1.mrc", "m 2.mrc", "m3.mrc"],
}


def loop(name, columns):
    rows = [" ".join(f'"{v}"' if " " in v else v for v in row) for row in zip(*columns.values(), strict=True)]
    return "\n".join([f"\ndata_{name}\n\nloop_", *(f"_{label}" for label in columns), *rows, ""])


@pytest.fixture
def project(tmp_path):
    """A project folder with two stacks, and a job folder two levels below it."""
    (tmp_path / "s").mkdir()
    (tmp_path / "Class3D" / "job001").mkdir(parents=True)
    for name, count in (("a", 3), ("b", 2)):
        write_mrc(tmp_path / "s" / f"{name}.mrcs", np.zeros((count, 8, 8), np.float32), 1.5, is_volume=False)
    return tmp_path


def write(folder, particles=None, optics=OPTICS, name="p.star"):
    path = folder / name
    text = (loop("optics", optics) if optics else "") + loop("particles", particles or PARTICLES)
    path.write_text(text)
    return path


def test_every_column_finds_its_field(project):
    table = read_relion_particles(write(project))
    assert [group.name for group in table.optics] == ["late", "early"]
    assert table.per_particle("voltage_kv").tolist() == [300, 200, 300]
    assert table.section.tolist() == [2, 0, 1]
    assert [path.name for path in table.stacks] == ["a.mrcs", "b.mrcs"]
    assert table.stack_index.tolist() == [0, 0, 1]
    assert table.defocus.tolist() == [[10000, 9000], [11000, 9500], [12000, 9800]]
    assert table.defocus_angle.tolist() == [10, -20, 30]
    assert table.phase_shift.tolist() == [0, 90, 0]
    assert table.b_factor.tolist() == [0, 0, 0]
    assert table.scale.tolist() == [1, 1, 1]
    assert table.angles.tolist() == [[1, 40, -7], [2, 50, -8], [3, 60, -9]]
    assert table.shifts.tolist() == [[1, -1], [2, -2], [3, -3]]
    assert table.half.tolist() == [1, 2, 1]
    assert table.contrast_sign is None
    assert table.extra == {"rlnMicrographName": ["m1.mrc", "m 2.mrc", "m3.mrc"]}
    assert table.warnings == ()
    # The table does not tell the size of the images; their headers do.
    assert (table.pixel_size, table.image_size) == (1.5, 8)


def test_version_30_has_pixels_and_a_calibrated_magnification(project):
    columns = {key: v for key, v in PARTICLES.items() if key != "rlnOpticsGroup" and "Angst" not in key}
    columns |= {
        "rlnVoltage": ["300", "200", "300"],
        "rlnSphericalAberration": ["2.7"] * 3,
        "rlnAmplitudeContrast": ["0.1"] * 3,
        "rlnMagnification": ["25000"] * 3,
        "rlnDetectorPixelSize": ["5"] * 3,
        "rlnOriginX": ["1", "2", "3"],
        "rlnOriginY": ["0", "0", "-1"],
    }
    table = read_relion_particles(write(project, columns, optics=None))
    assert table.pixel_size == pytest.approx(2.0)
    assert table.optics_index.tolist() == [0, 1, 0]
    assert [(group.name, group.voltage_kv) for group in table.optics] == [
        ("opticsGroup1", 300),
        ("opticsGroup2", 200),
    ]
    np.testing.assert_allclose(table.shifts, [[2, 0], [4, 0], [6, -2]])
    assert list(table.extra) == ["rlnMicrographName"]


def test_a_round_trip_changes_nothing(project):
    optics = OPTICS | {
        "rlnBeamTiltX": ["0.1", "0.2"],
        "rlnBeamTiltY": ["0", "-0.3"],
        "rlnOddZernike": ["[1,0,-2.5]", "[0,0,0]"],
        "rlnMagMat00": ["1.01", "1"],
        "rlnMagMat01": ["0", "0"],
        "rlnMagMat10": ["0.001", "0"],
        "rlnMagMat11": ["1", "1"],
        "rlnCtfDataAreCtfPremultiplied": ["0", "0"],
    }
    first = read_relion_particles(write(project, optics=optics))
    signs = np.array([1, -1, 1])
    write_relion_particles(project / "Class3D/job001/q.star", replace(first, contrast_sign=signs))
    second = read_relion_particles(project / "Class3D/job001/q.star")
    assert second.optics == first.optics
    assert second.stacks == first.stacks
    assert second.extra == first.extra
    assert second.contrast_sign.tolist() == signs.tolist()
    for name in (
        "section",
        "stack_index",
        "optics_index",
        "defocus",
        "phase_shift",
        "angles",
        "shifts",
        "half",
    ):
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name))


def test_what_the_model_leaves_out_is_said_once_each(project):
    optics = OPTICS | {
        "rlnBeamTiltX": ["0.3", "0"],
        "rlnBeamTiltY": ["0.4", "0"],
        "rlnEvenZernike": ["[0,1]", "[0,1]"],
        "rlnMagMat00": ["1.01", "1.01"],
        "rlnCtfDataAreCtfPremultiplied": ["1", "1"],
    }
    warnings = read_relion_particles(write(project, optics=optics)).warnings
    words = ("beam tilt (up to 0.50 mrad)", "aberrations", "magnification", "multiplied by their CTF")
    assert len(warnings) == 4
    assert all(word in sentence for word, sentence in zip(words, warnings, strict=True))


def test_written_tables_have_relions_form(project):
    table = read_relion_particles(write(project)).select([0])
    poses = table.with_poses(
        np.array([[10.0, 20, 30]]), np.array([[1.5, -2]]), extra={"manyviewsAngleSpread": ["3.0"]}
    )
    write_relion_particles(project / "q.star", replace(poses, stack_names=("x.mrc", "s/b.mrcs")))
    optics, particles = read_star(project / "q.star")
    assert optics.columns["rlnOpticsGroupName"] == ["early"]
    assert optics.columns["rlnImageSize"] == ["8"]
    assert particles.columns["rlnOpticsGroup"] == ["1"]
    assert particles.columns["rlnImageName"] == ["000003@x.mrc:mrcs"]
    assert particles.columns["rlnAngleTilt"] == ["20.000000"]
    assert particles.columns["rlnOriginYAngst"] == ["-2.000000"]
    assert particles.columns["manyviewsAngleSpread"] == ["3.0"]
    with pytest.raises(InputError, match="exists already"):
        write_relion_particles(project / "q.star", poses)


def test_names_with_relions_format_suffix_are_found(project):
    (project / "s" / "c.mrc").write_bytes((project / "s" / "a.mrcs").read_bytes())
    columns = PARTICLES | {"rlnImageName": ["1@s/c.mrc:mrcs", "2@s/c.mrc:mrcs", "1@s/b.mrcs"]}
    table = read_relion_particles(write(project, columns))
    assert table.stack_names == ("s/c.mrc", "s/b.mrcs")


def test_tables_without_a_ctf_without_poses_and_of_dark_protein(project):
    columns = {"rlnImageName": PARTICLES["rlnImageName"], "rlnAnglePsi": ["1", "2", "3"]}
    path = write(project, columns, optics=None)
    with pytest.raises(InputError, match="rlnDefocusU, rlnDefocusV, rlnDefocusAngle are missing"):
        read_relion_particles(path)
    with pytest.raises(InputError, match="rlnImagePixelSize is missing"):
        read_relion_particles(path, ctf=False)
    table = read_relion_particles(path, ctf=False, pixel_size=3.0, dark_protein=True)
    assert table.optics[0].amplitude_contrast == 1
    assert not table.defocus.any()
    assert table.angles is None
    assert table.shifts is None
    assert table.half is None
    assert table.contrast_sign.tolist() == [-1, -1, -1]
    assert table.extra == {"rlnAnglePsi": ["1", "2", "3"]}  # a picking angle is no pose


def test_a_table_can_be_read_without_its_images(tmp_path):
    path = write(tmp_path)
    with pytest.raises(InputError, match=r"'s/a.mrcs' is neither in .*--data-root"):
        read_relion_particles(path)
    table = read_relion_particles(path, with_images=False)
    assert table.stacks[0] == (tmp_path / "s/a.mrcs").resolve()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("rlnImageName", "9@s/a.mrcs", r"image 9 of .*a.mrcs was asked for but it has 3"),
        ("rlnImageName", "0@s/a.mrcs", "counted from 1"),
        ("rlnImageName", "s/a.mrcs", "is not an image number"),
        ("rlnImageName", "x@s/a.mrcs", "is not an image number"),
        ("rlnImageName", "1@../s/a.mrcs", "leads out of the project"),
        ("rlnImageName", "1@/etc/a.mrcs", "leads out of the project"),
        ("rlnImageName", "1@none.mrcs", "is neither in"),
        ("rlnImageName", "1@p.star", "MRC|mode|axes|sense"),
        ("rlnDefocusU", "nan", "column rlnDefocusU, row 1"),
        ("rlnAngleTilt", "up", "column rlnAngleTilt, row 1"),
        ("rlnOpticsGroup", "5", "optics group 5 is not in data_optics"),
        ("rlnRandomSubset", "3", "neither 1 nor 2"),
    ],
)
def test_bad_particles_give_one_sentence(project, column, value, words):
    columns = PARTICLES | {column: [value, *PARTICLES[column][1:]]}
    with pytest.raises(InputError, match=words) as caught:
        read_relion_particles(write(project, columns))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rlnOpticsGroup": ["3", "3"]}, "twice"),
        ({"rlnVoltage": ["0", "300"]}, "voltage of 0"),
        ({"rlnVoltage": ["x", "300"]}, "rlnVoltage"),
        ({"rlnImagePixelSize": ["-1", "1"]}, "pixel size"),
        ({"rlnImageSize": ["16", "16"]}, "say 16"),
        ({"rlnImageSize": ["8.5", "8"]}, "whole number"),
        ({"rlnImageDimensionality": ["3", "3"]}, "subtomograms"),
        ({"rlnOddZernike": ["[1,x]", "[1]"]}, "rlnOddZernike"),
    ],
)
def test_bad_optics_give_one_sentence(project, changes, words):
    with pytest.raises(InputError, match=words):
        read_relion_particles(write(project, optics=OPTICS | changes))


def test_missing_columns_are_named(project):
    optics = {label: v for label, v in OPTICS.items() if label not in ("rlnVoltage", "rlnImagePixelSize")}
    with pytest.raises(InputError, match="rlnVoltage, rlnImagePixelSize are missing in data_optics"):
        read_relion_particles(write(project, optics=optics))
    optics = {label: v for label, v in OPTICS.items() if label != "rlnOpticsGroup"}
    with pytest.raises(InputError, match="rlnOpticsGroup is missing in data_optics"):
        read_relion_particles(write(project, optics=optics))
    particles = {label: v for label, v in PARTICLES.items() if label != "rlnImageName"}
    with pytest.raises(InputError, match="rlnImageName is missing"):
        read_relion_particles(write(project, particles))
    with pytest.raises(InputError, match="subtomograms"):
        read_relion_particles(write(project, PARTICLES | {"rlnTomoVisibleFrames": ["1"] * 3}))
    with pytest.raises(InputError, match="no particles"):
        read_relion_particles(write(project, {label: [] for label in PARTICLES}))


def test_sizes_may_differ_between_groups_but_not_within(project):
    write_mrc(project / "s/c.mrcs", np.zeros((2, 6, 6), np.float32), 1.5, is_volume=False)
    write_mrc(project / "s/d.mrcs", np.zeros((2, 6, 8), np.float32), 1.5, is_volume=False)
    names = ["1@s/a.mrcs", "1@s/c.mrcs", "2@s/a.mrcs"]
    table = read_relion_particles(write(project, PARTICLES | {"rlnImageName": names}))
    assert [group.image_size for group in table.optics] == [6, 8]
    with pytest.raises(InputError, match="different sizes"):
        _ = table.image_size
    names = ["1@s/a.mrcs", "1@s/a.mrcs", "1@s/c.mrcs"]
    with pytest.raises(InputError, match="6 pixels wide"):
        read_relion_particles(write(project, PARTICLES | {"rlnImageName": names}))
    names = ["1@s/d.mrcs"] * 3
    with pytest.raises(InputError, match="8 x 6 pixels, not square"):
        read_relion_particles(write(project, PARTICLES | {"rlnImageName": names}))


def test_images_are_looked_for_upwards_and_kept_inside(project, tmp_path_factory):
    path = write(project / "Class3D" / "job001")
    assert read_relion_particles(path).stacks[0] == (project / "s/a.mrcs").resolve()
    assert read_relion_particles(path, data_root=project).stacks[0] == (project / "s/a.mrcs").resolve()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "a.mrcs").write_bytes((project / "s/a.mrcs").read_bytes())
    (project / "s" / "link.mrcs").symlink_to(elsewhere / "a.mrcs")
    for name in ("s/link.mrcs", str(elsewhere / "a.mrcs"), f"../{elsewhere.name}/a.mrcs"):
        linked = write(project, PARTICLES | {"rlnImageName": [f"1@{name}"] * 3}, name="l.star")
        with pytest.raises(InputError, match=r"leads out of .*--data-root"):
            read_relion_particles(linked)
        with pytest.raises(InputError, match=r"leads out of .*--data-root"):
            read_relion_particles(linked, data_root=project)
        # A root that holds both says that the link is meant. '..' is taken from the root, so it stays out.
        if not name.startswith(".."):
            found = read_relion_particles(linked, data_root=elsewhere.parent if "link" not in name else "/")
            assert found.stacks[0] == (elsewhere / "a.mrcs").resolve()
    with pytest.raises(InputError, match="is not a folder"):
        read_relion_particles(path, data_root=project / "none")


@QUICK
@given(st.data())
def test_damage_gives_a_table_or_one_sentence(project, data):
    path = write(project)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw) - 1))
        length = data.draw(st.integers(0, 8))
        raw[start : start + length] = data.draw(
            st.binary(max_size=8) | st.sampled_from([b"nan", b"-1", b"1e9"])
        )
    path.write_bytes(raw)
    try:
        table = read_relion_particles(path, with_images=data.draw(st.booleans()))
    except InputError:
        return
    assert np.isfinite(table.defocus).all()
    assert len(table.defocus) == len(table)


@QUICK
@given(st.sets(st.sampled_from(sorted(OPTICS))), st.sets(st.sampled_from(sorted(PARTICLES))), st.booleans())
def test_any_columns_may_be_missing(project, optics_kept, particles_kept, ctf):
    path = write(
        project,
        {label: PARTICLES[label] for label in particles_kept} or {"rlnX": ["1"]},
        {label: OPTICS[label] for label in optics_kept},
    )
    optics_needed, particles_needed = (
        {"rlnOpticsGroup", "rlnImagePixelSize"},
        {"rlnOpticsGroup", "rlnImageName"},
    )
    if ctf:
        optics_needed |= {"rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"}
        particles_needed |= {"rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"}
    if not (optics_needed <= optics_kept and particles_needed <= particles_kept):
        with pytest.raises(InputError, match="missing"):
            read_relion_particles(path, ctf=ctf)
        return
    table = read_relion_particles(path, ctf=ctf)
    assert len(table) == 3
    assert (table.angles is not None) == ({"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"} <= particles_kept)
