"""Files of defocus and dose: what each format says, bad lines, damaged bytes."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.io.ctffind import read_ctffind, write_ctffind
from manyviews.io.imod_defocus import read_imod_defocus
from manyviews.io.mdoc_microscope import read_mdoc_defocus, read_mdoc_dose, read_mdoc_voltage
from manyviews.io.relion_defocus import read_relion_defocus, read_relion_dose

FORMATS = Path(__file__).resolve().parents[3] / "shared" / "data" / "tilt" / "formats"
QUICK = settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])

CTFFIND = """# Output from CTFFind version 4.1.14, run on 2024-05-01 12:00:00
# Input file: a.mrc ; Number of micrographs: 2
# Pixel size: 2.000 Angstroms ; acceleration voltage: 200.0 keV ; spherical aberration: 2.20 mm ; \
amplitude contrast: 0.08
# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2
1.000000 25951.41 24469.37 88.08 0.000000 0.081 7.1
2.000000 24973.29 23547.11 83.57 0.523599 0.070 inf
"""
IMOD_2 = "1 1 -30.0 -30.0 2500 2\n2 2 -27.0 -27.0 2600\n"
IMOD_3 = "5 0 0. 0. 0 3\n1 1 -30.0 -30.0 2500 2400 12.0 30.0\n2 2 -27.0 -27.0 2600 2500 14.0 31.0\n"
RELION = """
data_TS_1

loop_
_rlnMicrographName #1
_rlnTomoNominalStageTiltAngle #2
_rlnMicrographPreExposure #3
_rlnDefocusU #4
_rlnDefocusV #5
_rlnDefocusAngle #6
000002@a.mrc -27.0 3.0 26000 25000 14.0
000001@a.mrc -30.0 0.0 25000 24000 12.0
"""
MDOC = """Voltage = 300
PixelSpacing = 2.0

[ZValue = 0]
TiltAngle = -30
TargetDefocus = -2.5
ExposureDose = 3
PriorRecordDose = 6

[ZValue = 1]
TiltAngle = -27
TargetDefocus = -2.6
ExposureDose = 3
PriorRecordDose = 3
"""
READERS = {
    "a.txt": (CTFFIND, read_ctffind),
    "a.defocus": (IMOD_3, read_imod_defocus),
    "a.star": (RELION, read_relion_defocus),
    "a.mdoc": (MDOC, read_mdoc_defocus),
}


def written(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_ctffind(tmp_path):
    found = read_ctffind(written(tmp_path, "a.txt", CTFFIND))
    np.testing.assert_allclose(found.defocus, [[25951.41, 24469.37], [24973.29, 23547.11]])
    np.testing.assert_allclose(found.angle, [88.08, 83.57])
    np.testing.assert_allclose(found.phase_shift, [0.0, 30.0], atol=1e-4)
    assert found.sections.tolist() == [0, 1]
    microscope = found.voltage_kv, found.spherical_aberration_mm, found.amplitude_contrast
    assert microscope == (200.0, 2.2, 0.08)
    assert found.tilt_degrees is None
    assert not found.is_nominal


def test_ctffind_comes_back_as_it_was_written(tmp_path):
    first = read_ctffind(written(tmp_path, "a.txt", CTFFIND))
    write_ctffind(tmp_path / "b.txt", first)
    again = read_ctffind(tmp_path / "b.txt")
    for name in ("defocus", "angle", "phase_shift", "sections"):
        np.testing.assert_allclose(getattr(again, name), getattr(first, name), atol=1e-3)
    assert again.voltage_kv == 200.0


@pytest.mark.skipif(not FORMATS.exists(), reason="shared example files not present")
def test_aretomo_as_published():
    found = read_ctffind(FORMATS / "test_CTF.txt")
    np.testing.assert_allclose(found.defocus[2], [20648.45, 19469.25])
    assert found.voltage_kv is None


def test_imod_version_2(tmp_path):
    found = read_imod_defocus(written(tmp_path, "a.defocus", IMOD_2))
    np.testing.assert_allclose(found.defocus, [[25000, 25000], [26000, 26000]])
    np.testing.assert_allclose(found.tilt_degrees, [-30, -27])
    assert not found.angle.any()


def test_imod_version_3(tmp_path):
    found = read_imod_defocus(written(tmp_path, "a.defocus", IMOD_3))
    np.testing.assert_allclose(found.defocus, [[25000, 24000], [26000, 25000]])
    np.testing.assert_allclose(found.angle, [12, 14])
    np.testing.assert_allclose(found.phase_shift, [30, 31])


def test_imod_radians_and_inverted_tilts(tmp_path):
    text = f"{1 + 2 + 4 + 8 + 16 + 32} 0 0. 0. 0 3\n1 1 30 30 2500 2400 {np.pi / 4} {np.pi / 6} 0.1\n"
    found = read_imod_defocus(written(tmp_path, "a.defocus", text))
    assert found.angle[0] == pytest.approx(45.0)
    assert found.phase_shift[0] == pytest.approx(30.0)
    assert found.tilt_degrees[0] == -30.0


def test_imod_ranges_hold_for_their_middle(tmp_path):
    found = read_imod_defocus(written(tmp_path, "a.defocus", "1 3 -30 -24 2500 2\n4 6 -21 -15 2800\n"))
    np.testing.assert_allclose(found.defocus[:, 0], [25000, 25000, 26000, 27000, 28000, 28000])
    assert found.tilt_degrees is None


def test_relion(tmp_path):
    path = written(tmp_path, "a.star", RELION)
    found = read_relion_defocus(path)
    assert found.sections.tolist() == [1, 0]
    np.testing.assert_allclose(found.defocus, [[26000, 25000], [25000, 24000]])
    np.testing.assert_allclose(found.tilt_degrees, [-27, -30])
    sections, dose = read_relion_dose(path)
    assert dict(zip(sections.tolist(), dose.tolist(), strict=True)) == {0: 0.0, 1: 3.0}


def test_mdoc_is_nominal(tmp_path):
    path = written(tmp_path, "a.mdoc", MDOC)
    found = read_mdoc_defocus(path)
    assert found.is_nominal
    np.testing.assert_allclose(found.defocus, [[25000, 25000], [26000, 26000]])
    assert found.voltage_kv == read_mdoc_voltage(path) == 300.0
    own, before = read_mdoc_dose(path)
    assert own.tolist() == [3.0, 3.0]
    assert before.tolist() == [6.0, 3.0]


def test_mdoc_without_target_takes_defocus(tmp_path):
    text = MDOC.replace("TargetDefocus", "Defocus")
    assert read_mdoc_defocus(written(tmp_path, "a.mdoc", text)).defocus[0, 0] == 25000.0
    with pytest.raises(InputError, match="neither TargetDefocus nor Defocus"):
        read_mdoc_defocus(written(tmp_path, "b.mdoc", MDOC.replace("TargetDefocus = -2.6", "")))


@pytest.mark.parametrize(
    ("name", "old", "new", "what"),
    [
        ("a.txt", " 0.081 7.1", "", "line 5.*5 columns"),
        ("a.txt", "24469.37", "wide", "line 5.*not a finite number"),
        ("a.txt", "2.000000 24973", "1.000000 24973", "not all different"),
        ("a.txt", "25951.41", "-25951.41", "the defocus of section 1 is -25951"),
        ("a.defocus", "5 0 0. 0. 0 3", "5 0 0. 0. 0 4", "version 2 or 3"),
        ("a.defocus", " 30.0\n2", "\n2", "line 2.*7 numbers where 8"),
        ("a.defocus", "2 2 -27.0", "3 2 -27.0", "3 to 2 are no views"),
        ("a.defocus", "2 2 -27.0", "1 1 -27.0", "two lines are for the same views"),
        ("a.defocus", "5 0 0. 0. 0 3", "99 0 0. 0. 0 3", "99 are no flags"),
        ("a.star", "_rlnDefocusV #5", "_rlnDefocusW #5", "column rlnDefocusV is missing"),
        ("a.star", "_rlnDefocusU #4", "_rlnOther #4", "has no rlnDefocusU column"),
        ("a.star", " 26000", " none", "column rlnDefocusU, row 1"),
        ("a.mdoc", "TargetDefocus = -2.5", "TargetDefocus = 2.5", "section 1 is -25000"),
        ("a.mdoc", "TargetDefocus = -2.5", "TargetDefocus = deep", "not a finite number"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, name, old, new, what):
    text, reader = READERS[name]
    assert old in text
    with pytest.raises(InputError, match=what) as caught:
        reader(written(tmp_path, name, text.replace(old, new)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(READERS))
@pytest.mark.parametrize("text", ["", "# nothing\n", "\n\n"])
def test_empty_files_are_refused(tmp_path, name, text):
    with pytest.raises(InputError):
        READERS[name][1](written(tmp_path, name, text))


@pytest.mark.parametrize("name", sorted(READERS))
@QUICK
@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path, name, data):
    text, reader = READERS[name]
    damaged = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.sampled_from(b" \n\t-+.,0159eE#xX@=[]_\xff"))
    path = tmp_path / name
    path.write_bytes(bytes(damaged))
    with contextlib.suppress(InputError):
        found = reader(path)
        assert np.isfinite(found.defocus).all()
        assert len(found.defocus) == len(found.angle) == len(found.sections) == len(found.phase_shift)


LIST = """
data_global

loop_
_rlnTomoName
_rlnTomoTiltSeriesStarFile
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
_rlnTomoHand
TS_01 CtfFind/job003/tilt_series/TS_01.star 200.0 2.2 0.08 {hand}
TS_02 CtfFind/job003/tilt_series/TS_02.star 300.0 2.7 0.10 1.0
"""


def listed(folder, text, name="tilt_series_ctf.star"):
    (folder / "tilt_series").mkdir(exist_ok=True)
    (folder / "tilt_series" / "TS_01.star").write_text(RELION)
    (folder / name).write_text(text)
    return folder / "tilt_series" / "TS_01.star"


def test_relions_list_of_series_tells_the_hand_and_the_microscope(tmp_path):
    (tmp_path / "other.star").write_text("data_x\n\n_rlnTomoHand 1\n")
    (tmp_path / "noise.star").write_bytes(b"\xff\x00 no table")
    found = read_relion_defocus(listed(tmp_path, LIST.format(hand=-1.0)))
    assert (found.hand, found.defocus_slope) == (-1, 1.0)
    assert (found.voltage_kv, found.spherical_aberration_mm, found.amplitude_contrast) == (200.0, 2.2, 0.08)
    assert found.told_by == str(tmp_path / "tilt_series_ctf.star")
    sloped = LIST.replace("_rlnTomoHand", "_rlnTomoDefocusSlope")
    found = read_relion_defocus(listed(tmp_path, sloped.format(hand=0.97)))
    assert (found.hand, found.defocus_slope) == (None, 0.97)


def test_lists_of_series_that_make_no_sense_are_refused(tmp_path):
    path = listed(tmp_path, LIST.format(hand=0.5))
    with pytest.raises(InputError, match=r"tilt_series_ctf\.star, column rlnTomoHand: the hand is 0\.5"):
        read_relion_defocus(path)
    listed(tmp_path, LIST.format(hand="left"))
    with pytest.raises(InputError, match="column rlnTomoHand, row 1"):
        read_relion_defocus(path)
    listed(tmp_path, LIST.format(hand=-1))
    listed(tmp_path, LIST.format(hand=1), "tomograms.star")
    with pytest.raises(InputError, match=r"tilt_series_ctf\.star and tomograms\.star differ in the hand"):
        read_relion_defocus(path)
