"""Weights of single pixels: in the least-squares problem, in every method, under ranks, and from a user."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.operators.slab_projector import SlabProjector
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld
from manyviews.simulate.specimens import specimen
from manyviews.tilt.methods import make_cg
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.pixels.beads import find_beads
from manyviews.tilt.pixels.find import Wanted, find_faults
from manyviews.tilt.pixels.quick import quick_volume
from manyviews.tilt.pixels.slab import find_slab
from manyviews.tilt.pixels.thickness import propose_thickness
from manyviews.tilt.pixels.weights import edge_weights
from manyviews.tilt.plan import resolve_plan
from manyviews.tilt.reconstruct import reconstruct
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import resolve_series
from manyviews.tilt.solve.problem import TiltProblem
from thread_world import run_ranks

pytestmark = pytest.mark.usefixtures("no_page")

PIXEL, SHAPE = 4.0, (20, 64, 64)
TILTS = np.arange(-60.0, 61.0, 6.0)
GEOMETRY = TiltGeometry.from_tilt_axis(TILTS)


def phantom(extent=1.0, depth=SHAPE[0], seed=3):
    return specimen("ellipsoids", (depth, *SHAPE[1:]), PIXEL, seed, lateral_extent=extent)


def raised(ellipsoids, pixels):
    return replace(ellipsoids, centre=ellipsoids.centre + np.array([0, 0, pixels * PIXEL]))


def stored(folder, images, name="a.mrc"):
    write_mrc(folder / name, images.astype(np.float32), PIXEL, is_volume=False, overwrite=True)
    (folder / "a.tlt").write_text("\n".join(map(str, TILTS)))
    return SeriesOptions(stacks=(folder / name,), tilt_angles=(folder / "a.tlt",), axis_angle=(0.0,))


def noisy(images, rng, noise=0.1):
    return images + noise * images[len(images) // 2].std() * rng.standard_normal(images.shape)


def extended(rng, **more):
    return noisy(phantom(2.5, **more).project(GEOMETRY, SHAPE[1:], PIXEL), rng)


OPTIONS = ReconstructOptions(thickness=SHAPE[0], device="cpu")


def run(given, folder, **options):
    result = reconstruct(
        given, replace(OPTIONS, **options), RunOptions(folder / "run", quiet=True, overwrite=True)
    )
    return read_mrc(result.run_folder / "volume.mrc")[0], result


def error(volume, truth):
    return float(np.linalg.norm(volume - truth) / np.linalg.norm(truth))


class Given:
    """Weights that a test has made."""

    def __init__(self, weights):
        self.kept = torch.from_numpy(weights)

    def weights(self, views):
        return self.kept[views]

    def first_guess(self, views, images):
        return images * self.kept[views]

    def select(self, views):
        return Given(self.kept.numpy()[views])


@pytest.fixture
def masked(rng):
    """A tiny problem, a third of whose pixels do not count and hold nonsense."""
    geometry = TiltGeometry.from_tilt_axis(np.linspace(-60, 60, 15))
    shape, image = (6, 12, 14), (12, 14)
    projector = SlabProjector(geometry, shape, image)
    truth = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    weights = (rng.random((15, *image)) > 0.33).astype(np.float32)
    data = projector.forward(truth)
    data[torch.from_numpy(weights) == 0] = 100.0
    problem = TiltProblem(
        projector, lambda views: data[views], np.linspace(0.5, 1.5, 15), damping=0.02, pixels=Given(weights)
    )
    return problem, projector, data, weights


def test_gradient_and_energy_count_pixels_by_their_weight(masked, rng):
    problem, projector, data, weights = masked
    x = torch.from_numpy(rng.standard_normal(projector.domain).astype(np.float32))
    whole = torch.from_numpy(weights * problem.weights[:, None, None].astype(np.float32))
    left = data - projector.forward(x)
    gradient, energy = problem.exact_gradient(x)
    torch.testing.assert_close(gradient, projector.adjoint(whole * left), rtol=1e-4, atol=1e-3)
    assert energy == pytest.approx(float((whole * left**2).sum()), rel=1e-4)
    target, energy = problem.back_projection()
    torch.testing.assert_close(target, projector.adjoint(whole * data), rtol=1e-4, atol=1e-3)
    assert energy == pytest.approx(float((whole * data**2).sum()), rel=1e-4)
    views = np.array([3, 1, 8])
    torch.testing.assert_close(
        problem.select(views).pixels.weights(np.array([2])), torch.from_numpy(weights[8:9])
    )


def test_conjugate_gradients_come_to_the_least_squares_of_the_pixels_that_count(masked):
    problem = masked[0]
    solver = make_cg(problem, 3)
    state, energies = solver.init(), []
    for _ in range(240):
        state = solver.step(state)
        if state.iteration % 3 == 0:
            energies.append(state.objective + 0.5 * problem.damping * 6 * float((state.iterate**2).sum()))
    assert (np.diff(energies) <= 1e-4 * energies[0]).all()
    gradient, _ = problem.exact_gradient(state.iterate)
    remaining = gradient - problem.damping * problem.one_view * state.iterate
    assert float(remaining.norm() / problem.back_projection()[0].norm()) < 0.02


def test_edges_count_from_half_of_a_ray_on():
    np.testing.assert_allclose(edge_weights(np.array([0, 0.4, 0.5, 0.75, 1], np.float32)), [0, 0, 0, 0.5, 1])


@pytest.mark.parametrize("method", ["cg", "admm", "consensus", "sirt", "wbp"])
def test_what_lies_beside_the_volume_spoils_no_method(method, rng, tmp_path):
    given = stored(tmp_path, extended(rng))
    truth = phantom(2.5).density(SHAPE, PIXEL)
    weighed, result = run(given, tmp_path, method=method)
    assert (result.run_folder / "pixels.csv").exists()
    assert "goes on beside the volume" in (result.run_folder / "log.txt").read_text()
    counted, _ = run(given, tmp_path, method=method, edges="keep")
    assert error(weighed, truth) < 0.95 * error(counted, truth)


def test_where_nothing_lies_beside_it_nothing_changes(rng, tmp_path):
    given = stored(tmp_path, noisy(phantom().project(GEOMETRY, SHAPE[1:], PIXEL), rng))
    auto, result = run(given, tmp_path)
    assert "there is nothing beside the volume" in (result.run_folder / "log.txt").read_text()
    plain, _ = run(given, tmp_path, edges="keep", mask_detector="never", mask_borders="never")
    np.testing.assert_array_equal(auto, plain)


def test_bad_lines_and_borders_are_told_and_do_no_harm(rng, tmp_path):
    good = noisy(phantom().project(GEOMETRY, SHAPE[1:], PIXEL), rng)
    bad = good.copy()
    bad[:, :, 30] += 3 * good.std()
    bad[4, 50] -= 5 * good.std()
    bad[8, :, :6] = 0.7 * good.max()
    truth = phantom().density(SHAPE, PIXEL)
    masked, result = run(stored(tmp_path, bad), tmp_path)
    log = (result.run_folder / "log.txt").read_text()
    assert "stack 1: bad in all images, given no weight: column 31 of the detector" in log
    assert "stack 1: 1 bad line in section 5: given no weight" in log
    assert "borders of one grey level" in log
    counted, _ = run(stored(tmp_path, bad), tmp_path, mask_detector="never", mask_borders="never")
    best, _ = run(stored(tmp_path, good), tmp_path)
    assert error(masked, truth) < 1.05 * error(best, truth)
    assert error(counted, truth) > 1.5 * error(best, truth)


def test_beads_are_cut_out_on_request(rng, tmp_path):
    images = noisy(phantom().project(GEOMETRY, SHAPE[1:], PIXEL), rng)
    centres = np.array([[10.0, 5, 2], [-12, 3, -3], [4, -14, 0]]) * PIXEL
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]] - SHAPE[1] // 2
    gold = np.zeros_like(images)
    for view, places in enumerate(GEOMETRY.project(centres) / PIXEL):
        for u, v in places:
            gold[view] += 60 * np.sqrt(np.maximum(9 - (x - u) ** 2 - (y - v) ** 2, 0))
    given = stored(tmp_path, images + gold)
    source = ImageSource(resolve_series(given))
    plan = resolve_plan(OPTIONS, source)
    found = find_beads(quick_volume(source, plan, SHAPE[0], 512, edges=False), None)
    assert len(found.centres) == 3
    order = np.argsort(found.centres[:, 0])
    np.testing.assert_allclose(found.centres[order], centres[np.argsort(centres[:, 0])], atol=PIXEL)
    assert 2.5 * PIXEL < found.radius < 5 * PIXEL
    assert find_beads(quick_volume(ImageSource(resolve_series(stored(tmp_path, images, "b.mrc"))), plan,
                                   SHAPE[0], 512, edges=False), None) is None  # fmt: skip
    masked, result = run(given, tmp_path, mask_beads=True)
    assert "3 gold beads of" in (result.run_folder / "log.txt").read_text()
    truth = phantom().density(SHAPE, PIXEL)
    best, _ = run(stored(tmp_path, images, "b.mrc"), tmp_path)
    counted, _ = run(given, tmp_path)
    assert error(masked, truth) < 1.3 * error(best, truth) < 0.3 * error(counted, truth)


def test_a_users_weights_count_and_are_part_of_the_record(rng, tmp_path):
    images = noisy(phantom().project(GEOMETRY, SHAPE[1:], PIXEL), rng)
    weights = np.ones_like(images)
    spoilt = images.copy()
    spoilt[5:9, 20:40, 20:40] += 20 * images.std()
    weights[5:9, 20:40, 20:40] = 0
    write_mrc(tmp_path / "w.mrc", weights.astype(np.float32), PIXEL, is_volume=False)
    given = stored(tmp_path, spoilt)
    truth = phantom().density(SHAPE, PIXEL)
    weighed, result = run(given, tmp_path, weights=(tmp_path / "w.mrc",))
    assert "w.mrc" in (result.run_folder / "run.toml").read_text()
    best, _ = run(stored(tmp_path, images, "b.mrc"), tmp_path)
    assert error(weighed, truth) < 1.1 * error(best, truth)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (np.ones((5, *SHAPE[1:])), "holds 5 sections of 64 x 64 pixels and the images"),
        (np.full((len(TILTS), *SHAPE[1:]), 2.0), "weights go from 2 to 2"),
        (np.full((len(TILTS), *SHAPE[1:]), -1.0), "give weights from 0"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights, says, rng, tmp_path):
    write_mrc(tmp_path / "w.mrc", weights.astype(np.float32), PIXEL, is_volume=False)
    given = stored(tmp_path, extended(rng))
    with pytest.raises(InputError, match=says):
        run(given, tmp_path, weights=(tmp_path / "w.mrc",))
    with pytest.raises(InputError, match="2 stacks of weights were given for 1"):
        run(given, tmp_path, weights=(tmp_path / "w.mrc",) * 2)


def test_ranks_find_the_same(rng, tmp_path):
    bad = extended(rng)
    bad[:, :, 30] += 3 * bad.std()
    bad[4, 50] -= 5 * bad.std()
    wanted = Wanted("auto", True, True, "none", SHAPE)

    def found(world):
        return find_faults(ImageSource(resolve_series(stored_once)), wanted, world)

    stored_once = stored(tmp_path, bad)
    alone = found(SingleWorld())
    for other in run_ranks(3, found):
        assert other.always == alone.always == {0: ((), (30,))}
        assert {view: (f.rows, f.columns) for view, f in other.faults.items()} == {
            view: (f.rows, f.columns) for view, f in alone.faults.items()
        }
        assert other.outside.power_ratio == pytest.approx(alone.outside.power_ratio)


def test_the_thickness_is_proposed_with_the_middle(rng, tmp_path):
    thick, up = 20, 5
    moved = raised(phantom(depth=thick), up)
    given = stored(tmp_path, noisy(moved.project(GEOMETRY, SHAPE[1:], PIXEL), rng))
    proposal = propose_thickness(resolve_series(given), replace(OPTIONS, thickness=0), SingleWorld())
    truth = find_slab(moved.density((64, *SHAPE[1:]), PIXEL))
    assert proposal.slab.thickness == pytest.approx(truth.thickness, rel=0.2)
    assert proposal.height == pytest.approx(truth.height, abs=1.0)
    assert proposal.thickness > truth.thickness
    volume, result = run(given, tmp_path, thickness=0)
    assert len(volume) == proposal.thickness
    assert "the images show a specimen" in (result.run_folder / "log.txt").read_text()
    shape = volume.shape
    centred = raised(phantom(depth=thick), up - proposal.height)
    assert error(volume, centred.density(shape, PIXEL)) < 0.7


def test_a_slab_that_is_tilted_is_told(rng):
    z, y, x = np.indices((48, 96, 96)) - np.array([24, 48, 48])[:, None, None, None]
    slab = np.abs(z - 0.1 * x + 0.05 * y - 2) < 8
    volume = (slab * rng.standard_normal(z.shape) + 0.1 * rng.standard_normal(z.shape)).astype(np.float32)
    found = find_slab(volume)
    assert found.height == pytest.approx(2, abs=1)
    assert found.slope_x == pytest.approx(0.1, abs=0.03)
    assert found.slope_y == pytest.approx(-0.05, abs=0.03)
    assert found.tilt_degrees == pytest.approx(6.4, abs=1.5)


def test_noise_shows_no_slab(rng):
    assert find_slab(rng.standard_normal((32, 48, 48)).astype(np.float32)) is None
