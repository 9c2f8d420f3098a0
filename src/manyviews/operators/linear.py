"""What a linear operator is here, and the list of all of them that the dot test walks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from manyviews.errors import InputError
from manyviews.random import Stream, generator

Shape = tuple[int, ...]


def require_shape(x: torch.Tensor, wanted: Shape, what: str) -> None:
    """Refuse what is no tensor, or none of the wanted shape, with an `InputError` that names both shapes.

    A projector would otherwise read a part of a larger array, or beyond a smaller one.
    """
    if not isinstance(x, torch.Tensor):
        raise InputError(
            f"{what} wants a torch tensor of shape {tuple(wanted)}, not {type(x).__name__}",
            fix="use torch.from_numpy for a NumPy array",
        )
    if tuple(x.shape) != tuple(wanted):
        raise InputError(
            f"{what} wants shape {tuple(wanted)}, not {tuple(x.shape)}",
            fix="give an array of that shape, or make the operator for yours",
        )


class LinearOperator(ABC):
    """A linear map between tensors with its exact adjoint.

    ``domain`` and ``range`` are the shapes of input and output. The result lives on the device and has the
    dtype of the argument; `InputError` where that has another shape, or is no tensor.
    """

    domain: Shape
    range: Shape

    @abstractmethod
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the operator to a tensor of shape ``domain``."""

    @abstractmethod
    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint to a tensor of shape ``range``."""

    def normal(self, x: torch.Tensor) -> torch.Tensor:
        """``adjoint(forward(x))``; overridden where there is a shorter way."""
        return self.adjoint(self.forward(x))


OperatorFactory = Callable[[int], LinearOperator]
_REGISTRY: dict[str, OperatorFactory] = {}


def register(name: str) -> Callable[[OperatorFactory], OperatorFactory]:
    """Register a factory of small test instances of an operator; every one gets the dot test.

    The factory takes a case number 0, 1, 2 and returns odd, even and non-cubic instances. `ValueError` if the
    name is taken.
    """

    def add(factory: OperatorFactory) -> OperatorFactory:
        if name in _REGISTRY:
            raise ValueError(f"operator {name!r} is registered already")
        _REGISTRY[name] = factory
        return factory

    return add


def registered_operators() -> dict[str, OperatorFactory]:
    """All registered factories by name, with every operator module imported."""
    import importlib
    import pkgutil

    import manyviews.operators as room

    for module in pkgutil.iter_modules(room.__path__):
        importlib.import_module(f"{room.__name__}.{module.name}")
    return dict(_REGISTRY)


def dot_test(operator: LinearOperator, *, dtype: torch.dtype, seed: int = 0) -> float:
    """Relative mismatch ``|<Ax, y> - <x, A'y>| / (|Ax| |y|)`` for random x and y, sums in float64."""
    rng = generator(seed, Stream.DOT_TEST)
    x, y = (torch.from_numpy(rng.standard_normal(s)).to(dtype) for s in (operator.domain, operator.range))
    forward = operator.forward(x).double()
    left = torch.sum(forward * y.double())
    right = torch.sum(x.double() * operator.adjoint(y).double())
    return float(abs(left - right) / (forward.norm() * y.double().norm()))
