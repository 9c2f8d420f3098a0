"""From files to projections: what comes out is what the counts were made of."""

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.scratch import ScratchFolder
from manyviews.nano.scan.binning import binned, binned_center, unbinned_center
from manyviews.nano.scan.normalise import fill
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.prepare import needed_bytes, prepare
from manyviews.nano.scan.scan import open_scan
from manyviews.random import Stream, generator
from scan_example import CENTER, COLUMNS, ROWS, counts, fields, projections, write_data_exchange

THETA = np.linspace(0.0, 180.0, 46)
INTERLACED = np.concatenate([360.0 * turn + start + 24.0 * np.arange(15) for turn, start in
                             enumerate((0.0, 8.0, 16.0))])  # fmt: skip


def prepared(path, scratch=None, **options):
    chosen = ScanOptions(**options)
    return prepare(open_scan(path, chosen), chosen, scratch)


def test_darks_flats_and_the_logarithm_in_this_order(tmp_path):
    path = write_data_exchange(tmp_path / "a.h5", THETA)
    made = prepared(path)
    assert made.projections.dtype == np.float32
    np.testing.assert_allclose(made.projections, projections(THETA), atol=2e-4)
    np.testing.assert_array_equal(made.theta_degrees, THETA)
    assert made.center == pytest.approx(CENTER, abs=0.02)
    assert made.pixel_size_nm is None
    assert not made.warnings


def test_angles_stay_in_the_order_of_acquisition_beyond_360(tmp_path):
    made = prepared(write_data_exchange(tmp_path / "a.h5", INTERLACED))
    np.testing.assert_array_equal(made.theta_degrees, INTERLACED)
    assert made.theta_degrees.max() > 720
    np.testing.assert_allclose(made.projections, projections(INTERLACED), atol=2e-4)
    assert made.center == pytest.approx(CENTER, abs=0.05)


def test_rows_views_and_binning(tmp_path):
    path = write_data_exchange(tmp_path / "a.h5", THETA)
    made = prepared(path, rows=(2, 11), exclude=("1,3-4", "46"), binning=2, pixel_size_nm=10.0)
    kept = np.setdiff1d(np.arange(46), [0, 2, 3, 45])
    np.testing.assert_array_equal(made.views, kept)
    np.testing.assert_array_equal(made.theta_degrees, THETA[kept])
    whole = projections(THETA)[kept, 2:10].reshape(len(kept), 4, 2, COLUMNS // 2, 2).mean((2, 4))
    np.testing.assert_allclose(made.projections, whole, atol=2e-4)
    assert made.center_unbinned == pytest.approx(CENTER, abs=0.1)
    assert made.center == pytest.approx((made.center_unbinned + 0.5) / 2 - 0.5)
    assert (made.pixel_size_nm, made.first_row) == (20.0, 2)
    assert any("views 1, 3, 4, 46" in note for note in made.notes)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_binned_image_has_its_centre_where_the_formula_says(factor):
    center = 23.4
    column = np.arange(60.0)
    image = np.exp(-((column - center) ** 2) / 50.0).astype(np.float32)[None, None]
    small = binned(np.repeat(image, factor, axis=1), factor)[0, 0].astype(np.float64)
    found = (small * np.arange(len(small))).sum() / small.sum()
    assert found == pytest.approx(binned_center(center, factor), abs=1e-3)
    assert unbinned_center(binned_center(center, factor), factor) == pytest.approx(center)


def test_in_files_and_in_memory_are_the_same(tmp_path):
    path = write_data_exchange(tmp_path / "a.h5", THETA)
    options = ScanOptions(binning=2, stripes="sorting", center=CENTER)
    scan = open_scan(path, options)
    with ScratchFolder(tmp_path / "scratch") as scratch:
        in_files = prepare(scan, options, scratch, threads=2)
        np.testing.assert_array_equal(in_files.projections, prepare(scan, options).projections)
    assert needed_bytes(scan, options, slice(0, ROWS)) == 4 * 46 * (ROWS * COLUMNS + ROWS * COLUMNS // 4)


def test_the_given_centre_wins_and_is_binned(tmp_path):
    path = write_data_exchange(tmp_path / "a.h5", THETA)
    made = prepared(path, center=20.0, binning=4)
    assert (made.center, made.center_unbinned, made.found) == (binned_center(20.0, 4), 20.0, None)
    for wrong in (-1.0, 48.0):
        with pytest.raises(InputError, match="outside the detector of 48 columns"):
            prepared(path, center=wrong)


def test_a_beam_that_drifts_is_divided_out(tmp_path):
    _, darks = fields()
    drift = np.linspace(1.0, 0.7, len(THETA))[:, None, None] * np.linspace(0.9, 1.1, COLUMNS)
    drifted = darks[1] + (counts(THETA) - darks[1]) * drift
    path = write_data_exchange(tmp_path / "a.h5", THETA, data=drifted)
    made = prepared(path, air=3)
    np.testing.assert_allclose(made.projections, projections(THETA), atol=5e-3)
    assert np.abs(prepared(path).projections - projections(THETA)).max() > 0.3


def test_pixels_without_a_value_take_that_of_their_neighbours_and_are_counted(tmp_path):
    data, (flats, darks) = counts(THETA), fields()
    data[5, 3, 20], data[5, 3, 21], data[7, 8, 30] = 0.0, darks[1][3, 21], np.nan
    flats[:, 6, 40] = darks[1][6, 40]
    path = write_data_exchange(tmp_path / "a.h5", THETA, data=data, flats=flats)
    made = prepared(path, center=CENTER)
    assert np.isfinite(made.projections).all()
    # a neighbour is one pixel away, or two
    np.testing.assert_allclose(made.projections, projections(THETA), atol=0.35)
    assert made.repairs.pixels == 3
    assert any("3 pixels" in text and "in 2 views" in text for text in made.warnings)
    assert any(text.startswith("1 pixels have no beam") for text in made.warnings)


def test_the_nearest_good_pixel_is_taken():
    random = generator(1, Stream.TEST)
    images = random.random((3, 14, 17)).astype(np.float32)
    bad = random.random(images.shape) < 0.4
    bad[1, 2:12, 3:13] = True  # a hole whose middle is far from anything
    filled = images.copy()
    fill(filled, bad)
    np.testing.assert_array_equal(filled[~bad], images[~bad])
    for view, row, column in np.argwhere(bad):
        good = np.argwhere(~bad[view])
        apart = ((good - (row, column)) ** 2).sum(1)
        nearest = good[apart == apart.min()]
        assert filled[view, row, column] in images[view][tuple(nearest.T)]


def test_transmission_and_ray_sums_without_flats(tmp_path):
    path = write_data_exchange(
        tmp_path / "a.h5", THETA, data=np.exp(-projections(THETA)), flats=False, darks=False
    )
    made = prepared(path)
    np.testing.assert_allclose(made.projections, projections(THETA), atol=1e-5)
    assert any("taken to be transmission" in text for text in made.warnings)
    bare = {"flats": False, "darks": False}
    sums = write_data_exchange(tmp_path / "b.h5", THETA, data=projections(THETA) - 0.3, **bare)
    np.testing.assert_allclose(
        prepared(sums, minus_log=False).projections, projections(THETA) - 0.3, atol=1e-5
    )
    raw = write_data_exchange(tmp_path / "c.h5", THETA, flats=False)
    with pytest.raises(InputError, match="there are no flats, so counts cannot become projections"):
        prepared(raw)


def test_signed_numbers_have_an_offset_that_is_told(tmp_path):
    stored = (100 * projections(THETA) - 31908).astype(np.int16)
    path = tmp_path / "a.h5"
    write_data_exchange(path, THETA, data=stored, flats=False, darks=False)
    import h5py

    with h5py.File(path, "a") as file:
        del file["exchange/data"]
        file["exchange/data"] = stored
    made = prepared(path, minus_log=False, center=CENTER)
    np.testing.assert_allclose(made.projections, 100 * projections(THETA), atol=1.0)
    assert any("-31908" in note and "offset" in note for note in made.notes)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"flats": "small"}, {}, "flats are 48 x 11 pixels, the projections 48 x 12"),
        ({"flats": "dark"}, {}, "no brighter than the darks in 100 % of the pixels"),
        ({"data": "blank"}, {}, "not above the darks in view 4"),
        ({"theta": False}, {}, "no angles: there is no /exchange/theta"),
        ({"theta": "long"}, {}, "47 angles are more than the 46 views"),
        ({"theta": "short"}, {}, "45 angles are fewer than the 46 views"),
        ({"theta": "radians"}, {}, "look like radians"),
        ({}, {"rows": (5, 20)}, "rows 5 to 20 are not among the 12"),
        ({}, {"rows": (5,)}, "takes two numbers"),
        ({}, {"exclude": ("47",)}, "there is no view 47"),
        ({}, {"exclude": ("1-46",)}, "all 46 views are left out"),
        ({}, {"exclude": ("x",)}, "'x' is no view"),
        ({}, {"binning": 13}, "13 is more than the 12 rows"),
        ({}, {"air": 30}, "more than half of the 48 columns"),
        ({}, {"angle_range": (3.0,)}, "takes two angles"),
        ({}, {"angle_range": (3.0, 3.0)}, "both angles are the same"),
        ({}, {"center_search_width": 200.0}, "200 is wider than the detector"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path, change, options, said):
    (flats, darks), data = fields(), counts(THETA)
    data[3] = 0.0
    made = {
        "small": flats[:, :11], "dark": darks, "blank": data, "long": [*THETA, 184.0], "short": THETA[:-1],
        "radians": np.deg2rad(THETA), False: False,
    }  # fmt: skip
    path = write_data_exchange(
        tmp_path / "a.h5", THETA, **{name: made[kind] for name, kind in change.items()}
    )
    with pytest.raises(InputError, match=said):
        prepared(path, **options)
