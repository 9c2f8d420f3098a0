"""The geometry of a tilt series as the files of another program.

Those files bring each stack to a frame of its own, whose tilt axis is vertical; where that axis lies in the
common specimen is the one number that they leave to ``--axis-angle``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.euler import split_view, within_half_turn, zyx_angles
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.io.aretomo import geometry_to_aln, write_aln
from manyviews.io.atomic import atomic_write
from manyviews.io.imod import geometry_to_imod, write_angles, write_xf
from manyviews.io.mdoc import write_mdoc
from manyviews.io.mrc import MrcStack
from manyviews.io.relion_tomo import geometry_to_relion, write_tilt_series_star
from manyviews.tilt.options import ConvertOptions, SeriesOptions
from manyviews.tilt.series.resolve import resolve_series

# Less than the last digit that the files hold.
_NO_DEGREES = 5e-5
_NO_PIXELS = 5e-4
_NO_STRETCH = 1e-5


@dataclass(frozen=True)
class _Stack:
    """One stack and its views, in the order of the sections and in the frame with a vertical axis."""

    stack: MrcStack
    geometry: TiltGeometry
    pixel_size: float
    out: Path

    @property
    def path(self) -> Path:
        return self.stack.path

    @property
    def image_shape(self) -> tuple[int, int]:
        return self.stack.shape[1], self.stack.shape[2]

    @property
    def left_out(self) -> list[int]:
        """Sections without a view, from 0."""
        return sorted(set(range(self.stack.shape[0])) - set(self.geometry.sections.tolist()))


@dataclass(frozen=True)
class GeometryFiles:
    """What is to be written for one stack, and how manyviews reads it again."""

    write: dict[Path, Callable[[Path], None]]
    read: SeriesOptions


@dataclass(frozen=True)
class Converted:
    """The new files, and the ``options`` that give the same geometry again."""

    files: tuple[Path, ...]
    options: SeriesOptions

    @property
    def command(self) -> str:
        """How to look at it."""
        given = self.options
        words = ["manyviews", "tilt", "check", *map(str, given.stacks)]
        words += ["--tilt-angles", *map(str, given.tilt_angles)]
        words += ["--transform", *map(str, given.transform)] if given.transform else []
        words += ["--axis-angle", *(f"{axis:.10g}" for axis in given.axis_angle)]
        return shlex.join([*words, "--pixel-size", f"{given.pixel_size:.10g}"])


def convert(series: SeriesOptions, options: ConvertOptions) -> Converted:
    """Write the geometry of all stacks for another program; nothing is written unless all of it can be.

    Raises
    ------
    InputError
        If the geometry cannot be found out, the format cannot express it, or a file is there already.
    """
    resolved = resolve_series(series)
    found = geometry_files(resolved.stacks, resolved.geometry, resolved.pixel_size, options.to, options.out)
    paths = [path for files in found for path in files.write]
    for number, path in enumerate(paths):
        if path.exists():
            raise InputError("exists already", path=path, fix="give another folder with --out")
        if path in paths[:number]:
            raise InputError(f"two stacks are called {path.stem}", path=path, fix="convert one at a time")
    options.out.mkdir(parents=True, exist_ok=True)
    for files in found:
        for path, write in files.write.items():
            write(path)
    return Converted(tuple(paths), _together([files.read for files in found], resolved.pixel_size))


def geometry_files(
    stacks: Sequence[MrcStack], geometry: TiltGeometry, pixel_size: float, program: str, out: Path
) -> list[GeometryFiles]:
    """The files of a program for every stack, in the folder ``out``; nothing is written yet.

    ``geometry`` is of the views of all stacks, ``pixel_size`` in angstrom.

    Raises
    ------
    InputError
        If the program's files cannot hold it.
    """
    found = []
    for number, stack in enumerate(stacks):
        if len(stack.files) > 1:
            raise InputError(
                "is a list of images, but what is written speaks of the sections of one stack",
                path=stack.path,
                fix="make a stack of them first, e.g. with IMOD's newstack",
            )
        mine = geometry.select(geometry.series == number)
        mine = mine.select(np.argsort(mine.sections, kind="stable"))
        own = _Stack(stack, _own_frame(mine), pixel_size, out)
        found.append(_MAKERS[program](own, float(mine.axis_degrees[0])))
    return found


def _own_frame(geometry: TiltGeometry) -> TiltGeometry:
    matrices = geometry.matrices.copy()
    matrices[:, :3, :3] = matrices[:, :3, :3] @ rotation_z(float(geometry.axis_degrees[0]))
    return replace(geometry, matrices=matrices)


def _together(parts: list[SeriesOptions], pixel_size: float) -> SeriesOptions:
    return SeriesOptions(
        stacks=tuple(path for part in parts for path in part.stacks),
        tilt_angles=tuple(path for part in parts for path in part.tilt_angles),
        axis_angle=tuple(axis for part in parts for axis in part.axis_angle),
        transform=tuple(path for part in parts for path in part.transform),
        pixel_size=pixel_size,
    )


def _imod(one: _Stack, axis: float) -> GeometryFiles:
    """.tlt, .xf, .xtilt if there is any, and a tilt.com that names them and the sections left out."""
    alignment = geometry_to_imod(one.geometry, one.pixel_size, one.image_shape)
    name, sections, count = one.path.stem, one.geometry.sections, one.stack.shape[0]
    paths = {suffix: one.out / f"{name}{suffix}" for suffix in (".tlt", ".xtilt", ".xf", "_tilt.com")}
    lines = ["# Geometry only: add THICKNESS to reconstruct.", "$tilt -StandardInput"]
    lines += [f"InputProjections {name}_ali.mrc", f"OutputFile {name}_rec.mrc", f"TILTFILE {name}.tlt"]
    # A section that is left out has a line all the same.
    blank = np.tile([1.0, 0, 0, 1, 0, 0], (count, 1))
    tilts, x_tilts = (
        _spread(degrees, sections, np.zeros(count))
        for degrees in (alignment.tilt_degrees, alignment.x_tilt_degrees)
    )
    write: dict[Path, Callable[[Path], None]] = {
        paths[".tlt"]: partial(write_angles, degrees=tilts),
        paths[".xf"]: partial(write_xf, rows=_spread(alignment.xf, sections, blank)),
    }
    if np.abs(x_tilts).max() > _NO_DEGREES:
        write[paths[".xtilt"]] = partial(write_angles, degrees=x_tilts)
        lines.append(f"XTILTFILE {name}.xtilt")
    if one.left_out:
        lines.append("EXCLUDELIST " + ",".join(str(section + 1) for section in one.left_out))
    text = "\n".join(lines) + "\n"
    write[paths["_tilt.com"]] = partial(atomic_write, data=text.encode("utf-8"))
    read = SeriesOptions((one.path,), (paths["_tilt.com"],), (axis,), (paths[".xf"],))
    return GeometryFiles(write, read)


def _spread(
    values: NDArray[np.float64], sections: NDArray[np.int64], blank: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``values`` of the views at their sections, and ``blank`` elsewhere."""
    blank[sections] = values
    return blank


def _aretomo(one: _Stack, axis: float) -> GeometryFiles:
    path = one.out / f"{one.path.stem}.aln"
    alignment = geometry_to_aln(one.geometry, one.pixel_size, one.stack.shape)
    return GeometryFiles(
        {path: partial(write_aln, alignment=alignment)}, SeriesOptions((one.path,), (path,), (axis,))
    )


def _relion5(one: _Stack, axis: float) -> GeometryFiles:
    if any(letter.isspace() for letter in one.path.name):
        raise InputError("a STAR file cannot name a stack with blanks", path=one.path, fix="rename the stack")
    path = one.out / f"{one.path.stem}.star"
    series = geometry_to_relion(one.geometry, one.path.stem)
    write = partial(write_tilt_series_star, series=series, stack=one.path.name)
    return GeometryFiles({path: write}, SeriesOptions((one.path,), (path,), (axis,)))


def _serialem(one: _Stack, axis: float) -> GeometryFiles:
    """.mdoc, which holds tilts about one axis and nothing else."""
    fix = "write IMOD files"
    if one.left_out:
        raise InputError(
            "an .mdoc has every section of its stack and cannot leave one out",
            path=one.path,
            where=f"section {one.left_out[0] + 1}",
            fix=fix,
        )
    tilts = []
    for view, matrix in enumerate(one.geometry.matrices):
        parts = split_view(matrix)
        x_tilt, tilt, turn = zyx_angles(parts.rotation)
        off_axis = max(abs(x_tilt), abs(within_half_turn(turn - axis))) > _NO_DEGREES
        moved = np.abs(parts.shift).max() > _NO_PIXELS * one.pixel_size
        if off_axis or moved or np.abs(parts.stretch - np.eye(2)).max() > _NO_STRETCH:
            raise InputError(
                "an .mdoc cannot hold a view that is shifted, stretched or turned",
                path=one.path,
                where=f"view {view + 1}",
                fix=fix,
            )
        tilts.append(tilt)
    path = one.out / f"{one.path.name}.mdoc"
    write = partial(
        write_mdoc,
        tilt_degrees=tilts,
        pixel_size=one.pixel_size,
        image_shape=one.image_shape,
        axis_degrees=axis,
        image_file=one.path.name,
    )
    return GeometryFiles({path: write}, SeriesOptions((one.path,), (path,), (axis,)))


_MAKERS: dict[str, Callable[[_Stack, float], GeometryFiles]] = {
    "imod": _imod,
    "aretomo": _aretomo,
    "serialem": _serialem,
    "relion5": _relion5,
}
