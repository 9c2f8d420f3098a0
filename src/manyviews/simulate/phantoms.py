"""Specimens that are formulas, so that every projection of them is exact.

A projection here is the line integral of the density along the view direction, taken at pixel centres and
divided by the pixel size: the sum of voxel values along the ray, in the units of the density. A specimen
whose density is 1 through 30 pixels projects to 30.

Under a view with first two matrix rows ``[M | t]`` a density shaped by a 3x3 matrix C (covariance, or
squared semi-axes) has a shadow shaped by ``M C M^T`` around ``M c + t``. The mass in a shadow pixel is the
line integral times the distance between neighbouring rays, hence the factor ``sqrt(det M M^T)``, which is 1
unless the view magnifies.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.simulate.raster import (
    GAUSSIAN_REACH_SIGMAS,
    add_chords,
    add_covered_lengths,
    add_gaussians,
    draw,
)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Profiles = tuple[Float64, Float64, Float64]


class Phantom(ABC):
    """A specimen with an exact density and exact projections.

    It is a sum of parts, of which ``centre (n, 3)`` is the middle, (x, y, z) in angstrom from the volume's.
    """

    centre: Float64

    @abstractmethod
    def select(self, index: ArrayLike) -> Phantom:
        """Some of the parts (indices or a boolean mask)."""

    @abstractmethod
    def density_planes(
        self, volume_shape: tuple[int, int, int], pixel_size: float, *, threads: int = 0
    ) -> Iterator[Float32]:
        """The density plane by plane, each ``(y, x)``; see `density`."""

    @abstractmethod
    def _project_one(
        self, matrix: Float64, image_shape: tuple[int, int], pixel_size: float, threads: int
    ) -> Float32:
        """One view, ``(y, x)``."""

    def density(self, volume_shape: tuple[int, int, int], pixel_size: float, *, threads: int = 0) -> Float32:
        """The density ``(z, y, x)``, float32, on a grid with its centre at index ``n // 2``.

        ``pixel_size`` is in angstrom; 0 threads are all cores.
        """
        volume = np.empty(volume_shape, dtype=np.float32)
        for z, plane in enumerate(self.density_planes(volume_shape, pixel_size, threads=threads)):
            volume[z] = plane
        return volume

    def project_views(
        self, geometry: TiltGeometry, image_shape: tuple[int, int], pixel_size: float, *, threads: int = 0
    ) -> Iterator[Float32]:
        """The projections one after the other, each ``(y, x)``; see `project`."""
        for matrix in geometry.matrices:
            yield self._project_one(matrix, image_shape, pixel_size, _thread_count(threads))

    def project(
        self, geometry: TiltGeometry, image_shape: tuple[int, int], pixel_size: float, *, threads: int = 0
    ) -> Float32:
        """Exact line integrals divided by the pixel size, sampled at pixel centres: ``(view, y, x)`` float32.

        Shifts, in-plane rotation and magnification in the matrices of the geometry are honoured.
        ``image_shape (y, x)`` is in pixels, the centre at index ``n // 2``; ``pixel_size`` is in angstrom; 0
        threads are all cores, and the result does not depend on it.
        """
        stack = np.empty((len(geometry), *image_shape), dtype=np.float32)
        for view, image in enumerate(self.project_views(geometry, image_shape, pixel_size, threads=threads)):
            stack[view] = image
        return stack


@dataclass(frozen=True)
class Gaussians(Phantom):
    """A sum of 3-D Gaussians ``amplitude exp(-(X - c)^T C^-1 (X - c) / 2)``, ``amplitude (n,)``.

    Density and projections are point samples; each Gaussian is cut at 6 sigma (1.5e-8 of its peak). ``centre
    (n, 3)`` is (x, y, z) in angstrom from the volume centre, ``covariance (n, 3, 3)`` in square angstrom.
    """

    amplitude: Float64
    centre: Float64
    covariance: Float64

    def __post_init__(self) -> None:
        n = _check_shapes(self, amplitude=(), centre=(3,), covariance=(3, 3))
        if n and not np.all(np.linalg.eigvalsh(self.covariance) > 0):
            raise InputError("a Gaussian's covariance is not positive definite", fix="give widths above zero")

    @classmethod
    def isotropic(cls, amplitude: ArrayLike, centre: ArrayLike, sigma: ArrayLike) -> Gaussians:
        """Round Gaussians: ``(n,)`` amplitude, ``(n, 3)`` centre, ``(n,)`` or one ``sigma`` in angstrom."""
        peaks = np.atleast_1d(np.asarray(amplitude, dtype=np.float64))
        widths = np.broadcast_to(np.asarray(sigma, dtype=np.float64), peaks.shape)
        return cls(peaks, np.asarray(centre, dtype=np.float64), widths[:, None, None] ** 2 * np.eye(3))

    @classmethod
    def concatenate(cls, parts: list[Gaussians]) -> Gaussians:
        """All Gaussians of several sets."""
        return cls(
            np.concatenate([part.amplitude for part in parts]),
            np.concatenate([part.centre for part in parts]),
            np.concatenate([part.covariance for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.amplitude)

    def select(self, index: ArrayLike) -> Gaussians:
        """Some of the Gaussians (indices or a boolean mask)."""
        chosen = np.asarray(index)
        return Gaussians(self.amplitude[chosen], self.centre[chosen], self.covariance[chosen])

    def moved(self, rotation: ArrayLike, shift: ArrayLike) -> Gaussians:
        """Turned about the volume centre by a 3x3 rotation, then shifted by (x, y, z) in angstrom."""
        turn = np.asarray(rotation, dtype=np.float64)
        return Gaussians(
            self.amplitude,
            self.centre @ turn.T + np.asarray(shift, dtype=np.float64),
            turn @ self.covariance @ turn.T,
        )

    def mass(self) -> Float64:
        """``(n,)`` integrals over space, density times cubic angstrom."""
        return np.asarray(
            self.amplitude * (2 * np.pi) ** 1.5 * np.sqrt(np.linalg.det(self.covariance)), dtype=np.float64
        )

    def density_planes(
        self, volume_shape: tuple[int, int, int], pixel_size: float, *, threads: int = 0
    ) -> Iterator[Float32]:
        """The density plane by plane, each ``(y, x)`` point samples; see `density`."""
        _check_grid(volume_shape, pixel_size)
        variance = self.covariance[:, 2, 2]
        slope = self.covariance[:, :2, 2] / variance[:, None]
        plane_covariance = self.covariance[:, :2, :2] - np.einsum("ni,nj,n->nij", slope, slope, variance)
        for plane in range(volume_shape[0]):
            height = (plane - volume_shape[0] // 2) * pixel_size - self.centre[:, 2]
            near = np.flatnonzero(np.abs(height) <= GAUSSIAN_REACH_SIGMAS * np.sqrt(variance))
            profiles = _in_pixels(
                (self.amplitude * np.exp(-0.5 * height**2 / variance))[near],
                (self.centre[:, :2] + slope * height[:, None])[near],
                plane_covariance[near],
                volume_shape[1:],
                pixel_size,
            )
            yield draw(add_gaussians, volume_shape[1:], profiles, threads=_thread_count(threads))

    def _project_one(
        self, matrix: Float64, image_shape: tuple[int, int], pixel_size: float, threads: int
    ) -> Float32:
        centre, shape, ray_factor = _shadow(matrix, self.centre, self.covariance)
        area_factor = np.sqrt(2 * np.pi * np.linalg.det(self.covariance) / np.linalg.det(shape))
        peak = self.amplitude * area_factor * ray_factor / pixel_size
        profiles = _in_pixels(peak, centre, shape, image_shape, pixel_size)
        return draw(add_gaussians, image_shape, profiles, threads=threads)


@dataclass(frozen=True)
class Ellipsoids(Phantom):
    """A sum of uniform ellipsoids of densities ``value (n,)``; where they overlap their values add.

    The density is the covered part of each voxel times the value (anti-aliased: exact along x, by
    supersampling, 8 lines a voxel, along y and z), so a voxel at the surface holds a value between 0 and 1
    times ``value``. Projections are exact chord lengths at pixel centres. ``centre (n, 3)`` is (x, y, z) in
    angstrom from the volume centre; ``semi_axes (n, 3)``, angstrom, are along the ellipsoid's own axes, the
    columns of ``rotation (n, 3, 3)`` in the specimen.
    """

    value: Float64
    centre: Float64
    semi_axes: Float64
    rotation: Float64

    def __post_init__(self) -> None:
        _check_shapes(self, value=(), centre=(3,), semi_axes=(3,), rotation=(3, 3))
        if not np.all(self.semi_axes > 0):
            raise InputError("an ellipsoid has a semi-axis of zero or less", fix="give lengths above zero")

    def select(self, index: ArrayLike) -> Ellipsoids:
        """Some of the ellipsoids (indices or a boolean mask)."""
        chosen = np.asarray(index)
        return Ellipsoids(
            self.value[chosen], self.centre[chosen], self.semi_axes[chosen], self.rotation[chosen]
        )

    def _shapes(self) -> Float64:
        """``(n, 3, 3)`` matrices S with surface ``(X - c)^T S^-1 (X - c) = 1``."""
        scaled = self.rotation * self.semi_axes[:, None, :]
        return np.asarray(scaled @ scaled.transpose(0, 2, 1), dtype=np.float64)

    def mass(self) -> Float64:
        """``(n,)`` integrals over space, density times cubic angstrom."""
        return np.asarray(self.value * 4 / 3 * np.pi * np.prod(self.semi_axes, axis=1), dtype=np.float64)

    def density_planes(
        self, volume_shape: tuple[int, int, int], pixel_size: float, *, threads: int = 0
    ) -> Iterator[Float32]:
        """The density plane by plane, each ``(y, x)``, anti-aliased; see `density`."""
        _check_grid(volume_shape, pixel_size)
        for plane in range(volume_shape[0]):
            total = np.zeros(volume_shape[1:], dtype=np.float32)
            for sample in range(_SUPERSAMPLING):
                part = (sample + 0.5) / _SUPERSAMPLING - 0.5
                height = (plane + part - volume_shape[0] // 2) * pixel_size
                total += self._cut(height, volume_shape[1:], pixel_size, _thread_count(threads))
            yield (total / _SUPERSAMPLING).astype(np.float32)

    def _cut(self, height: float, shape: tuple[int, int], pixel_size: float, threads: int) -> Float32:
        """The covered part of each pixel in the plane z = ``height`` times the value, ``(y, x)``."""
        shapes = self._shapes()
        squared = shapes[:, 2, 2]
        slope = shapes[:, :2, 2] / squared[:, None]
        above = height - self.centre[:, 2]
        left = 1 - above**2 / squared
        near = np.flatnonzero(left > 0)
        outline = shapes[:, :2, :2] - np.einsum("ni,nj,n->nij", slope, slope, squared)
        profiles = _in_pixels(
            self.value[near],
            (self.centre[:, :2] + slope * above[:, None])[near],
            outline[near] * left[near, None, None],
            shape,
            pixel_size,
        )
        return draw(add_covered_lengths, shape, profiles, _SUPERSAMPLING, threads=threads)

    def _project_one(
        self, matrix: Float64, image_shape: tuple[int, int], pixel_size: float, threads: int
    ) -> Float32:
        shapes = self._shapes()
        centre, shape, ray_factor = _shadow(matrix, self.centre, shapes)
        half_chord = np.sqrt(np.linalg.det(shapes) / np.linalg.det(shape)) * ray_factor
        profiles = _in_pixels(
            2 * self.value * half_chord / pixel_size, centre, shape, image_shape, pixel_size
        )
        return draw(add_chords, image_shape, profiles, threads=threads)


_SUPERSAMPLING = 8


def _shadow(matrix: Float64, centre: Float64, shape: Float64) -> tuple[Float64, Float64, float]:
    """Image centres ``(n, 2)``, image shapes ``(n, 2, 2)`` and ``sqrt(det M M^T)`` of a view."""
    rows = matrix[:2, :3]
    determinant = float(np.linalg.det(rows @ rows.T))
    if not determinant > 0:
        raise InputError("a view's matrix flattens the image to a line", fix="check the image transforms")
    return centre @ rows.T + matrix[:2, 3], rows @ shape @ rows.T, float(np.sqrt(determinant))


def _in_pixels(
    amplitude: Float64, centre: Float64, shape: Float64, image_shape: tuple[int, int], pixel_size: float
) -> Profiles:
    """Amplitude, centre and inverse shape as the kernels want them: pixels, array positions."""
    middle = np.array([image_shape[1] // 2, image_shape[0] // 2])
    scaled = shape / pixel_size**2
    determinant = scaled[:, 0, 0] * scaled[:, 1, 1] - scaled[:, 0, 1] ** 2
    inverse = np.stack([scaled[:, 1, 1], -scaled[:, 0, 1], scaled[:, 0, 0]], axis=1) / determinant[:, None]
    return amplitude, centre / pixel_size + middle, inverse


def _thread_count(threads: int) -> int:
    return threads or os.cpu_count() or 1


def _check_grid(shape: tuple[int, ...], pixel_size: float) -> None:
    if min(shape) < 1:
        raise InputError(f"a grid of {shape} has no pixels", fix="give sizes of at least 1")
    if not pixel_size > 0:
        raise InputError(f"the pixel size is {pixel_size} angstrom", fix="give a number above zero")


def _check_shapes(phantom: Phantom, **shapes: tuple[int, ...]) -> int:
    """Check that all fields are arrays of the same length and the given shapes; return that length."""
    n = len(getattr(phantom, next(iter(shapes))))
    for name, shape in shapes.items():
        found = getattr(phantom, name).shape
        if found != (n, *shape):
            raise ValueError(f"{name} must be {(n, *shape)}, got {found}")
    return n
