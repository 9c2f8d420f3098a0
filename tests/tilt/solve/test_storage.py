"""Volumes in files and small tiles give what memory gives, but for the far tails of the kernel."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_methods import gaussian, problem_of, relative, solver_of

from manyviews.geometry.views import TiltGeometry
from manyviews.io.scratch import ScratchFolder
from manyviews.operators.slab_projector import SlabProjector
from manyviews.operators.tiling import Tiling, lateral_reach
from manyviews.solvers.driver import iterate
from manyviews.tilt.solve.storage import Storage

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (7, 40, 44)
METHODS = {
    "cg": {"method": "cg"},
    "cg by frequency": {"method": "cg", "refresh": 3},
    "admm": {"method": "admm", "total_variation": 0.3, "non_negative": True},
    "smooth": {"method": "admm", "prior": "smooth", "non_negative": True},
    "landweber": {"method": "sirt"},
    "normalised": {"method": "sirt", "sirt_form": "normalised"},
    "consensus": {"method": "consensus", "subsets": 3, "non_negative": True},
    "priors": {"method": "consensus", "subsets": 2, "total_variation": 0.3, "smoothness": 0.1},
    "wang2020": {"method": "wang2020", "subsets": 4},
    "direct-combine": {"method": "direct-combine", "subsets": 4, "overlap": 1},
}
BY_FREQUENCY = {"cg by frequency", "smooth"}


@pytest.fixture(scope="module")
def flat_series():
    """Three axes of nine tilts, an object that is wide and thin."""
    geometry = TiltGeometry.concatenate(
        [
            TiltGeometry.from_tilt_axis(np.linspace(-60, 60, 9), axis, series=k)
            for k, axis in enumerate((0.0, 90.0, 45.0))
        ]
    )
    truth = gaussian(SHAPE, 2.0)
    truth[3, 8:10, 12:15] += 0.5
    return problem_of(geometry, truth, noise=0.1)


def streamed(problem, folder):
    """The problem with everything in files, two slices and small tiles at a time."""
    whole = problem.projector
    projector = SlabProjector(
        whole.geometry, whole.volume_shape, whole.image_shape, whole.pixel_size, piece_slices=2
    )

    class Tiles(Storage):
        def tiling(self, groups, volume_shape, slabs, beyond=0):
            return Tiling.of(volume_shape, (16, 22), lateral_reach(groups, volume_shape[0]))

    return replace(problem, projector=projector, storage=Tiles(ScratchFolder(folder)))


@pytest.mark.parametrize("name", METHODS)
def test_files_and_tiles_do_not_change_the_volume(flat_series, name, tmp_path):
    problem, source = flat_series
    if name in BY_FREQUENCY:
        problem = replace(problem, roughness=(0.05, 0.1))
    found = []
    for each in (problem, streamed(problem, tmp_path)):
        solver = solver_of((each, source), **METHODS[name])
        found.append(list(iterate(solver, solver.init(), 6))[-1])
    assert relative(found[1].iterate, found[0].iterate) < 1e-4
    for key, value in found[0].measures().items():
        assert found[1].measures()[key] == pytest.approx(value, rel=1e-3, abs=1e-2)
    assert torch.isfinite(found[0].iterate).all()


def test_weights_of_back_projection_are_those_of_coarser_frequencies(flat_series, tmp_path):
    """The overlap of views is read from the kernel of a tile, between fewer frequencies."""
    problem, source = flat_series
    found = []
    for each in (problem, streamed(problem, tmp_path)):
        solver = solver_of((each, source), method="wbp")
        found.append(solver.step(solver.init()).iterate)
    assert relative(found[1], found[0]) < 0.01


@pytest.mark.parametrize("name", ["cg by frequency", "admm", "smooth"])
def test_all_volumes_of_a_state_lie_in_files(flat_series, name, tmp_path, monkeypatch):
    problem, source = flat_series
    if name in BY_FREQUENCY:
        problem = replace(problem, roughness=(0.05, 0.1))
    made = []
    allocate = ScratchFolder.allocate

    def noted(folder, shape, dtype):
        found = allocate(folder, shape, dtype)
        made.append(found.__array_interface__["data"][0])
        return found

    monkeypatch.setattr(ScratchFolder, "allocate", noted)
    solver = solver_of((streamed(problem, tmp_path), source), **METHODS[name])
    state = list(iterate(solver, solver.init(), 4))[-1]
    volumes = [value for value in vars(state).values() if isinstance(value, torch.Tensor)]
    assert len(volumes) >= 5
    assert {volume.data_ptr() for volume in volumes} <= set(made)


def test_a_tensor_that_is_kept_is_the_same_in_a_file(tmp_path):
    tensor = torch.arange(24.0).reshape(2, 3, 4)
    kept = Storage(ScratchFolder(tmp_path), 10**6).keep(tensor)
    assert torch.equal(kept, tensor)
    assert kept.data_ptr() != tensor.data_ptr()
    assert Storage().keep(tensor) is tensor
