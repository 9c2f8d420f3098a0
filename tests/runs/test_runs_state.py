from dataclasses import dataclass, field

import pytest
import torch

from manyviews.runs.checkpoint import load_checkpoint, save_checkpoint
from manyviews.runs.state import state_from_arrays, state_to_arrays


@dataclass
class Everything:
    iteration: int
    iterate: torch.Tensor
    agents: tuple[torch.Tensor, ...]
    nested: tuple[tuple[torch.Tensor, float], ...]
    empty: tuple[torch.Tensor, ...]
    step: float
    name: str
    maybe: torch.Tensor | None
    history: list[float] = field(default_factory=list)


def everything():
    return Everything(
        iteration=3,
        iterate=torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)),
        agents=(torch.arange(4, dtype=torch.float64), torch.tensor(True)),
        nested=((torch.zeros(2), 0.1), (torch.ones(1, dtype=torch.int64), float("inf"))),
        empty=(),
        step=1 / 3,
        name="toy",
        maybe=None,
        history=[1.0, 0.5],
    )


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


def test_through_a_checkpoint(tmp_path):
    state = everything()
    save_checkpoint(tmp_path, state_to_arrays(state), 3)
    values, _ = load_checkpoint(tmp_path)
    back = state_from_arrays(Everything, values)
    for name in state.__dataclass_fields__:
        assert equal(getattr(state, name), getattr(back, name)), name
    back.iterate += 1  # writable


def test_tensors_share_memory():
    state = everything()
    assert state_to_arrays(state)["volume"].ctypes.data == state.iterate.data_ptr()


def test_other_solver_is_refused():
    values = state_to_arrays(everything())
    missing = {key: value for key, value in values.items() if key != "step"}
    with pytest.raises(ValueError, match="step is missing"):
        state_from_arrays(Everything, missing)
    with pytest.raises(ValueError, match="has no extra"):
        state_from_arrays(Everything, {**values, "extra": 1})


def test_unknown_kinds_are_refused():
    state = everything()
    state.name = {"a": 1}
    with pytest.raises(TypeError, match="name of a state is a dict"):
        state_to_arrays(state)
    with pytest.raises(TypeError, match="dataclass"):
        state_to_arrays(3)
