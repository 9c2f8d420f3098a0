"""Condition numbers of particles in known poses: the job, its page, the spectrum against a dense matrix."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from known_pose_example import dense_hessian, known_poses

from manyviews.errors import InputError
from manyviews.io.relion_particles import read_relion_particles
from manyviews.options import RunOptions
from manyviews.particles import condition as job
from manyviews.particles.condition import condition, resolve_condition
from manyviews.particles.fixed_poses.condition_report import condition_figure
from manyviews.particles.fixed_poses.diagonals import fixed_diagonal
from manyviews.particles.fixed_poses.spectrum import PRECONDITIONERS, spectrum
from manyviews.particles.options import ConditionOptions, ParticleOptions, SimulateOptions
from manyviews.particles.simulate import simulate

pytestmark = pytest.mark.usefixtures("blank_pictures")

BOX, PIXEL = 20, 8.0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("particles")
    simulate(SimulateOptions(box=BOX, pixel_size=PIXEL, count=120, snr=0.5, seed=4), folder)
    return folder


@pytest.mark.parametrize("name", ["none", "exact", "row-sums"])
def test_the_spectrum_is_that_of_the_dense_matrix(name):
    problem = known_poses(60, radius=2, damping=1e-3)
    dense = dense_hessian(problem)
    diagonal = fixed_diagonal(problem, name, torch.zeros(len(dense), dtype=torch.float64))
    if diagonal is not None:
        root = np.sqrt(diagonal.numpy())
        dense = dense / root / root[:, None]
    values = np.linalg.eigvalsh(dense)
    found = spectrum(problem, name, products=200)
    assert found.converged
    assert found.largest == pytest.approx(values[-1], rel=0.02)
    assert found.smallest == pytest.approx(values[0], rel=0.03)
    assert found.condition == found.largest / found.smallest
    assert found.smallest >= values[0] * (1 - 1e-6)


def test_row_sums_bound_the_largest_eigenvalue_by_one():
    assert spectrum(known_poses(60, radius=2), "row-sums").largest <= 1 + 1e-6


def test_what_no_image_sees_has_the_damping():
    problem = known_poses(1, radius=4, damping=1e-6)
    found = spectrum(problem, "none")
    assert found.unseen > 0
    assert found.smallest == problem.damping
    assert found.condition == found.largest / problem.damping


def test_few_products_give_a_bound_and_say_so():
    problem = known_poses(300, radius=3, damping=1e-6)
    few, many = spectrum(problem, "none", products=2), spectrum(problem, "none", products=300)
    assert not few.converged
    assert few.condition <= many.condition


def test_the_figure_shows_every_number():
    names = [name for name in PRECONDITIONERS for _ in range(2)]
    rows = [
        {"preconditioner": name, "converged": "no" if name == "none" else "yes", "resolution_angstrom": "9"}
        for name in names
    ]
    numbers = np.array([(4.0 + number % 2, 10.0 + number) for number in range(len(rows))])
    axes = condition_figure(rows, numbers).axes[0]
    shown = [tuple(line.get_xydata()[0]) for line in axes.lines if len(line.get_xydata()) == 1]
    assert shown == [tuple(pair) for pair in numbers.tolist()]
    assert axes.lines[1].get_markerfacecolor() == "white"
    assert axes.get_ylim()[1] > 17


@pytest.mark.pictures
@pytest.mark.usefixtures("one_thread")
def test_from_a_table_to_a_run(data, tmp_path, monkeypatch):
    given = ConditionOptions(threads=1, resolutions=3, resolution=20.0, count=100, products=40, probes=10)
    arguments = ParticleOptions(data / "truth.star"), given, RunOptions(tmp_path / "run", quiet=True)
    result = condition(*arguments)
    kept = json.loads((tmp_path / "run/condition.json").read_text())
    assert [(one["radius"], one["preconditioner"]) for one in kept] == [
        (radius, name) for radius in (4, 6, 8) for name in PRECONDITIONERS
    ]
    assert result.summary["particles"] == 100
    finest = {one["preconditioner"]: one["condition_number"] for one in kept[-4:]}
    assert finest["exact"] < finest["none"]
    assert result.summary["condition_number_row_sums"] == pytest.approx(finest["row-sums"], rel=1e-3)
    page = result.report.read_text()
    assert "<h2>Condition numbers</h2>" in page
    assert "without a preconditioner" in page
    assert (tmp_path / "run/figures/condition.png").exists()
    monkeypatch.setattr(job, "own_images", None)  # a finished run reads nothing
    assert condition(*arguments).summary == result.summary


def test_the_plan_follows_the_table(data):
    table = read_relion_particles(data / "truth.star")
    plan = resolve_condition(ConditionOptions(), table, BOX)
    assert (plan.radius, plan.radii, plan.diameter) == (9, (4, 5, 6, 8, 9), 128.0)
    assert resolve_condition(ConditionOptions(resolutions=1), table, BOX).radii == (9,)
    with pytest.raises(InputError, match="have no poses"):
        resolve_condition(ConditionOptions(), replace(table, angles=None), BOX)
    with pytest.raises(InputError, match="run on the CPU"):
        resolve_condition(ConditionOptions(device="cuda"), table, BOX)
