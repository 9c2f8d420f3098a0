"""A particle without symmetry, its subtomograms in a wedge as coefficients, and how far poses are off."""

from __future__ import annotations

import math

import numpy as np
import torch

from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.geometry.poses import angular_distance, random_rotations
from manyviews.operators.fourier_points import extract_solid, half_ball, take_solid
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.simulate.phantoms import Gaussians
from manyviews.subtomo.refine.objective import Poses
from manyviews.subtomo.volumes import FourierSubtomograms
from manyviews.subtomo.wedge.transfer import transfer

BOX, RADIUS, DIAMETER = 24, 9, 16.0
PHANTOM = Gaussians.isotropic(
    [1.0, 0.8, 0.7, 0.9, 0.5],
    [[0.0, 0, 0], [5.0, 1, 0], [0, -5, 2], [-2, 3, 5], [-4, -2, -3.5]],
    [2.2, 1.5, 1.5, 1.3, 1.4],
)
PLACES = {"x": 0, "y": 1, "z": 2}


def wedge(low=-60.0, high=60.0, box=BOX):
    """``(box, box, box // 2 + 1)``: tilts about y, the beam along z."""
    return transfer(box, 1.0, TiltScheme.of_range(low, high, axis="y", beam="z"))


def density(phantom=PHANTOM, box=BOX):
    return phantom.density((box,) * 3, 1.0)


def posed(rotation, shift, phantom=PHANTOM, box=BOX):
    """s(X) = phantom(A^T (X + shift)): the particle lies at minus its shift."""
    return density(phantom.moved(rotation, -np.asarray(shift)), box)


def true_poses(count, seed=0, most=2.0):
    """Random poses with shifts up to ``most`` voxels along each axis."""
    rng = np.random.default_rng(seed)
    rotations = random_rotations(count, rng)
    return Poses(rotations, rng.uniform(-most, most, (count, 3)), np.arange(count))


def coefficients(poses, *, transfers=None, index=None, noise=0.0, phantom=PHANTOM, radius=RADIUS, seed=1):
    """`FourierSubtomograms` of a phantom; ``noise`` is the spread of a coefficient, the unit of all."""
    points = half_ball(radius, BOX)
    rng = np.random.default_rng(seed)
    factors = [wedge()] if transfers is None else transfers
    taken = np.stack([take_solid(one, points) for one in factors]).astype(np.float32)
    own = np.zeros(len(poses), np.int64) if index is None else np.asarray(index)
    values = np.stack(
        [
            extract_solid(posed(turn, shift, phantom), points)
            for turn, shift in zip(poses.rotations, poses.shifts, strict=True)
        ]
    )
    values = values * taken[own]
    drawn = rng.normal(size=values.shape) + 1j * rng.normal(size=values.shape)
    values = values + noise / math.sqrt(2) * drawn * (taken[own] != 0)
    unit = noise if noise > 0 else 1.0
    return FourierSubtomograms(
        points, (values / unit).astype(np.complex64), taken / np.float32(unit), own, BOX, 1.0
    )


def reference(phantom=PHANTOM, radius=RADIUS):
    return FourierVolume.of(torch.from_numpy(density(phantom)).float(), radius)


def angles_off(found, truth, symmetry=None):
    """Degrees, to the nearest of the equal poses."""
    turns = np.eye(3)[None] if symmetry is None else symmetry
    return np.min([angular_distance(found @ turn, truth) for turn in turns], axis=0)
