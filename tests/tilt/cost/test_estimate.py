import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import write_mrc
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.view_transfer import ViewTransfer
from manyviews.parallel.layout import Layout
from manyviews.tilt.cost.blocks import Stream
from manyviews.tilt.cost.estimate import Estimate, Estimator, checkpoint_bytes
from manyviews.tilt.cost.transfer import TransferCosts
from manyviews.tilt.options import METHODS, ReconstructOptions, SeriesOptions
from manyviews.tilt.plan import Plan, resolve_plan
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import resolve_series

TILTS = np.linspace(-60.0, 60.0, 21)
GIBIBYTE = 1 << 30
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(1)
    stacks = []
    for number in range(2):
        stacks.append(folder / f"{number}.mrc")
        images = noise.normal(size=(len(TILTS), 160, 160)).astype(np.float32)
        write_mrc(stacks[-1], images, 4.0, is_volume=False)
        stacks[-1].with_suffix(".rawtlt").write_text("\n".join(map(str, TILTS)))
    return SeriesOptions(stacks=tuple(stacks), axis_angle=(0.0, 45.0))


def estimate(plan, geometry, data_bytes, layout=None, stream=None):
    return Estimator(plan, geometry, data_bytes).estimate(layout, stream)


def settled(series: SeriesOptions, **chosen: object) -> tuple[Plan, TiltGeometry, int]:
    source = ImageSource(resolve_series(series))
    options = replace(ReconstructOptions(thickness=40, device="cpu"), **chosen)
    stored = sum(path.stat().st_size for path in series.stacks)
    return resolve_plan(options, source), source.binned_geometry, stored


def expected(series: SeriesOptions, **chosen: object) -> Estimate:
    return estimate(*settled(series, **chosen))


def filters(series: SeriesOptions, layered: bool) -> tuple[TransferCosts, Plan, TiltGeometry, int]:
    plan, geometry, stored = settled(series, ctf="3d" if layered else "phase-flip")
    count = len(geometry)
    optics = Optics.make(300.0, 2.7, 0.07, np.full((count, 2), 20000.0))
    transfer = ViewTransfer(optics, np.zeros(count), 1)
    costs = TransferCosts.of(transfer, geometry, plan.volume_shape, 2.0, in_projection=layered)
    return costs, plan, geometry, stored


def test_filters_take_time_and_layers_memory(series):
    plain = expected(series)
    for layered in (False, True):
        costs, *arguments = filters(series, layered)
        found = Estimator(*arguments, transfer=costs).estimate()
        assert found.wall_seconds > plain.wall_seconds
        assert costs.layers == (2 if layered else 0)
        assert max(costs.levels) > min(costs.levels) >= 1
        assert found.memory_bytes == sum(found.parts.values())
    alone, halves = (Estimator(*arguments, transfer=costs).estimate(Layout(*n)) for n in ((1, 1), (1, 2)))
    # layers of a slab need the images of all ranks filtered
    assert halves.pace.iteration > 0.5 * alone.pace.iteration


def test_filling_pixels_is_told_by_its_own_pace(series):
    cg, admm, subsets = (expected(series, method=name).pace for name in ("cg", "admm", "consensus"))
    assert admm.filling == pytest.approx(cg.filling)
    assert subsets.filling == pytest.approx(cg.filling)
    assert cg.filling == pytest.approx(cg.iteration)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_an_estimate_that_adds_up(method, series):
    found = expected(series, method=method)
    assert found.memory_bytes == sum(found.parts.values())
    assert all(size > 0 for size in found.parts.values())
    assert 300 * 2**20 < found.memory_bytes < 2 * GIBIBYTE
    assert 1.0 < found.wall_seconds < 600.0


@pytest.mark.parametrize("method", METHODS)
def test_larger_volumes_need_more_of_everything(method, series):
    small, large = (expected(series, method=method, thickness=size) for size in (20, 80))
    assert large.memory_bytes > small.memory_bytes
    assert large.wall_seconds > small.wall_seconds


def test_what_makes_memory_and_time_grow(series, monkeypatch):
    def volumes(**chosen: object) -> int:
        return expected(series, **chosen).parts["volumes"]

    assert volumes(method="consensus", subsets=8) > 1.5 * volumes(method="consensus", subsets=4)
    assert volumes(method="consensus", total_variation=0.1) > volumes(method="consensus")
    assert volumes(method="cg", iterations=15) > volumes(method="cg", iterations=15, refresh=0)
    ten, twenty = (expected(series, iterations=count).wall_seconds for count in (100, 200))
    assert ten < twenty < 2 * ten
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    one, two = (expected(series, iterations=100, threads=count).wall_seconds for count in (1, 2))
    assert one > 1.5 * two


@pytest.mark.parametrize(
    ("chosen", "tolerance"),
    [
        ({"method": "cg", "iterations": 6, "refresh": 2}, 0.25),
        ({"method": "wang2020", "subsets": 8, "iterations": 2, "inner_iterations": 1}, 0.25),
    ],
)
def test_memory_is_what_a_run_needs(chosen, tolerance, series, tmp_path):
    words = [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    subprocess.run(
        [
            sys.executable, "-m", "manyviews.cli", "tilt", "reconstruct", *map(str, series.stacks), "--quiet",
            "--axis-angle", "0", "45", "--thickness", "40", "--device", "cpu", "--out", str(tmp_path / "run"),
            *words,
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    measured = json.loads((tmp_path / "run" / "summary.json").read_text())["peak_memory_bytes"]
    assert expected(series, **chosen).memory_bytes == pytest.approx(measured, rel=tolerance)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", [Layout(1, 3), Layout(3, 1), Layout(2, 2), Layout(5, 1)])
def test_a_rank_of_several_needs_less(method, layout, series):
    arguments = settled(series, method=method, thickness=120)
    alone, shared = (estimate(*arguments, which) for which in (None, layout))
    assert shared.memory_bytes == sum(shared.parts.values())
    assert shared.parts["MPI"] > 0
    if layout.slabs > 1 or (method == "consensus" and layout.groups < 4):
        assert shared.memory_bytes < alone.memory_bytes


def test_a_group_without_agents_has_an_estimate(series):
    found = estimate(*settled(series, method="direct-combine"), Layout(3, 1))
    assert found.memory_bytes > 300 * MEBIBYTE


def test_time_is_divided_among_ranks(series, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    arguments = settled(series, method="cg", iterations=100, thickness=120, threads=1)
    one, four = (estimate(*arguments, layout).wall_seconds for layout in (Layout(1, 1), Layout(1, 4)))
    assert one / 4 < four < one / 2
    subsets = settled(series, method="consensus", subsets=4, iterations=100, thickness=120, threads=1)
    one, four = (estimate(*subsets, layout).wall_seconds for layout in (Layout(1, 1), Layout(4, 1)))
    assert one / 4 < four < 0.7 * one


def test_ranks_of_a_host_share_its_cores(series, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    arguments = settled(series, method="cg", iterations=100, thickness=120)
    one, two = (estimate(*arguments, layout).wall_seconds for layout in (Layout(1, 1), Layout(1, 2)))
    assert two > 0.8 * one


@pytest.mark.parametrize("method", [method for method in METHODS if method != "wbp"])
def test_volumes_in_files_take_no_memory(method, series):
    arguments = settled(series, method=method, thickness=120)
    plain, streamed = (estimate(*arguments, None, stream) for stream in (None, Stream(1 << 40, 120)))
    assert streamed.memory_bytes < plain.memory_bytes
    assert not {"volumes", "kernels", "row sums"} & set(streamed.parts)
    assert streamed.file_bytes > 2 * 4 * 120 * 160 * 160
    assert plain.file_bytes == 0
    assert streamed.wall_seconds > plain.wall_seconds
    assert streamed.tile is None  # one tile is enough


def test_files_are_those_of_all_ranks(series):
    stream = Stream(1 << 40, 120)
    arguments = settled(series, method="consensus", subsets=4, thickness=120)
    one, slabs, groups = (estimate(*arguments, Layout(*how), stream) for how in ((1, 1), (1, 2), (4, 1)))
    assert slabs.file_bytes == pytest.approx(one.file_bytes, rel=0.05)
    assert groups.file_bytes == pytest.approx(one.file_bytes, rel=0.5)


def test_tiles_and_pieces_bound_the_work_space(series):
    arguments = settled(series, thickness=40)
    whole = estimate(*arguments, None, Stream(1 << 40, 40))
    tiled = estimate(*arguments, None, Stream(110 * MEBIBYTE, 8))
    assert tiled.memory_bytes < whole.memory_bytes


def test_disk_room_counts_checkpoints(series):
    volume = 4 * 40 * 160 * 160
    assert checkpoint_bytes(settled(series, method="sirt")[0]) == 4 * volume
    assert checkpoint_bytes(settled(series, method="consensus", subsets=4)[0]) == (1 + 3 * 9) * volume
    assert checkpoint_bytes(settled(series, method="sirt")[0], kept=1) == 3 * volume
