"""The lattice of poses against the conventions."""

from __future__ import annotations

import numpy as np

from manyviews.geometry.poses import euler_to_matrices
from manyviews.geometry.quadrature import pose_quadrature
from manyviews.particles.sagd.lattice import PoseLattice


def test_rotations_are_those_of_the_quadrature_in_its_order():
    quadrature = pose_quadrature(2.0, 3.0)
    lattice = PoseLattice.of(quadrature, 1.5)
    directions, in_plane, shifts = lattice.shape
    found = lattice.rotations(np.arange(directions), np.arange(in_plane))
    np.testing.assert_allclose(found, quadrature.rotations().reshape(-1, 3, 3), atol=1e-6)
    some = lattice.rotations(np.array([3, 1]), np.array([2]))
    np.testing.assert_allclose(some, found[[3 * in_plane + 2, in_plane + 2]], atol=1e-7)
    assert lattice.size == quadrature.size == directions * in_plane * shifts


def test_weights_add_up_to_one_and_shifts_are_in_pixels():
    quadrature = pose_quadrature(3.0, 3.0)
    lattice = PoseLattice.of(quadrature, 1.5)
    for weights in (lattice.log_direction, lattice.log_in_plane, lattice.log_shift):
        np.testing.assert_allclose(np.exp(weights).sum(), 1)
    np.testing.assert_allclose(lattice.shifts, quadrature.shifts / 1.5)
    # three Gauss-Hermite points: 0 and +- sqrt(3) sigma
    np.testing.assert_allclose(lattice.shift_spacing, np.sqrt(3) * 2.0)


def test_phases_displace_the_particle_against_its_origin():
    """A point seen at (2, -1) pixels has the origin (-2, 1), which would centre it."""
    box = 8
    lattice = PoseLattice(
        np.array([[0.0, 0.0, 1.0]]),
        np.zeros(1),
        np.zeros(1),
        np.zeros(1),
        np.array([[-2.0, 1.0]]),
        np.zeros(1),
        1,
        1,
        1,
    )
    image = np.zeros((box, box))
    image[4 - 1, 4 + 2] = 1.0
    spectrum = np.fft.fft2(np.fft.ifftshift(image))
    points = np.array([[1, 0], [0, 1], [2, 3]], dtype=np.int32)
    found = lattice.phases(np.array([0]), points, box)[0]
    np.testing.assert_allclose(found, [spectrum[ky, kx] for kx, ky in points], atol=1e-6)


def test_an_axis_pose_is_relions():
    lattice = PoseLattice(
        np.array([[0.6, 0.0, 0.8]]),
        np.zeros(1),
        np.array([30.0]),
        np.zeros(1),
        np.zeros((1, 2)),
        np.zeros(1),
        1,
        1,
        1,
    )
    expected = euler_to_matrices([0.0, np.degrees(np.arccos(0.8)), 30.0])
    np.testing.assert_allclose(lattice.rotations(np.array([0]), np.array([0]))[0], expected, atol=1e-6)
