"""From files to coefficients: background, noise spectrum, transfer functions."""

from __future__ import annotations

import numpy as np
import pytest
from em_example import FILE_BOX, FILE_PIXEL, write_example

from manyviews.errors import InputError
from manyviews.io.particle_images import ParticleImages, read_particles, write_particle_stack
from manyviews.operators.contrast_transfer import ctf_values
from manyviews.operators.fourier_points import insert
from manyviews.particles.images import load as prepare
from manyviews.particles.images.load import (
    background_mask,
    image_bytes,
    noise_spectrum,
    read_fourier_images,
    table_optics,
)

DIAMETER, RADIUS = 110.0, 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("particles") / "data", snr=0.5, noise_colour=8.0).parent


@pytest.fixture(scope="module")
def table(folder):
    return read_particles(folder / "particles.star")


def read_all(table):
    return read_fourier_images(table, np.arange(len(table)), radius=RADIUS, diameter=DIAMETER)


@pytest.mark.parametrize("diameter", [8.0, 16.0, 20.0, 60.0])
def test_background_is_outside_the_particle(diameter):
    mask = background_mask(20, diameter)
    y, x = np.mgrid[:20, :20] - 10
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert mask.mean() >= 0.02
    if diameter <= 16:
        assert not mask[np.hypot(x, y) <= diameter / 2].any()


def test_the_background_has_mean_zero_and_spread_one(table):
    images, _, _ = read_fourier_images(table, np.arange(10), radius=RADIUS, diameter=DIAMETER)
    mask = background_mask(FILE_BOX, DIAMETER / FILE_PIXEL)
    source = ParticleImages(table).read(np.arange(10))
    mean = (source * mask).sum((1, 2)) / mask.sum()
    source = source - mean[:, None, None]
    spread = np.sqrt((source**2 * mask).sum((1, 2)) / mask.sum())
    expected = source / spread[:, None, None]
    again = insert(images.values, images.points, FILE_BOX)
    # the corner of frequency space beyond the radius is not in the coefficients
    beyond = expected - again
    assert np.all(np.sum(beyond * again, axis=(1, 2)) < 1e-3 * np.sum(again**2, axis=(1, 2)))
    expected_ctf = ctf_values(table_optics(table).select(np.arange(10)), images.points, FILE_BOX, FILE_PIXEL)
    np.testing.assert_allclose(images.ctf, expected_ctf.numpy(), atol=1e-6)


def test_blocks_and_choices_change_nothing(table, monkeypatch):
    whole, spectra, counts = read_fourier_images(
        table, np.arange(len(table)), radius=RADIUS, diameter=DIAMETER
    )
    monkeypatch.setattr(prepare, "_BLOCK_PIXELS", 7 * FILE_BOX**2)
    told = []
    chosen = np.arange(1, len(table), 3)
    part, _, _ = read_fourier_images(table, chosen, radius=RADIUS, diameter=DIAMETER, tell=told.append)
    np.testing.assert_array_equal(part.values, whole.values[chosen])
    np.testing.assert_array_equal(part.ctf, whole.ctf[chosen])
    assert told[-1] == len(chosen)
    parts = [
        read_fourier_images(table, np.arange(k, len(table), 2), radius=RADIUS, diameter=DIAMETER)
        for k in range(2)
    ]
    np.testing.assert_allclose(parts[0][1] + parts[1][1], spectra, rtol=1e-12)
    np.testing.assert_array_equal(parts[0][2] + parts[1][2], counts)


def test_coloured_noise_is_measured(table):
    """In the unit of the images, whose background has variance one."""
    _, spectra, counts = read_all(table)
    found = noise_spectrum(spectra, counts, FILE_BOX)[0]
    frequency = np.arange(RADIUS + 1) / (FILE_BOX * FILE_PIXEL)
    colour = 1 + 8.0 * np.exp(-30.0 * frequency)
    ratio = found[3:] / colour[3:]
    assert ratio.max() / ratio.min() < 1.6  # the particle's own halo, and few corners
    assert np.mean(found[3:]) == pytest.approx(FILE_BOX**2, rel=0.5)


def test_groups_of_few_images_lean_on_the_others():
    spectra = np.array([np.full(8, 4.0) * 1000, np.full(8, 100.0)])
    found = noise_spectrum(spectra, np.array([1000, 1]), 2)
    mean = (4000.0 + 100.0) / 1001
    np.testing.assert_allclose(found[0], 4.0, rtol=1e-2)
    np.testing.assert_allclose(found[1], (100 + 50 * mean) / 51, rtol=1e-6)
    assert np.all(noise_spectrum(np.zeros((1, 8)), np.array([3]), 2) > 0)
    np.testing.assert_allclose(noise_spectrum(np.zeros((2, 8)), np.zeros(2, int), 2), 4e-6)


def test_a_constant_image_is_named(table, folder, tmp_path):
    images = ParticleImages(table).read(np.arange(len(table))).copy()
    images[17] = 5.0
    write_particle_stack(tmp_path / "particles.mrcs", [images], len(images), FILE_PIXEL)
    (tmp_path / "particles.star").write_bytes((folder / "particles.star").read_bytes())
    bad = read_particles(tmp_path / "particles.star")
    with pytest.raises(InputError, match="particle 18"):
        read_fourier_images(bad, np.arange(len(bad)), radius=RADIUS, diameter=DIAMETER)


def test_memory_is_what_arrays_take():
    for radius in (5, 9, 31):
        points = len(prepare.half_plane(radius, 64))
        assert image_bytes(100, radius) == pytest.approx(100 * points * 12, rel=0.1)
