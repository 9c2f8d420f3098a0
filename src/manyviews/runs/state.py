"""Between a solver's state, a dataclass of tensors and numbers, and the flat table of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Scalar: TypeAlias = float | int | str | bool | list["Scalar"] | None
StateValue: TypeAlias = NDArray[Any] | Scalar
StateValues: TypeAlias = Mapping[str, StateValue]

S = TypeVar("S")
LENGTH = "length"


def tensors_to_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors as NumPy arrays; those on the CPU share their memory, others are copied to it."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def state_to_arrays(state: object) -> dict[str, StateValue]:
    """The fields of a state by name; the items of a tuple are ``name.0``, ``name.1`` ... and ``name.length``.

    A state is an instance of a dataclass whose fields are tensors, numbers, texts, None, lists of these
    scalars, or (nested) tuples of any of them, else a `TypeError`. Tensors should be contiguous: they come
    back so.
    """
    if not is_dataclass(state) or isinstance(state, type):
        raise TypeError(f"a state is a dataclass instance, not {type(state).__name__}")
    values: dict[str, StateValue] = {}
    for field in fields(state):
        _put(values, field.name, getattr(state, field.name))
    return values


def _put(values: dict[str, StateValue], name: str, value: object) -> None:
    if isinstance(value, torch.Tensor):
        values.update(tensors_to_arrays({name: value}))
    elif isinstance(value, tuple):
        values[f"{name}.{LENGTH}"] = len(value)
        for number, item in enumerate(value):
            _put(values, f"{name}.{number}", item)
    elif _is_scalar(value):
        values[name] = value  # type: ignore[assignment]
    else:
        raise TypeError(f"{name} of a state is a {type(value).__name__}, which a checkpoint cannot hold")


def _is_scalar(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_scalar(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def state_from_arrays(cls: type[S], values: StateValues, device: torch.device | str = "cpu") -> S:
    """The state, of type ``cls``, that `state_to_arrays` took apart; all tensors go to ``device``.

    CPU tensors share the memory of the arrays. `ValueError` if a field is missing or there is one too many:
    the state of another solver or version.
    """
    if not is_dataclass(cls):
        raise TypeError(f"a state is a dataclass, not {cls.__name__}")
    left = dict(values)
    found = {field.name: _take(left, field.name, device) for field in fields(cls)}
    if left:
        raise ValueError(f"the state of another solver: {cls.__name__} has no {', '.join(sorted(left))}")
    return cls(**{field.name: found[field.name] for field in fields(cls) if field.init})


def _take(values: dict[str, StateValue], name: str, device: torch.device | str) -> object:
    if name in values:
        value = values.pop(name)
        return torch.from_numpy(value).to(device) if isinstance(value, np.ndarray) else value
    length = values.pop(f"{name}.{LENGTH}", None)
    if not isinstance(length, int):
        raise ValueError(f"the state of another solver: {name} is missing")
    return tuple(_take(values, f"{name}.{number}", device) for number in range(length))
