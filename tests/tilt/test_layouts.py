"""Every method gives the same volume in every layout; ranks are threads here, processes in test_mpi_*.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_methods import relative, series, solver_of  # noqa: F401

from manyviews.operators import view_kernel
from manyviews.operators.slab_projector import SlabProjector
from manyviews.parallel.layout import Layout, take_place
from manyviews.parallel.world import shares
from manyviews.solvers.driver import iterate
from thread_world import run_ranks

pytestmark = pytest.mark.usefixtures("one_thread", "_profiles_made_once")

METHODS = {
    "cg": {"method": "cg"},
    "landweber": {"method": "sirt"},
    "normalised": {"method": "sirt", "sirt_form": "normalised"},
    "wbp": {"method": "wbp"},
    "consensus": {"method": "consensus", "subsets": 3},
    "exact": {"method": "consensus", "subsets": 3, "normal": "exact"},
    "overlap": {"method": "consensus", "subsets": 5, "overlap": 1, "damping": 0.2},
    "priors": {
        "method": "consensus", "subsets": 2, "non_negative": True, "total_variation": 0.05, "smoothness": 0.1,
    },
    "admm": {"method": "admm", "total_variation": 0.05, "non_negative": True},
    "wang2020": {"method": "wang2020", "subsets": 4},
    "direct-combine": {"method": "direct-combine", "subsets": 4, "overlap": 1},
}  # fmt: skip
ITERATIONS = 3
LAYOUTS = ("1x2", "1x3", "1x4", "2x1", "3x1", "2x2", "4x1", "2x3")


@pytest.fixture(scope="module")
def _profiles_made_once():
    """Every rank of every layout has the same profiles of views, which take longer than the iterations."""
    make, made = view_kernel.profile_across, {}

    def known(group):
        arrays = (group.cosines, group.sines, group.offsets, group.sharpening)
        key = (group.columns, *(array.tobytes() for array in arrays))
        if key not in made:
            made[key] = make(group)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view_kernel, "profile_across", known)
        yield


def spread(series, options, layout, world):  # noqa: F811
    """Whole volume and measures after a few iterations of one rank, gathered over its group."""
    problem, source = series
    place = take_place(world, layout)
    whole = problem.projector
    projector = SlabProjector(
        whole.geometry, whole.volume_shape, whole.image_shape, whole.pixel_size, exchange=place.within
    )
    solver = solver_of((replace(problem, projector=projector, place=place), source), **options)
    iterations = 1 if options["method"] == "wbp" else ITERATIONS
    state = list(iterate(solver, solver.init(), iterations))[-1]
    counts = [part.stop - part.start for part in shares(problem.volume_shape[0], layout.slabs)]
    return place.within.all_gather(state.iterate.contiguous(), counts), state.measures()


@pytest.mark.parametrize("name", METHODS)
def test_the_layout_does_not_matter(series, name):  # noqa: F811
    options = METHODS[name]
    solver = solver_of(series, **options)
    alone = list(iterate(solver, solver.init(), 1 if name == "wbp" else ITERATIONS))[-1]
    for text in LAYOUTS:
        layout = Layout.parse(text)
        for volume, measures in run_ranks(
            layout.ranks, lambda world, layout=layout: spread(series, options, layout, world)
        ):
            assert relative(volume, alone.iterate) < 1e-5, text
            for key, value in alone.measures().items():
                assert measures[key] == pytest.approx(value, rel=1e-3, abs=1e-3 * np.sqrt(volume.numel())), (
                    text
                )
    assert torch.isfinite(alone.iterate).all()
