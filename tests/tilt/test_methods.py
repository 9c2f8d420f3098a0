from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.slab_projector import SlabProjector
from manyviews.solvers.conjugate_gradient import ConjugateGradient
from manyviews.solvers.consensus import Consensus
from manyviews.solvers.driver import iterate
from manyviews.solvers.single_pass import DirectCombine, WeightedBackProjection
from manyviews.solvers.sirt import Landweber, NormalisedSirt
from manyviews.tilt.methods import make_solver
from manyviews.tilt.options import METHODS, ReconstructOptions
from manyviews.tilt.plan import resolve_plan
from manyviews.tilt.solve.problem import TiltProblem

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (8, 20, 20)


def gaussian(shape, sigma, amplitude=1.0):
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    return torch.from_numpy((amplitude * np.exp(-(z**2 + y**2 + x**2) / (2 * sigma**2))).astype(np.float32))


def problem_of(geometry, truth, noise=0.0, **options):
    """A problem with simulated images, and what `settle` looks at."""
    projector = SlabProjector(geometry, tuple(truth.shape), tuple(truth.shape[1:]))
    images = projector.forward(truth)
    generator = torch.Generator().manual_seed(0)
    images += noise * float(images.std()) * torch.randn(images.shape, generator=generator)
    series = SimpleNamespace(field_shape=tuple(truth.shape[1:]), thickness=None)
    source = SimpleNamespace(
        shape=tuple(images.shape), pixel_size=1.0, binned_geometry=geometry, series=series
    )
    problem = TiltProblem(
        projector, lambda views: images[torch.from_numpy(views)], np.ones(len(geometry)), **options
    )
    return problem, source


@pytest.fixture(scope="module")
def series():
    """Three axes of seven tilts, a small object, some noise."""
    geometry = TiltGeometry.concatenate(
        [
            TiltGeometry.from_tilt_axis(np.linspace(-60, 60, 7), axis, series=k)
            for k, axis in enumerate((0.0, 90.0, 45.0))
        ]
    )
    truth = gaussian(SHAPE, 2.0)
    truth[3, 8:10, 12:15] += 0.5
    return problem_of(geometry, truth, noise=0.1)


def solver_of(series, **options):
    problem, source = series
    problem = replace(
        problem, damping=options.get("damping", 0.0), convolve=options.get("normal", "convolution") != "exact"
    )
    # solvers take the damping from the problem; on the command line not every method has it
    asked = {name: value for name, value in options.items() if name != "damping"}
    plan = resolve_plan(ReconstructOptions(**{"thickness": problem.volume_shape[0], **asked}), source)
    return make_solver(problem, plan)


def run(series, iterations, **options):
    solver = solver_of(series, **options)
    return list(iterate(solver, solver.init(), iterations))


def relative(found, expected):
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


def energy(series, volume):
    problem, _ = series
    return problem.least_squares().exact_gradient(volume)[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "wbp"}, WeightedBackProjection),
        ({"method": "cg"}, ConjugateGradient),
        ({"method": "sirt"}, Landweber),
        ({"method": "sirt", "sirt_form": "normalised"}, NormalisedSirt),
        ({"method": "direct-combine"}, DirectCombine),
        ({"method": "wang2020"}, Consensus),
        ({"method": "consensus"}, Consensus),
    ],
)
def test_every_method_runs_and_fits_the_images(series, options, expected):
    solver = solver_of(series, **options)
    assert isinstance(solver, expected)
    start = solver.init()
    last = list(iterate(solver, start, 1 if options["method"] == "wbp" else 6))[-1]
    assert last.iterate.shape == SHAPE
    assert last.iterate.dtype == torch.float32
    assert last.measures()["data_passes"] >= 1.0
    if options["method"] != "wbp":  # a filter, which does not minimise anything
        assert energy(series, last.iterate) < 0.9 * energy(series, torch.zeros(SHAPE))
        assert last.measures()["objective"] < start.measures()["objective"]


def test_all_methods_are_here():
    from manyviews.tilt.methods import _MAKERS

    assert tuple(_MAKERS) == METHODS


@pytest.mark.parametrize("options", [{"subsets": 3}, {"subsets": 6, "overlap": 1}])
def test_consensus_reaches_the_least_squares_answer(series, options):
    """Damped as asked for, whatever the subsets: the dampings of their agents add up to it."""
    damped = {"damping": 0.3, "normal": "exact"}
    best = run(series, 60, method="cg", refresh=0, **damped)[-1].iterate
    found = run(series, 40, method="consensus", **damped, **options)[-1].iterate
    assert relative(found, best) < 2e-3


def test_consensus_makes_an_agent_of_every_subset_and_prior(series):
    solver = solver_of(
        series, method="consensus", subsets=4, non_negative=True, total_variation=0.1, smoothness=0.1
    )
    assert len(solver.maps) == 4 + 3
    assert len(solver_of(series, method="consensus", subsets=4).maps) == 4
    assert len(solver_of(series, method="wang2020", subsets=4).maps) == 4


def test_priors_of_consensus_do_what_they_are_for(series):
    plain = run(series, 8, method="consensus", subsets=3)[-1].iterate
    positive = run(series, 8, method="consensus", subsets=3, non_negative=True)[-1].iterate
    assert float(positive.min()) > 0.3 * float(plain.min())
    for prior in ("total_variation", "smoothness"):
        calmer = run(series, 8, method="consensus", subsets=3, **{prior: 2.0})[-1].iterate
        assert roughness(calmer) < 0.9 * roughness(plain)


def roughness(x):
    return float(sum(torch.diff(x, dim=axis).abs().sum() for axis in range(3)))


def test_sirt_without_negative_voxels(series):
    for form in ("landweber", "normalised"):
        last = run(series, 4, method="sirt", sirt_form=form, non_negative=True)[-1]
        assert float(last.iterate.min()) >= 0.0


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_direct_combine_of_one_subset_is_landweber(series, damping):
    options = {"relaxation": 0.8, "damping": damping, "normal": "exact"}
    combined = run(series, 5, method="direct-combine", subsets=1, **options)[-1]
    alone = run(series, 5, method="sirt", **options)[-1]
    assert relative(combined.iterate, alone.iterate) < 1e-5


@pytest.mark.parametrize("method", ["direct-combine", "wang2020", "consensus"])
@pytest.mark.parametrize("overlap", [0, 1])
def test_the_objective_in_the_record_is_the_exact_one(series, method, overlap):
    state = run(series, 3, method=method, normal="exact", overlap=overlap, subsets=3)[-1]
    assert state.objective == pytest.approx(0.5 * energy(series, state.iterate), rel=1e-3)


def test_cg_counts_and_corrects_as_asked(series):
    passes = [run(series, 4, method="cg", refresh=n)[-1].data_passes for n in (0, 2)]
    assert passes == [4.0, 6.0]
    corrected = run(series, 4, method="cg", refresh=2)[-1]
    assert corrected.objective == pytest.approx(0.5 * energy(series, corrected.iterate), rel=1e-4)


@pytest.mark.parametrize("axis", [0.0, 90.0])
def test_weighted_back_projection_keeps_amplitudes(axis):
    """A resolved Gaussian seen from all sides about one axis."""
    geometry = TiltGeometry.from_tilt_axis(np.arange(-89.0, 90.0, 2.0), axis)
    truth = gaussian((24, 28, 28), 2.5, amplitude=3.0)
    series = problem_of(geometry, truth)
    found = run(series, 1, method="wbp")[-1].iterate
    assert float(found[12, 14, 14]) == pytest.approx(3.0, rel=0.1)
    assert relative(found, truth) < 0.15


def test_weighted_back_projection_of_several_axes_weighs_them_together():
    """Twice the same axis gives the same volume as once, up to the floor of the weighting."""
    tilts = np.arange(-88.0, 90.0, 4.0)
    once = TiltGeometry.from_tilt_axis(tilts, 0.0)
    twice = TiltGeometry.concatenate([once, TiltGeometry.from_tilt_axis(tilts, 0.0, series=1)])
    truth = gaussian((16, 20, 20), 2.0)
    volumes = [run(problem_of(geometry, truth), 1, method="wbp")[-1].iterate for geometry in (once, twice)]
    assert relative(*volumes) < 0.1
