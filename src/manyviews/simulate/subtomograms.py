"""Subtomograms as they come out of a tomogram: a particle tilted, imaged, and put together again.

Each subtomogram is a tilt series of one particle: projections at the pose times the tilt, CTF, noise in the
images, and weighted back-projection into the box. By the projection-slice theorem projections are slices of
the specimen's transform, and back-projection adds the images' transforms, as slices again, to that of the
box: the adjoint of the same operator (`manyviews.operators.fourier_slice`). Images are weighted by the ramp
(r-weighting, `manyviews.geometry.missing_wedge.TiltScheme.view_weights`).

A subtomogram is ``s(X) = specimen(A^T (X + shift))``, so the particle lies at minus its shift. The molecule
is white, its density positive, with or without a CTF, whose sign is that of
`manyviews.operators.contrast_transfer`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.geometry.poses import euler_to_matrices, matrices_to_euler, random_rotations
from manyviews.operators.contrast_transfer import Optics, ctf_values
from manyviews.operators.fourier_points import extract
from manyviews.operators.fourier_slice import FourierVolume, grid_half
from manyviews.random import Stream, generator
from manyviews.simulate.particles import Projector

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex64 = NDArray[np.complex64]

MTF_WIDTH = 0.2
"""Detector noise falls off with frequency k, in cycles per box of N pixels, as ``exp(-(k / 0.2 N)^2)``."""

_PADDING = 3  # back-projection is right to a percent then, near the faces of the box too
_POSES_MEASURED = 32


@dataclass(frozen=True)
class SubtomogramPoses:
    """``angles (N, 3)``: rot, tilt, psi, degrees; ``shifts (N, 3)``: x, y, z in angstrom, what centres it."""

    angles: Float64
    shifts: Float64

    def __len__(self) -> int:
        return len(self.angles)


def draw_subtomogram_poses(count: int, shift_range: float, seed: int) -> SubtomogramPoses:
    """Uniform rotations, and shifts uniform within ``+-shift_range`` angstrom along each axis.

    Rounded to four decimals, so that a file holds them exactly. The first ones are the same for any count.
    """
    rotations = random_rotations(count, generator(seed, Stream.SUBTOMOGRAM_POSES))
    shifts = generator(seed, Stream.SUBTOMOGRAM_SHIFTS).uniform(-shift_range, shift_range, (count, 3))
    return SubtomogramPoses(np.round(matrices_to_euler(rotations), 4), np.round(shifts, 4))


@dataclass(frozen=True)
class NoiseLevels:
    """Standard deviations in a pixel of the tilt images, before anything acts on the noise.

    ``white`` noise is there before the CTF (the specimen's surroundings). ``detector`` noise comes after the
    CTF, as white, and is then low-passed as `MTF_WIDTH` says.
    """

    white: float
    detector: float


class SubtomogramSeries:
    """What a specimen's subtomograms have in common: how they are projected, weighted and put together.

    Parameters
    ----------
    projector
        The specimen, see `manyviews.simulate.particles.Projector`.
    scheme
        The tilts, listed.
    pixel_size
        Angstrom.
    optics
        One CTF for all views, or one a view; left out: none.
    """

    def __init__(
        self, projector: Projector, scheme: TiltScheme, pixel_size: float, optics: Optics | None = None
    ) -> None:
        self.projector, self.pixel_size = projector, pixel_size
        self.box, self.points = projector.box, projector.points
        self.views = scheme.matrices()
        self._weights = self._view_weights(scheme)
        self._unblur = _unneeded_correction(scheme, self.box)
        self._ctf = self._contrast_transfer(optics)
        frequency = np.linalg.norm(self.points.astype(np.float64), axis=1)
        self._mtf = np.exp(-((frequency / (MTF_WIDTH * self.box)) ** 2)).astype(np.float32)

    def clean(self, pose: Float64, shift: Float64) -> Float32:
        """The noise-free subtomogram ``(box, box, box)`` at a 3x3 pose and an (x, y, z) shift in angstrom."""
        return self._put_together(self._signal(pose, shift))

    def noise(self, number: int, levels: NoiseLevels, seed: int) -> Float32:
        """The noise of subtomogram ``number``, a function of its number, the levels and the seed."""
        return self._put_together(self._image_noise(number, levels, seed))

    def noisy(self, pose: Float64, shift: Float64, number: int, levels: NoiseLevels, seed: int) -> Float32:
        """The sum of `clean` and `noise`, for the price of one."""
        return self._put_together(self._signal(pose, shift) + self._image_noise(number, levels, seed))

    def noise_variances(self) -> tuple[float, float]:
        """Variance in a voxel that white and detector noise of standard deviation 1 in a pixel come to.

        A voxel is a sum over all samples of all images, whose transforms have the variance ``box^2`` at each.
        """
        whole_plane = np.where(np.arange(len(self.points)) > 0, 2.0, 1.0)
        squares = whole_plane * self._weights.astype(np.float64) ** 2 / self.box**4
        white = squares if self._ctf is None else squares * self._ctf.astype(np.float64) ** 2
        return float(white.sum()), float((squares * self._mtf.astype(np.float64) ** 2).sum())

    def levels(self, noise_variance: float) -> NoiseLevels:
        """Noise of both kinds, equally strong in the images, that comes to this variance of a voxel."""
        both = math.sqrt(noise_variance / sum(self.noise_variances()))
        return NoiseLevels(both, both)

    def signal_variance(self, shift_range: float, seed: int) -> float:
        """Mean variance over the whole box of noise-free subtomograms: CTF, wedge and all.

        Of the first 32 poses that `draw_subtomogram_poses` gives, however many there are.
        """
        poses = draw_subtomogram_poses(_POSES_MEASURED, shift_range, seed)
        turns = euler_to_matrices(poses.angles)
        found = [
            self.clean(turn, shift).var(dtype=np.float64)
            for turn, shift in zip(turns, poses.shifts, strict=True)
        ]
        return float(np.mean(found))

    def _view_weights(self, scheme: TiltScheme) -> Float32:
        """``(view, P)`` what back-projection weights the samples of the images by."""
        k = np.einsum("vij,pi->vjp", self.views[:, :2], self.points.astype(np.float64))
        weights = [scheme.view_weights(view, *one) for view, one in enumerate(k)]
        return np.asarray(weights, dtype=np.float32)

    def _contrast_transfer(self, optics: Optics | None) -> Float32 | None:
        """``(1 or view, P)`` CTF of the images."""
        if optics is None:
            return None
        if len(optics) not in (1, len(self.views)):
            raise ValueError(f"{len(optics)} CTFs for {len(self.views)} views")
        return np.asarray(ctf_values(optics, self.points, self.box, self.pixel_size).numpy(), np.float32)

    def _signal(self, pose: Float64, shift: Float64) -> Complex64:
        """``(view, P)`` transforms of the images of the particle."""
        seen = self.projector.transforms(np.asarray(self.views @ pose))
        # a view shows the particle at minus its shift, as the view sees that
        moved = self.views[:, :2] @ -np.asarray(shift, np.float64) / (self.pixel_size * self.box)
        phases = np.exp(-2j * np.pi * (moved @ self.points.T.astype(np.float64)))
        seen = seen * phases.astype(np.complex64)
        return seen if self._ctf is None else np.asarray(seen * self._ctf, dtype=np.complex64)

    def _image_noise(self, number: int, levels: NoiseLevels, seed: int) -> Complex64:
        """``(view, P)`` transforms of noise before and after the CTF."""
        random = generator(seed, Stream.SUBTOMOGRAM_NOISE, number)
        shape = (2, len(self.views), self.box, self.box)
        drawn = random.standard_normal(shape, dtype=np.float32)
        white, detector = (extract(images, self.points) for images in drawn)
        if self._ctf is not None:
            white *= self._ctf
        detector *= self._mtf * np.float32(levels.detector)
        return np.asarray(white * np.float32(levels.white) + detector, dtype=np.complex64)

    def _put_together(self, images: Complex64) -> Float32:
        """Weighted back-projection of transforms ``(view, P)`` into the box."""
        radius = (self.box - 1) // 2
        half = grid_half(radius, _PADDING)
        grid = torch.zeros((2 * half + 1, 2 * half + 1, half + 2), dtype=torch.complex64)
        transform = FourierVolume(grid, self.box, radius, _PADDING)
        weighted = images * self._weights
        weighted[:, 1:] *= 2  # the other half of each image's transform
        transform.add(self.views, self.points, torch.from_numpy(weighted))
        return np.asarray(transform.gradient().numpy() * self._unblur)


def _unneeded_correction(scheme: TiltScheme, box: int) -> Float32:
    """What the back-projection is multiplied by, to broadcast with ``(z, y, x)``.

    One over the number of voxels; and along a tilt axis that is an axis of the volume, where every sample
    lies on a grid point and interpolation blurs nothing, what the correction for blur divided by.
    """
    factor = np.full((1, 1, 1), 1 / box**3)
    for axis, part in enumerate(scheme.axis):
        if abs(part) == 1:
            shape = [1, 1, 1]
            shape[2 - axis] = box
            factor = factor * np.sinc((np.arange(box) - box // 2) / (_PADDING * box)).reshape(shape) ** 2
    return factor.astype(np.float32)
