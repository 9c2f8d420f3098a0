"""Readers of alignment files: the published examples, bad lines, damaged bytes."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.io.aretomo import aln_to_xf, read_aln
from manyviews.io.imod import (
    parse_section_list,
    read_angles,
    read_xf,
    write_angles,
    write_xf,
)
from manyviews.io.imod_com import read_tilt_com
from manyviews.io.mdoc import read_mdoc, write_mdoc
from manyviews.io.relion_tomo import read_tilt_series_star

FORMATS = Path(__file__).resolve().parents[3] / "shared" / "data" / "tilt" / "formats"
QUICK = settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
needs_examples = pytest.mark.skipif(not FORMATS.exists(), reason="shared example files not present")

MDOC = """PixelSpacing = 7.88
ImageSize = 1024 512

[T =     Tilt axis angle = -88.7, binning = 2  spot = 7]

[ZValue = 0]
TiltAngle = -3.0
RotationAngle = 175
PixelSpacing = 7.88

[ZValue = 1]
TiltAngle = 3.0
RotationAngle = 175
"""
ALN = """# AreTomo Alignment / Priims bprmMn
# RawSize = 64 32 4
# NumPatches = 0
# DarkFrame =     1    0   -66.00
# AlphaOffset =     0.50
# BetaOffset =     0.00
# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT
    0   -12.6611    1.00000     24.786     -2.677     1.00     1.00     1.00     0.00    -61.50
    2   -12.6611    1.00000     34.451     -8.599     1.00     1.00     1.00     0.00    -60.00
# Local Alignment
   0   0  -558.42   -802.00   -100.07     24.43   1.0
"""
STAR = """
data_TS_1

loop_
_rlnTomoNominalStageTiltAngle #1
_rlnTomoNominalTiltAxisAngle #2
_rlnTomoXTilt #3
_rlnTomoYTilt #4
_rlnTomoZRot #5
_rlnTomoXShiftAngst #6
_rlnTomoYShiftAngst #7
-3.0 85 0.5 -2.9 85.5 20.0 -6.0
3.0 85 0.5 3.1 85.6 21.0 -5.6
"""
COM = """$setenv IMOD_OUTPUT_FORMAT MRC
$tilt -StandardInput
InputProjections a_ali.mrc
IMAGEBINNED 2
TILTFILE a.tlt
XTILTFILE a.xtilt
THICKNESS 900
XAXISTILT 1.5
FULLIMAGE 2032 2030
OFFSET -0.5
SHIFT 0.0 12.5
EXCLUDELIST 1,4-6
LOCALFILE alocal.xf
$if (-e ./savework) ./savework
"""
READERS = {
    ".tlt": (read_angles, "-60.00\n0.0\n 60\n"),
    ".xf": (read_xf, "0.1 -0.9 0.9 0.1 -58.1 69.8\n1 0 0 1 0 0\n"),
    ".mdoc": (read_mdoc, MDOC),
    ".aln": (read_aln, ALN),
    ".star": (read_tilt_series_star, STAR),
    ".com": (read_tilt_com, COM),
}


def written(tmp_path, suffix, text=None):
    path = tmp_path / f"a{suffix}"
    path.write_text(READERS[suffix][1] if text is None else text)
    return path


def test_angles_and_transforms_survive_writing(tmp_path):
    write_angles(tmp_path / "a.tlt", [-60.25, 0, 59.9999])
    assert read_angles(tmp_path / "a.tlt").tolist() == [-60.25, 0, 59.9999]
    rows = [[0.1, -0.9, 0.9, 0.1, -58.125, 69.5]]
    write_xf(tmp_path / "a.xf", rows)
    assert read_xf(tmp_path / "a.xf") == pytest.approx(np.array(rows))
    with pytest.raises(InputError, match="exists"):
        write_xf(tmp_path / "a.xf", rows)


def test_a_singular_transform_is_refused(tmp_path):
    with pytest.raises(InputError, match="transform 2"):
        read_xf(written(tmp_path, ".xf", "1 0 0 1 0 0\n1 1 1 1 0 0\n"))


def test_mdoc(tmp_path):
    mdoc = read_mdoc(written(tmp_path, ".mdoc"))
    assert mdoc.tilt_degrees.tolist() == [-3, 3]
    assert mdoc.pixel_size == 7.88
    assert mdoc.axis_degrees == -88.7
    assert mdoc.rotation_degrees == (175, 175)
    assert mdoc.image_size == (1024, 512)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("TiltAngle = 3.0\n", "", "TiltAngle is missing"),
        ("[ZValue = 1]", "[ZValue = 1e400]", "finite"),
        ("TiltAngle = 3.0", "TiltAngle = nan", "line 12"),
        ("PixelSpacing = 7.88\n\n[Z", "PixelSpacing = 8.0\n\n[Z", "PixelSpacing"),
        ("ImageSize = 1024 512", "ImageSize = 1024", "ImageSize"),
    ],
)
def test_bad_mdocs_are_refused(tmp_path, old, new, words):
    with pytest.raises(InputError, match=words):
        read_mdoc(written(tmp_path, ".mdoc", MDOC.replace(old, new)))


@given(
    tilts=st.lists(st.floats(-90, 90), min_size=1, max_size=9),
    pixel_size=st.floats(0.1, 1000),
    axis=st.none() | st.floats(-180, 180),
)
@QUICK
def test_a_written_mdoc_reads_back(tmp_path, tilts, pixel_size, axis):
    path = tmp_path / "a.mdoc"
    write_mdoc(path, tilts, pixel_size, (10, 20), axis_degrees=axis, image_file="a.mrc", overwrite=True)
    mdoc = read_mdoc(path)
    assert mdoc.tilt_degrees == pytest.approx(tilts, abs=1e-6)
    assert mdoc.pixel_size == pytest.approx(pixel_size, rel=1e-6)
    assert mdoc.axis_degrees == (None if axis is None else pytest.approx(axis, abs=1e-6))
    assert mdoc.image_size == (20, 10)


def test_aln(tmp_path):
    alignment = read_aln(written(tmp_path, ".aln"))
    assert alignment.raw_shape == (4, 32, 64)
    assert alignment.dark_sections == (0,)
    assert alignment.sections.tolist() == [1, 3]
    assert alignment.tilt_degrees.tolist() == [-61.5, -60]
    assert alignment.alpha_offset == 0.5
    assert alignment.has_local_alignment


def test_aln_counting_from_one(tmp_path):
    text = ALN.replace("\n    0 ", "\n    1 ").replace("\n    2 ", "\n    3 ")
    assert read_aln(written(tmp_path, ".aln", text)).sections.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("# AreTomo Alignment", "# Something", "not an AreTomo"),
        ("    2   -12", "    9   -12", "section 9 does not exist"),
        ("    2   -12", "    0   -12", "twice"),
        ("    2   -12", "  0.5   -12", "section 0.5"),
        ("0.00    -60.00", "0.00", "columns"),
        ("-60.00\n", "nan\n", "line 9"),
        ("64 32 4", "64 32", "RawSize"),
        ("1.00000     34", "0.00000     34", "GMAG"),
    ],
)
def test_bad_alns_are_refused(tmp_path, old, new, words):
    with pytest.raises(InputError, match=words):
        read_aln(written(tmp_path, ".aln", ALN.replace(old, new)))


def test_star(tmp_path):
    series = read_tilt_series_star(written(tmp_path, ".star"))
    assert series.name == "TS_1"
    assert series.y_tilt.tolist() == [-2.9, 3.1]
    assert series.nominal_tilt is not None
    assert series.nominal_tilt.tolist() == [-3, 3]
    assert series.shifts.tolist() == [[20, -6], [21, -5.6]]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("_rlnTomoZRot", "_rlnOther", "rlnTomoZRot is missing"),
        ("85.6", "nan", "rlnTomoZRot, row 2"),
        (" 21.0 -5.6", " 21.0", "not a STAR file"),
        ("_rlnTomo", "_other", "no rlnTomoYTilt"),
    ],
)
def test_bad_stars_are_refused(tmp_path, old, new, words):
    with pytest.raises(InputError, match=words):
        read_tilt_series_star(written(tmp_path, ".star", STAR.replace(old, new)))


def test_columns_of_two_loops_are_refused(tmp_path):
    text = STAR.replace("_rlnTomoXShiftAngst #6\n_rlnTomoYShiftAngst #7\n", "")
    rows = text.replace(" 20.0 -6.0", "").replace(" 21.0 -5.6", "")
    more = "\nloop_\n_rlnTomoXShiftAngst #1\n_rlnTomoYShiftAngst #2\n1 2\n3 4\n5 6\n"
    with pytest.raises(InputError, match=r"columns of data_TS_1 have different lengths \(2 to 3\)"):
        read_tilt_series_star(written(tmp_path, ".star", rows + more))


def test_a_list_of_tilt_series_is_pointed_out(tmp_path):
    text = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesStarFile #2\nTS_1 a.star\n"
    with pytest.raises(InputError, match="lists tilt series"):
        read_tilt_series_star(written(tmp_path, ".star", text))


def test_tilt_com(tmp_path):
    com = read_tilt_com(written(tmp_path, ".com"))
    assert com.tilt_file == tmp_path / "a.tlt"
    assert com.x_tilt_file == tmp_path / "a.xtilt"
    assert (com.thickness, com.full_image, com.image_binned) == (900, (2032, 2030), 2)
    assert (com.tilt_offset, com.x_axis_tilt, com.shift) == (-0.5, 1.5, (0.0, 12.5))
    assert com.exclude == (1, 4, 5, 6)
    assert com.not_followed == ("LOCALFILE",)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("THICKNESS 900", "THICKNESS x", "line 7"),
        ("THICKNESS 900", "THICKNESS 0", "line 7"),
        ("EXCLUDELIST 1,4-6", "EXCLUDELIST 6-4", "line 12"),
        ("EXCLUDELIST 1,4-6", "EXCLUDELIST a", "line 12"),
    ],
)
def test_bad_tilt_coms_are_refused(tmp_path, old, new, words):
    with pytest.raises(InputError, match=words):
        read_tilt_com(written(tmp_path, ".com", COM.replace(old, new)))
    with pytest.raises(InputError, match=r"not a tilt.com"):
        read_tilt_com(written(tmp_path, ".com", "hello there\n"))


def test_section_lists():
    assert parse_section_list("1, 4-6,9") == (1, 4, 5, 6, 9)
    assert parse_section_list("") == ()
    for bad in ("0", "1-", "-3", "5-4", "1-9999999", "x", "1.5", "²"):
        with pytest.raises(InputError):
            parse_section_list(bad)


@pytest.mark.parametrize("suffix", READERS)
@QUICK
@given(data=st.binary(max_size=300))
def test_any_bytes_give_only_input_errors(tmp_path, suffix, data):
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        READERS[suffix][0](path)


@pytest.mark.parametrize("suffix", READERS)
@QUICK
@given(data=st.data())
def test_damaged_files_give_only_input_errors(tmp_path, suffix, data):
    reader, text = READERS[suffix]
    raw = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(raw)
    with contextlib.suppress(InputError):
        reader(path)


@needs_examples
def test_published_examples():
    assert read_angles(FORMATS / "imod_1_tilt_1.tlt")[[0, -1]].tolist() == [-52.24, 63.76]
    assert read_angles(FORMATS / "etspy_HAADF.rawtlt").shape == (77,)
    assert read_xf(FORMATS / "imod_1_tilt_1.xf").shape == (59, 6)
    assert not read_angles(FORMATS / "imod_1_tilt_1.xtilt").any()
    for name, thickness, binned in (("imod_1_tilt.com", 2000, 4), ("tilt.com", 900, 2)):
        com = read_tilt_com(FORMATS / name)
        assert (com.thickness, com.image_binned) == (thickness, binned)
        assert com.not_followed == ()
    mdoc = read_mdoc(FORMATS / "etspy_serialem_multitilt.mdoc")
    assert (mdoc.axis_degrees, mdoc.pixel_size) == (-90, 7.88)
    assert mdoc.rotation_degrees == (0, 0)


@needs_examples
def test_published_aln():
    alignment = read_aln(FORMATS / "test.aln")
    assert alignment.raw_shape == (90, 2032, 2032)
    # The stack starts at -66 degrees in steps of 1.5, so -61.5 is raw section 3.
    assert alignment.sections.tolist() == [3, 4, 5, 6]
    assert alignment.tilt_degrees == pytest.approx(-66 + 1.5 * alignment.sections)
    xf = aln_to_xf(alignment)
    # AreTomo's own .xf of this project turns the same way: a11 = cos, a12 = sin(ROT) < 0.
    assert xf[0, 0] == pytest.approx(np.cos(np.deg2rad(12.6611)))
    assert xf[0, 1] == pytest.approx(-np.sin(np.deg2rad(12.6611)))
    assert np.sign(xf[0, :4]).tolist() == np.sign(read_xf(FORMATS / "test.xf")[0, :4]).tolist()
