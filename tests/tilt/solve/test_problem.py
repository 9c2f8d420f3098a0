import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.slab_projector import SlabProjector
from manyviews.tilt.solve import problem as problem_module
from manyviews.tilt.solve.problem import TiltProblem, largest
from manyviews.tilt.solve.subsets import Subset, make_subsets

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (8, 20, 20)
TILTS = np.linspace(-60.0, 60.0, 7)
VIEWS = 21


@pytest.fixture(scope="module")
def projector():
    geometry = TiltGeometry.concatenate(
        [TiltGeometry.from_tilt_axis(TILTS, axis, series=k) for k, axis in enumerate((0.0, 90.0, 45.0))]
    )
    return SlabProjector(geometry, SHAPE, (20, 20))


@pytest.fixture(scope="module")
def images():
    return torch.randn(VIEWS, 20, 20, generator=torch.Generator().manual_seed(0))


def random_volume(seed=1):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def make_problem(projector, images, **options):
    weights = options.pop("weights", np.linspace(0.5, 1.5, VIEWS))
    return TiltProblem(projector, lambda views: images[torch.from_numpy(views)], weights, **options)


def column(weights):
    return torch.from_numpy(weights).float().view(-1, 1, 1)


def relative(found, expected):
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


def test_target_and_energy_follow_their_formulas(projector, images):
    problem = make_problem(projector, images)
    weighted = column(problem.weights) * images
    target, energy = problem.back_projection()
    assert relative(target, projector.adjoint(weighted)) < 1e-6
    assert energy == pytest.approx(float((weighted * images).double().sum()), rel=1e-6)
    least_squares = problem.least_squares()
    assert torch.equal(least_squares.target, target)
    assert least_squares.data_energy == energy


def test_the_images_are_left_alone(projector, images):
    kept = images.clone()
    problem = make_problem(projector, images)
    problem.least_squares().exact_gradient(random_volume())
    problem.normalised()[0](random_volume())
    assert torch.equal(images, kept)


def test_exact_gradient_follows_its_formula(projector, images):
    problem = make_problem(projector, images)
    x = random_volume()
    residual = images - projector.forward(x)
    weighted = column(problem.weights) * residual
    gradient, energy = problem.least_squares().exact_gradient(x)
    assert relative(gradient, projector.adjoint(weighted)) < 1e-5
    assert energy == pytest.approx(float((weighted * residual).double().sum()), rel=1e-5)


def test_weighted_normal_is_projecting_there_and_back(projector, images):
    weights = np.linspace(0.5, 1.5, VIEWS)
    x = random_volume()
    kept = x.clone()
    expected = projector.adjoint(column(weights) * projector.forward(x))
    assert relative(make_problem(projector, images, weights=weights).weighted_normal(x), expected) < 1e-5
    assert torch.equal(x, kept)


def test_exact_objective_is_the_residual_energy(projector, images):
    problem = make_problem(projector, images, convolve=False)
    least_squares = problem.least_squares()
    x = 0.1 * random_volume()
    _, energy = least_squares.exact_gradient(x)
    assert least_squares.objective(x, least_squares.normal(x)) == pytest.approx(0.5 * energy, rel=1e-4)


def interior():
    """A smooth volume away from the sides, where detector edges do not matter."""
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in SHAPE), indexing="ij")
    blob = np.exp(-((z - 0.5) ** 2 + (y + 1) ** 2 + (x - 2) ** 2) / (2 * 1.5**2))
    return torch.from_numpy(blob.astype(np.float32))


def test_convolution_is_close_to_the_exact_normal_operator(projector, images):
    quick = make_problem(projector, images).least_squares()
    exact = make_problem(projector, images, convolve=False).least_squares()
    x = interior()
    assert relative(quick.normal(x), exact.normal(x)) < 0.05
    assert relative(quick.normal(x), exact.normal(x)) > 0.0


@pytest.mark.parametrize("convolve", [True, False])
def test_lipschitz_bounds_the_largest_eigenvalue(projector, images, convolve):
    least_squares = make_problem(projector, images, convolve=convolve).least_squares()
    x = random_volume().abs()
    for _ in range(15):
        x = least_squares.normal(x)
        largest_found = float(torch.linalg.vector_norm(x))
        x = x / largest_found
    assert largest_found < least_squares.lipschitz < 3.0 * largest_found


def test_damping_is_in_units_of_one_view(projector, images):
    problem = make_problem(projector, images, damping=0.25)
    assert problem.one_view == 8.0
    assert problem.least_squares().damping == 2.0
    one = SlabProjector(TiltGeometry.from_tilt_axis([0.0]), SHAPE, (20, 20))
    seen = make_problem(one, images, weights=np.ones(1)).weighted_normal(torch.ones(SHAPE))
    assert seen[:, 5:-5, 5:-5].numpy() == pytest.approx(problem.one_view, rel=1e-3)


def test_a_kernel_that_is_there_is_used(projector, images):
    problem = make_problem(projector, images)
    kernel = make_problem(projector, images, weights=2.0 * problem.weights).kernel()
    x = random_volume()
    assert relative(problem.least_squares(kernel).normal(x), 2.0 * problem.least_squares().normal(x)) < 1e-5
    assert largest(kernel) == pytest.approx(2.0 * largest(problem.kernel()), rel=1e-5)


def test_normalised_follows_its_formulas(projector, images):
    """Where rays and voxels carry more than a trifle; elsewhere the scales are zero."""
    problem = make_problem(projector, images, weights=np.ones(VIEWS))
    gradient, columns, energy = problem.normalised()
    rows_sum = projector.forward(torch.ones(SHAPE))
    columns_sum = projector.adjoint(torch.ones(projector.range))
    rows = torch.where(rows_sum > 1e-3 * rows_sum.max(), 1.0 / rows_sum, 0.0)
    expected_columns = torch.where(columns_sum > 1e-3 * columns_sum.max(), 1.0 / columns_sum, 0.0)
    assert relative(columns, expected_columns) < 1e-5
    assert energy == pytest.approx(float((images.double() ** 2).sum()))
    x = random_volume()
    residual = images - projector.forward(x)
    found, residual_energy = gradient(x)
    assert torch.isfinite(rows).all()
    assert relative(found, projector.adjoint(rows * residual)) < 1e-4
    assert residual_energy == pytest.approx(float((residual.double() ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize("weighted", [True, False])
def test_a_part_has_its_own_views_and_weights(projector, images, weighted):
    problem = make_problem(projector, images)
    views = np.array([16, 3, 9])
    subset = Subset(views, np.array([1.0, 0.5, 0.5]))
    part = problem.part(subset, weighted=weighted)
    expected = problem.weights[views] * (subset.weights if weighted else 1.0)
    assert np.array_equal(part.weights, expected)
    assert torch.equal(part.read(np.array([2, 0])), images[[9, 16]])
    assert np.array_equal(part.projector.geometry.matrices, projector.geometry.matrices[views])
    x = random_volume()
    images_of_part = column(expected) * (images[views] - part.projector.forward(x))
    gradient, _ = part.least_squares().exact_gradient(x)
    assert relative(gradient, part.projector.adjoint(images_of_part)) < 1e-5


def test_a_part_of_few_views_is_projected_directly(projector, images, monkeypatch):
    problem = make_problem(projector, images)
    subset = Subset(np.arange(7), np.ones(7))
    x = random_volume()
    assert not problem.part(subset, weighted=True).convolve
    direct = problem.part(subset, weighted=True).least_squares().normal(x)
    few = make_problem(projector.select(np.arange(7)), images, weights=problem.weights[:7])
    exact = few.weighted_normal(x)
    assert torch.equal(direct, exact)
    monkeypatch.setattr(problem_module, "VIEWS_PER_CONVOLUTION", 0.5)
    assert problem.part(subset, weighted=True).convolve
    assert not torch.equal(problem.part(subset, weighted=True).least_squares().normal(x), exact)


def test_a_part_of_an_exact_problem_is_exact(projector, images, monkeypatch):
    monkeypatch.setattr(problem_module, "VIEWS_PER_CONVOLUTION", 0)
    problem = make_problem(projector, images, convolve=False)
    assert not problem.part(Subset(np.arange(7), np.ones(7)), weighted=True).convolve


@pytest.mark.parametrize("overlap", [0, 2])
def test_weighted_parts_add_up_to_the_whole(projector, images, overlap):
    """Targets, energies, normal operators and the damping."""
    problem = make_problem(projector, images, damping=0.5, convolve=False)
    whole = problem.least_squares()
    subsets = make_subsets(projector.geometry, 5, overlap, "adjacent")
    parts = [problem.part(subset, weighted=True).least_squares() for subset in subsets]
    x = random_volume()
    assert relative(sum(part.target for part in parts), whole.target) < 1e-5
    assert relative(sum(part.hessian(x) for part in parts), whole.hessian(x)) < 1e-5
    assert sum(part.data_energy for part in parts) == pytest.approx(whole.data_energy, rel=1e-5)
    assert sum(part.damping for part in parts) == pytest.approx(whole.damping)


def test_unweighted_parts_are_problems_in_their_own_right(projector, images):
    problem = make_problem(projector, images, damping=0.5)
    for subset in make_subsets(projector.geometry, 3, 0, "adjacent"):
        assert problem.part(subset, weighted=False).damping == 0.5
