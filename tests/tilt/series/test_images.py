import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.imod import write_angles
from manyviews.io.mrc import write_mrc
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.binning import block_average
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import resolve_series

PIXEL = 2.0


def resolved(folder, *arrays, exclude=()):
    stacks = []
    for i, array in enumerate(arrays):
        path = folder / f"{i}.mrc"
        write_mrc(path, array, PIXEL, is_volume=False)
        write_angles(folder / f"{i}.rawtlt", np.linspace(-30, 30, len(array)))
        stacks.append(path)
    return resolve_series(
        SeriesOptions(
            stacks=tuple(stacks), axis_angle=tuple(30.0 * i for i in range(len(stacks))), exclude=exclude
        )
    )


def noise(count, rows, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(count, rows, columns)).astype(np.float32)


def test_views_come_in_geometry_order_across_stacks(tmp_path):
    a, b = noise(3, 5, 6), noise(2, 5, 6, 1)
    source = ImageSource(resolved(tmp_path, a, b, exclude=("1:2",)))
    assert source.shape == (4, 5, 6)
    assert source.pixel_size == PIXEL
    assert np.array_equal(source.read(), np.concatenate([a[[0, 2]], b]))
    assert np.array_equal(source.read([3, 0]), np.stack([b[1], a[0]]))
    assert source.read().dtype == np.float32


def test_contrast_can_be_inverted(tmp_path):
    a = noise(2, 4, 4)
    assert np.array_equal(ImageSource(resolved(tmp_path, a), invert_contrast=True).read(), -a)


def test_blocks_are_averaged_and_the_remainder_is_cropped_evenly():
    image = np.arange(35, dtype=np.float32).reshape(5, 7)
    binned = block_average(image, 3)
    assert binned.shape == (1, 2)
    assert binned[0] == pytest.approx([image[1:4, 0:3].mean(), image[1:4, 3:6].mean()])


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(24, 24), (25, 26), (27, 23)])
def test_a_bead_stays_in_place_when_binned(tmp_path, factor, shape):
    """The centre of mass of a projected bead agrees with the binned geometry to rounding."""
    series = resolved(tmp_path, noise(3, *shape))
    point = np.array([[3.3, -2.1, 4.0]])
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns]
    images = []
    for u, v in series.geometry.project(point)[:, 0] / PIXEL:
        # A bead wide enough that block averaging does not move its centre of mass.
        images.append(np.exp(-((x - columns // 2 - u) ** 2 + (y - rows // 2 - v) ** 2) / (2 * 2.0**2)))
    again = tmp_path / "beads"
    again.mkdir()
    source = ImageSource(resolved(again, np.array(images, dtype=np.float32)), bin=factor)
    assert source.pixel_size == PIXEL * factor
    assert source.shape == (3, rows // factor, columns // factor)
    expected = source.binned_geometry.project(point)[:, 0] / source.pixel_size
    y, x = np.mgrid[: source.shape[1], : source.shape[2]]
    for image, where in zip(source.read(), expected, strict=True):
        centre = np.array([(image * x).sum(), (image * y).sum()]) / image.sum()
        found = centre - [source.shape[2] // 2, source.shape[1] // 2]
        assert found == pytest.approx(where, abs=0.01)


@pytest.mark.parametrize("factor", [0, -1, 7, 1.5])
def test_binning_must_fit(tmp_path, factor):
    series = resolved(tmp_path, noise(2, 6, 8))
    with pytest.raises(InputError, match="option bin"):
        ImageSource(series, bin=factor)


def test_nan_pixels_are_refused_with_file_and_section(tmp_path):
    series = resolved(tmp_path, noise(3, 4, 4))
    path = series.stacks[0].path
    raw = bytearray(path.read_bytes())
    raw[1024 + 64 + 4 : 1024 + 64 + 8] = np.float32(np.nan).tobytes()
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"0\.mrc, section 2"):
        ImageSource(series).read()
