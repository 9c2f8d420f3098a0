"""Hot pixels and X-rays of a tilt series: counted by section, told, replaced on request; beads stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.io.imod import write_angles
from manyviews.io.mrc import write_mrc
from manyviews.kernels.specks import find_specks
from manyviews.tilt.check import check
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.normalise import GreyLevels, prepare
from manyviews.tilt.series.outliers import Outliers
from manyviews.tilt.series.resolve import resolve_series
from thread_world import run_ranks

TILTS = np.linspace(-60, 60, 21)
PIXEL, SIDE = 4.0, 48
BEADS = np.array([[10.0, 5, 2], [-12, 3, -4], [4, -14, 0]]) * PIXEL


def beads(rng, sigma=1.6):
    """Three gold beads in noise of a twentieth of them."""
    geometry = TiltGeometry.from_tilt_axis(TILTS, 0.0)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    images = rng.normal(0, 0.05, (len(TILTS), SIDE, SIDE))
    for view, places in enumerate(geometry.project(BEADS) / PIXEL):
        for u, v in places:
            images[view] += np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
    return images.astype(np.float32)


@pytest.fixture
def series(tmp_path):
    def store(images):
        write_mrc(tmp_path / "a.mrc", images, PIXEL, is_volume=False, overwrite=True)
        write_angles(tmp_path / "a.rawtlt", TILTS, overwrite=True)
        return SeriesOptions(stacks=(tmp_path / "a.mrc",), axis_angle=(0.0,))

    return store


def source_of(series, **options):
    return ImageSource(resolve_series(series), **options)


def warnings_of(source, removed=False):
    return list(GreyLevels.of(source)[1].warnings(source.series.geometry, removed=removed))


@pytest.mark.parametrize("sigma", [1.1, 1.6, 3.0])
def test_beads_are_not_counted(rng, series, sigma):
    assert warnings_of(source_of(series(beads(rng, sigma)))) == []


def test_sections_are_named_and_counted(rng, series):
    images = beads(rng)
    images[[2, 3, 4], 20, 30] = 60
    images[3, 5:7, 8:10] = 50
    images[9, 47, 0] = -20
    source = source_of(series(images))
    (text,) = warnings_of(source)
    assert text == (
        "stack 1: 8 pixels stand out as hot pixels and X-rays do, in sections 3-5, 10: left as they are; "
        "--remove-outliers replaces them by the median around them"
    )
    found = GreyLevels.of(source)[1]
    assert found.rows(source.series.geometry) == [(1, 3, 1), (1, 4, 5), (1, 5, 1), (1, 10, 1)]
    assert "replaced by the median" in warnings_of(source, removed=True)[0]


def test_a_pixel_of_the_camera_is_named(rng, series):
    images = beads(rng)
    images[:, 40, 20] = 60
    images[5, 10, 10] = 60
    total, pixel = warnings_of(source_of(series(images)))
    assert "22 pixels stand out" in total
    assert "in sections 1-21" in total
    assert pixel == (
        "stack 1: column 21, row 41 stands out in 21 of 21 sections, as a hot pixel of the camera does"
    )


@pytest.mark.parametrize("factor", [1, 2])
def test_outliers_are_replaced_on_request_before_binning(rng, series, factor):
    clean = beads(rng)
    spoilt = clean.copy()
    spoilt[:, 40, 20] = 60
    spoilt[7, 3:5, 30:32] = -90
    given = series(spoilt)
    source = source_of(given, bin=factor, remove_outliers=True)
    mended, left = source.read(), source_of(given, bin=factor).read()
    assert np.abs(left).max() > 10
    expected = source_of(series(clean), bin=factor).read()
    assert np.abs(mended - expected).max() < 0.3
    changed = np.zeros((SIDE, SIDE), bool)
    changed[40, 20] = changed[3:5, 30:32] = True
    blocks = changed.reshape(SIDE // factor, factor, SIDE // factor, factor).any(axis=(1, 3))
    np.testing.assert_array_equal(mended[:, ~blocks], expected[:, ~blocks])


def test_a_clean_series_is_read_as_it_is(rng, series):
    images = beads(rng)
    given = series(images)
    np.testing.assert_array_equal(source_of(given, remove_outliers=True).read(), images)
    np.testing.assert_array_equal(source_of(given).inspect(3)[0], images[3])


def test_check_and_run_say_the_same(rng, series):
    images = beads(rng)
    images[4, 20, 30] = 60
    given = series(images)
    options = ReconstructOptions(thickness=16, threads=1)
    told = [text for text in check(given, options).warnings if "stands out" in text]
    assert len(told) == 1
    source = source_of(given)
    prepared = prepare(source, "statistics", torch.device("cpu"))
    assert list(prepared.outliers.warnings(source.series.geometry, removed=False)) == told


def test_ranks_know_all_outliers(rng):
    images = beads(rng)
    images[[1, 20], 10, 10] = 60
    searched = {view: find_specks(images[view : view + 1]) for view in range(len(images))}

    def work(world):
        own = {view: specks for view, specks in searched.items() if view % 2 == world.rank}
        return Outliers.gathered(own, len(images), world)

    for found in run_ranks(2, work):
        assert list(np.flatnonzero(found.counts)) == [1, 20]
        assert sorted(found.places.tolist()) == [[1, 10, 10], [20, 10, 10]]
