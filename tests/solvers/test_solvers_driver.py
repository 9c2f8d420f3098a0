from dataclasses import dataclass

import pytest
import torch

from manyviews.errors import DivergedError
from manyviews.solvers.driver import StopReason, check_volume, iterate, relative_change, stop_reason


@dataclass(frozen=True)
class Halved:
    iteration: int
    iterate: torch.Tensor

    def measures(self):
        return {"objective": float((self.iterate**2).sum())}


class Halving:
    target = torch.arange(1.0, 9).reshape(2, 2, 2)

    def init(self):
        return Halved(0, torch.zeros(2, 2, 2))

    def step(self, state):
        return Halved(state.iteration + 1, (state.iterate + self.target) / 2)


def test_iterate_counts_those_behind_it():
    solver = Halving()
    states = list(iterate(solver, solver.init(), 5))
    assert [state.iteration for state in states] == [1, 2, 3, 4, 5]
    assert [state.iteration for state in iterate(solver, states[2], 5)] == [4, 5]
    assert list(iterate(solver, states[-1], 5)) == []


def test_tolerance_stops():
    solver = Halving()
    states = list(iterate(solver, solver.init(), 100, tolerance=0.01))
    assert len(states) == 7  # the change after n steps is 1 / (2^n - 1)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_one_wrong_voxel_is_found(wrong):
    volume = torch.randn(3, 4, 5)
    check_volume(volume, 1)
    volume[1, 2, 3] = wrong
    with pytest.raises(DivergedError, match=r"iteration 7 .* NaN or infinite"):
        check_volume(volume, 7)


def test_constant_volume_is_found():
    with pytest.raises(DivergedError, match="same value 2 in every voxel"):
        check_volume(torch.full((3, 3, 3), 2.0), 1)


def test_relative_change():
    assert relative_change(torch.zeros(2), torch.ones(2)) == pytest.approx(1)
    assert relative_change(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_change(torch.ones(2), torch.zeros(2)) == float("inf")


def test_stop_reason():
    assert stop_reason(3, 5, None, 0.1) is None
    assert stop_reason(3, 5, 0.0, 0.0) is None
    assert stop_reason(3, 5, 0.05, 0.1) is StopReason.CONVERGED
    assert stop_reason(5, 5, 0.5, 0.1) is StopReason.ITERATIONS
