"""The normal operator of views with contrast transfer as a convolution kernel: rods weighted by CTF squared.

Defocus varies with depth, so that the operator is none in truth: here the squared CTF of a view is its mean
over all that the view shows of the volume. What that leaves out the projectors correct.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.transfer_rods_cpu import add_transfer_rods
from manyviews.operators.axis_groups import AxisGroup
from manyviews.operators.contrast_transfer import wavelength
from manyviews.operators.dose import fading
from manyviews.operators.view_kernel import (
    STEPS,
    RodPlanes,
    cardinal_response,
    lateral_reach,
    profile_across,
)

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

_PROFILE_CYCLES, _PROFILE_STEPS = 2.5, 128
_RADII = 1024  # entries from zero to the corner of an image's frequencies
_CORNER = math.sqrt(0.5)
_BESIDE = (-1.0, 0.0, 1.0)


@dataclass(frozen=True)
class TransferRods(RodPlanes):
    """Draws the rods of views of a geometry with their transfer.

    Attributes
    ----------
    geometry, pixel_size
        Of the views; angstrom.
    phases
        ``(view, 5)`` coefficients of `manyviews.operators.contrast_transfer.phase_coefficients`.
    rings, fading
        ``(view, 2, n)`` and ``(view, n)``, as of `add_transfer_rods`.
    spread
        How far the squared transfer spreads a point in an image, in pixels.
    """

    geometry: TiltGeometry
    pixel_size: float
    phases: Float64
    rings: Float64
    fading: Float64
    spread: int

    @property
    def reach(self) -> int:
        """How far beyond its rod a view reaches at most, in voxels."""
        return reach_of_transfer(self.geometry, self.spread)

    def draw(
        self,
        planes: Float32,
        first_dz: int,
        group: AxisGroup,
        weights: Float64,
        reach: tuple[int, int, int],
    ) -> None:
        """Add the rods of a group to planes ``(dz, y, x)`` of differences; ``reach`` is that of the volume.

        They wrap around; what lies beyond is drawn on a larger grid, the same for all dz, and left away.
        """
        count = len(planes)
        far_y, far_x = (end + self.reach for end in lateral_reach([group], reach[0] + 1))
        reach_y, reach_x = min(reach[1], far_y), min(reach[2], far_x)  # a tile has no room for more
        rows = scipy.fft.next_fast_len(reach_y + far_y + 1)
        columns = 2 * scipy.fft.next_fast_len((reach_x + far_x + 2) // 2)
        spectra = np.zeros((rows, columns // 2 + 1, count), np.complex64)
        views = group.views
        profiles = (_transforms(profile_across(group)), float(_PROFILE_STEPS))
        add_transfer_rods(
            spectra, first_dz, group.cosines, group.sines, weights, group.direction_across,
            group.direction_along, group.shear, _aliases(group), profiles, _along_axis(group),
            self._to_image(group), self.phases[views], self.rings[views], self.fading[views],
            _RADII / _CORNER, self.pixel_size,
        )  # fmt: skip
        for plane in range(count):
            whole = scipy.fft.irfft2(spectra[:, :, plane], s=(rows, columns))
            for y, whole_y in _ends(reach_y):
                for x, whole_x in _ends(reach_x):
                    planes[plane, y, x] += whole[whole_y, whole_x]

    def _to_image(self, group: AxisGroup) -> Float64:
        """Frequencies on the detector of each view to those of its image: ``(view, 2, 2)``."""
        along = np.array([*group.direction_along, 0.0])
        found = np.empty((len(group.views), 2, 2))
        matrices = group.sheared(self.geometry.matrices[group.views])
        for place, rows in enumerate(matrices[:, :2, :3]):
            across = np.array([*(group.cosines[place] * group.direction_across), group.sines[place]])
            camera = np.stack([rows @ across, rows @ along], axis=1)
            found[place] = np.linalg.inv(camera).T
        return found


def reach_of_transfer(geometry: TiltGeometry, spread: int) -> int:
    """Voxels to which views reach whose squared transfer spreads a point by so many pixels."""
    cosines = np.abs(np.linalg.det(geometry.matrices[:, :2, :2]))
    return math.ceil(spread / max(float(cosines.min()), 0.05))


def _ends(reach: int) -> tuple[tuple[slice, slice], ...]:
    """Differences from 0 to ``reach``, and those below 0, which wrap around: the same at any length."""
    upper = slice(0, reach + 1), slice(0, reach + 1)
    return (upper, (slice(-reach, None), slice(-reach, None))) if reach else (upper,)


def _transforms(profiles: Float64) -> Float64:
    """Transforms of even profiles ``(view, n)`` with 64 entries a pixel: ``(view, m)``."""
    frequency = np.arange(int(_PROFILE_CYCLES * _PROFILE_STEPS) + 1) / _PROFILE_STEPS
    distance = np.arange(profiles.shape[1]) / STEPS
    weights = np.full(len(distance), 2.0 / STEPS)
    weights[[0, -1]] /= 2.0
    waves = np.cos(2.0 * np.pi * np.outer(distance, frequency))
    return np.asarray((profiles * weights) @ waves, dtype=np.float64)


def _along_axis(group: AxisGroup) -> tuple[Float64, float]:
    """Transform of the profile along the axis; where voxels lie along it there is none."""
    frequency = np.arange(int(_PROFILE_CYCLES * _PROFILE_STEPS) + 1) / _PROFILE_STEPS
    if not group.rotated:
        return np.ones(len(frequency)), float(_PROFILE_STEPS)
    return cardinal_response(frequency) ** 2, float(_PROFILE_STEPS)


def _aliases(group: AxisGroup) -> Float64:
    """Along the axis too where slices are turned."""
    if group.rotated:
        return np.array([(x, y) for x in _BESIDE for y in _BESIDE])
    across = np.abs(group.direction_across)
    return np.outer(_BESIDE, across)


def ring_tables(
    changes: list[Float64], shares: list[Float64], voltage_kv: Float64, pixel_size: float
) -> Float64:
    """What the mean over changes of defocus leaves of ``exp(2i phase)``: ``(view, 2, n)`` by frequency.

    ``changes`` and ``shares`` are levels of each view in angstrom and how much of the view has them.
    """
    radius = np.arange(_RADII + 2) * _CORNER / _RADII / pixel_size
    length = wavelength(voltage_kv)
    found = np.empty((len(changes), 2, len(radius)))
    for view, (change, share) in enumerate(zip(changes, shares, strict=True)):
        turned = np.exp(-2j * np.pi * length[view] * np.outer(radius**2, change)) @ share
        found[view] = turned.real, turned.imag
    return found


def fading_tables(dose: Float64, voltage_kv: Float64, pixel_size: float) -> Float64:
    """Squared `fading` of every view by frequency, ``(view, n)``."""
    radius = np.arange(_RADII + 2) * _CORNER / _RADII / pixel_size
    return np.stack([fading(radius, one, kv) ** 2 if one > 0 else np.ones(len(radius))
                     for one, kv in zip(dose.tolist(), voltage_kv.tolist(), strict=True)])  # fmt: skip
