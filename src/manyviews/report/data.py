"""What a run folder holds for its report; a run that is not done yet holds less."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.mrc import MrcStack
from manyviews.io.tables import Row, read_numbers, read_table
from manyviews.metrics.fsc import FscCurve
from manyviews.report.particle_data import ParticleRun, as_number, is_particle_run, read_particle_run
from manyviews.runs.events import Event, read_events

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_OBJECTIVES = ("objective", "residual", "relative_residual", "relative_change")


@dataclass(frozen=True)
class CentralSlices:
    """The three planes through a volume's centre (index ``n // 2``).

    Attributes
    ----------
    xy, xz, yz
        ``(y, x)``, ``(z, x)`` and ``(z, y)``.
    voxel_angstrom
        Size of a voxel, None where the file does not tell.
    """

    xy: Float32
    xz: Float32
    yz: Float32
    voxel_angstrom: float | None


@dataclass(frozen=True)
class NccCurve:
    """Normalised cross-correlation of the views of one series.

    Attributes
    ----------
    series
        Number of the series, from 0.
    axis_degrees
        Direction of its tilt axis.
    tilt_degrees, ncc
        ``(view,)``, by ascending tilt.
    """

    series: int
    axis_degrees: float
    tilt_degrees: Float64
    ncc: Float64


@dataclass(frozen=True)
class Convergence:
    """How a measure fell.

    Attributes
    ----------
    name
        The measure, mostly ``objective``.
    passes
        ``(iteration,)`` passes over the data, or iterations where ``in_passes`` is false.
    values
        ``(iteration,)``, relative to the first.
    in_passes
        What ``passes`` counts.
    """

    name: str
    passes: Float64
    values: Float64
    in_passes: bool


@dataclass(frozen=True)
class RunData:
    """All that was found; None or empty is what the run has not written.

    A run over single particles has ``particles``, and no ``convergence`` and ``fsc``: its objective is that
    of other images and frequencies at every iteration, and its curves say something else.
    """

    path: Path
    record: Mapping[str, Any]
    events: list[Event]
    summary: Mapping[str, Any]
    slices: CentralSlices | None
    ncc: list[NccCurve]
    convergence: Convergence | None
    fsc: FscCurve | None
    geometry: list[Row]
    notes: tuple[str, ...]
    particles: ParticleRun | None = None


def read_run(path: Path) -> RunData:
    """Read a run folder.

    Raises
    ------
    InputError
        If it is no run folder, or a table in it is damaged. A volume that cannot be read is noted only.
    """
    if not (path / "run.toml").is_file():
        raise InputError(
            "is not a run folder (run.toml is missing)", path=path, fix="give the folder of a run"
        )
    events = read_events(path / "events.jsonl")
    slices, notes = _try_slices(path / "volume.mrc")
    record = _read_toml(path / "run.toml")
    particles = read_particle_run(path, record, events) if is_particle_run(record) else None
    return RunData(
        path=path,
        record=record,
        events=events,
        summary=_read_summary(path / "summary.json"),
        slices=slices,
        ncc=_ncc_curves(path / "ncc.csv"),
        convergence=None if particles else _convergence(events),
        fsc=None if particles else FscCurve.read_csv(path / "fsc.csv"),
        geometry=read_table(path / "geometry.csv", ()),
        notes=notes + (particles.warnings if particles else ()),
        particles=particles,
    )


def _read_toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"cannot be read ({error})", path=path) from error


def _read_summary(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        summary = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise InputError(f"cannot be read ({error})", path=path) from error
    if not isinstance(summary, dict):
        raise InputError("is not a JSON object", path=path)
    return summary


def _try_slices(path: Path) -> tuple[CentralSlices | None, tuple[str, ...]]:
    if not path.exists():
        return None, ()
    try:
        return central_slices(path), ()
    except InputError as error:
        return None, (f"The volume is not shown: {error}.",)


def central_slices(path: Path) -> CentralSlices:
    """The central planes of a volume, read section by section so that it may be larger than memory.

    Raises
    ------
    InputError
        If it is not an MRC file, or one of its voxels is NaN or infinite.
    """
    stack = MrcStack(path)
    nz, ny, nx = stack.shape
    xz = np.empty((nz, nx), np.float32)
    yz = np.empty((nz, ny), np.float32)
    xy = np.empty((ny, nx), np.float32)
    for z in range(nz):
        section = stack.read([z])[0]
        xz[z], yz[z] = section[ny // 2], section[:, nx // 2]
        if z == nz // 2:
            xy = section
    size = stack.pixel_size
    return CentralSlices(xy, xz, yz, None if size is None else float(size[0]))


def _ncc_curves(path: Path) -> list[NccCurve]:
    columns = ("series", "axis_degrees", "tilt_degrees", "ncc")
    table = read_numbers(path, columns)
    curves = []
    for series in np.unique(table[:, 0]):
        rows = table[table[:, 0] == series]
        rows = rows[np.argsort(rows[:, 2], kind="stable")]
        curves.append(NccCurve(int(series), float(rows[0, 1]), rows[:, 2], rows[:, 3]))
    return curves


def _convergence(events: list[Event]) -> Convergence | None:
    """The first known measure of the iterations, relative to its start."""
    told = [event for event in events if event.get("kind") in ("start", "iteration")]
    for name in _OBJECTIVES:
        rows = [event for event in told if math.isfinite(as_number(event.get(name)))]
        if len(rows) < 2:
            continue
        values = np.array([as_number(row[name]) for row in rows])
        in_passes = all("data_passes" in row for row in rows)
        key = "data_passes" if in_passes else "iteration"
        passes = np.array([as_number(row.get(key, 0)) for row in rows])
        start = values[values > 0][0] if name == "objective" and (values > 0).any() else 1.0
        return Convergence(name, passes, values / start, in_passes)
    return None
