import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import write_mrc
from manyviews.tilt.estimate import Estimate, disk_bytes, estimate, refuse_if_too_large
from manyviews.tilt.images import ImageSource
from manyviews.tilt.options import METHODS, ReconstructOptions, SeriesOptions
from manyviews.tilt.plan import Settings, settle
from manyviews.tilt.series import resolve_series

TILTS = np.linspace(-60.0, 60.0, 21)
GIBIBYTE = 1 << 30


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


def settled(series: SeriesOptions, **chosen: object) -> tuple[Settings, TiltGeometry, int]:
    source = ImageSource(resolve_series(series))
    options = replace(ReconstructOptions(thickness=40, device="cpu"), **chosen)
    stored = sum(path.stat().st_size for path in series.stacks)
    return settle(options, source), source.binned_geometry, stored


def expected(series: SeriesOptions, **chosen: object) -> Estimate:
    return estimate(*settled(series, **chosen))


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


def test_what_makes_memory_and_time_grow(series):
    def volumes(**chosen: object) -> int:
        return expected(series, **chosen).parts["volumes"]

    assert volumes(method="consensus", subsets=8) > 1.5 * volumes(method="consensus", subsets=4)
    assert volumes(method="consensus", total_variation=0.1) > volumes(method="consensus")
    assert volumes(method="cg", iterations=15) > volumes(method="cg", iterations=15, refresh=0)
    ten, twenty = (expected(series, iterations=count).wall_seconds for count in (100, 200))
    assert ten < twenty < 2 * ten
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
    measured = json.loads((tmp_path / "run" / "summary.json").read_text())["peak memory bytes"]
    assert expected(series, **chosen).memory_bytes == pytest.approx(measured, rel=tolerance)


def test_refusal_names_both_figures():
    needed = Estimate(3 * GIBIBYTE, 1.0)
    refuse_if_too_large(needed, available_bytes=3 * GIBIBYTE)
    with pytest.raises(InputError, match=r"needs about 3\.0 GiB of memory and 2\.0 GiB are free.*--bin"):
        refuse_if_too_large(needed, available_bytes=2 * GIBIBYTE)


def test_nothing_is_refused_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr("manyviews.tilt.estimate.available_memory_bytes", lambda: None)
    refuse_if_too_large(Estimate(1 << 60, 1.0))


def test_disk_room_counts_checkpoints(series):
    volume = 4 * 40 * 160 * 160
    assert disk_bytes(settled(series, method="sirt")[0]) == 4 * volume
    assert disk_bytes(settled(series, method="consensus", subsets=4)[0]) == (1 + 3 * 9) * volume
