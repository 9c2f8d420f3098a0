import math

import numpy as np
import pytest
from particle_run_example import BOX, ball

from manyviews.io.mrc import write_mrc
from manyviews.report.surface import level_by_mass, smooth_and_fine, surface_image, three_views
from manyviews.report.volume import read_model


def test_level_holds_the_share():
    volume = np.array([-5.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    assert level_by_mass(volume, 0.4) == 4.0
    assert level_by_mass(volume, 0.7) == 3.0
    assert level_by_mass(volume, 1.0) == 1.0
    assert level_by_mass(np.zeros(3)) == 0.0


@pytest.mark.parametrize("box", [15, 16])
def test_a_finer_map_keeps_its_place(box):
    smooth = ball(box, radius=box / 3)
    fine = smooth_and_fine(smooth, 2)
    same = smooth_and_fine(smooth, 1)
    assert fine.shape == (2 * box,) * 3
    np.testing.assert_allclose(fine[::2, ::2, ::2], same, atol=2e-3)


def test_the_surface_of_a_ball_is_a_disc_lit_from_the_upper_left():
    radius = 7.0
    image = surface_image(ball(), float(np.exp(-2)), np.eye(3), BOX // 2, 96)  # the level at its radius
    seen = np.isfinite(image)
    assert math.sqrt(seen.sum() / math.pi) * BOX / 96 == pytest.approx(radius, rel=0.03)
    y, x = np.unravel_index(np.nanargmax(image), image.shape)
    middle = 48 + (BOX // 2 - BOX / 2) * 96 / BOX
    assert x < middle < y
    assert np.nanmin(image) >= 0
    assert np.nanmax(image) <= 1


def test_views_show_the_right_sides():
    long_in_x = ball(stretch=(1.0, 0.7, 1.5))  # (z, y, x)
    extents = []
    for _, rotation in three_views():
        np.testing.assert_allclose(np.linalg.det(rotation), 1)
        seen = np.isfinite(surface_image(long_in_x, float(np.exp(-2)), rotation, BOX // 2, 96))
        down, across = np.nonzero(seen)
        extents.append((np.ptp(across) * BOX / 96 / 14, np.ptp(down) * BOX / 96 / 14))
    np.testing.assert_allclose(extents, [(1.5, 0.7), (1.5, 1.0), (0.7, 1.0)], atol=0.06)


def test_large_maps_are_averaged(tmp_path):
    volume = np.arange(7**3, dtype=np.float32).reshape(7, 7, 7)
    write_mrc(tmp_path / "v.mrc", volume, 2.0)
    model = read_model(tmp_path / "v.mrc", largest=4)
    assert model.volume.shape == (3, 3, 3)
    assert model.voxel_angstrom == pytest.approx(4.0)
    assert model.volume[1, 2, 0] == pytest.approx(volume[2:4, 4:6, :2].mean())
