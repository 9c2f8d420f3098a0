"""Where an .mdoc says how the tilt axis lies, in every way in which programs write it."""

import pytest

from manyviews.io.mdoc import read_axis_quote, read_mdoc

SERIALEM = "[T = SerialEM: Acquired on a microscope   1-May-24  16:56:54 ]"
TOMO5 = "[T = TOMOGRAPHY5: Acquired on a microscope     2-Oct-26  10:11:12 ]"


def mdoc(folder, *titles, keys="", section_keys="", rotation=None):
    """Three sections."""
    lines = ["PixelSpacing = 4.0", keys, "ImageSize = 64 64", "", *titles, ""]
    for i in range(3):
        lines += [f"[ZValue = {i}]", f"TiltAngle = {3 * i}", section_keys]
        lines += [] if rotation is None else [f"RotationAngle = {rotation}"]
    path = folder / "a.mrc.mdoc"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("title", "angle"),
    [
        ("[T =     Tilt axis angle = 85.6, binning = 1  spot = 8  camera = 0]", 85.6),
        ("[T = TiltAxisAngle = -85.60  Binning = 1  SpotSize = 8]", -85.6),
        ("[T = Tilt axis angle = 85,6, binning = 1]", 85.6),
        ("[T = Tilt axis angle = 85, binning = 1]", 85.0),
        ("[T = tilt AXIS angle=+12.25]", 12.25),
        ("[T =  Tilt axis angle = 84.8, binning = 1  spot = 4 dosym = -10.0\n]", 84.8),
        ("[T =  Tilt axis\n    angle = 84.8, binning = 1\n  spot = 4 ]", 84.8),
        ("[T = Tilt axis angle = 190.0]", -170.0),
        ("[T = Tilt axis angle = 180.0]", 180.0),
        ("T = Tilt axis angle = 84.8, binning = 1", 84.8),
    ],
)
def test_titles(tmp_path, title, angle):
    found = read_mdoc(mdoc(tmp_path, SERIALEM, title, rotation=11.0))
    assert found.axis_degrees == pytest.approx(angle)
    assert "title" in found.axes[0][0]


@pytest.mark.parametrize(
    "keys",
    [
        {"keys": "TiltAxisAngle = 85.6"},
        {"keys": "Tilt axis angle = 85,6"},
        {"section_keys": "TiltAxisAngle = 85.6"},
    ],
)
def test_keys(tmp_path, keys):
    found = read_mdoc(mdoc(tmp_path, TOMO5, rotation=11.0, **keys))
    assert found.axis_degrees == pytest.approx(85.6)
    assert "key" in found.axes[0][0]


@pytest.mark.parametrize(
    ("title", "rotation", "angle"),
    [(SERIALEM, 175.6, 85.6), (SERIALEM, "-174,4", 95.6), (TOMO5, 85.6, 85.6), (TOMO5, "-94.4", -94.4)],
)
def test_rotation_angle_as_the_program_means_it(tmp_path, title, rotation, angle):
    found = read_mdoc(mdoc(tmp_path, title, rotation=rotation))
    assert found.axis_degrees == pytest.approx(angle)
    assert "RotationAngle" in found.axes[0][0]


@pytest.mark.parametrize(("title", "rotation"), [("[T = Another program]", 175.6), (SERIALEM, 0.0)])
def test_what_is_not_understood_is_quoted(tmp_path, title, rotation):
    found = read_mdoc(mdoc(tmp_path, title, rotation=rotation))
    assert found.axis_degrees is None
    assert f"RotationAngle = {rotation:g}" in found.axis_quote
    assert title[5:20] in found.axis_quote


def test_all_that_names_the_axis_is_kept(tmp_path):
    found = read_mdoc(mdoc(tmp_path, "[T = Tilt axis angle = 85.6]", keys="TiltAxisAngle = -4.4"))
    assert [value for _, value in found.axes] == pytest.approx([85.6, -4.4])


def test_a_stack_of_frames_is_told_and_quoted(tmp_path):
    path = tmp_path / "a.mrc.mdoc"
    path.write_text(
        "T = SerialEM: Some microscope\n\n[FrameSet = 0]\nTiltAngle = -9.99\nRotationAngle = 174.8\n"
    )
    with pytest.raises(Exception, match="FrameSet"):
        read_mdoc(path)
    assert "RotationAngle = 174.8" in read_axis_quote(path)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("[ZValue = 1]", "[ZValue = 3]", "section 1 is missing"),
        ("[ZValue = 1]", "[ZValue = 0]", "section 0 is there twice"),
        ("[ZValue = 0]", "[ZValue = 3]", "section 0 is missing"),
    ],
)
def test_sections_missing_or_repeated_are_told(tmp_path, old, new, fault):
    path = mdoc(tmp_path, SERIALEM)
    path.write_text(path.read_text().replace(old, new))
    assert read_mdoc(path).fault == fault
