"""What a reconstruction leaves in its folder beside volumes, while it runs and at the end: names and formats.

The report reads these files and nothing else, so a run that is half done is shown as far as it has come.
Tables have a header; an empty field is a number that is not known. Views are counted from 1 in tables.

===================== ========================================================================================
iterations.csv        a row an iteration of a level, the fields of `Iteration` as columns
views.csv             a row a view: the fields of `Views`
shifts.csv            a row a view: angle, and the shift of the whole image along x (columns) and z (rows)
pitch.csv             a row a view: angle, and its tilt towards the beam in degrees, if there is any
gauge.csv             a row a slice: the common motion that was taken out, the fields of `GaugeTable`
center.toml           where the rotation axis was taken to be, and by what: `Center`
examples.npy, .csv    a few views for pictures, and which they are: `Examples`
flow.npy              flow of every view ``(view, 2, z, x)`` in pixels, along x, then z
motion.npy            motion in space: knots ``(m, 3, kz, ky, kx)`` in pixels, along z, y, x; see below
motion.csv            a row a view: angle, functions of time, shift of the whole view: `SpaceMotion`
choice.toml           flows or motion in space, and the misfit of either: `Choice`
fsc.csv               correlation of the halves with one shifted onto the other
fsc_slices.csv        the same after slices were registered one by one
fsc_reference.csv     correlation of the volume with a reference
trust.csv             a row a view: rms of a motion that was injected, and of what did not come back
volume_before.mrc     what the same projections give without alignment
===================== ========================================================================================

Where ``pitch.csv`` is, a view shows what is at height z and depth ``s = y cos(angle) - x sin(angle)``, from
the axis, in row ``z + s tan(pitch)``, before it is read along its flow.

Where a motion in space was found, there is no ``flow.npy``. The specimen in a view is the volume read at
moved places, ``u_view(X) = u(X + w(X))`` (times ``det(1 + grad w)`` with ``--warp mass``), with

    w(X) = sum_m function_m(view) sum_k knots[m, :, kz, ky, kx] B_kz(z) B_ky(y) B_kx(x)

B_k are uniform cubic B-splines. Along an axis of K knots the detector is ``K - 3`` cells long, and spline k
spans cells k - 3 to k; where the coordinate is t of the way through cell j, splines j to j + 3 have the
weights ``(1 - t)^3 / 6``, ``(3 t^3 - 6 t^2 + 4) / 6``, ``(1 + 3 t + 3 t^2 - 3 t^3) / 6``, ``t^3 / 6``; t goes
on beyond the ends. Cells along z begin at the edge of the first slice, those along y and x half a detector
before voxel ``n // 2``. `manyviews.nano.motion.displacement` does this. The view is then read at places moved
by its shift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, shortened
from manyviews.io.array_file import open_array, write_array
from manyviews.io.atomic import atomic_write
from manyviews.io.nested import parse_toml
from manyviews.io.tables import read_numbers, require_ordinary, write_table
from manyviews.operators.pitched_radon import MOST_DEGREES as MOST_PITCH_DEGREES
from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, MASK_FILE, VOLUME_FILE
from manyviews.runs.toml import dump_toml

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

BEFORE_FILE, ALIGNED_FILE, FLOW_FILE = "volume_before.mrc", "projections_aligned.mrc", "flow.npy"
ITERATIONS_FILE, VIEWS_FILE, SHIFTS_FILE = "iterations.csv", "views.csv", "shifts.csv"
PITCH_FILE = "pitch.csv"
GAUGE_FILE, CENTER_FILE, RETURNED_FILE = "gauge.csv", "center.toml", "trust.csv"
MOTION_FILE, MOTION_VIEWS_FILE, CHOICE_FILE = "motion.npy", "motion.csv", "choice.toml"
EXAMPLES_FILE, EXAMPLE_VIEWS_FILE = "examples.npy", "examples.csv"
FSC_FILE, FSC_SLICES_FILE, FSC_REFERENCE_FILE = "fsc.csv", "fsc_slices.csv", "fsc_reference.csv"
FILES = (
    VOLUME_FILE, HALF1_FILE, HALF2_FILE, MASK_FILE, BEFORE_FILE, ALIGNED_FILE, FLOW_FILE, ITERATIONS_FILE,
    VIEWS_FILE, SHIFTS_FILE, GAUGE_FILE, CENTER_FILE, EXAMPLES_FILE, EXAMPLE_VIEWS_FILE, FSC_FILE,
    FSC_SLICES_FILE, FSC_REFERENCE_FILE, RETURNED_FILE, MOTION_FILE, MOTION_VIEWS_FILE, CHOICE_FILE,
    PITCH_FILE,
)  # fmt: skip
"""All of them, for the list of a job's results."""

_MOST = 1e12
_EXAMPLE_IMAGES = 5
_MOST_EXAMPLES = 16
_FEWEST_KNOTS, _MOST_KNOTS = 4, 1_000_000


@dataclass(frozen=True)
class Iteration:
    """What an outer iteration came to; NaN for what is not known.

    Attributes
    ----------
    level, iteration
        Both from 1; iterations are counted anew at every level, the last of which has the finest pixels.
    binning
        Pixels of the scan along a pixel of the level.
    window_pixels
        Of the flow engine, in pixels of the level.
    misfit
        Norm of what reprojections, deformed, differ from the data by, in the norm of the data.
    lagrangian
        What is minimised, with multipliers where there are any, in the square of the data's norm.
    rho_tomography, rho_gradient
        Penalties of the two constraints.
    flow_rms_pixels
        In pixels of the level.
    flow_seconds, warp_seconds, tomography_seconds
        What the iteration took, by part.
    """

    level: int
    iteration: int
    binning: int = 1
    window_pixels: float = math.nan
    misfit: float = math.nan
    lagrangian: float = math.nan
    rho_tomography: float = math.nan
    rho_gradient: float = math.nan
    flow_rms_pixels: float = math.nan
    flow_seconds: float = math.nan
    warp_seconds: float = math.nan
    tomography_seconds: float = math.nan


@dataclass(frozen=True, eq=False)
class Views:
    """What is known of every view, ``(view,)`` each, in the order of acquisition.

    Attributes
    ----------
    theta_degrees
        Its angle.
    residual_before, residual
        Norm of the difference of the data from what the volume projects to, in the norm of the data: without
        alignment, and in the end.
    flow_rms_pixels
        How far it was deformed, whole shift included.
    weight
        How much it counted, from 0 to 1.
    bad, jump
        Whether it is listed as one that does not fit, and as one at which the scan jumped: 0 or 1.
    """

    theta_degrees: Float64
    residual_before: Float64
    residual: Float64
    flow_rms_pixels: Float64
    weight: Float64
    bad: Float64
    jump: Float64


@dataclass(frozen=True, eq=False)
class GaugeTable:
    """Motion of the object that no view tells apart, ``(z,)`` each: pixels, and the dilation without unit.

    ``cosine`` and ``sine`` move slices along x and y, ``vertical`` along z.
    """

    cosine: Float64
    sine: Float64
    vertical: Float64
    dilation: Float64


@dataclass(frozen=True)
class Center:
    """Column of the rotation axis in pixels of the volume and of the scan, and by what it was found."""

    center: float
    center_unbinned: float
    by: str


@dataclass(frozen=True, eq=False)
class SpaceMotion:
    """A motion of the specimen in space, as the text above has it.

    ``knots (m, 3, kz, ky, kx)`` in pixels along z, y, x; ``theta_degrees (view,)``; ``functions (view, m)``
    of time; ``shifts (view, 2)`` of whole views besides, in pixels along x and z.
    """

    knots: Float64
    theta_degrees: Float64
    functions: Float64
    shifts: Float64


@dataclass(frozen=True)
class Choice:
    """The method that was taken, and misfits in the norm of the data where both were tried: of flows of
    projections, of motion in space, of noise alone, with so many columns.
    """

    method: str
    misfit_flows: float
    misfit_space: float
    misfit_noise: float
    columns: int


@dataclass(frozen=True, eq=False)
class Examples:
    """A few views for pictures.

    ``view (k,)`` from 0, ``theta_degrees (k,)``; ``data``, ``aligned`` and ``reprojection (k, z, x)`` as
    measured, as aligned and as the volume projects; ``flow (k, 2, z, x)`` in pixels.
    """

    view: NDArray[np.int64]
    theta_degrees: Float64
    data: Float32
    aligned: Float32
    reprojection: Float32
    flow: Float32


def write_iterations(path: Path, iterations: Sequence[Iteration]) -> None:
    """Write ``iterations.csv``, replacing an earlier one."""
    names = [item.name for item in fields(Iteration)]
    write_table(path, names, ([_text(getattr(one, name)) for name in names] for one in iterations))


def read_iterations(path: Path) -> list[Iteration]:
    """The iterations so far, none if there is no file; `InputError` if it cannot be read."""
    table = read_numbers(path, tuple(item.name for item in fields(Iteration)))
    if not len(table):
        return []
    require_ordinary(table[:, :3], path, least=1, most=_MOST)
    require_ordinary(np.nan_to_num(table), path, least=-_MOST, most=_MOST)
    return [Iteration(*(int(value) for value in row[:3]), *row[3:].tolist()) for row in table]


def write_views(path: Path, views: Views) -> None:
    """Write ``views.csv``, replacing an earlier one."""
    _write_arrays(path, "view", views)


def read_views(path: Path) -> Views | None:
    """What is known of the views; None if there is no file; `InputError` if it cannot be read."""
    found = _read_arrays(path, Views)
    return None if found is None else Views(*found)


def write_gauge(path: Path, gauge: GaugeTable) -> None:
    """Write ``gauge.csv``, replacing an earlier one."""
    _write_arrays(path, "slice", gauge)


def read_gauge(path: Path) -> GaugeTable | None:
    """The common motion; None if there is no file; `InputError` if it cannot be read."""
    found = _read_arrays(path, GaugeTable)
    return None if found is None else GaugeTable(*found)


_SHIFTS = ("theta_degrees", "shift_x_pixels", "shift_z_pixels")


def write_shifts(path: Path, theta_degrees: Float64, shifts: Float64) -> None:
    """Write ``shifts.csv``: shifts ``(view, 2)`` along x, then z, in pixels of the scan."""
    columns = zip(theta_degrees, *shifts.T, strict=True)
    write_table(path, ("view", *_SHIFTS), ((view, *map(_text, row)) for view, row in enumerate(columns, 1)))


def read_shifts(path: Path) -> tuple[Float64, Float64] | None:
    """Angles ``(view,)`` and shifts ``(view, 2)``; None if there is no file; `InputError` if unreadable."""
    table = read_numbers(path, _SHIFTS)
    if not len(table):
        return None
    require_ordinary(table, path, least=-_MOST, most=_MOST)
    return table[:, 0], table[:, 1:]


_PITCH = ("theta_degrees", "pitch_degrees")


def write_pitch(path: Path, theta_degrees: Float64, pitch_degrees: Float64) -> None:
    """Write ``pitch.csv``: by how much views ``(view,)`` are tilted towards the beam."""
    columns = zip(theta_degrees, pitch_degrees, strict=True)
    write_table(path, ("view", *_PITCH), ((view, *map(_text, row)) for view, row in enumerate(columns, 1)))


def read_pitch(path: Path) -> Float64 | None:
    """Degrees ``(view,)``; None if there is no file; `InputError` if it cannot be read."""
    table = read_numbers(path, _PITCH)
    if not len(table):
        return None
    require_ordinary(table[:, :1], path, least=-_MOST, most=_MOST)
    require_ordinary(table[:, 1:], path, least=-MOST_PITCH_DEGREES, most=MOST_PITCH_DEGREES)
    return table[:, 1]


_RETURNED = ("theta_degrees", "injected_rms_pixels", "left_rms_pixels")


def write_returned(path: Path, theta_degrees: Float64, injected: Float64, left: Float64) -> None:
    """Write ``trust.csv``: rms ``(view,)`` of a motion that was injected, and of what did not come back."""
    columns = zip(theta_degrees, injected, left, strict=True)
    write_table(path, ("view", *_RETURNED), ((view, *map(_text, row)) for view, row in enumerate(columns, 1)))


def read_returned(path: Path) -> tuple[Float64, Float64, Float64] | None:
    """Angles, injected and left rms ``(view,)``; None if there is no file; `InputError` if unreadable."""
    table = read_numbers(path, _RETURNED)
    if not len(table):
        return None
    require_ordinary(table, path, least=-_MOST, most=_MOST)
    return table[:, 0], table[:, 1], table[:, 2]


def write_center(path: Path, center: Center) -> None:
    """Write ``center.toml``, replacing an earlier one."""
    values = {item.name: getattr(center, item.name) for item in fields(Center)}
    atomic_write(path, dump_toml(values).encode(), overwrite=True)


def read_center(path: Path) -> Center | None:
    """Where the axis is; None if there is no file; `InputError` if it cannot be read."""
    if not path.exists():
        return None
    try:
        found = parse_toml(path.read_text(encoding="utf-8"))
        one = Center(float(found["center"]), float(found["center_unbinned"]), str(found["by"]))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(f"cannot be read ({shortened(repr(error))})", path=path) from error
    if not (abs(one.center) < _MOST and abs(one.center_unbinned) < _MOST):
        raise InputError("the centre is no number", path=path)
    return one


def write_motion(folder: Path, motion: SpaceMotion) -> None:
    """Write ``motion.npy`` and ``motion.csv``, replacing earlier ones."""
    write_array(folder / MOTION_FILE, motion.knots, overwrite=True)
    columns = (motion.theta_degrees, *motion.functions.T, *motion.shifts.T)
    rows = ((view, *map(_text, row)) for view, row in enumerate(zip(*columns, strict=True), 1))
    write_table(folder / MOTION_VIEWS_FILE, ("view", *_motion_columns(len(motion.knots))), rows)


def read_motion(folder: Path) -> SpaceMotion | None:
    """The motion in space; None if there is none; `InputError` if it cannot be read."""
    path = folder / MOTION_FILE
    if not path.exists() or not (folder / MOTION_VIEWS_FILE).exists():
        return None
    stored = open_array(path, 5)
    if stored.shape[1] != 3 or min(stored.shape[2:]) < _FEWEST_KNOTS or stored.size > _MOST_KNOTS:
        raise InputError(f"holds an array of shape {stored.shape}, which is no motion", path=path)
    knots = np.array(stored, dtype=np.float64)
    if not (np.abs(knots) < _MOST).all():
        raise InputError("holds values that are no numbers", path=path)
    table = read_numbers(folder / MOTION_VIEWS_FILE, _motion_columns(len(knots)))
    if not len(table):
        return None
    require_ordinary(table, folder / MOTION_VIEWS_FILE, least=-_MOST, most=_MOST)
    return SpaceMotion(knots, table[:, 0], table[:, 1:-2], table[:, -2:])


def _motion_columns(functions: int) -> tuple[str, ...]:
    numbered = (f"function_{number}" for number in range(1, functions + 1))
    return ("theta_degrees", *numbered, "shift_x_pixels", "shift_z_pixels")


def write_choice(path: Path, choice: Choice) -> None:
    """Write ``choice.toml``, replacing an earlier one."""
    values = {item.name: getattr(choice, item.name) for item in fields(Choice)}
    atomic_write(path, dump_toml(values).encode(), overwrite=True)


def read_choice(path: Path) -> Choice | None:
    """What was chosen; None if there is no file; `InputError` if it cannot be read."""
    if not path.exists():
        return None
    try:
        found = parse_toml(path.read_text(encoding="utf-8"))
        flows, space, noise = (float(found[f"misfit_{name}"]) for name in ("flows", "space", "noise"))
        return Choice(str(found["method"]), flows, space, noise, int(found["columns"]))
    except (ValueError, TypeError, KeyError, OSError, OverflowError) as error:
        raise InputError(f"cannot be read ({shortened(repr(error))})", path=path) from error


def write_examples(folder: Path, examples: Examples) -> None:
    """Write ``examples.npy`` and ``examples.csv``, replacing earlier ones."""
    images = (
        examples.data,
        examples.aligned,
        examples.reprojection,
        examples.flow[:, 0],
        examples.flow[:, 1],
    )
    write_array(folder / EXAMPLES_FILE, np.stack(images, axis=1), overwrite=True)
    rows = zip((examples.view + 1).tolist(), map(_text, examples.theta_degrees), strict=True)
    write_table(folder / EXAMPLE_VIEWS_FILE, ("view", "theta_degrees"), rows)


def read_examples(folder: Path) -> Examples | None:
    """The views for pictures; None if there are none; `InputError` if they cannot be read."""
    path = folder / EXAMPLES_FILE
    table = read_numbers(folder / EXAMPLE_VIEWS_FILE, ("view", "theta_degrees"))
    if not len(table) or not path.exists():
        return None
    require_ordinary(table, folder / EXAMPLE_VIEWS_FILE, least=-_MOST, most=_MOST)
    images = open_array(path, 4)
    count = min(len(table), _MOST_EXAMPLES)
    if images.shape[:2] != (len(table), _EXAMPLE_IMAGES):
        raise InputError(f"holds an array of shape {images.shape} for {len(table)} views", path=path)
    values = np.array(images[:count])
    if not values.size or not (np.abs(values) < _MOST).all():
        raise InputError("holds values that are no numbers", path=path)
    view = table[:count, 0].astype(np.int64) - 1
    return Examples(view, table[:count, 1], values[:, 0], values[:, 1], values[:, 2], values[:, 3:])


def _write_arrays(path: Path, counted: str, table: Any) -> None:
    """A dataclass of arrays as the columns of a table, with the number of the row before them."""
    names = [item.name for item in fields(table)]
    columns = zip(*(getattr(table, name) for name in names), strict=True)
    rows = ((number, *map(_text, row)) for number, row in enumerate(columns, start=1))
    write_table(path, (counted, *names), rows)


def _read_arrays(path: Path, kind: type[Any]) -> list[Float64] | None:
    table = read_numbers(path, tuple(item.name for item in fields(kind)))
    if not len(table):
        return None
    require_ordinary(np.nan_to_num(table, posinf=math.inf, neginf=-math.inf), path, least=-_MOST, most=_MOST)
    return list(table.T)


def _text(value: float) -> str:
    if isinstance(value, int | np.integer):
        return str(value)
    return f"{value:.7g}" if math.isfinite(value) else ""
