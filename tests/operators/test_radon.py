"""Projections of slices: places, values, edges, and that nothing depends on threads or blocks."""

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.operators.radon import Radon
from manyviews.random import Stream, generator


def noise(shape, key=0):
    return torch.from_numpy(generator(0, Stream.TEST, key).standard_normal(shape))


def summed(volume, theta_degrees, columns, center, line):
    """What it is: each voxel's band-limited point, one by one."""
    count, size, _ = volume.shape
    position = np.arange(size) - size // 2
    images = np.zeros((len(theta_degrees), count, columns))
    for view, theta in enumerate(np.deg2rad(theta_degrees)):
        place = center + position * np.cos(theta) + position[:, None] * np.sin(theta)
        distance = np.arange(columns)[:, None, None] - place
        waves = (np.cos(2.0 * np.pi * number * distance / line) for number in range(1, line // 2))
        kernel = (1.0 + 2.0 * sum(waves)) / line
        images[view] = np.einsum("cyx,zyx->zc", kernel, volume)
    return images


def gaussians(size, rng, count=6):
    """Places, widths and weights of round blobs within a circle."""
    places = rng.uniform(-0.25 * size, 0.25 * size, (count, 2))
    return places, rng.uniform(1.5, 3.0, count), rng.uniform(0.5, 1.0, count)


@pytest.mark.parametrize(("size", "columns", "center"), [(64, 64, 31.5), (61, 64, 33.2), (64, 77, 20.0)])
def test_round_blobs_have_their_own_projections(size, columns, center):
    places, widths, weights = gaussians(size, generator(1, Stream.TEST, size))
    position = np.arange(size) - size // 2
    volume = sum(
        weight * np.exp(-0.5 * ((position - x) ** 2 + (position[:, None] - y) ** 2) / width**2)
        for (x, y), width, weight in zip(places, widths, weights, strict=True)
    )
    theta = np.array([0.0, 17.0, 90.0, 133.0, 185.0, 359.0, 400.0, -30.0])
    angle = np.deg2rad(theta)[:, None]
    column = np.arange(columns) - center
    expected = sum(
        weight * width * np.sqrt(2 * np.pi)
        * np.exp(-0.5 * ((column - x * np.cos(angle) - y * np.sin(angle)) / width) ** 2)
        for (x, y), width, weight in zip(places, widths, weights, strict=True)
    )  # fmt: skip
    radon = Radon(theta, 2, columns, center, size=size, epsilon=1e-5)
    images = radon.forward(torch.from_numpy(np.stack([volume, 2.0 * volume])).float())
    np.testing.assert_allclose(images[:, 0], expected, atol=1e-4 * expected.max())
    np.testing.assert_allclose(images[:, 1], 2.0 * expected, atol=2e-4 * expected.max())


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 3e-5])
def test_every_voxel_is_seen_where_it_is(epsilon):
    theta = np.array([0.0, 12.0, 45.0, 90.0, 151.0, 260.0])
    volume = noise((3, 40, 40), 3).numpy()
    radon = Radon(theta, 3, 40, 19.5, epsilon=epsilon)
    expected = summed(volume, theta, 40, 19.5, radon.polar.line)
    found = radon.forward(torch.from_numpy(volume)).numpy()
    assert np.linalg.norm(found - expected) <= epsilon * np.linalg.norm(expected)


def test_angles_are_taken_as_they_come():
    theta = np.array([200.0, 20.0, 380.0, 740.0])
    images = Radon(theta, 1, 31, 15.0).forward(noise((1, 31, 31)))
    torch.testing.assert_close(images[2], images[1])
    torch.testing.assert_close(images[3], images[1])
    torch.testing.assert_close(images[0], images[1].flip(-1))  # the axis is the middle column


def test_nothing_comes_in_again_on_the_other_side():
    """A blob near a corner, off the detector to the right, and an axis near its left edge."""
    volume = torch.zeros((1, 64, 64), dtype=torch.float64)
    volume[0, 60:63, 60:63] = torch.tensor([1.0, 2.0, 1.0])[:, None] * torch.tensor([1.0, 2.0, 1.0])
    images = Radon([45.0, 225.0], 1, 64, 31.5).forward(volume)
    assert images.abs().max() < 2e-2 * volume.sum() / 4
    right = Radon([0.0, 180.0], 1, 64, 3.0).forward(volume)
    assert float(right[0].sum()) == pytest.approx(float(volume.sum()), rel=1e-2)
    assert right[1].abs().max() < 2e-2 * volume.sum() / 4


def test_bits_depend_on_neither_threads_nor_memory(tmp_path):
    theta = np.arange(40) * 9.0 * 1.618
    volume = noise((50, 33, 33), 4).float()
    one, three = (Radon(theta, 50, 33, 16.2, threads=threads) for threads in (1, 3))
    images = one.forward(volume)
    assert torch.equal(three.forward(volume), images)
    back = one.adjoint(images)
    assert torch.equal(three.adjoint(images), back)
    stored = torch.from_numpy(np.lib.format.open_memmap(tmp_path / "v.npy", "w+", np.float32, back.shape))
    assert one.adjoint(images, out=stored) is stored
    assert torch.equal(stored, back)


def test_pairs_of_slices_are_the_same_alone():
    """So ranks that begin at an even slice of sixteen have the same bits; others differ by rounding."""
    theta = np.arange(20) * 9.0
    volume = noise((34, 24, 24), 5).float()
    images = Radon(theta, 34, 24, 11.5).forward(volume)
    part = Radon(theta, 18, 24, 11.5).forward(volume[16:].contiguous())
    assert torch.equal(part, images[:, 16:])
    odd = Radon(theta, 3, 24, 11.5).forward(volume[5:8].contiguous())
    torch.testing.assert_close(odd, images[:, 5:8], rtol=1e-4, atol=1e-4)


def test_a_slice_alone_is_seen_alone():
    volume = torch.zeros((4, 20, 20), dtype=torch.float64)
    volume[1] = noise((20, 20), 6)
    images = Radon([0.0, 33.0, 90.0], 4, 20, 9.5).forward(volume)
    assert images[:, [0, 2, 3]].abs().max() < 1e-12 * images.abs().max()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], 2, 8, 3.5), "needs angles"),
        (([0.0, float("nan")], 2, 8, 3.5), "needs angles"),
        (([0.0], 0, 8, 3.5), "detector of 0 x 8"),
        (([0.0], 2, 8, 1000.0), "column 1000 is far off a detector of 8"),
        (([0.0], 2, 8, float("nan")), "column nan"),
    ],
)
def test_what_cannot_be_projected_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        Radon(*arguments)
    with pytest.raises(InputError, match="epsilon 2 is no relative error"):
        Radon([0.0], 2, 8, 3.5, epsilon=2.0)
