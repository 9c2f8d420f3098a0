"""Images at the poses found, beside what a map shows there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.operators.fourier_slice import FourierVolume
from manyviews.operators.image_shift import shift_phases
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.images.fourier_images import FourierImages

Complex64 = NDArray[np.complex64]


def images_and_model(
    images: FourierImages, volume: FourierVolume, poses: PoseSamples
) -> tuple[Complex64, Complex64]:
    """Of each pose, ``(n, P)``: its image centred, and the map as the image's transfer function shows it."""
    model = volume.slices(poses.rotations, images.points).cpu().numpy()
    phases = shift_phases(poses.shifts, images.points, images.box).numpy().astype(np.complex64)
    return images.values[poses.image] * phases, np.asarray(model * images.ctf[poses.image], np.complex64)


def squared(values: NDArray[Any]) -> NDArray[np.float64]:
    """Squared absolute values, in double precision."""
    return np.asarray(values.real.astype(np.float64) ** 2 + values.imag.astype(np.float64) ** 2)
