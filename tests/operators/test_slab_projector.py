"""The projector of a slab does what the plain one does to the whole volume, however the work is divided."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.io.scratch import ScratchFolder
from manyviews.operators.slab_projector import SlabProjector, usual_block_bytes
from manyviews.operators.tilt_projector import EXAMPLE_SHAPES, TiltProjector, example_geometry
from thread_world import run_ranks

SHAPE, IMAGE = (7, 20, 23), (22, 19)


@pytest.mark.parametrize("case", range(3))
def test_one_slab_in_one_piece_is_the_plain_projector(case, rng):
    """To the last bit."""
    plain = TiltProjector(example_geometry(case), *EXAMPLE_SHAPES[case])
    slab = SlabProjector(example_geometry(case), *EXAMPLE_SHAPES[case])
    volume, images = (torch.from_numpy(rng.normal(size=shape)) for shape in (plain.domain, plain.range))
    assert torch.equal(slab.forward(volume), plain.forward(volume))
    assert torch.equal(slab.adjoint(images), plain.adjoint(images))


@pytest.mark.parametrize("piece_slices", [None, 1])
@pytest.mark.parametrize("case", range(3))
def test_slabs_of_three_ranks_add_up(case, piece_slices, rng):
    plain = TiltProjector(example_geometry(case), *EXAMPLE_SHAPES[case])
    volume, images = (torch.from_numpy(rng.normal(size=shape)) for shape in (plain.domain, plain.range))
    weights = rng.uniform(0.5, 1.5, len(images))
    scale = torch.from_numpy(weights)[:, None, None]

    def work(world):
        slab = SlabProjector(
            plain.geometry,
            *EXAMPLE_SHAPES[case],
            exchange=world,
            piece_slices=piece_slices,
            block_bytes=40_000,
        )
        own = volume[slab.slab].clone()
        found = slab.residual_gradient(own, lambda views: images[views], weights)
        return slab.forward(own), slab.adjoint(images), *found

    ranks = run_ranks(3, work)
    forward = plain.forward(volume)
    residual = images - forward
    for found, _, _, residual_energy, data_energy in ranks:
        torch.testing.assert_close(found, forward)
        assert residual_energy == pytest.approx(float((scale * residual**2).sum()), rel=1e-12)
        assert data_energy == pytest.approx(float((scale * images**2).sum()), rel=1e-12)
    torch.testing.assert_close(torch.cat([rank[1] for rank in ranks]), plain.adjoint(images))
    torch.testing.assert_close(torch.cat([rank[2] for rank in ranks]), plain.adjoint(scale * residual))


@pytest.mark.parametrize("case", range(3))
def test_pieces_with_detectors_in_a_file_are_the_whole(case, rng, tmp_path):
    """Images, back-projection and gradient with weights of pixels; every view is read once."""
    scratch, asked, read = ScratchFolder(tmp_path), [], []

    def allocate(shape):
        asked.append(shape)
        return torch.from_numpy(scratch.allocate(shape, "float64"))

    plain = SlabProjector(example_geometry(case), *EXAMPLE_SHAPES[case])
    pieces = SlabProjector(
        *(example_geometry(case), *EXAMPLE_SHAPES[case]),
        piece_slices=2,
        block_bytes=10_000,
        allocate_detectors=allocate,
    )
    volume, images = (torch.from_numpy(rng.normal(size=shape)) for shape in (plain.domain, plain.range))
    pixels = torch.from_numpy(rng.uniform(size=plain.range))
    weights = rng.uniform(0.5, 1.5, len(images))

    def once(views):
        read.extend(views.tolist())
        return images[views]

    assert len(pieces.pieces) > 1
    torch.testing.assert_close(pieces.forward(volume), plain.forward(volume))
    torch.testing.assert_close(pieces.back_project(once), plain.adjoint(images))
    found = pieces.residual_gradient(volume, once, weights, pixel_weights=lambda views: pixels[views])
    expected = plain.residual_gradient(
        volume, lambda views: images[views], weights, pixel_weights=lambda views: pixels[views]
    )
    torch.testing.assert_close(found[0], expected[0])
    assert found[1:] == pytest.approx(expected[1:], rel=1e-12)
    assert sorted(read) == sorted(2 * list(range(len(images))))
    axes = [(len(axis.group.views), axis.group.detector_length, axis.group.width) for axis in pieces.axes]
    assert asked == 3 * axes


def test_blocks_shrink_with_the_slabs_to_a_least_size():
    sizes = [usual_block_bytes(ranks) for ranks in (1, 2, 8, 64)]
    assert sizes == [2**28, 2**27, 2**25, 2**24]


@pytest.fixture
def mixed(rng):
    """Views of three axes in mixed order."""
    geometry = TiltGeometry.concatenate(
        [TiltGeometry.from_tilt_axis([-50, -10, 10, 55], axis) for axis in (0.0, 90.0, 28.0)]
    )
    geometry = geometry.select(rng.permutation(len(geometry)))
    return SlabProjector(geometry, SHAPE, IMAGE)


def test_blocks_selection_and_whole_agree(mixed, rng):
    volume = torch.from_numpy(rng.normal(size=mixed.domain))
    images = mixed.forward(volume)
    chosen = np.array([7, 2, 11])
    torch.testing.assert_close(mixed.select(chosen).forward(volume), images[chosen])
    back = mixed.adjoint(images)
    single = SlabProjector(mixed.geometry, SHAPE, IMAGE, block_bytes=1)
    seen = 0
    for views, block in single.project_blocks(volume):
        assert len(views) == len(block) == 1
        torch.testing.assert_close(block, images[views])
        seen += len(views)
    assert seen == len(mixed.geometry)
    torch.testing.assert_close(single.adjoint(images), back)


def test_back_projection_is_the_sum_of_its_views(mixed, rng):
    images = torch.from_numpy(rng.normal(size=mixed.range))
    parts = [mixed.select([view]).adjoint(images[[view]]) for view in range(len(images))]
    torch.testing.assert_close(mixed.adjoint(images), torch.stack(parts).sum(dim=0))
    again = mixed.back_project(
        lambda views: images[views], allocate=lambda: torch.empty(mixed.domain, dtype=torch.float64)
    )
    torch.testing.assert_close(again, mixed.adjoint(images))


def test_residual_gradient_is_what_it_says(mixed, rng):
    volume = torch.from_numpy(rng.normal(size=mixed.domain))
    data = torch.from_numpy(rng.normal(size=mixed.range) * 5)
    before = data.clone()
    weights = rng.uniform(0.2, 2.0, len(data))
    gradient, residual_energy, data_energy = mixed.residual_gradient(
        volume, lambda views: data[views], weights
    )
    scale = torch.from_numpy(weights)[:, None, None]
    residual = data - mixed.forward(volume)
    torch.testing.assert_close(gradient, mixed.adjoint(scale * residual))
    assert residual_energy == pytest.approx(float((scale * residual**2).sum()), rel=1e-12)
    assert data_energy == pytest.approx(float((scale * data**2).sum()), rel=1e-12)
    assert torch.equal(data, before)
