"""Contrast of groups: what it is found from, and what it is where there is nothing to find it from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from em_example import RADIUS, example

from manyviews.io.particle_table import OpticsGroup, table_of_stack
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.refine.evidence import Evidence, evidence
from manyviews.particles.refine.judgement import with_contrast
from manyviews.particles.refine.scales import contrast_groups, renewed_scales

COUNT = 120
TRUE = np.array([0.5, 1.0, 1.5])


def table(**extra):
    group = OpticsGroup("one", 300.0, 2.7, 0.1, 5.0, 16)
    return replace(table_of_stack(Path("a.mrcs"), group, np.full((6, 2), 15_000.0)), extra=extra)


def test_groups_are_those_of_the_table_else_micrographs_else_of_the_optics():
    micrographs = ["b", "b", "a", "a", "c", "c"]
    found = contrast_groups(table(rlnMicrographName=micrographs))
    assert found.names == ("a", "b", "c")
    np.testing.assert_array_equal(found.group, [1, 1, 0, 0, 2, 2])
    own = contrast_groups(table(rlnMicrographName=micrographs, rlnGroupName=["x", "y"] * 3))
    assert own.names == ("x", "y")
    assert contrast_groups(table(rlnMicrographName=["a"] * 6)).names == ("one",)


def test_contrast_is_found_from_images_and_stays_once_it_is_known():
    made = example(COUNT, noise=0.2)
    group = np.arange(COUNT) % 3
    clean = example(COUNT, noise=1e-9).images.values
    values = made.images.values + (TRUE[group, None] - 1) * clean
    images = replace(made.images, values=values.astype(np.complex64))
    volume, scales = FourierVolume.of(made.volume, RADIUS), np.ones(3)
    for _ in range(2):
        seen = with_contrast(images, scales, group)
        found = evidence(seen, volume, made.true_samples(), RADIUS)
        scales = renewed_scales(scales, group, found, np.ones(COUNT))
        np.testing.assert_allclose(scales, TRUE, rtol=0.05)
        assert scales[group].mean() == pytest.approx(1.0)


def test_images_that_are_not_believed_have_no_say():
    found = Evidence(np.array([100.0, 100, 0, 0]), np.full(4, 100.0), np.full(4, 100.0), np.zeros(4))
    group = np.array([0, 1, 1, 1])
    believed = np.array([1.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(renewed_scales(np.ones(2), group, found, believed), 1.0)
    assert renewed_scales(np.ones(2), group, found, np.ones(4))[1] < 0.75


def test_groups_of_no_evidence_are_as_the_others():
    found = Evidence(np.array([100.0, 150.0]), np.full(2, 100.0), np.full(2, 100.0), np.zeros(2))
    scales = renewed_scales(np.ones(3), np.array([0, 1]), found, np.ones(2))
    assert scales[0] < scales[2] < scales[1]
    np.testing.assert_array_equal(renewed_scales(np.ones(1), np.array([0, 0]), found, np.ones(2)), [1.0])


def test_images_of_one_contrast_are_not_copied():
    images = example(10).images
    assert with_contrast(images, np.ones(2), np.zeros(10, np.int64)) is images
