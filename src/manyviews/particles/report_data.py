"""What a run over particles has left for its pictures: what the iterations told, and its tables."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.tables import read_numbers, require_ordinary
from manyviews.report.data import RunData, as_number
from manyviews.report.volume import Model

Float64 = NDArray[np.float64]


_MOST_PARTICLES = 1e12
_MOST_ITERATIONS = 1e9


@dataclass(frozen=True)
class Learning:
    """What every iteration told, ``(n,)``; NaN where it did not.

    Attributes
    ----------
    iteration
        From 1.
    start
        Random starts that were done before it.
    starts
        Random starts in all; iterations after them refine. 0 where the method has one start only.
    fit, fit_name
        Log likelihood of an image, or the objective of a mini-batch, and which of the two.
    radius, agreed_radius
        Highest frequency in use, and the last at which the halves of the data agree; Fourier pixels.
    poses
        Poses scored for an image on average.
    all_poses
        Points of the quadrature over all poses at that radius, by the rules of Punjani, Brubaker and Fleet
        (2017), section 3.2: directions, in-plane angles and shifts.
    fraction
        The one over the other.
    side_angstrom
        Of the box, which turns Fourier pixels into angstrom; None where no map tells it yet.
    """

    iteration: NDArray[np.int64]
    start: NDArray[np.int64]
    starts: int
    fit: Float64
    fit_name: str
    radius: Float64
    agreed_radius: Float64
    poses: Float64
    all_poses: Float64
    fraction: Float64
    side_angstrom: float | None


@dataclass(frozen=True)
class Spread:
    """Particles by the width of their posterior: ``(bin,)``, and the edges ``(bin + 1,)`` of the bins."""

    edges_degrees: Float64
    particles: Float64


def read_learning(
    run: RunData, model: Model | None = None, stages: Container[str] | None = None
) -> Learning | None:
    """What the iterations of some stages told, None if there are none; the map tells the side of the box.

    Left out: all stages that lead to the map, and neither trials of starts nor the poses in the end.
    """
    told = [event for event in run.told("iteration") if _is_shown(str(event.get("stage", "")), stages)]
    if not told:
        return None

    def column(name: str) -> Float64:
        return np.array([as_number(event.get(name)) for event in told])

    name = "log_likelihood" if any("log_likelihood" in event for event in told) else "objective"
    refines = np.array([event.get("stage") == "refinement" for event in told])
    starts = _starts_begun(column("starts_done"))
    done = _counts(np.where(refines, starts, column("starts_done")))
    poses = column("poses_an_image")
    poses[poses <= 0] = math.nan
    radius = column("radius")
    every = _all_poses(radius, as_number(run.options.get("shift_sigma")))
    return Learning(
        iteration=_counts(column("iteration")),
        start=np.concatenate([done[:1], done[:-1]]),
        starts=int(_counts(np.array([starts]))[0]) if name == "log_likelihood" else 0,
        fit=column(name),
        fit_name=name,
        radius=radius,
        agreed_radius=column("agreed_radius"),
        poses=poses,
        all_poses=every,
        fraction=column("work") if name == "objective" else poses / every,
        side_angstrom=None if model is None else model.side_angstrom,
    )


def _starts_begun(done: Float64) -> float:
    """How many random starts were begun: ``done`` of them after each iteration, NaN where it was another."""
    told = done[np.isfinite(done)]
    return float(max(told[-1], told[-2] + 1)) if len(told) > 1 else float(len(told))


def _counts(values: Float64) -> NDArray[np.int64]:
    """Whole numbers; 0 for what is not told, and no more than can be drawn."""
    return np.clip(np.nan_to_num(values), 0, _MOST_ITERATIONS).astype(np.int64)


def _is_shown(stage: str, stages: Container[str] | None) -> bool:
    if stages is not None:
        return stage in stages
    return stage != "poses" and not stage.startswith("trial-")


def _all_poses(radius: Float64, shift_sigma: float) -> Float64:
    """Points of the paper's quadrature at each radius, NaN where radius or shifts are not known."""
    from manyviews.geometry.quadrature import quadrature_size

    every = np.full(len(radius), math.nan)
    for value in np.unique(radius[radius > 0]) if shift_sigma >= 0 else ():
        every[radius == value] = float(quadrature_size(float(value), shift_sigma))
    return every


def read_spread(path: Path) -> Spread | None:
    """The widths of the posteriors, None if there is no file."""
    table = read_numbers(path, ("from_degrees", "to_degrees", "particles"))
    if not len(table):
        return None
    require_ordinary(table, path, least=0.0, most=_MOST_PARTICLES)
    edges = np.append(table[:, 0], table[-1:, 1])
    if (np.diff(edges) <= 0).any():
        raise InputError("the edges of its bins do not rise", path=path)
    return Spread(edges, table[:, 2])
