"""Images in memory become the files that the particle jobs take."""

from __future__ import annotations

import numpy as np
import pytest

import manyviews as mv
from manyviews.io.particle_images import ParticleImages, read_particles
from manyviews.particles.options import ParticleOptions
from manyviews.particles.plan import load_table

COUNT = 5


@pytest.fixture
def images(rng):
    return rng.normal(size=(COUNT, 8, 8))


def test_what_is_written_is_read(images, tmp_path, rng):
    defocus = rng.uniform(1e4, 2e4, (COUNT, 2)).round(1)
    angles, shifts = rng.uniform(1, 179, (COUNT, 3)).round(3), rng.normal(size=(COUNT, 2)).round(3)
    path = mv.write_particles(
        tmp_path / "p.star", images, 2.5, defocus=defocus, astigmatism_angle=np.arange(COUNT),
        voltage=200, amplitude_contrast=0.07, angles=angles, shifts=shifts,
    )  # fmt: skip
    assert path == tmp_path / "p.star"
    table = read_particles(path)
    np.testing.assert_allclose(table.defocus, defocus)
    np.testing.assert_allclose(table.defocus_angle, np.arange(COUNT))
    np.testing.assert_allclose(table.angles, angles)
    np.testing.assert_allclose(table.shifts, shifts)
    (optics,) = table.optics
    assert (optics.voltage_kv, optics.amplitude_contrast, optics.pixel_size) == (200, 0.07, 2.5)
    np.testing.assert_array_equal(ParticleImages(table).read(np.arange(COUNT)), images.astype(np.float32))
    one = mv.write_particles(tmp_path / "q.star", images, 2.5, defocus=defocus[:, 0])
    np.testing.assert_allclose(read_particles(one).defocus, defocus[:, :1] * [1, 1])


def test_images_without_contrast_transfer_are_taken_by_the_jobs(images, tmp_path):
    path = mv.write_particles(str(tmp_path / "p.star"), images.astype(np.float16), 2.5)
    table = load_table(ParticleOptions(path))
    assert (table.optics[0].amplitude_contrast, table.optics[0].spherical_aberration_mm) == (1, 0)
    assert table.angles is None
    with pytest.raises(mv.InputError, match="exists already"):
        mv.write_particles(path, images, 2.5)
    path.with_suffix(".mrcs").unlink()
    with pytest.raises(
        mv.InputError, match=r"p\.star: exists already; choose another name or give overwrite=True"
    ):
        mv.write_particles(path, images, 2.5)
    assert not path.with_suffix(".mrcs").exists()
    mv.write_particles(path, images[:3], 2.5, overwrite=True)
    assert len(read_particles(path)) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"path": "p.mrcs"}, "p.mrcs: a table of particles is a .star"),
        ({"images": np.ones((8, 8))}, r"shape \(8, 8\), not three axes \(particle, y, x\)"),
        ({"images": np.ones((COUNT, 8, 6))}, "the images are 6 x 8 pixels, not square"),
        ({"pixel_size": 0}, "the pixel size 0 is not a positive number"),
        ({"defocus": np.ones(4)}, r"option defocus: is float64 of shape \(4, 2\), not .* of shape \(5, 2\)"),
        ({"defocus": 1e4}, r"option defocus: is float64 of shape \(\), not finite numbers of shape \(5, 2\)"),
        ({"angles": np.ones((COUNT, 2))}, r"option angles: is float64 of shape \(5, 2\), not .* \(5, 3\)"),
        ({"shifts": np.full((COUNT, 2), np.nan)}, r"option shifts: .* not finite numbers of shape \(5, 2\)"),
        ({"astigmatism_angle": ["a"] * COUNT}, "option astigmatism_angle: is <U1 of shape"),
    ],
)
def test_what_is_refused(images, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mv.InputError, match=said):
        mv.write_particles(**{"path": "p.star", "images": images, "pixel_size": 2.5, **given})
    assert not list(tmp_path.iterdir())
