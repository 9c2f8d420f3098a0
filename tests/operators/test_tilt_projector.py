"""The projector against exact projections of analytic specimens, and its parts against plain sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry, rotation_x, rotation_z
from manyviews.operators import tilt_projector
from manyviews.operators.linear import dot_test
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.simulate.phantoms import Gaussians

TILTS = np.array([-60.0, -45.0, -31.7, -14.0, 0.0, 7.3, 22.5, 45.0, 60.0])
SHAPES = [((33, 64, 65), (66, 64)), ((24, 65, 64), (63, 71))]


def blobs(volume_shape, sigma, rng, count=12):
    """Round Gaussians ``sigma`` voxels wide that every view up to 60 degrees sees whole."""
    depth, height, width = volume_shape
    reach = np.array([0.27 * width, 0.27 * height, max(0.0, depth / 2 - 4.5 * sigma)])
    centres = rng.uniform(-1, 1, (count, 3)) * reach
    return Gaussians.isotropic(rng.uniform(0.5, 1.5, count), centres, sigma)


def relative_errors(got, wanted):
    """Relative L2 error of every view."""
    difference = np.linalg.norm((got - wanted).reshape(len(got), -1), axis=1)
    return difference / np.linalg.norm(wanted.reshape(len(wanted), -1), axis=1)


def projection_errors(geometry, shapes, sigma, rng):
    volume_shape, image_shape = shapes
    specimen = blobs(volume_shape, sigma, rng)
    volume = torch.from_numpy(specimen.density(volume_shape, 1.0))
    got = TiltProjector(geometry, volume_shape, image_shape).forward(volume)
    return relative_errors(got.numpy(), specimen.project(geometry, image_shape, 1.0))


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("axis", [0.0, 90.0, 45.0, 22.5, -70.0])
@pytest.mark.parametrize(("sigma", "tolerance"), [(2.0, 0.005), (3.0, 0.0025)])
def test_resolved_specimens_are_projected_within_half_a_percent(sigma, tolerance, axis, shapes, rng):
    geometry = TiltGeometry.from_tilt_axis(TILTS, axis)
    assert projection_errors(geometry, shapes, sigma, rng).max() < tolerance


@pytest.mark.parametrize("axis", [0.0, 90.0, 22.5])
def test_shifts_are_honoured(axis, rng):
    shifts = rng.uniform(-4, 4, (len(TILTS), 2))
    geometry = TiltGeometry.from_tilt_axis(TILTS, axis, shifts=shifts)
    assert projection_errors(geometry, SHAPES[0], 2.0, rng).max() < 0.006
    whole = TiltGeometry.from_tilt_axis(TILTS, axis, shifts=np.tile([3.0, -2.0], (len(TILTS), 1)))
    assert projection_errors(whole, SHAPES[1], 2.0, rng).max() < 0.005


@pytest.mark.parametrize("x_tilt", [4.0, -15.0])
@pytest.mark.parametrize("axis", [0.0, 90.0, 22.5])
def test_a_specimen_that_leans_is_sheared_once(axis, x_tilt, rng):
    geometry = TiltGeometry.from_tilt_axis([-60.0, -20.0, 15.0, 50.0], axis)
    turn = rotation_z(axis) @ rotation_x(x_tilt) @ rotation_z(-axis)
    geometry.matrices[:, :3, :3] = geometry.matrices[:, :3, :3] @ turn
    assert len(TiltProjector(geometry, *SHAPES[0]).groups) == 1
    assert projection_errors(geometry, SHAPES[0], 2.0, rng).max() < 0.007


def test_x_tilts_of_their_own_give_every_view_an_axis_of_its_own(rng):
    """Slow, one rotation a view, but as exact as any other."""
    geometry = TiltGeometry.from_tilt_axis([-60.0, -20.0, 15.0, 50.0], 0.0)
    for matrix, x_tilt in zip(geometry.matrices, (4.0, 4.1, 3.8, 4.0), strict=True):
        matrix[:3, :3] = matrix[:3, :3] @ rotation_x(x_tilt)
    assert len(TiltProjector(geometry, *SHAPES[0]).groups) == len(geometry)
    assert projection_errors(geometry, SHAPES[0], 2.0, rng).max() < 0.007


@pytest.mark.parametrize("axis", [0.0, 90.0, -70.0])
def test_raw_images_with_rotation_and_magnification(axis, rng):
    """Raw images turned by a few degrees and 2 % larger or smaller, each in its own way."""
    count = len(TILTS)
    angles, scales = np.deg2rad(rng.uniform(-8, 8, count)), 1 + rng.uniform(-0.02, 0.02, count)
    transforms = np.tile(np.eye(3), (count, 1, 1))
    transforms[:, 0, :2] = np.stack([np.cos(angles), -np.sin(angles)], axis=1) * scales[:, None]
    transforms[:, 1, :2] = np.stack([np.sin(angles), np.cos(angles)], axis=1) * scales[:, None]
    transforms[:, :2, 2] = rng.uniform(-3, 3, (count, 2))
    geometry = TiltGeometry.from_tilt_axis(TILTS, axis).with_image_transform(transforms)
    assert projection_errors(geometry, SHAPES[0], 2.0, rng).max() < 0.007


def test_lengths_are_in_angstrom(rng):
    """A specimen twice as large at twice the pixel size, shifts included, gives the same images."""
    shifts = rng.uniform(-4, 4, (3, 2))
    volume = torch.from_numpy(rng.normal(size=(9, 20, 21)).astype(np.float32))
    images = [
        TiltProjector(
            TiltGeometry.from_tilt_axis([-30, 0, 40], 33.0, shifts=scale * shifts),
            (9, 20, 21),
            (20, 20),
            scale,
        ).forward(volume)
        for scale in (1.0, 2.0)
    ]
    torch.testing.assert_close(*images, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [0.0, 90.0, 30.0, -70.0])
def test_a_bead_above_the_centre_moves_across_the_axis(axis):
    """At positive tilt +z moves along Rz(A) x: to +x for a vertical axis, to +y for one along x."""
    bead = Gaussians.isotropic([1.0], [[0.0, 0.0, 12.0]], 2.0)
    shape, image_shape, tilt = (41, 48, 48), (48, 48), 30.0
    projector = TiltProjector(TiltGeometry.from_tilt_axis([tilt], axis), shape, image_shape)
    image = projector.forward(torch.from_numpy(bead.density(shape, 1.0))).numpy()[0]
    y, x = np.meshgrid(np.arange(48) - 24, np.arange(48) - 24, indexing="ij")
    found = np.array([(image * x).sum(), (image * y).sum()]) / image.sum()
    direction = np.array([np.cos(np.deg2rad(axis)), np.sin(np.deg2rad(axis))])
    np.testing.assert_allclose(found, 12.0 * np.sin(np.deg2rad(tilt)) * direction, atol=0.01)


def test_selection_and_blocks_do_not_matter(rng, monkeypatch):
    """Views of three axes in mixed order."""
    geometry = TiltGeometry.concatenate(
        [TiltGeometry.from_tilt_axis([-50, -10, 10, 55], axis) for axis in (0.0, 90.0, 28.0)]
    )
    geometry = geometry.select(rng.permutation(len(geometry)))
    mixed = TiltProjector(geometry, (7, 20, 23), (22, 19))
    volume = torch.from_numpy(rng.normal(size=mixed.domain))
    images = mixed.forward(volume)
    chosen = np.array([7, 2, 11])
    torch.testing.assert_close(mixed.select(chosen).forward(volume), images[chosen])
    back = mixed.adjoint(images)
    monkeypatch.setattr(tilt_projector, "BLOCK_BYTES", 1)
    torch.testing.assert_close(mixed.forward(volume), images)
    torch.testing.assert_close(mixed.adjoint(images), back)


@pytest.mark.parametrize("image_shape", [(9, 40), (41, 8), (50, 51), (1, 1)])
@pytest.mark.parametrize("axis", [0.0, 90.0, 61.0])
def test_narrow_and_wide_images_keep_the_adjoint(axis, image_shape):
    geometry = TiltGeometry.from_tilt_axis([-50, 0, 33], axis, shifts=[[1, 2], [30, 2], [0.5, 2]])
    projector = TiltProjector(geometry, (5, 21, 26), image_shape)
    assert dot_test(projector, dtype=torch.float64) < 1e-12


@pytest.mark.parametrize("axis", [0.0, 90.0])
def test_a_narrow_image_is_the_middle_of_a_wide_one(axis, rng):
    """Only the sharpening, which does not see beyond the edge, differs in the outermost pixel."""
    geometry = TiltGeometry.from_tilt_axis([-50, 0, 33], axis)
    volume = torch.from_numpy(rng.normal(size=(5, 21, 26)))
    wide = TiltProjector(geometry, volume.shape, (60, 61)).forward(volume)
    narrow = TiltProjector(geometry, volume.shape, (11, 14)).forward(volume)
    middle = wide[:, 30 - 5 : 30 + 6, 30 - 7 : 30 + 7]
    torch.testing.assert_close(narrow[:, 1:-1, 1:-1], middle[:, 1:-1, 1:-1])


def test_a_projection_keeps_the_mass_of_its_volume(rng):
    """Upright axes keep it to rounding, oblique ones to what the spline loses."""
    for axis, tolerance in ((0.0, 1e-12), (90.0, 1e-12), (45.0, 2e-3)):
        projector = TiltProjector(TiltGeometry.from_tilt_axis(TILTS, axis), (9, 30, 31), (80, 81))
        volume = torch.from_numpy(blobs((9, 30, 31), 2.0, rng).density((9, 30, 31), 1.0)).double()
        mass = projector.forward(volume).sum(dim=(1, 2)) / volume.sum()
        torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=tolerance)
