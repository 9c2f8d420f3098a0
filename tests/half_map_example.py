"""Half maps whose truth is known: a ball of noise with a falling spectrum, in independent white noise."""

from __future__ import annotations

import functools

import numpy as np
from scipy import fft

BOX, PIXEL = 40, 2.0


def frequencies(box=BOX):
    """Cycles a voxel, of a half-spectrum."""
    along = fft.fftfreq(box)
    return np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + fft.rfftfreq(box) ** 2)


def distances(box=BOX):
    along = np.arange(box) - box // 2
    return np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + along**2)


def filtered(volume, weights):
    return fft.irfftn(fft.rfftn(volume) * weights, volume.shape)


def low_passed(volume, cut, width=0.02):
    """Cut at so many cycles a voxel, with a cosine edge."""
    edge = np.clip((frequencies(len(volume)) - cut) / width, 0, 1)
    return filtered(volume, 0.5 + 0.5 * np.cos(np.pi * edge))


def texture(seed, b_factor_voxels=40.0, box=BOX):
    """Noise whose amplitudes fall as exp(-B / 4 f^2); standard deviation 1."""
    noise = np.random.default_rng(seed).normal(size=(box,) * 3)
    made = filtered(noise, np.exp(-b_factor_voxels / 4 * frequencies(box) ** 2))
    return made / made.std()


def ball(radius, edge=3.0, box=BOX):
    return np.clip((radius - distances(box)) / edge + 0.5, 0, 1)


def with_noise(truth, deviation, seed):
    rng = np.random.default_rng(seed)
    return tuple((truth + deviation * rng.normal(size=truth.shape)).astype(np.float32) for _ in range(2))


def noise_halves(seed, box=BOX):
    return with_noise(np.zeros((box,) * 3), 1.0, seed)


@functools.cache
def molecule(box=BOX):
    """A ball of radius 0.3 boxes, denser than the solvent."""
    return ball(0.3 * box, box=box) * (texture(1, box=box) + 2)
