"""Rods drawn by the kernel against the formula written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.kernels.rods_cpu import draw_rods

STEPS = 64


def profile(radius, power):
    """An even bump that ends at ``radius``, ``STEPS`` entries a pixel up to 2.5."""
    distance = np.arange(int(2.5 * STEPS) + 1) / STEPS
    return np.maximum(0.0, 1 - distance / radius) ** power


def plain_rods(shape, first_dz, tilts, weights, axis, shear, profiles, profile_w, reach):
    """Every difference within reach, one after the other; what leaves the grid wraps around."""
    out = np.zeros(shape)
    across = np.array([np.cos(axis), np.sin(axis)])
    along = np.array([-np.sin(axis), np.cos(axis)])
    grid = np.arange(profiles.shape[1]) / STEPS
    grid_w = np.arange(len(profile_w)) / STEPS
    for plane in range(shape[0]):
        for dy in range(-reach[0], reach[0] + 1):
            for dx in range(-reach[1], reach[1] + 1):
                s, w = across @ (dx, dy), along @ (dx, dy) - shear * (first_dz + plane)
                value_w = np.interp(abs(w), grid_w, profile_w, right=0.0)
                for tilt, weight, g in zip(tilts, weights, profiles, strict=True):
                    u = np.cos(tilt) * s + np.sin(tilt) * (first_dz + plane)
                    value = weight * np.interp(abs(u), grid, g, right=0.0) * value_w
                    out[plane, dy % shape[1], dx % shape[2]] += value
    return out


@pytest.mark.parametrize("axis_degrees", [0.0, 90.0, 33.0, -71.0])
@pytest.mark.parametrize("tilts_degrees", [(0.0,), (-60.0, 20.0, 85.0), (90.0, 140.0)])
@pytest.mark.parametrize(("first_dz", "shear"), [(0, 0.0), (3, 0.0), (1, 0.3), (2, -0.6)])
def test_rods_equal_the_formula(first_dz, shear, tilts_degrees, axis_degrees, rng):
    shape, reach = (3, 17, 20), (6, 7)
    tilts, axis = np.deg2rad(tilts_degrees), np.deg2rad(axis_degrees)
    weights = rng.uniform(0.5, 2.0, len(tilts))
    profiles = np.stack([profile(1.8 + 0.3 * k, 1 + k) for k in range(len(tilts))])
    profile_w = profile(2.3, 2)
    planes = np.zeros(shape, np.float32)
    draw_rods(
        planes,
        first_dz,
        np.cos(tilts),
        np.sin(tilts),
        weights,
        np.array([np.cos(axis), np.sin(axis)]),
        np.array([-np.sin(axis), np.cos(axis)]),
        shear,
        profiles,
        profile_w,
        STEPS,
        reach,
    )
    wanted = plain_rods(shape, first_dz, tilts, weights, axis, shear, profiles, profile_w, reach)
    np.testing.assert_allclose(planes, wanted, atol=2e-5)


def test_rods_are_added_to_what_is_there():
    one = np.array([1.0])
    planes = np.full((1, 5, 5), 2.0, np.float32)
    arguments = (np.array([1.0, 0.0]), np.array([0.0, 1.0]), 0.0, profile(1.0, 1)[None], profile(1.0, 1))
    draw_rods(planes, 0, one, 0 * one, one, *arguments, STEPS, (2, 2))
    wanted = np.full((5, 5), 2.0)
    wanted[0, 0] = 3.0
    np.testing.assert_array_equal(planes[0], wanted)
