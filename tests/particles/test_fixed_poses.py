"""Maps from images whose poses are known: analytic Gaussians, CTF, shifts, noise, symmetry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from manyviews.errors import InputError
from manyviews.metrics.fsc import fsc
from manyviews.operators.contrast_transfer import Optics, ctf_values
from manyviews.operators.fourier_points import half_plane
from manyviews.operators.fourier_sums import FourierSums
from manyviews.operators.image_shift import shift_phases
from manyviews.particles import known_poses as module
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.known_poses import add_up, particle_mask, reconstruct
from manyviews.simulate.phantoms import Gaussians

BOX, PIXEL = 24, 3.0
CENTRES = np.array([[8.0, -10.0, 5.0], [-12.0, 3.0, 6.0], [2.0, 13.0, -11.0], [-3.0, -6.0, -9.0]])
WIDTHS = np.array([4.0, 4.5, 4.2, 5.0])


def phantom(centres=CENTRES):
    return Gaussians.isotropic(np.ones(len(centres)), centres, np.resize(WIDTHS, len(centres)))


def truth(centres=CENTRES):
    return np.asarray(phantom(centres).density((BOX,) * 3, PIXEL), dtype=np.float32)


def make_images(count, noise, seed=0, centres=CENTRES, rotations=None, contrast=0.1):
    """Images of the Gaussians from their formula; ``noise`` is the standard deviation of a coefficient."""
    rng = np.random.default_rng(seed)
    points = half_plane(BOX // 2, BOX)
    turns = Rotation.random(count, random_state=seed).as_matrix() if rotations is None else rotations
    q = np.einsum("pk,mkx->mpx", points, turns[:, :2]) / (BOX * PIXEL)
    widths = np.resize(WIDTHS, len(centres))
    decay = np.exp(-2 * np.pi**2 * np.sum(q**2, -1)[..., None] * widths**2)
    mass = (2 * np.pi) ** 1.5 * widths**3 / PIXEL**3
    slices = np.sum(mass * decay * np.exp(-2j * np.pi * (q @ centres.T)), axis=-1)
    origins = rng.normal(size=(count, 2)) * 4.0
    defocus = rng.uniform(8000, 20000, (count, 1)) * np.ones(2)
    optics = Optics.make(300, 2.7, contrast, defocus) if contrast < 1 else Optics.make(300, 0, 1, 0 * defocus)
    ctf = ctf_values(optics, points, BOX, PIXEL).numpy()
    values = slices * ctf * shift_phases(-origins / PIXEL, points, BOX).numpy()
    scatter = rng.normal(size=(*values.shape, 2)) * noise / np.sqrt(2)
    values = (values + scatter[..., 0] + 1j * scatter[..., 1]).astype(np.complex64)
    variance = np.full((1, BOX // 2 + 1), max(noise, 1e-3) ** 2, np.float32)
    group = np.zeros(count, np.int32)
    return FourierImages(points, values, ctf, variance, group, BOX, PIXEL, BOX // 2), turns, origins


@pytest.mark.usefixtures("one_thread")
def test_without_noise_the_map_is_the_phantom():
    images, rotations, shifts = make_images(400, 0.0)
    made = reconstruct(images, rotations, shifts)
    expected = truth()
    error = np.linalg.norm(made.volume - expected) / np.linalg.norm(expected)
    assert error < 0.05
    assert made.volume.dtype == np.float32
    assert np.all(fsc(made.volume, expected, PIXEL).correlation[:9] > 0.99)


@pytest.mark.usefixtures("one_thread")
def test_with_noise_halves_tell_the_resolution():
    images, rotations, shifts = make_images(600, 40.0)
    made = reconstruct(images, rotations, shifts, diameter=56.0)
    against_truth = fsc(made.volume, truth(), PIXEL)
    assert np.all(against_truth.correlation[:5] > 0.9)
    # sqrt(2 F / (1 + F)) is what halves predict for the whole against the truth
    halves = np.clip(made.correlation.correlation, 0, 1)
    predicted = np.sqrt(2 * halves / (1 + halves))
    np.testing.assert_allclose(against_truth.correlation[1:7], predicted[1:7], atol=0.12)
    unfiltered = volume_of(sum_all(images, rotations, shifts), 0.999)
    assert np.linalg.norm(made.volume - truth()) < 0.7 * np.linalg.norm(unfiltered - truth())


def sum_all(images, rotations, shifts):
    return add_up(images, rotations, shifts, np.arange(len(images)) % 2 + 1)


def volume_of(sums, *correlation):
    agreed = np.resize(correlation, sums.radius + 1).astype(np.float64)
    return sums.volume(agreed, BOX, at_points=1 / 8).numpy()


@pytest.mark.usefixtures("one_thread")
def test_batches_and_parts_give_the_same(monkeypatch):
    images, rotations, shifts = make_images(60, 10.0)
    whole = sum_all(images, rotations, shifts)
    few = [sum_all(images.select(part), rotations[part], shifts[part]) for part in np.split(np.arange(60), 3)]
    added = FourierSums(
        sum(part.numerator for part in few), sum(part.denominator for part in few), images.radius
    )
    monkeypatch.setattr(module, "_POINTS_AT_ONCE", 5 * len(images.points))
    for other in (sum_all(images, rotations, shifts), added):
        for name in ("numerator", "denominator"):
            expected = getattr(whole, name)
            torch.testing.assert_close(
                getattr(other, name), expected, atol=2e-6 * float(expected.abs().max()), rtol=0
            )


@pytest.mark.usefixtures("one_thread")
def test_symmetry_fills_in_views():
    """A two-fold object about z, tilted about y to one side only, is seen from the other by its symmetry."""
    turn = np.diag([-1.0, -1.0, 1.0])
    centres = np.concatenate([CENTRES[:2], CENTRES[:2] @ turn])
    # turned in the plane too: along the axis every slice would hit the same grid rows and miss the others
    turned_by = np.random.default_rng(1).uniform(0, 360, 80)
    angles = np.stack([np.zeros(80), np.linspace(0, 90, 80), turned_by], axis=1)
    rotations = Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()
    images, _, shifts = make_images(80, 0.0, centres=centres, rotations=rotations, contrast=1)
    group = np.stack([np.eye(3), turn])
    alone = reconstruct(images, rotations, shifts).volume
    made = reconstruct(images, rotations, shifts, symmetry=group).volume
    expected = truth(centres)
    assert np.linalg.norm(made - expected) < 0.3 * np.linalg.norm(alone - expected)
    turned = np.roll(np.flip(made, (1, 2)), (1, 1), (1, 2))
    np.testing.assert_allclose(made[:, 1:, 1:], turned[:, 1:, 1:], atol=0.01 * made.max())


@pytest.mark.usefixtures("one_thread")
def test_halves_are_taken_as_given():
    images, rotations, shifts = make_images(40, 5.0)
    halves = np.repeat([1, 2], [10, 30])
    made = reconstruct(images, rotations, shifts, halves=halves)
    alone = add_up(images.select(np.arange(10)), rotations[:10], shifts[:10], np.ones(10))
    first = alone.half_volume(0, BOX).numpy()  # not masked, as other programs want them
    np.testing.assert_allclose(made.half_volumes[0], first, atol=1e-6)
    np.testing.assert_array_equal(made.mask, particle_mask(BOX, PIXEL))
    masked = fsc(*made.half_volumes, PIXEL, mask=made.mask)
    np.testing.assert_array_equal(made.correlation.correlation, masked.correlation)
    with pytest.raises(InputError, match="no image is in half 2"):
        reconstruct(images, rotations, shifts, halves=np.ones(40))


def test_numbers_of_images_and_poses_must_agree():
    images, rotations, shifts = make_images(4, 1.0)
    with pytest.raises(InputError, match="4 images, 3 rotations and 4 shifts"):
        reconstruct(images, rotations[:3], shifts)


def test_no_weight_anywhere_gives_zeros():
    assert not FourierSums.zeros(4).mirrored().volume(np.ones(5), 8).any()


@pytest.mark.usefixtures("one_thread")
def test_shells_without_signal_are_damped():
    images, rotations, shifts = make_images(50, 20.0)
    sums = sum_all(images, rotations, shifts)
    agreed = np.r_[np.full(6, 0.9), np.zeros(7)]
    kept, damped = (np.abs(np.fft.fftn(made)) for made in (volume_of(sums, 0.999), volume_of(sums, *agreed)))
    radius = np.sqrt(sum(k**2 for k in np.meshgrid(*[np.fft.fftfreq(BOX, 1 / BOX)] * 3)))
    low, high = (radius > 1) & (radius < 4), (radius > 8) & (radius < 11)
    assert damped[low].mean() > 0.85 * kept[low].mean()
    assert damped[high].mean() < 0.05 * kept[high].mean()


def test_noise_groups_weigh_images():
    images, rotations, shifts = make_images(20, 5.0)
    variance = np.stack([images.noise_variance[0], 4 * images.noise_variance[0]])
    grouped = replace(images, noise_variance=variance, group=np.repeat([0, 1], 10).astype(np.int32))
    last = np.arange(10, 20)
    ratio = [
        sum_all(chosen.select(last), rotations[last], shifts[last]).denominator.sum()
        for chosen in (images, grouped)
    ]
    np.testing.assert_allclose(ratio[0] / ratio[1], 4, rtol=1e-5)


def test_the_mask_is_soft_and_inside_the_box():
    mask = particle_mask(24, 2.0)
    assert mask[12, 12, 12] == 1
    assert mask[0].max() == 0
    small = particle_mask(24, 2.0, 20.0)
    assert small[12, 12, 12 + 3] == 1
    assert small[12, 12, 12 + 5] == pytest.approx(0.5)
    assert small[12, 12, 12 + 7] == 0
