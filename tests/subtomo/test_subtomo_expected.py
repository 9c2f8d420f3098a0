"""How many iterations an alignment is told to take yet."""

from dataclasses import replace

import pytest
import torch

from manyviews.subtomo.alignment import AlignmentState, has_settled
from manyviews.subtomo.estimate import _iterations_to_come

NOTHING = torch.zeros(1)
STATE = AlignmentState(
    iteration=3, iterate=NOTHING, halves=(NOTHING,) * 2, rotations=NOTHING, shifts=NOTHING, score=NOTHING,
    gain=NOTHING, spread=NOTHING, radius=8, searched_radius=8, correlation=[1.0] * 6 + [0.0],
    before=[1.0] * 6 + [0.0], angle_change=0.5, shift_change=0.0, touched=0.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("degrees", "gained", "left"),
    [(0.5, False, 0), (0.5, True, 1), (2.0, True, 1), (9.0, False, 2), (27.0, True, 3)],
)
def test_turns_and_what_halves_gained_tell_it(degrees, gained, left):
    before = [1.0] * 4 + [0.0] * 3 if gained else STATE.before
    state = replace(STATE, angle_change=degrees, before=before)
    assert _iterations_to_come(state) == left
    assert has_settled(state) == (left == 0)


def test_the_first_iteration_tells_nothing():
    assert _iterations_to_come(replace(STATE, iteration=1, angle_change=float("inf"))) == 2
