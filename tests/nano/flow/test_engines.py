"""Every engine finds a known motion, from a small scene of speckle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from manyviews.errors import InputError
from manyviews.kernels.flow_rigid_cpu import rigid_flow
from manyviews.kernels.warp_cpu import pull_back, push_forward
from manyviews.nano.flow.accept import accept_flow
from manyviews.nano.flow.dis import Dis
from manyviews.nano.flow.engines import ENGINES, make_engine
from manyviews.nano.flow.farneback import Farneback
from manyviews.nano.flow.grey_range import grey_range, to_grey
from manyviews.nano.flow.grid import Grid
from manyviews.nano.flow.mass import KeepingMass, inverse_flow, volume_change
from manyviews.nano.flow.shifts import Shifts, coarse_shifts, rigid_part
from manyviews.nano.stages import GRID_DAMPING, GRID_HOLDING

SHAPE = (96, 112)
VIEWS = 2


def speckle(rng):
    fine, coarse = (
        np.stack([gaussian_filter(rng.standard_normal(SHAPE), width) * width for _ in range(VIEWS)])
        for width in (1.8, 5.0)
    )
    return (fine + coarse).astype(np.float32)


def smooth_flow(rng, largest, width=22.0):
    flow = gaussian_filter(rng.standard_normal((VIEWS, 2, *SHAPE)), (0, 0, width, width))
    return (largest * flow / np.abs(flow).max(axis=(2, 3), keepdims=True)).astype(np.float32)


def error(found, truth):
    return float(np.sqrt(((found - truth) ** 2).sum(axis=1))[:, 8:-8, 8:-8].mean())


def annealed(engine, data, model, windows):
    flow = np.zeros((VIEWS, 2, *SHAPE), np.float32)
    for window in windows:
        flow = engine.find(data, model, flow, window)
    return flow


@pytest.mark.parametrize(("name", "most"), [("farneback", 0.25), ("dis", 0.35), ("grid", 0.05)])
def test_a_smooth_flow_is_found(rng, name, most):
    model, truth = speckle(rng), smooth_flow(rng, 3.0)
    data = pull_back(model, truth)
    flow = annealed(make_engine(name), data, model, (64, 32, 24, 24))
    assert error(flow, truth) < most < error(0 * truth, truth)


def test_a_flow_that_moves_mass_is_found(rng):
    fade = np.minimum(1, 4 * np.hanning(SHAPE[0])[:, None] * np.hanning(SHAPE[1]))
    model, truth = ((4.0 + speckle(rng)) * fade).astype(np.float32), smooth_flow(rng, 3.0)
    data, windows = push_forward(model, truth), (64, 64, 64, 32, 32, 24, 24)
    engine = make_engine("grid")
    within = np.s_[..., 16:-16, 16:-16]
    found, reading = (annealed(kind, data, model, windows) for kind in (KeepingMass(engine), engine))
    errors = [error(flow[within], truth[within]) for flow in (found, inverse_flow(reading))]
    assert errors[0] < 0.25
    assert errors[0] < 0.5 * errors[1]


def test_the_grid_beats_the_window_in_noise(rng):
    model, truth = speckle(rng), smooth_flow(rng, 3.0)
    data = pull_back(model, truth)
    data += (0.3 * data.std() * rng.standard_normal(data.shape)).astype(np.float32)
    windows = (64, 32, 32)
    grid, farneback = (
        error(annealed(engine, data, model, windows), truth) for engine in (Grid(), Farneback())
    )
    assert grid < 0.5 * farneback


def test_coarse_grids_keep_what_was_finer(rng):
    """Binned images: a call with a large window moves as a whole what the last one had found in detail."""
    model, truth = speckle(rng), smooth_flow(rng, 2.0)
    shifted = (truth + 0.5).astype(np.float32)
    found = Grid(steps=3).find(pull_back(model, shifted), model, truth, 128)
    assert error(found, shifted) < 0.2 < error(truth, shifted)


def test_the_grid_holds_views_to_their_neighbours_but_for_jumps(rng):
    """One view of noise only, among views of the same motion: it gets their shape, and its own shift."""
    truth = np.repeat(smooth_flow(rng, 3.0)[:1], 9, axis=0)
    model = np.repeat(speckle(rng)[:1], 9, axis=0)
    data = pull_back(model, truth)
    noise = (10 * data.std() * rng.standard_normal((12, *SHAPE))).astype(np.float32)

    def shape_error(engine):
        """Mean over draws of the noise: what is fitted to it alone depends on the last bit."""
        return np.mean([_shape_error(engine, data, model, truth, one) for one in noise])

    assert shape_error(Grid(holding=0.3, time_width=2.0)) < 0.5 * shape_error(Grid())


def _shape_error(engine, data, model, truth, noise):
    data, flow = data.copy(), np.zeros_like(truth)
    data[4] += noise
    for window in (64, 64, 48, 48, 48):
        flow = engine.find(data, model, flow, window)
    apart = flow[4] - truth[4]
    return float(np.sqrt(np.mean((apart - apart.mean(axis=(1, 2), keepdims=True)) ** 2)))


def test_shifts_and_rotations_of_many_pixels_are_found(rng):
    model = speckle(rng)
    true = np.array([[17.6, -9.3, 0.0], [-4.2, 12.5, 0.0]])
    data = pull_back(model, rigid_flow(true, *SHAPE))
    coarse = coarse_shifts(data, model)
    assert np.abs(coarse - true)[:, :2].max() < 1.0
    np.testing.assert_allclose(Shifts().motions(data, model)[:, :2], true[:, :2], atol=0.02)
    turned = np.array([[1.0, 2.0, 0.02], [0.5, -1.0, -0.015]])
    data = pull_back(model, rigid_flow(turned, *SHAPE))
    flow = Shifts(rotation=True, steps=15).find(data, model, np.zeros((VIEWS, 2, *SHAPE), np.float32), 1.0)
    assert error(flow, rigid_flow(turned, *SHAPE)) < 0.02
    np.testing.assert_allclose(rigid_part(flow), turned, atol=0.01)


@pytest.mark.parametrize("name", ENGINES)
def test_what_is_aligned_stays_and_empty_views_move_nowhere(rng, name):
    model = speckle(rng)
    model[1] = 0
    zero = np.zeros((VIEWS, 2, *SHAPE), np.float32)
    found = make_engine(name).find(model, model, zero, 24)
    assert found.dtype == np.float32
    assert np.sqrt(np.mean(found[0] ** 2)) < 0.02
    np.testing.assert_array_equal(found[1], 0)
    np.testing.assert_array_equal(zero, 0)


@pytest.mark.parametrize("name", ENGINES)
def test_no_bit_depends_on_threads(rng, name):
    model, truth = speckle(rng), smooth_flow(rng, 1.0)
    data, made, before = pull_back(model, truth), [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made.append(make_engine(name).find(data, model, 0 * truth, 32))
    torch.set_num_threads(before)
    np.testing.assert_array_equal(*made)


def test_flows_are_kept_only_where_the_misfit_falls(rng):
    model, truth = speckle(rng), smooth_flow(rng, 3.0)
    data = pull_back(model, truth)
    new = truth.copy()
    new[1] = np.nan
    kept = accept_flow(data, model, 0.5 * truth, new)
    assert kept.taken.tolist() == [True, False]
    np.testing.assert_array_equal(kept.flow[0], truth[0])
    np.testing.assert_array_equal(kept.flow[1], 0.5 * truth[1])
    expected = ((data[1] - pull_back(model, 0.5 * truth)[1]).astype(float) ** 2).sum()
    np.testing.assert_allclose(kept.misfit, [0, expected], rtol=1e-4, atol=1e-8)
    assert not accept_flow(data, model, truth, 0.5 * truth).taken.any()


def test_an_inverse_flow_undoes_and_volumes_change_as_they_should(rng):
    flow = smooth_flow(rng, 3.0)
    other = inverse_flow(flow)
    there = np.stack([pull_back(np.ascontiguousarray(flow[:, part]), other, 1) for part in range(2)], axis=1)
    np.testing.assert_allclose((other + there)[:, :, 6:-6, 6:-6], 0, atol=1e-3)
    across = np.zeros((1, 2, 5, 6), np.float32)
    across[0, 0], across[0, 1] = 0.5 * np.arange(6), -0.25 * np.arange(5)[:, None]
    np.testing.assert_allclose(volume_change(across), 1.5 * 0.75, rtol=1e-6)


def test_rare_levels_do_not_set_the_range(rng):
    image = rng.random((100, 100)).astype(np.float32)
    image[0, 0], image[5, 5] = 50, -50
    low, high = grey_range(image)
    assert -0.2 < low < 0.1
    assert 0.9 < high < 1.2
    grey = to_grey(image, low, high)
    assert (grey.min(), grey.max()) == (0, 255)
    assert grey_range(np.zeros((4, 4), np.float32)) == (0, 0)
    assert grey_range(np.full((4, 4), np.nan, np.float32)) == (0, 0)


def test_an_engine_of_no_name_and_a_preset(rng):
    with pytest.raises(
        InputError, match="no flow engine is named 'lk'; take one of farneback, dis, grid, shifts"
    ):
        make_engine("lk")
    model, truth = speckle(rng), smooth_flow(rng, 2.0)
    found = annealed(Dis("medium"), pull_back(model, truth), model, (8, 8))
    assert error(found, truth) < 0.3


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("window", [512, 256, 64])
def test_splines_find_a_shift_of_few_rows(rng, rows, window):
    """Few rows of a wide detector: the binning of a large window must leave one."""
    line = gaussian_filter1d(rng.standard_normal((2, 640)), 6.0, axis=1)
    model = np.repeat(line[:, None], rows, axis=1).astype(np.float32)
    truth = np.zeros((2, 2, rows, 640), np.float32)
    truth[:, 0] = 1.5
    data, found = pull_back(model, truth), np.zeros_like(truth)
    for _ in range(6):
        found = Grid(steps=3, damping=GRID_DAMPING, holding=GRID_HOLDING).find(data, model, found, window)
    assert found.shape == truth.shape
    assert np.abs(found - truth)[:, :, :, 40:-40].max() < 0.1
