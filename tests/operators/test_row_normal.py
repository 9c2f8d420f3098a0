"""Ranks that change slices for rows do what the projectors do to the whole volume."""

import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.row_normal import RowNormal
from manyviews.operators.slab_projector import SlabProjector
from manyviews.operators.tilt_projector import TiltProjector
from thread_world import run_ranks

SHAPE = (7, 70, 23)


def upright(axes, image_shape):
    parts = [
        TiltGeometry.from_tilt_axis([-50.0, -10.0, 15.0, 60.0], axis, series=k) for k, axis in enumerate(axes)
    ]
    geometry = TiltGeometry.concatenate(parts)
    across = np.tile(np.eye(3), (len(geometry), 1, 1))
    across[:, 0, 2] = 0.4  # along x: across the axis 0, along the axis 90
    return geometry.with_image_transform(across) if axes == (0.0,) else geometry, image_shape


def row_normals(geometry, image_shape, ranks, volume, weights):
    def work(world):
        projector = SlabProjector(geometry, SHAPE, image_shape, exchange=world, block_bytes=20_000)
        normal = RowNormal.of(projector, weights)
        own = volume[projector.slab].clone()
        return None if normal is None else normal.apply(own, torch.empty_like(own))

    return run_ranks(ranks, work)


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize(
    ("axes", "image_shape"), [((0.0,), (70, 19)), ((90.0,), (61, 23)), ((90.0, 0.0), (70, 23))]
)
def test_rows_give_what_the_projectors_give(axes, image_shape, ranks, rng):
    geometry, image_shape = upright(axes, image_shape)
    plain = TiltProjector(geometry, SHAPE, image_shape)
    volume, weights = torch.from_numpy(rng.normal(size=SHAPE)), rng.uniform(0.5, 1.5, len(geometry))
    found = row_normals(geometry, image_shape, ranks, volume, weights)
    wanted = plain.adjoint(torch.from_numpy(weights)[:, None, None] * plain.forward(volume))
    torch.testing.assert_close(torch.cat(found), wanted)


@pytest.mark.parametrize("axes", [(30.0,), (0.0, 45.0)])
def test_views_that_mix_rows_have_none(axes, rng):
    geometry, image_shape = upright(axes, (70, 23))
    volume, weights = torch.from_numpy(rng.normal(size=SHAPE)), np.ones(len(geometry))
    assert row_normals(geometry, image_shape, 2, volume, weights) == [None, None]


def test_few_views_of_few_slabs_send_less_as_detectors(rng):
    geometry, image_shape = upright((0.0,), (70, 23))
    some = geometry.select([0, 2, 3])
    volume = torch.from_numpy(rng.normal(size=SHAPE))
    assert row_normals(some, image_shape, 2, volume, np.ones(3)) == [None, None]
    assert None not in row_normals(some, image_shape, 3, volume, np.ones(3))


def test_one_rank_has_no_use_for_it(rng):
    geometry, image_shape = upright((0.0,), (70, 23))
    assert RowNormal.of(SlabProjector(geometry, SHAPE, image_shape), np.ones(len(geometry))) is None


def test_bytes_do_not_grow_with_views_and_ranks(rng):
    """Twice the volume, less what stays."""
    geometry, image_shape = upright((90.0,), (70, 23))
    volume = torch.from_numpy(rng.normal(size=SHAPE))

    def work(world):
        projector = SlabProjector(geometry, SHAPE, image_shape, exchange=world)
        normal = RowNormal.of(projector, np.ones(len(geometry)))
        own = volume[projector.slab].clone()
        normal.apply(own, torch.empty_like(own))
        return world.traffic.sent_bytes

    for ranks in (2, 7):
        assert sum(run_ranks(ranks, work)) < 2 * volume.nbytes
