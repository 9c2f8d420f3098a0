import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.specks import find_specks
from manyviews.tilt.series.normalise import noise_deviation, prepare

CPU = torch.device("cpu")
TILTS = np.array([-60.0, -12.0, 0.0, 12.0, 60.0])


class Images:
    """Two series of images in memory."""

    def __init__(self, images, tilts=TILTS):
        self.images = np.asarray(images, dtype=np.float32)
        self.shape = self.images.shape
        self.binned_geometry = TiltGeometry.concatenate(
            [TiltGeometry.from_tilt_axis(tilts, 90.0 * k, series=k) for k in range(2)]
        )

    def read(self, views):
        return self.images[np.asarray(views)].copy()

    def inspect(self, view):
        return self.images[view].copy(), find_specks(self.images[view : view + 1])


@pytest.fixture
def images(rng):
    """Every view with a mean and a spread of its own."""
    noise = rng.normal(size=(10, 20, 24))
    return Images(rng.uniform(5, 20, size=(10, 1, 1)) + rng.uniform(1, 4, size=(10, 1, 1)) * noise)


EVERY = np.arange(10)


def test_images_come_as_they_are(images):
    prepared = prepare(images, "none", CPU)
    found = prepared.read(EVERY)
    assert found.dtype == torch.float32
    assert found.device == CPU
    assert np.array_equal(found.numpy(), images.images)


def test_views_come_in_the_order_asked_for(images):
    prepared = prepare(images, "statistics", CPU)
    every = prepared.read(EVERY)
    some = np.array([7, 0, 3])
    assert torch.equal(prepared.read(some), every[some])


def test_background_is_the_median_of_a_frame(images):
    images.images[:, 5:15, 5:15] += 1000.0
    found = prepare(images, "background", CPU).read(EVERY).numpy()
    frame = np.ones((20, 24), bool)
    frame[1:-1, 1:-1] = False
    level = np.median(images.images[:, frame], axis=1)
    assert found == pytest.approx(images.images - level[:, None, None], abs=1e-4)


def test_statistics_give_every_view_the_same(images):
    found = prepare(images, "statistics", CPU).read(EVERY).double().numpy()
    spread = images.images.std(axis=(1, 2))
    low = np.abs(images.binned_geometry.tilt_degrees) <= 15.0
    assert found.mean(axis=(1, 2)) == pytest.approx(0.0, abs=1e-5)
    assert found.std(axis=(1, 2)) == pytest.approx(np.median(spread[low]), rel=1e-5)


def test_statistics_without_low_tilts_use_all_views(images):
    steep = Images(images.images, tilts=np.array([-60.0, -50, -40, 40, 50]))
    found = prepare(steep, "statistics", CPU).read(EVERY).numpy()
    assert found.std(axis=(1, 2)) == pytest.approx(np.median(images.images.std(axis=(1, 2))), rel=1e-4)


@pytest.mark.parametrize("normalise", ["none", "background", "statistics"])
@pytest.mark.parametrize("level", [0.0, 0.1, 7.0])
def test_all_blank_is_refused(normalise, level):
    """Also for a grey level whose floating-point mean is not quite that level."""
    with pytest.raises(InputError, match="all images are blank; check the stack and its data mode"):
        prepare(Images(np.full((10, 20, 24), level)), normalise, CPU)


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_one_blank_image_has_no_statistics(images, level):
    images.images[7] = level
    with pytest.raises(InputError, match=r"--normalise: section 3 of stack 2 is blank.*--exclude 2:3"):
        prepare(images, "statistics", CPU)


@pytest.mark.parametrize("normalise", ["none", "background"])
def test_one_blank_image_is_no_obstacle_otherwise(images, normalise):
    images.images[7] = 0.1
    found = prepare(images, normalise, CPU).read(EVERY)
    assert torch.isfinite(found).all()


def test_the_smallest_images_have_a_border():
    small = Images(np.arange(10 * 2 * 2).reshape(10, 2, 2))
    found = prepare(small, "background", CPU).read(EVERY).numpy()
    assert found == pytest.approx(np.tile([[-1.5, -0.5], [0.5, 1.5]], (10, 1, 1)))


@pytest.mark.parametrize("deviation", [0.5, 2.0])
def test_noise_is_measured_under_a_smooth_image(deviation):
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:120, :100] / 20.0
    image = (5.0 * np.sin(x) * np.cos(y) + rng.normal(scale=deviation, size=x.shape)).astype(np.float32)
    assert noise_deviation(image) == pytest.approx(deviation, rel=0.05)
    assert noise_deviation(image[:2]) == 0.0
