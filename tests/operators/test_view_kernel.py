"""The normal operator as a convolution against projecting and back-projecting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.fft
import torch
from scipy.ndimage import gaussian_filter

from manyviews.geometry.views import TiltGeometry, rotation_x, rotation_z
from manyviews.operators.convolution import Convolution
from manyviews.operators.slab_projector import SlabProjector
from manyviews.operators.tiling import Tiling
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.operators.view_kernel import (
    footprint,
    lateral_reach,
    make_kernel,
    padded_shape,
    profile_across,
)
from manyviews.parallel.world import shares
from thread_world import run_ranks

VOLUME, IMAGE = (24, 64, 61), (120, 121)
TILTS = np.linspace(-60.0, 60.0, 31)
EDGE = 12


def projector_for(axes, volume_shape=VOLUME, image_shape=IMAGE, tilts=TILTS):
    parts = [TiltGeometry.from_tilt_axis(tilts, axis) for axis in axes]
    return TiltProjector(TiltGeometry.concatenate(parts), volume_shape, image_shape)


def convolution_for(projector, weights=None, **options):
    given = np.ones(len(projector.geometry)) if weights is None else weights
    kernel = make_kernel(projector.groups, given, projector.volume_shape, **options)
    return Convolution.from_kernel(kernel, projector.volume_shape)


def interior_volume(sigma, rng):
    """Noise smoothed by ``sigma`` voxels that stops short of the sides."""
    x = rng.normal(size=VOLUME)
    if sigma:
        x = gaussian_filter(x, sigma)
    inner = np.zeros(VOLUME)
    inner[:, EDGE:-EDGE, EDGE:-EDGE] = x[:, EDGE:-EDGE, EDGE:-EDGE]
    return torch.from_numpy(inner.astype(np.float32))


def interior_mismatch(got, exact):
    part = (slice(None), slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    return float((got[part] - exact[part]).norm() / exact[part].norm())


@pytest.mark.parametrize(
    ("axes", "sigma", "tolerance"),
    [
        ((0.0,), 0.0, 0.10),
        ((0.0,), 1.5, 0.003),
        ((90.0,), 0.0, 0.10),
        ((90.0,), 1.5, 0.003),
        ((0.0, 90.0), 3.0, 0.0015),
        ((22.5,), 1.5, 0.015),
        ((22.5,), 3.0, 0.009),
        ((45.0,), 0.0, 0.45),
        ((45.0,), 1.5, 0.03),
        ((0.0, 45.0, 90.0, -45.0), 1.5, 0.02),
    ],
)
def test_interior_voxels_agree_with_the_projector(axes, sigma, tolerance, rng):
    projector = projector_for(axes)
    x = interior_volume(sigma, rng)
    assert interior_mismatch(convolution_for(projector).forward(x), projector.normal(x)) < tolerance


@pytest.mark.parametrize(("axis", "x_tilt"), [(0.0, 1.0), (0.0, 4.0), (90.0, -15.0), (22.5, 8.0)])
def test_interior_voxels_agree_where_the_specimen_leans(axis, x_tilt, rng):
    geometry = projector_for((axis,)).geometry
    turn = rotation_z(axis) @ rotation_x(x_tilt) @ rotation_z(-axis)
    geometry.matrices[:, :3, :3] = geometry.matrices[:, :3, :3] @ turn
    projector = TiltProjector(geometry, VOLUME, IMAGE)
    assert len(projector.groups) == 1
    # no sharp sides: how these are interpolated hangs on where they are
    x = torch.from_numpy(gaussian_filter(interior_volume(1.5, rng).numpy(), 1.5))
    assert interior_mismatch(convolution_for(projector).forward(x), projector.normal(x)) < 0.006


@pytest.mark.parametrize(("axis", "tolerance"), [(0.0, 0.003), (22.5, 0.015)])
def test_every_view_has_its_weight(axis, tolerance, rng):
    projector = projector_for((axis,))
    weights = rng.uniform(0.0, 3.0, len(TILTS))
    x = interior_volume(1.5, rng)
    images = projector.forward(x) * torch.from_numpy(weights.astype(np.float32))[:, None, None]
    exact = projector.adjoint(images)
    assert interior_mismatch(convolution_for(projector, weights).forward(x), exact) < tolerance


def test_weights_add_up(rng):
    """The kernel is linear in the weights, so subsets add to the whole; weight zero leaves a view out."""
    projector = projector_for((0.0, 45.0), tilts=TILTS[::6])
    count = len(projector.geometry)
    chosen = rng.uniform(size=count) < 0.5
    spectra = [
        make_kernel(projector.groups, weights, VOLUME).spectrum
        for weights in (np.ones(count), chosen.astype(float), 1.0 - chosen)
    ]
    scale = float(spectra[0].abs().max())
    torch.testing.assert_close(spectra[0], spectra[1] + spectra[2], rtol=0, atol=2e-6 * scale)
    part = projector.select(np.flatnonzero(chosen))
    size = padded_shape(projector.groups, VOLUME)
    alone = make_kernel(part.groups, np.ones(chosen.sum()), VOLUME, padded=size).spectrum
    torch.testing.assert_close(spectra[1], alone, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("axes", [(0.0,), (90.0,), (22.5, -45.0)])
def test_thin_padding_does_not_wrap_around(axes, rng):
    """White noise up to every side: the smallest grid and one twice the volume give the same."""
    projector = projector_for(axes)
    double = tuple(2 * size for size in VOLUME)
    x = torch.from_numpy(rng.normal(size=VOLUME).astype(np.float32))
    thin, full = (convolution_for(projector, padded=padded) for padded in (None, double))
    assert np.prod(thin.padded) < np.prod(double)
    wanted = full.forward(x)
    # what is left of the spline's response beyond the padding is a thousandth of the model's own error
    assert (thin.forward(x) - wanted).norm() < (1e-6 if axes != (22.5, -45.0) else 5e-4) * wanted.norm()


def test_padding_is_what_the_highest_tilt_reaches():
    (size_z, size_y, size_x) = padded_shape(projector_for((0.0,)).groups, VOLUME)
    assert size_z >= 2 * VOLUME[0] - 1
    assert VOLUME[1] + 5 < size_y < VOLUME[1] + 12  # no reach along the axis but the spline's
    reach = (VOLUME[0] - 1) * np.tan(np.deg2rad(60.0))
    assert size_x >= VOLUME[2] + reach
    flat = padded_shape(projector_for((0.0,), tilts=[0.0]).groups, VOLUME)
    assert flat[2] < VOLUME[2] + 12
    steep = padded_shape(projector_for((0.0,), tilts=[90.0]).groups, VOLUME)
    assert steep[2] >= 2 * VOLUME[2] - 1
    assert steep[2] == scipy.fft.next_fast_len(2 * VOLUME[2] - 1, real=True)


@pytest.mark.parametrize("axes", [(0.0,), (0.0, 90.0), (22.5, -45.0)])
def test_the_circulant_is_not_negative(axes):
    projector = projector_for(axes)
    kernel = make_kernel(projector.groups, np.ones(len(projector.geometry)), VOLUME, circulant=True)
    assert kernel.circulant.shape == kernel.spectrum.shape == (*kernel.padded[:2], kernel.padded[2] // 2 + 1)
    assert float(kernel.circulant.min()) > -1e-4 * float(kernel.circulant.max())
    assert make_kernel(projector.groups, np.ones(len(projector.geometry)), VOLUME).circulant is None


@pytest.mark.parametrize("depth", [1, 2, 7, 8])
def test_the_periodic_kernel_is_the_tapered_one_at_every_other_frequency(depth):
    """On a grid twice as long as the volume, these are the frequencies with the depth as their period."""
    projector = projector_for((0.0, 22.5), (depth, 12, 13), (12, 13))
    grid = (2 * depth, *padded_shape(projector.groups, projector.volume_shape)[1:])
    views = np.ones(len(projector.geometry))
    kernel = make_kernel(
        projector.groups, views, projector.volume_shape, circulant=True, periodic=True, padded=grid
    )
    assert kernel.periodic.spectrum.shape == (depth, *kernel.spectrum.shape[1:])
    wanted, bound = kernel.circulant[::2], 1e-5 * kernel.largest
    torch.testing.assert_close(kernel.periodic.spectrum, wanted, rtol=0, atol=bound)
    assert make_kernel(projector.groups, views, projector.volume_shape).periodic is None


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_make_their_rows_of_the_whole_kernel(ranks, rng):
    projector = projector_for((0.0, 22.5), (7, 24, 21), (30, 31), TILTS[::6])
    weights = rng.uniform(0.5, 1.5, len(projector.geometry))
    groups, shape = projector.groups, projector.volume_shape
    whole = make_kernel(groups, weights, shape, circulant=True)
    x = torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    def work(world):
        kernel = make_kernel(groups, weights, shape, circulant=True, exchange=world)
        slab = x[shares(len(x), ranks)[world.rank]]
        return kernel, Convolution.from_kernel(kernel, shape, exchange=world).forward(slab)

    results = run_ranks(ranks, work)
    scale = whole.largest
    assert scale == float(whole.spectrum.max())
    for rank, (kernel, _) in enumerate(results):
        own = whole.spectrum[:, kernel.rows.own(rank)]
        torch.testing.assert_close(kernel.spectrum, own, rtol=0, atol=1e-6 * scale)
        torch.testing.assert_close(kernel.circulant, whole.circulant, rtol=0, atol=1e-6 * scale)
        assert kernel.largest == pytest.approx(scale, rel=1e-6)
    wanted = Convolution.from_kernel(whole, shape).forward(x)
    assert (torch.cat([part for _, part in results]) - wanted).norm() < 1e-6 * wanted.norm()


@pytest.mark.parametrize(
    ("axes", "tile", "tolerance"),
    [
        ((0.0,), (16, 61), 1e-6),
        ((0.0,), (16, 20), 1e-6),
        ((0.0,), (64, 7), 1e-6),
        ((90.0,), (15, 16), 1e-6),
        ((0.0, 90.0), (30, 61), 1e-6),
        # the spline's response has no end: a thousandth of the model's own error, as with thin padding
        ((22.5, -45.0), (16, 20), 1e-3),
    ],
)
def test_tiles_smaller_than_the_volume(axes, tile, tolerance, rng):
    """White noise up to every side: the kernel on a tile's grid wraps around into the halo only."""
    shape = (6, *VOLUME[1:])
    projector = projector_for(axes, shape)
    tiling = Tiling.of(shape, tile, lateral_reach(projector.groups, shape[0]))
    assert tiling.count > 1
    weights = np.ones(len(projector.geometry))
    kernel = make_kernel(projector.groups, weights, shape, padded=tiling.grid)
    x = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    wanted = convolution_for(projector, padded=tuple(2 * size for size in shape)).forward(x)
    got = Convolution.from_kernel(kernel, shape, tiling=tiling).forward(x)
    assert (got - wanted).norm() < tolerance * wanted.norm()


def test_the_kernel_in_double_precision_differs_by_rounding():
    projector = projector_for((0.0, 30.0), tilts=TILTS[::6])
    weights = np.ones(len(projector.geometry))
    single, double = (
        make_kernel(projector.groups, weights, VOLUME, dtype=dtype).spectrum
        for dtype in (torch.float32, torch.float64)
    )
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(single.double(), double, rtol=1e-6, atol=1e-6 * float(double.max()))


def test_the_footprint_is_a_triangle_smoothed_by_a_box():
    distance = np.linspace(-2, 2, 41)
    fine = (np.arange(4000) + 0.5) / 4000 - 0.5
    for half in (0.36, 0.5):
        moved = distance[:, None] - 2 * half * fine
        wanted = np.maximum(0, 1 - np.abs(moved)).mean(axis=1)
        np.testing.assert_allclose(footprint(distance, half), wanted, atol=1e-6)


def test_profiles_have_unit_area():
    """Footprint and filter each have unit area, and so has their autocorrelation."""
    (group,) = projector_for((0.0,)).groups
    profiles = profile_across(group)
    areas = (2 * profiles.sum(axis=1) - profiles[:, 0]) / 64
    np.testing.assert_allclose(areas, 1.0, atol=5e-3)  # sub-pixel places are a sample of 24
    assert areas.mean() == pytest.approx(1.0, abs=5e-4)


def test_the_exact_residual_closes_what_the_convolution_leaves(rng):
    """Corrected by exact residuals, steps taken with the convolution lead to the projector's own answer.

    The detector is narrower than the specimen, which the convolution knows nothing of.
    """
    projector = projector_for((0.0, 90.0), (8, 24, 25), (20, 21), np.linspace(-60, 60, 9))
    truth = torch.from_numpy(gaussian_filter(rng.normal(size=(8, 24, 25)), 1.5))
    data = projector.forward(truth)
    weights = np.ones(len(data))
    convolution = convolution_for(projector, dtype=torch.float64)
    strength = 0.5 / float(convolution.multiplier.max())
    x = torch.zeros_like(truth)
    energies = []
    slabs = SlabProjector(
        projector.geometry, projector.volume_shape, projector.image_shape, projector.pixel_size
    )
    for _ in range(12):
        gradient, energy, _ = slabs.residual_gradient(x, lambda views: data[views], weights)
        energies.append(energy)
        step = torch.zeros_like(x)
        for _ in range(6):  # a few gradient steps on the convolution's model of the objective
            step += strength * (gradient - convolution.forward(step))
        x += step
    assert all(later < earlier for earlier, later in itertools.pairwise(energies))
    assert energies[-1] < 2e-2 * energies[0]
