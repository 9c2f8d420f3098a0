"""The pruned transforms against sums written out; slabs and tiles against the whole volume."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch

from manyviews.operators import convolution
from manyviews.operators.convolution import Convolution
from manyviews.operators.row_shares import RowShares
from manyviews.operators.tiling import Tiling
from manyviews.parallel.world import shares
from pretend_gpu import OnGpu
from thread_world import run_ranks

pytestmark = pytest.mark.usefixtures("one_thread")
PRECISIONS = [(np.float32, 1e-6), (np.float64, 1e-12)]


def even_kernel(shape, rng):
    """``(2 z - 1, 2 y - 1, 2 x - 1)``, the same after a turn through the centre."""
    kernel = rng.normal(size=[2 * n - 1 for n in shape])
    return kernel + kernel[::-1, ::-1, ::-1]


def operator_for(kernel, shape, padded, dtype):
    grid = np.zeros(padded)
    depth, height, width = kernel.shape
    grid[:depth, :height, :width] = kernel
    spectrum = np.fft.rfftn(np.roll(grid, [1 - n for n in shape], axis=(0, 1, 2)))
    assert np.abs(spectrum.imag).max() < 1e-10 * np.abs(spectrum).max()
    return Convolution(shape, padded, torch.from_numpy(spectrum.real.astype(dtype)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("shape", [(3, 8, 9), (1, 7, 12), (5, 6, 1), (4, 4, 4)])
def test_it_is_the_linear_convolution(shape, dtype, tolerance, rng):
    kernel = even_kernel(shape, rng)
    padded = tuple(scipy.fft.next_fast_len(2 * n - 1, real=True) for n in shape)
    x = rng.normal(size=shape).astype(dtype)
    got = operator_for(kernel, shape, padded, dtype).forward(torch.from_numpy(x))
    wanted = scipy.signal.convolve(x.astype(np.float64), kernel, mode="full", method="direct")
    wanted = wanted[tuple(slice(n - 1, 2 * n - 1) for n in shape)]
    assert got.numpy().dtype == dtype
    assert np.linalg.norm(got.numpy() - wanted) < tolerance * np.linalg.norm(wanted)


def distance(got, wanted):
    return float((got - wanted).norm() / wanted.norm())


def volume(shape, dtype, rng):
    return torch.from_numpy(rng.normal(size=shape).astype(dtype))


def tiled(shape, tile, reach, dtype, rng):
    """An operator on tiles, and the same kernel on a grid of twice the volume."""
    depth, height, width = shape
    reach = min(reach[0], height - 1), min(reach[1], width - 1)
    kernel = np.zeros([2 * n - 1 for n in shape])
    kernel[:, height - 1 - reach[0] : height + reach[0], width - 1 - reach[1] : width + reach[1]] = (
        even_kernel((depth, reach[0] + 1, reach[1] + 1), rng)
    )
    tiling = Tiling.of(shape, tile, reach)
    grid = np.zeros(tiling.grid)
    for z, y, x in np.argwhere(kernel):
        place = z - depth + 1, (y - height + 1) % tiling.grid[1], (x - width + 1) % tiling.grid[2]
        grid[place] += kernel[z, y, x]
    spectrum = torch.from_numpy(np.fft.rfftn(grid).real.astype(dtype))
    whole = operator_for(kernel, shape, tuple(2 * n for n in shape), dtype)
    return Convolution(shape, tiling.grid, spectrum, tiling=tiling), whole


def in_slabs(operator, x, ranks, block, method="forward"):
    """What the ranks get with an operator's kernel and tiles, a few rows exchanged at once."""
    rows = RowShares(operator.padded[1], block, ranks)
    volume_shape = tuple(x.shape)

    def work(world):
        mine = Convolution(
            volume_shape,
            operator.padded,
            operator.multiplier[:, torch.from_numpy(rows.own(world.rank))],
            tiling=operator.tiling,
            rows=rows,
            exchange=world,
        )
        slab = x[shares(len(x), ranks)[world.rank]].contiguous()
        assert mine.domain == tuple(slab.shape)
        return getattr(mine, method)(slab)

    return run_ranks(ranks, work)


@pytest.mark.parametrize("block", [1, 5, 24])
def test_the_block_size_does_not_matter(block, rng, monkeypatch):
    shape, padded = (5, 12, 9), (9, 24, 18)
    operator = operator_for(even_kernel(shape, rng), shape, padded, np.float64)
    x = torch.from_numpy(rng.normal(size=shape))
    whole = operator.forward(x)
    monkeypatch.setattr(convolution, "BLOCK_BYTES", 1)  # and slice by slice
    blocks = Convolution(shape, padded, operator.multiplier, rows=RowShares(padded[1], block))
    torch.testing.assert_close(blocks.forward(x), whole, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("block", [1, 4, 24])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("shape", "padded"), [((5, 12, 9), (9, 24, 18)), ((8, 11, 6), (16, 21, 11))])
def test_slabs_give_the_whole(shape, padded, dtype, tolerance, block, ranks, rng):
    """Slabs of one slice, blocks with fewer rows than ranks, slices that the ranks do not divide."""
    operator = operator_for(even_kernel(shape, rng), shape, padded, dtype)
    x = volume(shape, dtype, rng)
    got = torch.cat(in_slabs(operator, x, ranks, block))
    assert got.dtype == x.dtype
    assert distance(got, operator.forward(x)) < tolerance


@pytest.mark.parametrize("tile", [(12, 9), (5, 9), (12, 4), (5, 4), (1, 2), (6, 20)])
@pytest.mark.parametrize("reach", [(2, 3), (0, 1), (40, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_tiles_give_the_whole(dtype, tolerance, reach, tile, rng):
    shape = (3, 12, 9)
    operator, whole = tiled(shape, tile, reach, dtype, rng)
    x = volume(shape, dtype, rng)
    wanted = whole.forward(x)
    assert distance(operator.forward(x), wanted) < tolerance
    assert operator.quadratic(x) == pytest.approx(float(torch.sum(x.double() * wanted.double())), rel=1e-5)


@pytest.mark.parametrize("ranks", [2, 3])
def test_tiles_in_slabs(ranks, rng):
    shape = (4, 12, 9)
    operator, whole = tiled(shape, (5, 4), (2, 3), np.float64, rng)
    x = volume(shape, np.float64, rng)
    assert distance(torch.cat(in_slabs(operator, x, ranks, 4)), whole.forward(x)) < 1e-12
    for value in in_slabs(operator, x, ranks, 4, "quadratic"):
        assert value == pytest.approx(whole.quadratic(x), rel=1e-10)


def test_a_volume_in_a_file_is_read_and_written_in_pieces(tmp_path, rng):
    shape = (3, 12, 10)
    operator, _ = tiled(shape, (5, 4), (2, 3), np.float32, rng)
    x = volume(shape, np.float32, rng)
    source, target = (np.memmap(tmp_path / name, np.float32, "w+", shape=shape) for name in ("x", "out"))
    source[:] = x.numpy()
    out = torch.from_numpy(target)
    assert operator.forward(torch.from_numpy(source), out=out) is out
    assert torch.equal(out, operator.forward(x))
    assert np.array_equal(source, x.numpy())


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("width", [17, 18])
@pytest.mark.parametrize("block", [1, 4, 18])
def test_the_quadratic_form(block, width, dtype, tolerance, rng):
    shape, padded = (6, 9, 9), (11, 18, width)
    # with a large centre it is far from zero, as those of views are
    kernel = even_kernel(shape, rng)
    kernel[5, 8, 8] = 30.0 * np.abs(kernel).max()
    operator = operator_for(kernel, shape, padded, dtype)
    x = volume(shape, dtype, rng)
    wanted = float(torch.sum(x.double() * operator.forward(x).double()))
    assert operator.quadratic(x) == pytest.approx(wanted, rel=tolerance)
    for ranks in (1, 2, 5):
        values = in_slabs(operator, x, ranks, block, "quadratic")
        assert values == [pytest.approx(wanted, rel=tolerance)] * ranks


def test_what_does_not_belong_together_is_refused(rng):
    shape, padded = (3, 5, 9), (5, 9, 18)
    spectrum = torch.zeros(5, 9, 10)
    with pytest.raises(ValueError, match="is not rank 0's of 1"):
        Convolution(shape, padded, spectrum[:, :4])
    with pytest.raises(ValueError, match="is not rank 0's of 1"):
        Convolution(shape, padded, spectrum, rows=RowShares(9, 9, 2))
    with pytest.raises(ValueError, match="another grid"):
        Convolution(shape, padded, spectrum, tiling=Tiling.of(shape, (2, 9), (1, 1)))


def on_gpu(tensor):
    """On a GPU where there is one, else pretended."""
    return tensor.cuda() if torch.cuda.is_available() else tensor.as_subclass(OnGpu)


def test_tiles_are_refused_on_the_gpu(rng):
    operator, _ = tiled((3, 12, 9), (5, 4), (2, 3), np.float32, rng)
    x = on_gpu(volume((3, 12, 9), np.float32, rng))
    for method in (operator.forward, operator.quadratic):
        with pytest.raises(ValueError, match="whole lateral plane at once"):
            method(x)


@pytest.mark.parametrize("ranks", [1, 2, 5])
@pytest.mark.parametrize("block", [1, 4, 24])
@pytest.mark.parametrize(("shape", "padded"), [((5, 12, 9), (9, 24, 18)), ((8, 11, 6), (16, 21, 11))])
def test_a_gpu_does_the_same(shape, padded, block, ranks, rng):
    operator = operator_for(even_kernel(shape, rng), shape, padded, np.float64)
    x = volume(shape, np.float64, rng)
    wanted, quadratic = operator.forward(x), operator.quadratic(x)
    operator.multiplier = on_gpu(operator.multiplier)
    parts = in_slabs(operator, on_gpu(x), ranks, block)
    assert all(part.is_cuda for part in parts)
    assert distance(torch.cat(parts).cpu(), wanted) < 1e-12
    for value in in_slabs(operator, on_gpu(x), ranks, block, "quadratic"):
        assert value == pytest.approx(quadratic, rel=1e-10)


def test_odd_and_even_last_axis_and_the_argument_is_left_alone(rng):
    for width in (17, 18):
        shape = (3, 5, 9)
        operator = operator_for(even_kernel(shape, rng), shape, (5, 9, width), np.float64)
        x = torch.from_numpy(rng.normal(size=shape))
        before = x.clone()
        torch.testing.assert_close(operator.adjoint(x), operator.forward(x))
        assert torch.equal(x, before)
