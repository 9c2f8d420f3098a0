"""Nearly an inverse: exactly one for cyclic problems, and the same for any number of ranks."""

import numpy as np
import pytest
import scipy.fft
import torch

from manyviews.operators.fourier_preconditioner import FourierPreconditioner, circulant_spectrum
from manyviews.operators.radon import Radon
from manyviews.operators.radon_normal import RadonNormal
from manyviews.parallel.world import shares
from manyviews.random import Stream, generator
from thread_world import run_ranks


def noise(shape):
    return torch.from_numpy(generator(0, Stream.TEST, 1).standard_normal(shape))


def laplacian(x):
    """Minus div grad, cyclic in the plane and with free ends along z."""
    found = torch.zeros_like(x)
    for axis in (1, 2):
        found += 2 * x - x.roll(1, axis) - x.roll(-1, axis)
    along = x[1:] - x[:-1]
    found[:-1] -= along
    found[1:] += along
    return found


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_it_undoes_a_cyclic_problem(depth):
    spectrum = generator(0, Stream.TEST, 2).uniform(0.5, 2.0, (10, 6))
    spectrum[:, [0, 5]] = 0.5 * (spectrum + np.roll(spectrum[::-1], 1, axis=0))[:, [0, 5]]
    x = noise((depth, 10, 10))
    projected = torch.from_numpy(scipy.fft.irfft2(scipy.fft.rfft2(x.numpy()) * spectrum, s=(10, 10)))
    inverse = FourierPreconditioner((depth, 10, 10), spectrum, 0.7, 0.3)
    torch.testing.assert_close(inverse.forward(0.7 * projected + 0.3 * laplacian(x)), x)


def test_ranks_have_the_result_of_one():
    radon = Radon(np.arange(20) * 9.0, 7, 12, 5.5)
    spectrum = circulant_spectrum(RadonNormal.of(radon))
    support = torch.ones((12, 12)).tril(5)
    x = noise(radon.domain)
    whole = FourierPreconditioner(radon.domain, spectrum, 1.0, 40.0, support=support).forward(x)

    def slab(world):
        part = x[shares(7, 3)[world.rank]].clone()
        own = FourierPreconditioner(
            tuple(part.shape),
            spectrum,
            1.0,
            40.0,
            support=support,
            slabs=shares(7, world.size),
            exchange=world,
        )
        return own.forward(part)

    torch.testing.assert_close(torch.cat(run_ranks(3, slab)), whole, rtol=0.0, atol=0.0)


def test_the_spectrum_of_views_on_all_sides():
    """N / (pi |k|), at frequencies that slices of this size hold, and never zero."""
    radon = Radon(np.arange(90) * 2.0, 1, 64, 31.5)
    spectrum = circulant_spectrum(RadonNormal.of(radon))
    frequency = np.hypot(scipy.fft.fftfreq(64)[:, None], scipy.fft.rfftfreq(64))
    inside = (frequency > 0.05) & (frequency < 0.45)
    expected = 90 / (np.pi * frequency[inside])
    assert np.mean(abs(spectrum[inside] / expected - 1.0)) < 0.1
    assert spectrum.min() > 0.0


def test_threads_change_no_bit():
    spectrum = generator(0, Stream.TEST, 2).uniform(0.5, 2.0, (20, 11))
    x = noise((5, 20, 20)).float()
    one, three = (FourierPreconditioner(tuple(x.shape), spectrum, 1.0, 2.0, threads=n) for n in (1, 3))
    assert torch.equal(one.forward(x), three.forward(x))
