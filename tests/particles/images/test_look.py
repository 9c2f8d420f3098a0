"""Images are looked at before they are used: faults, specks, stuck pixels, and what tells them apart."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.io.particle_images import ParticleImages
from manyviews.io.particle_table import OpticsGroup, table_of_stack
from manyviews.parallel.world import SingleWorld
from manyviews.particles.images.look import FAULTS, look_at, mend
from thread_world import run_ranks

BOX, COUNT, PIXEL = 24, 60, 4.0
DIAMETER = 70.0
OPTICS = OpticsGroup("a", 300.0, 2.7, 0.1, PIXEL)


@pytest.fixture
def pixels(rng):
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    particle = 0.8 * np.exp(-(x**2 + y**2) / 30)
    return (particle + rng.normal(size=(COUNT, BOX, BOX))).astype(np.float32)


@pytest.fixture
def stored(tmp_path):
    def store(pixels):
        path = tmp_path / "images.mrcs"
        write_mrc(path, np.nan_to_num(pixels, nan=1.0), PIXEL, is_volume=False, overwrite=True)
        with open(path, "r+b") as handle:  # our own writer refuses NaN
            handle.seek(1024)
            handle.write(pixels.astype("<f4").tobytes())
        return ParticleImages(table_of_stack(path, OPTICS, np.zeros((len(pixels), 2))))

    return store


def look(images, world=None):
    return look_at(images, np.arange(len(images)), DIAMETER, world)


def test_clean_images_have_no_faults(pixels, stored):
    found = look(stored(pixels))
    assert not found.fault.any()
    assert not found.specks.any()
    assert not len(found.stuck)
    assert np.median(found.noise) == pytest.approx(1, abs=0.05)
    assert np.mean(found.middle / found.noise) == pytest.approx(
        0.19, abs=0.02
    )  # what the rim of the particle leaves of it


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda image: image.fill(7.0), "is blank"),
        (lambda image: image.__setitem__((3, 3), np.nan), "NaN"),
        (lambda image: image.__setitem__((3, 3), np.inf), "NaN"),
        (lambda image: image.__setitem__(np.s_[:, 14:], image.mean()), "partly blank"),
        (lambda image: image.__setitem__(np.s_[15:], 0.0), "partly blank"),
        (lambda image: image.__setitem__(np.s_[:, 16:], image[:, 15:16]), "partly blank"),
        (lambda image: (image.fill(0.0), image.__setitem__((12, 12), 1.0)), "blank background"),
        (lambda image: image.__iadd__(5.0 * np.arange(BOX, dtype=np.float32)), "unlike the others"),
        (lambda image: image.__setitem__(np.s_[6:18, 6:18], image[6:18, 6:18] * 20), "unlike the others"),
    ],
)
def test_an_image_that_nothing_explains_is_found(pixels, stored, spoil, reason):
    spoil(pixels[17])
    fault = look(stored(pixels)).fault
    assert list(np.flatnonzero(fault)) == [17]
    assert reason in FAULTS[fault[17]]


def test_other_grey_levels_are_no_fault(pixels, stored):
    pixels[20:30] = 500 * pixels[20:30] + 20_000
    pixels[30:40] *= 0.01
    found = look(stored(pixels))
    assert not found.fault.any()


def test_specks_are_counted_and_do_not_disturb_what_is_measured(pixels, stored):
    before = look(stored(pixels))
    pixels[3, 12, 12], pixels[5, 0, 0] = 1e5, -80
    pixels[8, 4:6, 4:6] = 60
    found = look(stored(pixels))
    assert dict(enumerate(found.specks[found.specks > 0])) == {0: 1, 1: 1, 2: 4}
    assert list(np.flatnonzero(found.specks)) == [3, 5, 8]
    assert found.highest[3] == pytest.approx(1e5, rel=0.2)
    np.testing.assert_allclose(found.noise, before.noise, rtol=0.06)
    assert not found.fault.any()
    assert not len(found.stuck)


@pytest.mark.parametrize("height", [60.0, 5.0, -12.0])
def test_a_stuck_pixel_is_found_in_the_mean_and_is_no_images_own(pixels, stored, height):
    pixels[:, 7, 15] += height
    pixels[9, 3, 3] = 90
    found = look(stored(pixels))
    assert found.stuck.tolist() == [[7, 15]]
    assert list(np.flatnonzero(found.specks)) == [9]


def test_mending_replaces_stuck_pixels_and_cuts_specks_down(pixels):
    spoilt = pixels.copy()
    spoilt[:, 7, 15] += 60
    spoilt[2, 3, 3] = 1e5
    speckled = np.arange(COUNT) == 2
    for remaining, most in ((3.0, 5.0), (0.0, 2.0)):
        images = spoilt.copy()
        mend(images, np.array([[7, 15]]), speckled, remaining)
        assert np.abs(images[:, 7, 15]).max() < 2
        assert most / 2 < np.abs(images[2, 3, 3]) + most / 2 + 0.01 < 1.5 * most
        untouched = np.ones((BOX, BOX), bool)
        untouched[7, 15] = untouched[3, 3] = False
        np.testing.assert_array_equal(images[:, untouched], pixels[:, untouched])


def test_a_faulty_file_is_refused_in_one_sentence(pixels, stored):
    pixels[4:] = np.nan
    with pytest.raises(
        InputError, match=r"particle 5 \(000005@images.mrcs\) has pixels that are NaN.*, and 55"
    ):
        look(stored(pixels))
    pixels[:] = 0
    with pytest.raises(InputError, match=r"particle 1 .* is blank.* 59 others"):
        look(stored(pixels))


def test_copies_have_the_same_signs_whatever_their_grey_levels(pixels, stored):
    ramp = np.add.outer(np.arange(BOX), 2 * np.arange(BOX)) / 10
    pixels[40] = 300 * pixels[3] + 5000
    pixels[41] = pixels[3] + ramp
    pixels[42] = pixels[3]
    pixels[42, 20, 3] = 200
    signs = look(stored(pixels)).signs
    assert np.abs(signs[[40, 41]] - signs[3]).max() < 0.01
    assert np.abs(signs[42] - signs[3]).max() < 0.3
    others = np.delete(signs, [3, 40, 41, 42], axis=0)
    assert np.linalg.norm(others - signs[3], axis=1).min() > 1


def test_ranks_share_the_images(pixels, stored):
    pixels[:, 7, 15] += 60
    pixels[9, 3, 3] = 90
    pixels[30] = 0
    images = stored(pixels)
    alone = look(images, SingleWorld())
    for found in run_ranks(2, lambda world: look(images, world)):
        for name in ("fault", "specks", "stuck"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
        np.testing.assert_allclose(found.signs, alone.signs, rtol=1e-5, atol=1e-5)
