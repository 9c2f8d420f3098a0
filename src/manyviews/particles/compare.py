"""Compare what a reconstruction came to with the truth: maps, laid over each other first, or poses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.alignment.map_alignment import MapAlignment, aligned_fsc
from manyviews.compare import in_words
from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.faults import explain_write_errors
from manyviews.io.mrc import MrcHeader, read_mrc, write_mrc
from manyviews.io.particle_images import read_particles
from manyviews.io.particle_table import ParticleTable
from manyviews.metrics.fsc import FscCurve
from manyviews.metrics.pose_error import PoseErrors, pose_errors

TABLES = (".star", ".cs")
FILES = ("aligned.mrc", "fsc.csv", "fsc.png")  # of `MapComparison.write`
_PIXEL_TOLERANCE = 1e-3  # relative; headers hold lengths that others have rounded
_CLOSE_DEGREES = (2.0, 5.0, 10.0)


@dataclass(frozen=True)
class MapComparison:
    """How well a map agrees with a reference once it lies over it, inside a soft sphere."""

    curve: FscCurve
    alignment: MapAlignment

    def lines(self) -> list[str]:
        """The result in words, for a terminal."""
        shift = ", ".join(f"{value:.2f}" for value in self.alignment.shift)
        cosine = (np.trace(self.alignment.rotation) - 1) / 2
        angle = math.degrees(math.acos(float(np.clip(cosine, -1, 1))))
        return [
            f"resolution at FSC 0.5:    {in_words(self.curve.resolution(0.5), self.curve.pixel_size)}",
            f"resolution at FSC 0.143:  {in_words(self.curve.resolution(0.143), self.curve.pixel_size)}",
            f"correlation:              {self.alignment.correlation:.4f}",
            f"hand:                     {'other than' if self.alignment.mirrored else 'as'} the reference",
            f"moved by:                 {angle:.1f} degrees; {shift} angstrom in x, y, z",
        ]

    def write(self, folder: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
        """Write ``aligned.mrc``, ``fsc.csv`` and ``fsc.png`` into a folder; ``overwrite`` replaces old ones.

        Raises
        ------
        InputError
            If the files exist already and must not be replaced, or the folder cannot be written.
        """
        from manyviews.io.atomic import atomic_write
        from manyviews.report.plots import resolution_figure
        from manyviews.report.style import figure_png

        volume, table, picture = (folder / name for name in FILES)
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_mrc(volume, self.alignment.volume, self.curve.pixel_size, overwrite=overwrite)
        self.curve.write_csv(table, overwrite=overwrite)
        figure = resolution_figure([(self.curve, "map and reference, aligned", 0.5)])
        atomic_write(picture, figure_png(figure), overwrite=overwrite)
        return volume, table, picture


@dataclass(frozen=True)
class PoseComparison:
    """How far poses are from true ones, after one turn, hand and shift of all of them.

    ``left_out`` particles are in one table only.
    """

    errors: PoseErrors
    left_out: int

    def lines(self) -> list[str]:
        """The result in words, for a terminal."""
        angles = self.errors.angles
        within = ", ".join(f"{(angles <= d).mean():.1%} within {d:g}" for d in _CLOSE_DEGREES)
        told = [
            f"particles:           {len(angles)}",
            f"angle, median:       {np.median(angles):.2f} degrees",
            f"                     {within} degrees",
        ]
        if self.errors.shifts is not None:
            told.append(f"shift, median:       {np.median(self.errors.shifts):.2f} angstrom")
        told.append(
            f"hand:                {'other than' if self.errors.mirrored else 'as'} the second table's"
        )
        if self.left_out:
            told.append(f"in one table only:   {self.left_out} particles, not compared")
        return told


def compare_maps(path: Path, reference: Path, mask_diameter: float | None = None) -> MapComparison:
    """Lay a map over a reference, in either hand, and correlate the two, cubes of one size.

    Only the soft sphere of ``mask_diameter`` angstrom counts; None: the largest in the box.

    Raises
    ------
    InputError
        If a file cannot be read, or the two cannot be compared.
    """
    moving, header = read_mrc(path)
    target, other = read_mrc(reference)
    pixel_size = _common_pixel_size(header, other, path, reference)
    side = len(target) * pixel_size
    if mask_diameter is not None and not 4 * pixel_size <= mask_diameter <= side:
        raise InputError(
            f"a mask of {mask_diameter:g} angstrom does not go with a box of {side:g}",
            where="--mask-diameter",
            fix=f"give between {4 * pixel_size:g} and {side:g}",
        )
    for volume, name in ((moving, path), (target, reference)):
        if not np.isfinite(volume).all() or not volume.std() > 0:
            raise InputError(
                "is constant, or holds NaN or infinity", path=name, fix="give a map with density"
            )
    radius = None if mask_diameter is None else mask_diameter / 2
    try:
        return MapComparison(*aligned_fsc(moving, target, pixel_size, radius=radius))
    except ValueError as error:
        raise InputError(f"cannot be compared with {reference} ({error})", path=path) from error


def _common_pixel_size(header: MrcHeader, other: MrcHeader, path: Path, reference: Path) -> float:
    """Angstrom, of both."""
    shape, wanted = header.shape, other.shape
    if shape != wanted or len(set(shape)) != 1:
        sizes = [" x ".join(map(str, one[::-1])) for one in (shape, wanted)]
        raise InputError(
            f"the map is {sizes[0]} voxels and {reference} is {sizes[1]}",
            path=path,
            fix="give two cubes of one size",
        )
    sizes_angstrom = [one.pixel_size for one in (header, other) if one.pixel_size is not None]
    if not sizes_angstrom:
        raise InputError("its header holds no pixel size", path=path, fix="write the voxel size into it")
    lengths = [length for size in sizes_angstrom for length in size]
    if max(lengths) > min(lengths) * (1 + _PIXEL_TOLERANCE):
        raise InputError(
            f"the voxels of the map and of {reference} differ: {min(lengths):g} to {max(lengths):g} angstrom",
            path=path,
            fix="give two maps of one pixel size",
        )
    return float(lengths[0])


def compare_poses(found: Path, truth: Path, symmetry: str = "C1") -> PoseComparison:
    """Compare the poses of the particles that are in both tables, known by the names of their images.

    The tables are STAR or .cs files; the stacks need not be there. ``symmetry`` is the point group of the
    particle, in the frame of the second table.

    Raises
    ------
    InputError
        If a table cannot be read or holds no poses, or they have no particle in common.
    """
    tables = [_posed(path) for path in (found, truth)]
    keys = [_keys(table, path) for table, path in zip(tables, (found, truth), strict=True)]
    common = sorted(keys[0].keys() & keys[1].keys())
    if not common:
        raise InputError(
            f"has no particle in common with {truth}",
            path=found,
            fix="give two tables of the same stacks of images",
        )
    rows = [np.array([key[name] for name in common]) for key in keys]
    poses = [euler_to_matrices(_of(table.angles)[row]) for table, row in zip(tables, rows, strict=True)]
    moves: list[NDArray[np.float64] | None] = [None, None]
    if all(table.shifts is not None for table in tables):
        moves = [_of(table.shifts)[row] for table, row in zip(tables, rows, strict=True)]
    errors = pose_errors(
        poses[0],
        poses[1],
        found_shifts=moves[0],
        true_shifts=moves[1],
        symmetry=symmetry_rotations(symmetry),
    )
    return PoseComparison(errors, len(keys[0]) + len(keys[1]) - 2 * len(common))


def _of(values: NDArray[Any] | None) -> NDArray[np.float64]:
    assert values is not None
    return np.asarray(values, dtype=np.float64)


def _posed(path: Path) -> ParticleTable:
    table = read_particles(path, with_images=False, ctf=False)
    if table.angles is None:
        raise InputError("holds no poses", path=path, fix="give a table with rlnAngleRot, Tilt and Psi")
    return table


def _keys(table: ParticleTable, path: Path) -> dict[tuple[str, int], int]:
    """Row of each particle by the name of its stack, without folders, and its place in it."""
    names = [Path(stack).name for stack in table.stacks]
    pairs = zip(table.stack_index.tolist(), table.section.tolist(), strict=True)
    keys = {(names[stack], section): row for row, (stack, section) in enumerate(pairs)}
    if len(keys) < len(table):
        raise InputError("names an image twice", path=path, fix="give a table with each image once")
    return keys
