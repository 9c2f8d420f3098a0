"""Maps of known symmetry, turned and moved, are laid on their axes again."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.alignment.map_alignment import move_map
from manyviews.alignment.symmetry_axes import lay_on_axes
from manyviews.geometry.poses import random_rotations
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.metrics.correlation import ncc

BOX = 24


def symmetric_map(group: np.ndarray) -> np.ndarray:
    """A few Gaussians and all their copies."""
    rng = np.random.default_rng(3)
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    total = np.zeros((BOX, BOX, BOX))
    for place in rng.uniform(-6, 6, (3 if len(group) > 1 else 9, 3)):
        for cx, cy, cz in group @ place:
            total += np.exp(-((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * 1.8**2))
    return total.astype(np.float32)


@pytest.mark.parametrize("name", ["C3", "C7", "D2"])
def test_axes_are_found(name: str) -> None:
    group = symmetry_rotations(name)
    turned = move_map(
        symmetric_map(group), random_rotations(1, np.random.default_rng(1))[0], np.array([1.2, -0.7, 0.5])
    )
    found = lay_on_axes(turned, group)
    assert found.correlation > 0.95
    for rotation in group[1:]:
        assert ncc(move_map(found.volume, rotation, np.zeros(3)), found.volume) > 0.95


def test_a_map_without_symmetry_is_told_from_one_with() -> None:
    found = lay_on_axes(symmetric_map(np.eye(3)[None]), symmetry_rotations("C5"))
    assert found.correlation < 0.9


def test_the_same_map_gives_the_same_answer() -> None:
    volume = symmetric_map(symmetry_rotations("C2"))
    first, second = (lay_on_axes(volume, symmetry_rotations("C2")).volume for _ in range(2))
    np.testing.assert_array_equal(first, second)
