"""The phases of a scan's run: the stages that it has, about as long together as its estimate says."""

import pytest
import torch

from manyviews.nano.estimate import START_SECONDS, estimate_cost
from manyviews.nano.expected import FILTERING, chosen_phases, expected_phases
from manyviews.nano.plan import resolve_plan
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.scan.options import ScanOptions

SHAPE = (180, 96, 96)
STAGES = {
    "oftv": ["unaligned", "whole-views", "level-1", "level-2", "half1-level-2", "half2-whole-views"],
    "shifts": ["unaligned", "level-1", "half2-level-1"],
    "pcg": ["unaligned", "level-1", "half1-level-1"],
    "spacetv": ["unaligned", "space-views", "space-1", "half2-space-1"],
    "auto": ["space-views", "space-1", "flows-tried", "whole-views", "level-2", "half1-level-2"],
}


def plan_of(method, tmp_path):
    scan = tmp_path / "scan.h5"
    return resolve_plan(ScanOptions(scan), ReconstructOptions(method=method), SHAPE)


@pytest.mark.parametrize("method", STAGES)
def test_stages_are_expected_in_their_order(method, tmp_path):
    names = list(expected_phases(plan_of(method, tmp_path)))
    places = [names.index(stage) for stage in STAGES[method]]
    assert places == sorted(places)
    assert names[-1].startswith("after ")


@pytest.mark.parametrize("method", ["oftv", "shifts", "pcg", "spacetv"])
def test_they_come_to_about_what_is_estimated(method, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # no thread waits for another one
    plan = plan_of(method, tmp_path)
    whole = sum(phase.work for phase in expected_phases(plan).values())
    assert 0.6 < whole / (estimate_cost(plan, 1, 0).core_seconds - START_SECONDS) < 1.4  # programs are loaded


def test_a_choice_leaves_the_phases_of_what_was_taken(tmp_path):
    plan = plan_of("auto", tmp_path)
    found = chosen_phases(plan, plan.chosen("spacetv"))
    assert not found["level-2"].work
    assert found["space-2"].work > 0
    assert "space-1" not in found
    assert chosen_phases(plan, plan.chosen("oftv"))["level-2"].work > 0


def test_filtered_back_projection_has_no_stage(tmp_path):
    assert list(expected_phases(plan_of("fbp", tmp_path))) == ["reading", FILTERING]
