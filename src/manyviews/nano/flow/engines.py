"""What an engine of flows is, and the engines by name."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError

Float32 = NDArray[np.float32]

ENGINES = ("farneback", "dis", "grid", "shifts")


class FlowEngine(Protocol):
    """Finds where a model must be read to be like the data."""

    def find(self, data: Float32, model: Float32, flow: Float32, window: float) -> Float32:
        """Flows ``(n, 2, z, x)`` with ``data = D_f model``, from ``flow`` on.

        ``data``, ``model`` are ``(n, z, x)``; a ``window`` is how many pixels move as one, coarse to fine
        from call to call.
        """
        ...


def make_engine(name: str) -> FlowEngine:
    """The engine of that name with its defaults; `InputError` if there is none."""
    from manyviews.nano.flow.dis import Dis
    from manyviews.nano.flow.farneback import Farneback
    from manyviews.nano.flow.grid import Grid
    from manyviews.nano.flow.shifts import Shifts

    makers = dict(zip(ENGINES, (Farneback, Dis, Grid, Shifts), strict=True))
    if name not in makers:
        raise InputError(f"no flow engine is named {name!r}", fix=f"take one of {', '.join(ENGINES)}")
    engine: FlowEngine = makers[name]()
    return engine
