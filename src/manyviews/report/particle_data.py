"""What the folder of a run over single particles holds for its report, finished or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.mrc import MrcStack
from manyviews.io.tables import read_numbers
from manyviews.metrics.fsc import FscCurve
from manyviews.runs.events import Event

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_JOB = "particles "
_LARGEST_MODEL = 128  # voxels along a side: enough for the pictures of a surface
_WARNING = " warning: "


@dataclass(frozen=True)
class Learning:
    """What every iteration told; NaN where it did not.

    Attributes
    ----------
    iteration
        ``(n,)`` from 1.
    start
        ``(n,)`` random starts that were done before it.
    starts
        Random starts in all; iterations after them refine. 0 where the method has one start only.
    fit
        ``(n,)`` log likelihood of an image, or the objective of a mini-batch.
    fit_name
        Which of the two.
    radius, agreed_radius
        ``(n,)`` highest frequency in use, and the last at which the halves of the data agree; Fourier pixels.
    poses
        ``(n,)`` poses scored for an image on average.
    all_poses
        ``(n,)`` points of the quadrature over all poses at that radius, by the rules of Punjani, Brubaker and
        Fleet (2017), section 3.2: directions, in-plane angles and shifts.
    fraction
        ``(n,)`` the one over the other.
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
class Model:
    """A map, small enough to draw its surface: ``volume`` ``(D, D, D)`` and the size of its voxels."""

    volume: Float32
    voxel_angstrom: float | None


@dataclass(frozen=True)
class Spread:
    """Particles by the width of their posterior: ``(bin,)``, and the edges ``(bin + 1,)`` of the bins."""

    edges_degrees: Float64
    particles: Float64


@dataclass(frozen=True)
class ParticleRun:
    """All that was found beside what every run has.

    Attributes
    ----------
    learning
        The iterations.
    directions
        ``(rows, columns)`` particles seen along each direction: fields of equal area, z from -1 to 1 down the
        rows, longitude from -180 to 180 degrees along them.
    halves, reference
        Fourier shell correlation of the two halves of the particles, and of the map with a reference.
    independent
        Whether the halves were refined apart.
    spread
        Widths of the posteriors.
    model
        The map.
    warnings
        What the log warns of, once each.
    """

    learning: Learning | None
    directions: NDArray[np.int64] | None
    halves: FscCurve | None
    reference: FscCurve | None
    independent: bool
    spread: Spread | None
    model: Model | None
    warnings: tuple[str, ...]


def is_particle_run(record: Mapping[str, Any]) -> bool:
    """Whether a run's record is of a job over single particles."""
    return str(record.get("job", "")).startswith(_JOB)


def read_particle_run(path: Path, record: Mapping[str, Any], events: Sequence[Event]) -> ParticleRun:
    """Read what a run has written so far.

    Parameters
    ----------
    path
        The run folder.
    record
        Its ``run.toml``.
    events
        Its ``events.jsonl``.

    Raises
    ------
    InputError
        If a table is damaged. A map that cannot be read is left out.
    """
    found = record.get("options")
    options: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    model = _try_model(path / "volume.mrc")
    side = None if model is None or model.voxel_angstrom is None else len(model.volume) * model.voxel_angstrom
    return ParticleRun(
        learning=_learning(events, options, side),
        directions=_directions(path / "directions.csv"),
        halves=FscCurve.read_csv(path / "fsc.csv"),
        reference=FscCurve.read_csv(path / "fsc_reference.csv"),
        independent=options.get("independent_halves") is True,
        spread=_spread(path / "spread.csv"),
        model=model,
        warnings=_warnings(path / "log.txt"),
    )


def as_number(value: object) -> float:
    """A number of an event, NaN for anything else."""
    return float(value) if isinstance(value, int | float) else math.nan


def _learning(events: Sequence[Event], options: Mapping[str, Any], side: float | None) -> Learning | None:
    told = [event for event in events if event.get("kind") == "iteration"]
    if not told:
        return None

    def column(name: str) -> Float64:
        return np.array([as_number(event.get(name)) for event in told])

    name = "log_likelihood" if any("log_likelihood" in event for event in told) else "objective"
    done = np.nan_to_num(column("starts_done")).astype(np.int64)
    poses = column("poses_an_image")
    poses[poses <= 0] = math.nan
    radius = column("radius")
    every = _all_poses(radius, as_number(options.get("shift_sigma")))
    starts = as_number(options.get("starts"))
    return Learning(
        iteration=np.nan_to_num(column("iteration")).astype(np.int64),
        start=np.concatenate([done[:1], done[:-1]]),
        starts=int(starts) if math.isfinite(starts) and name == "log_likelihood" else 0,
        fit=column(name),
        fit_name=name,
        radius=radius,
        agreed_radius=column("agreed_radius"),
        poses=poses,
        all_poses=every,
        fraction=column("work") if name == "objective" else poses / every,
        side_angstrom=side,
    )


def _all_poses(radius: Float64, shift_sigma: float) -> Float64:
    """Points of the paper's quadrature at each radius, NaN where radius or shifts are not known."""
    from manyviews.geometry.quadrature import pose_quadrature

    every = np.full(len(radius), math.nan)
    for value in np.unique(radius[radius > 0]) if shift_sigma >= 0 else ():
        every[radius == value] = pose_quadrature(float(value), shift_sigma).size
    return every


def _directions(path: Path) -> NDArray[np.int64] | None:
    columns = ("z", "longitude_degrees", "particles")
    table = read_numbers(path, columns)
    if not len(table):
        return None
    heights, row = np.unique(table[:, 0], return_inverse=True)
    longitudes, column = np.unique(table[:, 1], return_inverse=True)
    if len(table) != len(heights) * len(longitudes) or not np.isfinite(table).all():
        raise InputError("is not a full grid of directions", path=path)
    counts = np.zeros((len(heights), len(longitudes)), np.int64)
    counts[row, column] = table[:, 2].astype(np.int64)
    return counts


def _spread(path: Path) -> Spread | None:
    table = read_numbers(path, ("from_degrees", "to_degrees", "particles"))
    return Spread(np.append(table[:, 0], table[-1:, 1]), table[:, 2]) if len(table) else None


def _try_model(path: Path) -> Model | None:
    """The map; None if it is not there, or not to be read (the report says why beside the slices)."""
    try:
        return read_model(path) if path.exists() else None
    except InputError:
        return None


def read_model(path: Path, largest: int = _LARGEST_MODEL) -> Model:
    """A map whose voxels are averaged in blocks until its side is at most ``largest``.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    stack = MrcStack(path)
    factor = -(-max(stack.shape) // largest)
    kept = [size // factor for size in stack.shape]
    volume = np.empty(kept, np.float32)
    for z in range(kept[0]):
        slab = stack.read(np.arange(z * factor, (z + 1) * factor))[:, : kept[1] * factor, : kept[2] * factor]
        volume[z] = slab.reshape(factor, kept[1], factor, kept[2], factor).mean(axis=(0, 2, 4))
    size = stack.pixel_size
    return Model(volume, None if size is None else float(size[0]) * factor)


def _warnings(path: Path) -> tuple[str, ...]:
    """Sentences after ``warning:`` in a log, in its order."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    said = (line.partition(_WARNING)[2].strip() for line in lines if _WARNING in line)
    sentences = dict.fromkeys(text[:1].upper() + text[1:] for text in said if text)
    return tuple(text if text.endswith((".", "!", "?")) else f"{text}." for text in sentences)
