import numpy as np
import pytest

from manyviews.io.mrc import write_mrc
from manyviews.metrics.fsc import FscCurve
from manyviews.report.plots import crossing, fsc_figure, slices_figure
from manyviews.report.style import figure_png
from manyviews.report.volume import central_slices

PNG_START = b"\x89PNG\r\n\x1a\n"


def test_central_slices(tmp_path):
    volume = np.random.default_rng(0).normal(size=(5, 8, 7)).astype(np.float32)
    write_mrc(tmp_path / "v.mrc", volume, 2.5)
    slices = central_slices(tmp_path / "v.mrc")
    np.testing.assert_array_equal(slices.xy, volume[2])
    np.testing.assert_array_equal(slices.xz, volume[:, 4])
    np.testing.assert_array_equal(slices.yz, volume[:, :, 3])
    assert slices.voxel_angstrom == pytest.approx(2.5)


@pytest.mark.parametrize("shape", [(1, 40, 40), (60, 20, 20), (2, 30, 300), (1, 1, 1)])
def test_slices_of_any_shape(tmp_path, shape):
    write_mrc(tmp_path / "v.mrc", np.zeros(shape, np.float32), 1.0)
    assert figure_png(slices_figure(central_slices(tmp_path / "v.mrc"))).startswith(PNG_START)


def curve_of(frequency, correlation):
    frequency = np.asarray(frequency)
    return FscCurve(frequency, np.asarray(correlation), np.ones(len(frequency)), 0.5 / frequency[-1])


def test_crossings():
    curve = curve_of([0.1, 0.2, 0.3], [1.0, 0.75, 0.25])
    assert crossing(curve, 0.5) == (pytest.approx(4.0), True)
    assert crossing(curve, 0.143) == (pytest.approx(1 / 0.3), False)
    assert crossing(curve_of([0.1], [0.2]), 0.5) is None
    curve = curve_of(np.arange(4) / 100, [1.0, 0.9, 0.7, 0.3])
    assert crossing(curve, 0.5) == (pytest.approx(40.0), True)
    assert crossing(curve, 0.143) == (pytest.approx(100 / 3), False)
    assert crossing(curve_of(np.arange(3) / 100, [1.0, 0.1, 0.1]), 0.5) is None
    assert crossing(curve_of(np.arange(4) / 100, [1.0, 0.9, np.nan, np.nan]), 0.5)[1]


@pytest.mark.parametrize("half_bit", [True, False])
def test_the_legend_tells_where_a_curve_falls(half_bit):
    figure = fsc_figure(curve_of([0.1, 0.2, 0.3], [1.0, 0.75, 0.25]), half_bit=half_bit)
    told = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert told == ["0.5: 4 Å", "0.143: not crossed", *(["half bit"] if half_bit else [])]
    assert figure_png(figure).startswith(PNG_START)


def test_curves_are_read_back(tmp_path):
    assert FscCurve.read_csv(tmp_path / "none.csv") is None
    (tmp_path / "fsc.csv").write_text("frequency_per_angstrom,fsc\n0,1\n0.1,0.75\n0.2,0.25\n")
    curve = FscCurve.read_csv(tmp_path / "fsc.csv")
    np.testing.assert_allclose(curve.correlation, [1, 0.75, 0.25])
    assert curve.pixel_size == pytest.approx(2.5)
    assert curve.resolution(0.5) == pytest.approx(1 / 0.15)
