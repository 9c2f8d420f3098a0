import bz2
import gzip
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.io.particle_images import ParticleImages
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


def test_a_link_out_of_the_project_says_which_folder_holds_both(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "a.mrcs").write_bytes((project / "s/a.mrcs").read_bytes())
    (project / "s" / "link.mrcs").symlink_to(elsewhere / "a.mrcs")
    both = elsewhere.parent.resolve()
    for name in ("s/link.mrcs", str(elsewhere / "a.mrcs"), f"../{elsewhere.name}/a.mrcs"):
        path = write(project, PARTICLES | {"rlnImageName": [f"1@{name}"] * 3}, name="l.star")
        for data_root in (None, project):
            with pytest.raises(InputError, match=rf"the folder that holds both, with --data-root {both}$"):
                read_relion_particles(path, data_root=data_root)
        found = read_relion_particles(path, data_root=both)
        assert found.stacks[0] == (elsewhere / "a.mrcs").resolve()
        assert not found.warnings


NAME = "Extract/job012/Movies/p.mrcs"


def moved_project(folder, *places, name=NAME):
    """A table deep in a project, and copies of its stack at ``places``, each with a size of its own."""
    for number, place in enumerate(places):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        write_mrc(folder / place, np.zeros((3, 8 + number, 8 + number), np.float32), 1.5, is_volume=False)
    (folder / "proj/Refine3D/job098").mkdir(parents=True, exist_ok=True)
    names = [f"{row}@{name}" for row in (1, 2, 3)]
    return write(folder / "proj/Refine3D/job098", PARTICLES | {"rlnImageName": names})


@pytest.mark.parametrize(
    ("places", "found", "is_said"),
    [
        (["copy/p.mrcs"], 0, True),  # all images in one folder
        (["copy/Movies/p.mrcs"], 0, True),
        (["copy/deep/er/p.mrcs"], 0, True),
        (["copy/p.mrcs", f"copy/{NAME}"], 1, False),  # a copy of the project: as the table names it
        (["copy/p.mrcs", f"copy/old/{NAME}"], 1, True),  # agrees in more parts
        (["copy/job011/Movies/p.mrcs", "copy/job012/Movies/p.mrcs"], 1, True),
        (["copy/p.mrcs", "p.mrcs"], 0, True),  # what lies outside does not count
    ],
)
def test_moved_images_are_found_by_the_last_parts_of_their_names(tmp_path, places, found, is_said):
    path = moved_project(tmp_path, *places)
    with pytest.raises(InputError, match=r"is neither in .*--data-root"):
        read_relion_particles(path)
    table = read_relion_particles(path, data_root=tmp_path / "copy")
    assert table.stacks == ((tmp_path / places[found]).resolve(),)
    assert table.stack_names == (NAME,)  # written again as they were
    assert table.optics[0].image_size == 8 + found
    said = [text for text in table.warnings if "1 of 1 image stacks were found by the last parts" in text]
    assert bool(said) == is_said
    if is_said:
        assert f"{NAME} as {tmp_path / places[found]}" in said[0]


@pytest.mark.parametrize("name", [NAME, "/data/proj/Extract/job012/Movies/p.mrcs", "../other/Movies/p.mrcs"])
def test_absolute_names_of_another_machine_are_found_too(tmp_path, name):
    path = moved_project(tmp_path, "copy/stacks/p.mrcs", name=name)
    found = read_relion_particles(path, data_root=tmp_path / "copy").stacks
    assert found == ((tmp_path / "copy/stacks/p.mrcs").resolve(),)


def test_several_files_that_fit_are_refused_by_name(tmp_path):
    path = moved_project(tmp_path, "copy/a/p.mrcs", "copy/b/p.mrcs")
    with pytest.raises(InputError, match=rf"'{NAME}' could be .*copy/a/p.mrcs or .*copy/b/p.mrcs") as caught:
        read_relion_particles(path, data_root=tmp_path / "copy")
    assert "--data-root" in str(caught.value)
    (tmp_path / "copy/a/p.mrcs").unlink()
    (tmp_path / "copy/a/p.mrcs").symlink_to(tmp_path / "copy/b/p.mrcs")  # twice the same file
    assert len(read_relion_particles(path, data_root=tmp_path / "copy").stacks) == 1
    path = moved_project(tmp_path, name="x/q.mrcs")
    with pytest.raises(InputError, match=r"not in .*nor is a file there that is called as its last part"):
        read_relion_particles(path, data_root=tmp_path / "copy")


def test_two_names_are_never_one_file(tmp_path):
    """Extract/a/p.mrcs and Extract/b/p.mrcs, of which one copy is there."""
    path = moved_project(tmp_path, "copy/p.mrcs")
    names = ["1@Extract/a/p.mrcs", "2@Extract/b/p.mrcs", "3@Extract/a/p.mrcs"]
    path = write(path.parent, PARTICLES | {"rlnImageName": names})
    with pytest.raises(InputError, match=r"'Extract/a/p.mrcs' and 'Extract/b/p.mrcs' would both be .*p.mrcs"):
        read_relion_particles(path, data_root=tmp_path / "copy")
    (tmp_path / "copy/b").mkdir()
    (tmp_path / "copy/b/p.mrcs").write_bytes((tmp_path / "copy/p.mrcs").read_bytes())
    with pytest.raises(InputError, match="could be"):  # neither agrees with the first in more parts
        read_relion_particles(path, data_root=tmp_path / "copy")
    (tmp_path / "copy/a").mkdir()
    (tmp_path / "copy/p.mrcs").rename(tmp_path / "copy/a/p.mrcs")
    table = read_relion_particles(path, data_root=tmp_path / "copy")
    assert [stack.parent.name for stack in table.stacks] == ["a", "b"]


def test_a_file_that_ends_within_a_line_is_warned_about(project):
    path = write(project)
    assert not read_relion_particles(path).warnings
    path.write_bytes(path.read_bytes().rstrip()[:-2])  # the last name is shorter now
    assert any("ends within a line" in text for text in read_relion_particles(path).warnings)


def test_odd_stacks_are_told_of_and_compressed_ones_read(project):
    for name in ("a", "b"):
        stack = project / "s" / f"{name}.mrcs"
        stack.write_bytes(gzip.compress(stack.read_bytes()))
    table = read_relion_particles(write(project))
    assert len(table.warnings) == 1
    assert "compressed by gzip" in table.warnings[0]
    assert "so are 1 other stacks" in table.warnings[0]
    values = np.arange(3 * 64, dtype=np.float32).reshape(3, 8, 8)
    write_mrc(project / "s/a.mrcs", values, 1.5, overwrite=True)
    (project / "s/a.mrcs").write_bytes(bz2.compress((project / "s/a.mrcs").read_bytes()))
    images = ParticleImages(read_relion_particles(write(project)))
    assert np.array_equal(images.read([0, 1]), values[[2, 0]])


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
