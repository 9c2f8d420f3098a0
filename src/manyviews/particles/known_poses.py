"""A map from images whose poses are known, as in the last step of every refinement.

Every image, centred and weighted by its CTF over its noise, is added to `manyviews.operators.fourier_sums`,
whose damped quotient is the map. Nothing outside the particle is kept: it is noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.particle_table import ParticleTable
from manyviews.metrics.fsc import FscCurve, fsc
from manyviews.operators.fourier_sums import HALVES, PADDING, FourierSums
from manyviews.operators.image_shift import shift_phases
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.options import ReconstructOptions
from manyviews.particles.plan import check_diameter, check_reference, fourier_radius
from manyviews.particles.results import HALVES_FILE, REFERENCE_FILE
from manyviews.particles.selection import FILES
from manyviews.report import fitted_images
from manyviews.report.words import in_figures
from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, MASK_FILE, VOLUME_FILE

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
_POINTS_AT_ONCE = 2**21
_EDGE_PIXELS = 3.0
_MOST_PADDING = 4
AT_POINTS = 1 / PADDING**3  # of the damping: in full, it would blur a map whose poses are known
VOLUMES = (VOLUME_FILE, HALF1_FILE, HALF2_FILE, MASK_FILE)
RESULTS = (*VOLUMES, HALVES_FILE, REFERENCE_FILE, *FILES, *fitted_images.FILES)


@dataclass(frozen=True)
class ReconstructionPlan:
    """What a run does.

    Lengths are in angstrom, ``box`` is in pixels; ``diameter`` is of the mask and of what is not background,
    ``radius`` the highest frequency, Fourier pixels. ``rotations (N, 3, 3)``, ``shifts (N, 2)`` and ``halves
    (N,)``, 1 or 2, are as `reconstruct` takes them; ``warnings`` are sentences for the user.
    """

    options: ReconstructOptions
    box: int
    pixel_size: float
    diameter: float
    radius: int
    rotations: Float64
    shifts: Float64
    halves: NDArray[np.int64]
    warnings: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """For ``run.toml``: what changes the result."""
        given, reference = self.options, self.options.reference
        return {"diameter": self.diameter, "resolution": given.resolution, "radius": self.radius,
                "symmetry": given.symmetry, "padding": given.padding,
                "remove_outliers": given.remove_outliers,
                "reference": None if reference is None else str(reference)}  # fmt: skip


def resolve_reconstruction(options: ReconstructOptions, table: ParticleTable, box: int) -> ReconstructionPlan:
    """Resolve every default for particles in images of ``box`` pixels, before any image is read.

    Raises
    ------
    InputError
        If the table holds no poses, or options and data do not go together.
    """
    if table.angles is None:
        raise InputError(
            "the particles have no poses to reconstruct from",
            fix='give a table that has them, or find them with "manyviews particles abinitio"',
        )
    if options.device == "cuda":
        raise InputError("known poses run on the CPU", where="--device", fix="give --device cpu")
    if not 1 <= options.padding <= _MOST_PADDING:
        raise InputError(
            f"a padding of {options.padding} is not possible", where="--padding", fix="give 1 to 4"
        )
    pixel_size = table.pixel_size
    side = box * pixel_size
    diameter = side if options.diameter is None else options.diameter
    check_diameter(diameter, side)
    symmetry_rotations(options.symmetry)
    check_reference(options.reference, box)
    halves, warnings = _halves(table)
    return ReconstructionPlan(
        options=options,
        box=box,
        pixel_size=pixel_size,
        diameter=diameter,
        radius=fourier_radius(options.resolution, box, pixel_size),
        rotations=euler_to_matrices(table.angles),
        shifts=np.zeros((len(table), 2)) if table.shifts is None else table.shifts,
        halves=halves,
        warnings=warnings,
    )


def _halves(table: ParticleTable) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The half of each particle, and what to say about it."""
    if table.half is not None:
        return table.half, ()
    told = (
        "the table names no halves (rlnRandomSubset): odd and even particles are taken for them. If their "
        "poses were found with one map, the correlation of the halves is too good"
    )
    return np.arange(len(table)) % HALVES + 1, (told,)


@dataclass(frozen=True)
class WienerMap:
    """A map ``(box, box, box)`` float32, Wiener filtered, zero outside the particle, and one of each half.

    The half maps are as they are, neither filtered nor masked: other programs want them so. ``correlation``
    is their Fourier shell correlation within ``mask``.
    """

    volume: Float32
    half_volumes: tuple[Float32, Float32]
    mask: Float32
    correlation: FscCurve


def reconstruct(
    images: FourierImages,
    rotations: ArrayLike,
    shifts: ArrayLike,
    *,
    halves: ArrayLike | None = None,
    symmetry: ArrayLike | None = None,
    diameter: float | None = None,
    padding: int = PADDING,
) -> WienerMap:
    """Reconstruct from images in known poses.

    Parameters
    ----------
    images
        Their coefficients, CTF and noise.
    rotations
        ``(N, 3, 3)``: rows are the image's axes in the volume.
    shifts
        ``(N, 2)`` (x, y) in angstrom, what centres the image (``rlnOriginXAngst``, ``rlnOriginYAngst``).
    halves
        ``(N,)`` 1 or 2, the half each image belongs to; images in turn if not given.
    symmetry
        ``(S, 3, 3)`` rotations that leave the particle as it is, the identity among them.
    diameter
        Of the particle, in angstrom; what is outside is set to zero. The whole box if not given.
    padding
        Grid points per cycle per box.

    Raises
    ------
    InputError
        If one half has no image, or numbers of poses and images differ.
    """
    poses = np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3)
    moves = np.asarray(shifts, dtype=np.float64).reshape(-1, 2)
    if not len(poses) == len(moves) == len(images):
        raise InputError(f"there are {len(images)} images, {len(poses)} rotations and {len(moves)} shifts")
    half = np.arange(len(images)) % 2 + 1 if halves is None else np.asarray(halves)
    for number in (1, 2):
        if not np.any(half == number):
            raise InputError(f"no image is in half {number}", fix="give both halves images, or none a half")
    sums = add_up(images, poses, moves, half, symmetry=symmetry, padding=padding)
    mask = torch.from_numpy(particle_mask(images.box, images.pixel_size, diameter))
    first, second = (sums.half_volume(number, images.box).numpy() for number in range(HALVES))
    curve = fsc(first, second, images.pixel_size, mask=mask.numpy())
    agreed = curve.correlation[: images.radius + 1]
    # in full at every point, the damping would blur a map whose poses are known: docs/fourier-slices.md
    volume = sums.volume(agreed, images.box, at_points=1 / padding**3, mask=mask).numpy()
    return WienerMap(volume, (first, second), mask.numpy(), curve)


def add_up(
    images: FourierImages,
    rotations: Float64,
    shifts: Float64,
    halves: NDArray[Any],
    *,
    symmetry: ArrayLike | None = None,
    padding: int = PADDING,
) -> FourierSums:
    """The sums of all images of a half, a few MB of them at a time; arguments as those of `reconstruct`."""
    turns = np.eye(3)[None] if symmetry is None else np.asarray(symmetry, dtype=np.float64)
    sums = FourierSums.zeros(images.radius, padding)
    for half in range(HALVES):
        for batch in _batches(np.flatnonzero(halves == half + 1), len(images.points)):
            part = images.select(batch)
            phases = shift_phases(shifts[batch] / images.pixel_size, images.points, images.box).numpy()
            weighted = part.precision() * part.ctf
            values, weights = weighted * part.values * phases, weighted * part.ctf
            for turn in turns:
                sums.add(half, rotations[batch] @ turn, images.points, values, weights)
    return sums.mirrored()


def particle_mask(box: int, pixel_size: float, diameter: float | None = None) -> Float32:
    """``(box, box, box)``: 1 inside a sphere, 0 outside, a raised cosine of three pixels between.

    The edge is centred on the sphere of ``diameter`` angstrom; without one the mask ends at the box's sides.
    """
    largest = box / 2 - _EDGE_PIXELS / 2
    radius = largest if diameter is None else min(largest, diameter / 2 / pixel_size)
    return soft_sphere(box, radius + _EDGE_PIXELS / 2, _EDGE_PIXELS)


def _batches(chosen: NDArray[np.integer], points: int) -> Iterator[NDArray[np.integer]]:
    step = max(1, _POINTS_AT_ONCE // max(1, points))
    return (chosen[first : first + step] for first in range(0, len(chosen), step))


def reconstruct_as_planned(images: FourierImages, plan: ReconstructionPlan) -> WienerMap:
    """`reconstruct` with what a plan says."""
    return reconstruct(
        images,
        plan.rotations,
        plan.shifts,
        halves=plan.halves,
        symmetry=symmetry_rotations(plan.options.symmetry),
        diameter=plan.diameter,
        padding=plan.options.padding,
    )


def write_reconstruction(folder: Path, plan: ReconstructionPlan, found: WienerMap) -> dict[str, object]:
    """Write maps and curves into a run folder; returns key figures by name."""
    for name, volume in zip(VOLUMES, (found.volume, *found.half_volumes, found.mask), strict=True):
        write_mrc(folder / name, volume, plan.pixel_size, overwrite=True,
                  labels=("manyviews particles reconstruct",))  # fmt: skip
    found.correlation.write_csv(folder / HALVES_FILE, overwrite=True)
    summary: dict[str, object] = {
        "particles": len(plan.rotations),
        "map_voxels": plan.box,
        "pixel_size_angstrom": plan.pixel_size,
        "diameter_angstrom": round(plan.diameter, 2),
        "symmetry": plan.options.symmetry,
        "resolution_fsc0143_of_the_halves_angstrom": in_figures(found.correlation.resolution(0.143)),
    }
    if plan.options.reference is not None:
        curve = fsc(found.volume, read_mrc(plan.options.reference)[0], plan.pixel_size)
        curve.write_csv(folder / REFERENCE_FILE, overwrite=True)
        summary["resolution_fsc05_with_the_reference_angstrom"] = in_figures(curve.resolution(0.5))
    return summary
