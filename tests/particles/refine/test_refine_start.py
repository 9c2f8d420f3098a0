"""What a refinement begins with: any map of the field of view, bright, and not the same in both halves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from em_example import BOX, PIXEL, RADIUS, blobs, example

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.refine.start import Start, read_start, starts_of_halves

COUNT = 60


def density(box):
    return blobs(BOX, 10, 1.1).density((box,) * 3, BOX / box).astype(np.float32)


def test_a_map_of_other_voxels_shows_the_same_field_of_view(tmp_path):
    write_mrc(tmp_path / "fine.mrc", density(36), PIXEL * BOX / 36)
    found = read_start(tmp_path / "fine.mrc", BOX, PIXEL).volume
    expected = density(BOX)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("box", [BOX - 6, BOX - 5, BOX + 8])
def test_what_is_beyond_is_cut_and_what_lacks_is_filled(tmp_path, box):
    inner = np.zeros((box,) * 3, np.float32)
    middle = box // 2
    inner[middle, middle + 2, middle - 3] = 1.0
    write_mrc(tmp_path / "map.mrc", inner, PIXEL)
    found = read_start(tmp_path / "map.mrc", BOX, PIXEL).volume
    assert found.shape == (BOX,) * 3
    assert np.unravel_index(found.argmax(), found.shape) == (BOX // 2, BOX // 2 + 2, BOX // 2 - 3)


def test_what_cannot_be_a_start_is_refused(tmp_path):
    write_mrc(tmp_path / "odd.mrc", density(BOX), PIXEL * 1.37)
    with pytest.raises(InputError, match="do not divide"):
        read_start(tmp_path / "odd.mrc", BOX, PIXEL)
    write_mrc(tmp_path / "nan.mrc", density(BOX), PIXEL)
    voxels = np.memmap(tmp_path / "nan.mrc", np.float32, "r+", offset=1024)
    voxels[77] = np.nan
    voxels.flush()
    with pytest.raises(InputError, match="1 voxels are NaN"):
        read_start(tmp_path / "nan.mrc", BOX, PIXEL)
    write_mrc(tmp_path / "flat.mrc", np.ones((12, 20, 20), np.float32), PIXEL)
    with pytest.raises(InputError, match="is constant"):
        read_start(tmp_path / "flat.mrc", BOX, PIXEL)
    slab = np.random.default_rng(0).normal(size=(12, 20, 20)).astype(np.float32)
    write_mrc(tmp_path / "slab.mrc", slab, PIXEL)
    with pytest.raises(InputError, match="20 x 20 x 12 voxels, not a cube"):
        read_start(tmp_path / "slab.mrc", BOX, PIXEL)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"holds no volume\.mrc"):
        read_start(tmp_path / "folder", BOX, PIXEL)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_start_is_made_as_bright_as_the_images_and_turned_over_aloud(tmp_path, sign, one_thread):
    made, told = example(COUNT), []
    plan = EmPlan(COUNT, starts=0, refinements=1, batch=COUNT, filled=0.8, most_radius=RADIUS)
    problem = EmProblem(
        made.images, np.arange(COUNT), plan, 0.6, 0, positive=False, independent=True, warn=told.append
    )
    given = Start((sign * 7.0 * made.volume + 2.0).numpy(), tmp_path / "start.mrc")
    halves = starts_of_halves(problem, given, 4)
    assert bool(told) == (sign < 0)
    assert not told or "turned over" in told[0]
    assert not torch.equal(*halves)
    mean = (halves[0] + halves[1]) / 2
    low = np.corrcoef(mean.numpy().ravel(), made.volume.numpy().ravel())[0, 1]
    assert low > 0.6
    assert 0.3 < float(mean.norm() / made.volume.norm()) < 1.5
