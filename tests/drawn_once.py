"""Figures that tests need not draw again: the same data make the same figure."""

from __future__ import annotations

import functools
import hashlib
import importlib
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np

MODULES = (
    "manyviews.report.plots",
    "manyviews.report.sphere",
    "manyviews.tilt.report",
    "manyviews.nano.report_figures",
    "manyviews.particles.report_figures",
    "manyviews.particles.postprocess_figures",
    "manyviews.subtomo.report_figures",
)


def figure_functions() -> Iterator[tuple[ModuleType, str, FunctionType]]:
    """What makes a figure of data, wherever it is named: each ends in ``_figure``."""
    for name in MODULES:
        importlib.import_module(name)
    loaded = [module for name, module in list(sys.modules.items()) if name.startswith("manyviews.")]
    for module in loaded:
        for name, thing in list(vars(module).items()):
            if isinstance(thing, FunctionType) and name.endswith("_figure") and name != "new_figure":
                yield module, name, thing


def once(draw: FunctionType, drawn: dict[Hashable, object]) -> Callable[..., object]:
    """``draw``, but what was drawn of equal data comes from ``drawn``."""

    @functools.wraps(draw)
    def figure_of(*given: object, **named: object) -> object:
        try:
            key = draw.__module__, draw.__name__, key_of(given), key_of(named)
        except TypeError:  # nothing to tell equal data by
            return draw(*given, **named)
        if key not in drawn:
            drawn[key] = draw(*given, **named)
        return drawn[key]

    return figure_of


def key_of(value: object) -> Hashable:
    """Equal for equal data; `TypeError` for what is not known."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, hashlib.sha256(np.ascontiguousarray(value)).digest()
    if is_dataclass(value):
        return type(value).__name__, *(key_of(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, list | tuple):
        return tuple(map(key_of, value))
    if isinstance(value, Mapping):
        return tuple((key_of(name), key_of(one)) for name, one in value.items())
    if value is None or isinstance(value, bool | int | float | str | Path | np.generic):
        return repr(value)  # a NaN does not equal itself
    raise TypeError
