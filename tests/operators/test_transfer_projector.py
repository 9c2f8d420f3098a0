import numpy as np
import pytest
import scipy.ndimage
import torch

from manyviews.geometry.views import TiltGeometry, rotation_x
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.convolution import Convolution
from manyviews.operators.slab_projector import SlabProjector
from manyviews.operators.tiling import Tiling
from manyviews.operators.transfer_projector import TransferProjector, example_transfer
from manyviews.operators.view_kernel import lateral_reach, make_kernel
from manyviews.operators.view_transfer import ViewTransfer
from thread_world import run_ranks

SHAPE, IMAGE, PIXEL = (12, 20, 36), (24, 40), 4.0
GEOMETRY = TiltGeometry.from_tilt_axis(np.linspace(-60.0, 60.0, 7))


def smooth_volume(shape=SHAPE, seed=0):
    noise = np.random.default_rng(seed).normal(size=shape)
    return torch.from_numpy(scipy.ndimage.gaussian_filter(noise, 1.0).astype(np.float32))


def test_with_one_defocus_it_is_the_plain_projector_and_a_filter():
    transfer = example_transfer(len(GEOMETRY), 0)
    projector = TransferProjector(GEOMETRY, SHAPE, IMAGE, PIXEL, transfer, layer_slices=5)
    volume = smooth_volume()
    plain = SlabProjector(GEOMETRY, SHAPE, IMAGE, PIXEL).forward(volume)
    for view, image in enumerate(projector.forward(volume)):
        values = transfer.at_defocus(view, np.zeros(1), projector.grid)[0]
        spectrum = torch.fft.rfft2(plain[view], s=projector.grid.padded) * values
        expected = torch.fft.irfft2(spectrum, s=projector.grid.padded)[: IMAGE[0], : IMAGE[1]]
        torch.testing.assert_close(image, expected, atol=2e-4, rtol=1e-3)


def test_thin_slabs_agree_with_thinner_ones_and_the_hand_matters():
    volume = smooth_volume()
    made = [
        TransferProjector(GEOMETRY, SHAPE, IMAGE, 1.0, example_transfer(7, hand), layer_slices=slices)
        for hand, slices in ((1, 3), (1, 1), (-1, 1))
    ]
    coarse, fine, wrong = (projector.forward(volume) for projector in made)
    assert (coarse - fine).norm() < 0.005 * fine.norm()
    assert (wrong - fine).norm() > 5 * (coarse - fine).norm()


def test_gradient_blocks_and_selection_agree_with_forward_and_adjoint():
    transfer = example_transfer(len(GEOMETRY), -1)
    projector = TransferProjector(GEOMETRY, SHAPE, IMAGE, PIXEL, transfer, layer_slices=4)
    volume = smooth_volume()
    data = torch.randn(projector.range, generator=torch.Generator().manual_seed(2))
    weights = np.linspace(0.5, 1.5, len(GEOMETRY))
    gradient, energy, _ = projector.residual_gradient(volume, lambda views: data[views], weights)
    scale = torch.from_numpy(weights).float().view(-1, 1, 1)
    residual = data - projector.forward(volume)
    torch.testing.assert_close(gradient, projector.adjoint(scale * residual), atol=1e-3, rtol=1e-3)
    assert energy == pytest.approx(float((scale * residual**2).sum()), rel=1e-4)
    some = projector.select(np.array([5, 2]))
    torch.testing.assert_close(some.forward(volume), projector.forward(volume)[[5, 2]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("ranks", "pieces"), [(1, 2), (2, None), (3, 1), (5, 2)])
def test_slabs_and_pieces_do_not_matter(ranks, pieces):
    geometry = TiltGeometry.from_angles(np.linspace(-60.0, 60.0, 7), (0.0, 35.0))
    given = (geometry, SHAPE, IMAGE, 1.0, example_transfer(len(geometry), 1))
    whole = TransferProjector(*given, layer_slices=5)
    volume = smooth_volume()
    data = torch.randn(whole.range, generator=torch.Generator().manual_seed(2))
    images, weights = whole.forward(volume), np.linspace(0.5, 1.5, len(geometry))
    some = np.array([9, 2])
    chosen = images[some]
    gradient, energy, _ = whole.residual_gradient(volume, lambda views: data[views], weights)

    def work(world):
        options = {"piece_slices": pieces, "block_bytes": 20_000, "layer_slices": 5}
        projector = TransferProjector(*given, exchange=world, **options)
        own = volume[projector.slab]
        found, told, _ = projector.residual_gradient(own, lambda views: data[views], weights)
        assert told == pytest.approx(energy, rel=1e-5)
        torch.testing.assert_close(projector.select(some).forward(own), chosen, atol=1e-4, rtol=1e-4)
        return projector.forward(own), projector.adjoint(data), found

    shown, back, found = zip(*run_ranks(ranks, work), strict=True)
    for one in shown:
        torch.testing.assert_close(one, images, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat(back), whole.adjoint(data), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat(found), gradient, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("axes", "hand", "bound"), [((0.0,), 0, 0.02), ((0.0,), 1, 0.03), ((0.0, 90.0), 0, 0.02)]
)
def test_the_kernel_is_the_normal_operator(axes, hand, bound):
    shape = (12, 24, 32)
    geometry = TiltGeometry.from_angles(np.linspace(-60.0, 60.0, 7), axes)
    defocus = np.stack(
        [np.linspace(6000.0, 8000.0, len(geometry)), np.linspace(5500.0, 7500.0, len(geometry))], 1
    )
    transfer = ViewTransfer(
        Optics.make(300.0, 2.7, 0.07, defocus, 20.0), np.linspace(0.0, 20.0, len(geometry)), hand
    )
    projector = TransferProjector(geometry, shape, (224, 232), PIXEL, transfer)
    volume = smooth_volume(shape)
    exact = projector.normal(volume)
    weights = np.ones(len(geometry))
    kernel = make_kernel(projector.groups, weights, shape, rods=projector.rods)
    quick = Convolution.from_kernel(kernel, shape).forward(volume)
    plain = Convolution.from_kernel(make_kernel(projector.groups, weights, shape), shape).forward(volume)
    assert (quick - exact).norm() < bound * exact.norm()
    assert (plain - exact).norm() > 0.5 * exact.norm()


def test_tiles_of_the_kernel_give_the_whole():
    shape = (12, 40, 60)
    projector = TransferProjector(GEOMETRY, shape, (224, 232), PIXEL, example_transfer(7, 1))
    rods, weights = projector.rods, np.ones(7)
    volume = smooth_volume(shape)
    whole = Convolution.from_kernel(make_kernel(projector.groups, weights, shape, rods=rods), shape)
    reach = tuple(far + rods.reach for far in lateral_reach(projector.groups, shape[0]))
    tiling = Tiling.of(shape, (15, 25), reach)
    kernel = make_kernel(projector.groups, weights, shape, padded=tiling.grid, rods=rods)
    tiles = Convolution.from_kernel(kernel, shape, tiling=tiling)
    wanted = whole.forward(volume)
    assert (tiles.forward(volume) - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize(("hand", "x_tilt"), [(0, 8.0), (1, -12.0)])
def test_the_kernel_is_the_normal_operator_where_the_specimen_leans(hand, x_tilt):
    shape = (12, 48, 64)
    geometry = TiltGeometry.from_tilt_axis(np.linspace(-60.0, 60.0, 7))
    geometry.matrices[:, :3, :3] = geometry.matrices[:, :3, :3] @ rotation_x(x_tilt)
    projector = TransferProjector(geometry, shape, (224, 232), PIXEL, example_transfer(7, hand))
    assert len(projector.groups) == 1
    # without sharp sides: how these are interpolated hangs on where they are
    noise = np.pad(np.random.default_rng(0).normal(size=(8, 28, 44)), ((2, 2), (10, 10), (10, 10)))
    volume = torch.from_numpy(scipy.ndimage.gaussian_filter(noise, 1.0).astype(np.float32))
    exact = projector.normal(volume)
    kernel = make_kernel(projector.groups, np.ones(7), shape, rods=projector.rods)
    quick = Convolution.from_kernel(kernel, shape).forward(volume)
    assert (quick - exact).norm() < 0.04 * exact.norm()
