"""What is known about a set of particle images, whichever program wrote it down.

Conventions are RELION's (Scheres, J. Struct. Biol. 180 (2012) 519): Euler angles ZYZ with
``A = Rz(psi) Ry(tilt) Rz(rot)``, whose rows are the image's x, y, z axes in the volume; shifts centre the
image; the CTF of protein that is white in the image is ``+amplitude_contrast`` at zero frequency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError, quoted

Matrix2 = tuple[tuple[float, float], tuple[float, float]]
IDENTITY: Matrix2 = ((1.0, 0.0), (0.0, 1.0))


@dataclass(frozen=True)
class OpticsGroup:
    """What particles from one microscope session share.

    A group whose images have no CTF has ``amplitude_contrast`` 1 and ``spherical_aberration_mm`` 0, and its
    particles no defocus: the formula is then exactly 1 at every frequency.

    Attributes
    ----------
    name
        Its name, unique in a table.
    voltage_kv
        Acceleration voltage in kilovolts.
    spherical_aberration_mm
        Spherical aberration in millimetres.
    amplitude_contrast
        Part of the contrast that is amplitude contrast, 0 to 1.
    pixel_size
        Angstrom.
    image_size
        Side of the square images in pixels; None where neither the table nor the images told it.
    ctf_premultiplied
        Whether the images were multiplied by their CTF already.
    beam_tilt_mrad
        ``(x, y)`` milliradian.
    odd_zernike, even_zernike
        Coefficients of higher aberrations as RELION numbers them.
    magnification
        2 x 2 matrix of anisotropic magnification.
    extra
        Other columns ``(label, text)``, kept for the round trip.

    Raises
    ------
    InputError
        If a number is not finite or impossible.
    """

    name: str
    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float
    pixel_size: float
    image_size: int | None = None
    ctf_premultiplied: bool = False
    beam_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    odd_zernike: tuple[float, ...] = ()
    even_zernike: tuple[float, ...] = ()
    magnification: Matrix2 = IDENTITY
    extra: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.voltage_kv, self.spherical_aberration_mm, self.amplitude_contrast, self.pixel_size)
        more = (*self.beam_tilt_mrad, *self.odd_zernike, *self.even_zernike, *sum(self.magnification, ()))
        if not all(math.isfinite(number) for number in (*numbers, *more)):
            raise self._problem("has a number that is not finite")
        if not 0 < self.voltage_kv <= 10_000:
            raise self._problem(f"has a voltage of {self.voltage_kv:g} kV")
        if not 0 <= self.amplitude_contrast <= 1:
            raise self._problem(
                f"has an amplitude contrast of {self.amplitude_contrast:g}, not between 0 and 1"
            )
        if not 1e-3 <= self.pixel_size <= 1e4:
            raise self._problem(f"has a pixel size of {self.pixel_size:g} A")
        if self.image_size is not None and not 1 <= self.image_size <= 1 << 16:
            raise self._problem(f"has images of {self.image_size} pixels")

    def _problem(self, what: str) -> InputError:
        return InputError(f"optics group {quoted(self.name)} {what}", fix="correct the table")


@dataclass(frozen=True, eq=False)
class ParticleTable:
    """The particles of a data set, ``N`` of them, one image each.

    Attributes
    ----------
    stacks
        The image files, each once.
    stack_index
        ``(N,)`` int64, which of ``stacks`` holds the image.
    section
        ``(N,)`` int64, which section of it, from 0.
    optics
        The optics groups, at least one.
    optics_index
        ``(N,)`` int64, which of ``optics`` a particle belongs to.
    defocus
        ``(N, 2)`` angstrom, along and across ``defocus_angle``; positive is underfocus.
    defocus_angle
        ``(N,)`` degrees from the x axis.
    phase_shift
        ``(N,)`` degrees of a phase plate.
    b_factor
        ``(N,)`` square angstrom: the CTF falls as ``exp(-B s^2 / 4)``.
    scale
        ``(N,)`` factor of the CTF.
    angles
        ``(N, 3)`` rot, tilt, psi in degrees, or None.
    shifts
        ``(N, 2)`` x, y in angstrom: the shift that centres the image, or None.
    half
        ``(N,)`` 1 or 2, the half set of the particle, or None.
    contrast_sign
        ``(N,)`` +1 where protein is white in the file (RELION's rule), -1 where it is dark (``blob/sign`` of
        cryoSPARC); None: white everywhere. `manyviews.io.particle_images` multiplies by it.
    stack_names
        The stacks as the source names them, relative to the project; written again. Empty: their paths.
    extra
        Other columns by label, ``N`` texts each, kept for the round trip.
    records
        ``(N,)`` of a structured type: all fields of the cryoSPARC file that the table was read from, kept for
        the way back; None where it was another.
    warnings
        What the source says that we do not use, one sentence each.

    Raises
    ------
    InputError
        If lengths, indices or numbers are impossible.
    """

    stacks: tuple[Path, ...]
    stack_index: NDArray[np.int64]
    section: NDArray[np.int64]
    optics: tuple[OpticsGroup, ...]
    optics_index: NDArray[np.int64]
    defocus: NDArray[np.float64]
    defocus_angle: NDArray[np.float64]
    phase_shift: NDArray[np.float64]
    b_factor: NDArray[np.float64]
    scale: NDArray[np.float64]
    angles: NDArray[np.float64] | None = None
    shifts: NDArray[np.float64] | None = None
    half: NDArray[np.int64] | None = None
    contrast_sign: NDArray[np.int64] | None = None
    stack_names: tuple[str, ...] = ()
    extra: Mapping[str, list[str]] = field(default_factory=dict)
    records: NDArray[Any] | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self) == 0 or not self.optics or not self.stacks:
            raise InputError("the particle table is empty", fix="give a table with particles")
        for name, width in _COLUMNS.items():
            self._check_column(name, getattr(self, name), width)
        for name, limit in (("stack_index", len(self.stacks)), ("optics_index", len(self.optics))):
            _check_range(name, getattr(self, name), 0, limit - 1)
        _check_range("section", self.section, 0, None)
        if self.half is not None:
            _check_range("half", self.half, 1, 2)
        if self.contrast_sign is not None and not np.all(np.abs(self.contrast_sign) == 1):
            raise InputError("the particle table has contrast signs that are neither 1 nor -1")
        if self.stack_names and len(self.stack_names) != len(self.stacks):
            raise InputError("the particle table has another number of stack names than of stacks")
        if self.records is not None and (self.records.shape != (len(self),) or not self.records.dtype.names):
            raise InputError("the particle table has records that are not one a particle")
        for label, texts in self.extra.items():
            if len(texts) != len(self):
                raise InputError(
                    f"column {label} has {len(texts)} values but there are {len(self)} particles"
                )

    def _check_column(self, name: str, values: NDArray[Any] | None, width: int) -> None:
        if values is None and name in _OPTIONAL:
            return
        shape = (len(self), width) if width > 1 else (len(self),)
        found = np.asarray(values)
        if found.shape != shape or found.dtype.kind not in "fiu":
            raise InputError(f"{name} of the particle table has shape {found.shape}, not {shape}")
        if not np.isfinite(found).all():
            row = int(np.argwhere(~np.isfinite(found))[0][0])
            raise InputError(f"{name} of particle {row + 1} is not a finite number")

    def __len__(self) -> int:
        return len(self.section)

    @property
    def pixel_size(self) -> float:
        """Angstrom; `InputError` where optics groups that are in use differ by more than 1e-4 of it."""
        sizes: list[float] = [self.optics[index].pixel_size for index in np.unique(self.optics_index)]
        if max(sizes) - min(sizes) > 1e-4 * max(sizes):
            raise InputError(
                f"the optics groups have different pixel sizes ({min(sizes):g} to {max(sizes):g} A)",
                fix="rescale the images to one pixel size or select groups of one",
            )
        return sizes[0]

    @property
    def image_size(self) -> int:
        """Side of the images in pixels; `InputError` where optics groups in use differ or do not know it."""
        sizes: set[int | None] = {self.optics[index].image_size for index in np.unique(self.optics_index)}
        known = sorted(size for size in sizes if size is not None)
        if len(known) != len(sizes):
            raise InputError("the table does not tell the size of its images", fix="give the images too")
        if len(known) > 1:
            raise InputError(
                f"the images have different sizes ({known[0]} to {known[-1]} pixels)",
                fix="rescale or crop them to one size or select groups of one",
            )
        return known[0]

    def image_name(self, particle: int) -> str:
        """The image as RELION names it, ``000001@stack.mrcs``."""
        stack = int(self.stack_index[particle])
        name = self.stack_names[stack] if self.stack_names else str(self.stacks[stack])
        return f"{int(self.section[particle]) + 1:06d}@{name}"

    def per_particle(self, name: str) -> NDArray[np.float64]:
        """A number of the optics groups for every particle, ``(N,)``, e.g. ``"voltage_kv"``."""
        return np.array([getattr(group, name) for group in self.optics], dtype=np.float64)[self.optics_index]

    def select(self, indices: ArrayLike) -> ParticleTable:
        """The particles of these numbers (from 0) or of a mask, in this order; `InputError` if there are
        none.
        """
        try:
            rows = np.arange(len(self))[np.atleast_1d(np.asarray(indices))]
        except IndexError as error:
            raise InputError(
                f"a particle was asked for that is not among the {len(self)} there are"
            ) from error
        names = [name for name in _COLUMNS if getattr(self, name) is not None]
        columns = {name: getattr(self, name)[rows] for name in names}
        extra = {label: [texts[row] for row in rows] for label, texts in self.extra.items()}
        records = None if self.records is None else self.records[rows]
        return replace(self, **columns, extra=extra, records=records)

    def with_poses(
        self,
        angles: NDArray[np.float64],
        shifts: NDArray[np.float64],
        *,
        half: NDArray[np.int64] | None = None,
        extra: Mapping[str, list[str]] | None = None,
    ) -> ParticleTable:
        """The same particles seen from elsewhere; ``extra`` columns are added or replaced."""
        columns = {**self.extra, **(extra or {})}
        half = self.half if half is None else half
        return replace(self, angles=angles, shifts=shifts, half=half, extra=columns)


_COLUMNS = {
    "stack_index": 1,
    "section": 1,
    "optics_index": 1,
    "defocus": 2,
    "defocus_angle": 1,
    "phase_shift": 1,
    "b_factor": 1,
    "scale": 1,
    "angles": 3,
    "shifts": 2,
    "half": 1,
    "contrast_sign": 1,
}
_OPTIONAL = ("angles", "shifts", "half", "contrast_sign")


def _check_range(name: str, values: NDArray[np.int64], first: int, last: int | None) -> None:
    if values.dtype.kind not in "iu":
        raise InputError(f"{name} of the particle table is not of whole numbers")
    bad = (values < first) if last is None else (values < first) | (values > last)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        limits = f"{first} to {last}" if last is not None else f"{first} or more"
        raise InputError(f"{name} of particle {row + 1} is {int(values[row])}, not {limits}")


def table_of_stack(
    stack: Path,
    optics: OpticsGroup,
    defocus: NDArray[np.float64],
    *,
    defocus_angle: NDArray[np.float64] | None = None,
    angles: NDArray[np.float64] | None = None,
    shifts: NDArray[np.float64] | None = None,
    half: NDArray[np.int64] | None = None,
) -> ParticleTable:
    """The table of one stack, which need not exist yet, whose sections are the particles, in their order.

    Fields are as in `ParticleTable`; without an angle the images are taken as free of astigmatism.
    """
    count = len(defocus)
    zeros = np.zeros(count)
    return ParticleTable(
        stacks=(Path(stack),),
        stack_index=np.zeros(count, dtype=np.int64),
        section=np.arange(count, dtype=np.int64),
        optics=(optics,),
        optics_index=np.zeros(count, dtype=np.int64),
        defocus=defocus,
        defocus_angle=zeros if defocus_angle is None else defocus_angle,
        phase_shift=zeros,
        b_factor=zeros,
        scale=np.ones(count),
        angles=angles,
        shifts=shifts,
        half=half,
        stack_names=(Path(stack).name,),
    )
