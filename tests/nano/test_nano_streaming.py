"""Reconstructions whose arrays lie in files: the same bits, refusals, and what is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nano_job_example import SIDE, VIEWS, run, write_scan

from manyviews.errors import InputError
from manyviews.io.scratch import ScratchFolder
from manyviews.jobs import run as jobs_run
from manyviews.nano import estimate
from manyviews.nano.estimate import Cost, estimate_cost, require_disk_room, require_room, room_for_choice
from manyviews.nano.footprint import Size, array_phases, kept_state, most_arrays, on_disk, raised_bytes
from manyviews.nano.plan import Plan, resolve_plan
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.room import MEMORY, Room, blocks, give_up
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.solve.joint import Joint
from manyviews.parallel.world import SingleWorld
from manyviews.runs import driver

pytestmark = pytest.mark.usefixtures("blank_pictures", "one_thread")

GIB = 2**30
LARGE = (1440, 1024, 1024)
QUICK = ReconstructOptions(method="oftv", levels=2, iterations=(2, 2), inner_iterations=2, threads=1)
SAME = (
    "volume.mrc", "volume_before.mrc", "half1.mrc", "half2.mrc", "projections_aligned.mrc", "flow.npy",
    "shifts.csv", "views.csv", "gauge.csv", "fsc.csv", "fsc_slices.csv", "examples.npy",
)  # fmt: skip


@pytest.fixture(scope="module")
def deformed(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("deformed") / "data", deformation_percent=8.0)


@pytest.fixture(autouse=True)
def _no_page(monkeypatch):
    monkeypatch.setattr(jobs_run, "build_report", lambda folder, sections, tell=None: folder)


def plan_of(shape=(VIEWS, SIDE, SIDE), method="oftv", **options) -> Plan:
    how = ReconstructOptions(method=method, threads=1, **options)
    return resolve_plan(ScanOptions(scan=Path("scan")), how, shape)


def cost_of(plan: Plan) -> Cost:
    return estimate_cost(plan, 1, Size(1, 0).bytes(plan))


def small(options: ReconstructOptions) -> ReconstructOptions:
    """The same with so little memory that all arrays have to lie in files."""
    cost = cost_of(resolve_plan(ScanOptions(scan=Path("scan")), options, (VIEWS, SIDE, SIDE)))
    assert cost.streamed_bytes is not None
    return replace(options, memory=(cost.streamed_bytes + 1000) / GIB)


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in SAME if (folder / name).exists()}


@pytest.mark.parametrize(
    "options",
    [
        QUICK,
        replace(QUICK, method="of", warp="mass", halves=False),
        replace(QUICK, method="shifts", halves=False),
        ReconstructOptions(method="pcgtv", iterations=(2,), threads=1, halves=False),
        ReconstructOptions(method="fbp", threads=1),
    ],
    ids=lambda options: f"{options.method}-{options.warp}",
)
def test_arrays_in_files_give_the_same_bits(deformed, tmp_path, options):
    inside = run(deformed, tmp_path / "memory", options)
    outside = run(deformed, tmp_path / "files", small(options))
    assert "peak_memory_counts_mapped_files" not in inside.summary
    assert outside.summary["peak_memory_counts_mapped_files"]
    assert "as arrays lie in files" in (tmp_path / "files" / "log.txt").read_text()
    assert files_of(outside.run_folder) == files_of(inside.run_folder)
    assert not (tmp_path / "files" / "scratch").exists()


class _StoppedError(Exception):
    pass


def test_a_run_that_stops_goes_on_with_flows_in_files(deformed, tmp_path, monkeypatch):
    options = replace(QUICK, halves=False)
    whole = run(deformed, tmp_path / "whole", options)
    step, left = Joint.step, iter([*range(36, 0, -1), *[100] * 100])  # at the finest level

    def stopping(self, state):
        if next(left) == 1:
            raise _StoppedError
        return step(self, state)

    monkeypatch.setattr(Joint, "step", stopping)
    often = {"checkpoint_seconds": 0}
    with pytest.raises(_StoppedError):
        run(deformed, tmp_path / "run", small(options), run=often)
    made = []
    allocate = ScratchFolder.allocate
    monkeypatch.setattr(
        ScratchFolder, "allocate", lambda self, shape, kind: made.append(shape) or allocate(self, shape, kind)
    )
    load, loaded = driver.load_checkpoint, []

    def loading(*given, **named):
        before = len(made)
        found = load(*given, **named)
        loaded.extend(made[before:])
        return found

    monkeypatch.setattr(driver, "load_checkpoint", loading)
    again = run(deformed, tmp_path / "run", small(options), run=often)
    assert files_of(again.run_folder) == files_of(whole.run_folder)
    # a flow of the level at which it stopped, and volumes
    assert (VIEWS, 2, SIDE, SIDE) in loaded
    assert (SIDE, SIDE, SIDE) in loaded


def test_what_has_no_room_is_refused_in_one_sentence(deformed, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="of memory in each process, with all arrays in files, and 10"):
        run(deformed, tmp_path / "run", replace(QUICK, memory=0.01))
    printed = replace(QUICK, method="of-printed", memory=small(QUICK).memory)
    with pytest.raises(InputError, match=r"of memory in each process, and"):
        require_room(cost_of(plan_of(LARGE, method="of-printed", memory=20.0)), printed, SingleWorld())
    monkeypatch.setattr(estimate, "free_disk_bytes", lambda folder: 1000)
    with pytest.raises(
        InputError, match=r"takes up to .* MiB of the disk, as memory is small and arrays lie"
    ):
        run(deformed, tmp_path / "run", small(QUICK))
    assert not (tmp_path / "run" / "run.toml").exists()
    cost = cost_of(plan_of(LARGE, method="oftv"))
    with pytest.raises(InputError, match=f"{cost.scratch_bytes / GIB:.0f}"):
        require_disk_room(cost, tmp_path / "scratch", tmp_path, resumed=True)


def test_a_thousand_cubed_fits_into_twenty_gibibytes():
    for method in ("oftv", "of", "shifts", "pcg", "pcgtv", "cg", "fbp"):
        plan = plan_of(LARGE, method=method, memory=20.0)
        assert require_room(cost_of(plan), plan.options, SingleWorld())
    cost = cost_of(plan_of(LARGE, method="of", halves=False))
    projections, volume = 4 * 1440 * 1024**2, 4 * 1024**3
    # three times the projections and five volumes as the volume is solved for, and the projections
    assert cost.scratch_bytes == 4 * projections + 5 * volume
    assert "MiB" not in " ".join(cost.lines(True))
    # motion in space has to lie in memory, so it is not tried, and that is told
    choosing = plan_of(LARGE, method="auto", memory=20.0)
    told = room_for_choice(choosing, SingleWorld(), 4 * 1440 * 1024**2)
    assert told.startswith("motion in space is not tried, as it would take about")


def test_arrays_are_counted_phase_by_phase():
    plan = plan_of(method="oftv", halves=False)
    assert array_phases(plan) == [Size(3, 8), Size(5, 4)]
    assert kept_state(plan) == Size(2, 4)
    assert array_phases(plan_of(method="cg", halves=False)) == [Size(1, 5)]
    assert array_phases(plan_of(method="fbp")) == [Size(1, 1)]
    assert most_arrays(plan) == max(Size(3, 8).bytes(plan), Size(5, 4).bytes(plan))
    assert len(array_phases(plan_of(method="of"))) == 4
    # of cg: the volume without alignment, in a checkpoint and as a file, and one of the result in each
    disk = on_disk(plan_of(method="cg", halves=False, iterations=(1,)), 0, 1, in_files=False)
    assert disk.saved == (Size(0, 2) + Size(1, 2)).bytes(plan)


def test_the_search_of_angles_and_pitch_is_counted_where_there_is_one():
    searched = plan_of((128, 64, 64), method="oftv")
    without = plan_of((128, 64, 64), method="oftv", refine_angles=False)
    # 128 views of 32 columns: 6 CPU seconds were measured at 96 views, 10 at 192
    more = cost_of(searched).core_seconds - cost_of(without).core_seconds
    assert 4.0 < more < 12.0
    assert cost_of(plan_of((128, 64, 64), method="space")).core_seconds - cost_of(
        plan_of((128, 64, 64), method="space", refine_angles=False)
    ).core_seconds == pytest.approx(more / 2)
    assert cost_of(plan_of(LARGE)).core_seconds == cost_of(plan_of(LARGE, refine_angles=False)).core_seconds
    # where views may be pitched, one more array as large as the projections in the end
    assert raised_bytes(searched) == Size(1, 0).bytes(searched)
    assert raised_bytes(without) == raised_bytes(plan_of(LARGE)) == 0
    assert cost_of(searched).disk_bytes >= cost_of(without).disk_bytes


def test_blocks_cover_all_once_and_what_is_given_up_is_gone(tmp_path):
    parts = blocks(1000, 2**20)
    assert [part.start for part in parts] == list(range(0, 1000, 8))
    assert parts[-1].stop == 1000
    assert len(blocks(3, 2**30)) == 3
    assert MEMORY.allocate((2, 3)).shape == (2, 3)
    with ScratchFolder(tmp_path / "scratch") as scratch:
        tensor = torch.from_numpy(Room(scratch).allocate((4, 5)))
        tensor.fill_(2.0)
        part = tensor[1:]
        give_up(tensor)
        assert tensor.numel() == 0
        np.testing.assert_array_equal(part.numpy(), np.full((3, 5), 2.0))
