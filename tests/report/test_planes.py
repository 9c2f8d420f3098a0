"""Planes of maps that change their size from pass to pass."""

import numpy as np
import torch

from manyviews.report.planes import add_planes, read_planes, small_planes


def ball(side, place):
    grid = (
        (torch.stack(torch.meshgrid(*[torch.arange(side) / side] * 3, indexing="ij")) - place).square().sum(0)
    )
    return torch.exp(-grid / 0.02)


def test_maps_of_any_size_have_planes_alike():
    small, large = (small_planes(ball(side, 0.5), 32) for side in (24, 80))
    assert small.shape == large.shape == (3, 32, 32)
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.98


def test_planes_of_a_pass_replace_those_of_later_ones(tmp_path):
    path = tmp_path / "planes.mrc"
    for number in (1, 2, 3, 2):
        add_planes(path, number, np.full((3, 8, 8), 10.0 * number, np.float32), 1.0)
    assert [(number, planes.mean()) for number, planes in read_planes(path)] == [(1, 10.0), (2, 20.0)]
    add_planes(path, 4, np.ones((3, 8, 8), np.float32), 1.0)
    assert [number for number, _ in read_planes(path)] == [1, 2, 4]  # nobody told of the third
    path.write_bytes(b"torn")
    add_planes(path, 5, np.ones((3, 8, 8), np.float32), 1.0)
    assert [number for number, _ in read_planes(path)] == [5]
