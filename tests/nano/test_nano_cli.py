"""``nano check`` and ``nano center`` as they are typed, and the scans of others where they are at hand."""

from pathlib import Path

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.nano.check import check
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.prepare import prepare
from manyviews.nano.scan.scan import open_scan
from manyviews.nano.scan.stripes import stripe_strength
from scan_example import CENTER, projections, write_data_exchange, write_tiffs

THETA = np.linspace(0.0, 180.0, 46)


def run(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_check_says_what_is_there_and_what_would_be_done(tmp_path, capsys):
    folder = write_tiffs(tmp_path / "scan", THETA, extra=2)
    code, out, _ = run(capsys, "nano", "check", folder, "--binning", 2, "--air", 3, "--pixel-size-nm", 50)
    assert code == 0
    for said in (
        "folder of TIFF files",
        "projections: 46 of 48 x 12 pixels, float32",
        "flats: 1",
        "angles: 46 from 0 to 180 degrees, one way",
        "1 pairs of opposite views",
        "steps: subtract darks, divide by flats, divide by the air in 3 columns at either side,"
        " take minus the logarithm, bin by 2",
        "reconstructed from: 46 views of 24 x 6 pixels of 100 nm",
        "warning: angles: ",
        "2 at the beginning and 2 at the end",
    ):
        assert said in out
    (line,) = [line for line in out.splitlines() if line.startswith("centre: ")]
    assert float(line.split()[1].rstrip(",")) == pytest.approx(CENTER, abs=0.1)


def test_check_and_run_warn_of_the_same_and_find_the_same_centre(tmp_path):
    stripes = 0.05 * np.sin(np.arange(48.0) ** 2)
    data = np.exp(-(projections(THETA) + 0.2 + stripes))
    path = write_data_exchange(tmp_path / "a.h5", THETA, data=data, flats=False, darks=False)
    for options in (
        ScanOptions(scan=path),
        ScanOptions(scan=path, binning=2),
        ScanOptions(scan=path, rows=(1, 9)),
    ):
        seen, made = check(options), prepare(open_scan(path, options), options)
        assert seen.warnings == made.warnings
        assert seen.found == made.found
        assert seen.shape == made.projections.shape
    assert any("consider --stripes" in text for text in seen.warnings)
    assert any("consider --air" in text for text in seen.warnings)


def test_center_on_the_command_line(tmp_path, capsys):
    path = write_data_exchange(tmp_path / "a.h5", THETA)
    code, out, err = run(capsys, "nano", "center", path, "--binning", 4)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("centre by opposite views: 25.3")
    assert "centre by sharpest slices: 25." in out
    assert "middle of the detector: 23.5" in out
    code, _, err = run(capsys, "nano", "center", path, "--center-search-width", 1)
    assert code == 0
    assert "on the border of the search (23.00 to 24.00) or beyond, at 25.3" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--center", "60"), "--center: 60 is outside the detector of 48 columns"),
        (("--stripes", "fft"), "there is no 'fft'"),
        (
            ("--angle-range", "0", "3.14", "--angles", "x"),
            "--angle-range: takes two angles, and no --angles beside",
        ),
        (("--rows", "3", "2"), "--rows: rows 3 to 2 are not among the 12"),
    ],
)
def test_bad_options_are_one_sentence(tmp_path, capsys, words, said):
    path = write_data_exchange(tmp_path / "a.h5", THETA)
    code, out, err = run(capsys, "nano", "check", path, *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert said in err


def prepared(path, **options):
    chosen = ScanOptions(scan=path, **options)
    return prepare(open_scan(chosen.scan, chosen), chosen)


def test_savu_from_tiffs_has_its_centre_and_loses_its_rings(shared_data: Path):
    made = prepared(shared_data / "nano" / "savu_24737_tiff")
    assert made.projections.shape == (91, 135, 160)
    assert made.theta_degrees[0] == -88.2
    assert made.theta_degrees[-1] == 91.7999
    assert made.center == pytest.approx(86.0, abs=0.5)
    assert made.found.sharpest.center == pytest.approx(86.0, abs=0.5)
    assert any("10 at the beginning and 10 at the end" in text for text in made.warnings)
    assert stripe_strength(made.projections) > 5
    clean = prepared(shared_data / "nano" / "savu_24737_tiff", stripes="sorting", air=8)
    assert stripe_strength(clean.projections) < 1.3
    assert clean.center == pytest.approx(86.0, abs=0.5)
    assert np.median(clean.projections[:, :, :8]) == pytest.approx(0.0, abs=0.03)


def test_tooth_has_its_centre(shared_data: Path):
    made = prepared(shared_data / "nano" / "tooth.h5")
    assert made.center == pytest.approx(296.0, abs=0.5)
    assert made.found.sharpest.center == pytest.approx(296.0, abs=0.5)
    assert 0.3 < made.projections.mean() < 0.6


def test_nexus_by_its_image_key(shared_data: Path):
    made = prepared(shared_data / "nano" / "k11-18014.nxs", angle_range=(90.0, 270.0))
    assert made.projections.shape == (3001, 22, 26)
    assert made.theta_degrees[1] - made.theta_degrees[0] == pytest.approx(0.06)
    assert any("3001 projections, 100 flats, 100 darks" in note for note in made.notes)
    assert made.center == pytest.approx(12.5, abs=0.5)  # a crop about the axis


def test_a_needle_of_an_electron_microscope(shared_data: Path):
    scan = open_scan(shared_data / "nano" / "etspy_HAADF.mrc.gz", ScanOptions())
    assert (scan.shape, scan.axis) == ((77, 256, 256), "horizontal")
    np.testing.assert_allclose(scan.theta_degrees, np.arange(-76.0, 77.0, 2.0))
    assert scan.pixel_size_nm == pytest.approx(3.36)
    made = prepared(shared_data / "nano" / "etspy_HAADF.mrc.gz", binning=2)
    assert any("-31908" in note and "offset" in note for note in made.notes)
    assert made.projections.min() >= 0
    # the needle's mass in each plane across the axis is the same in all views, but for its drift
    lines = made.projections.mean(axis=2)
    assert (lines.std(axis=0) / lines.max()).mean() < 0.1
