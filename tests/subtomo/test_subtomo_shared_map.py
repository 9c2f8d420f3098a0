"""Halves that agree only in what both were given."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from manyviews.subtomo.align_options import AlignOptions
from manyviews.subtomo.plan import resolve_plan
from manyviews.subtomo.results import shared_map_warning


def plan_of(**options):
    """Boxes of 384 angstrom: shell 6 is at 64 angstrom, shell 9 at 42.7."""
    return resolve_plan(AlignOptions(**options), 500, 64, 6.0)


@pytest.mark.parametrize("resolution", [64.0, 46.5, 43.4])
def test_agreement_near_the_end_of_the_shared_map_is_no_evidence(resolution):
    """46.5 and 43.4 angstrom are what pure noise gave."""
    told = shared_map_warning(plan_of(reference=Path("map.mrc")), resolution)
    assert f"{resolution:.3g} angstrom" in told
    assert "64: pure noise" in told


def test_agreement_beyond_it_is():
    assert shared_map_warning(plan_of(reference=Path("map.mrc")), 42.0) == ""


def test_halves_without_a_reference_share_their_low_frequencies():
    assert shared_map_warning(plan_of(), 50.0) != ""
    assert shared_map_warning(plan_of(joined_resolution=0.0), 50.0) == ""


def test_nothing_agrees_and_nothing_is_claimed():
    assert shared_map_warning(plan_of(), math.inf) == ""
    assert shared_map_warning(plan_of(merged=True), 50.0) == ""
