"""What is known about a set of subtomograms, whichever program wrote it down.

Conventions: vectors are ``(x, y, z)`` in angstrom; angles are RELION's, ``A = Rz(psi) Ry(tilt) Rz(rot)``
(`manyviews.geometry.poses`); a subtomogram is ``s(X) = reference(A^T (X + shift))`` with X counted from voxel
``n // 2``, so that the shift centres the particle, which sits at ``-shift``. How other programs say the same
is in ``docs/subtomogram-files.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices, matrices_to_euler

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Origin = Literal["corner", "centre"]


@dataclass(frozen=True, eq=False)
class SubtomogramTable:
    """The particles of a data set, ``N`` of them, as volumes, as positions in tomograms, or both.

    Attributes
    ----------
    pixel_size
        Angstrom, of the subtomograms.
    shifts
        ``(N, 3)`` angstrom, the shift that centres the particle: RELION's sign.
    volumes
        The file of each subtomogram, ``N``; empty where there are positions only.
    volume_names
        The same as the source names them, which is what is written again; empty: their paths.
    weights
        The weight volume of each (``rlnCtfImage``), or None; empty: no particle has one.
    weight_names
        The same as the source names them, empty texts for None.
    tomograms
        Names of the tomograms, each once; empty where nothing is known of them.
    tomogram_index
        ``(N,)``, which of ``tomograms``; None where there are none.
    coordinates
        ``(N, 3)`` angstrom, where the middle of the box lies in the tomogram; where the particle sits is
        `positions`. None: not known.
    origin
        From where coordinates count: ``corner``, the centre of the first voxel; ``centre``, the middle of the
        tomogram, whose size the table does not tell.
    tomogram_pixel_size
        Angstrom, in which the source counts positions; None: ``pixel_size``.
    angles
        ``(N, 3)`` rot, tilt, psi in degrees; None: not known.
    box_angles
        ``(N, 3)`` rot, tilt, psi of the boxes where these were cut turned out of the tomogram
        (``rlnTomoSubtomogramRot`` and so on): ``angles``, ``shifts`` and weight volumes speak of the box, in
        the tomogram it is what `in_tomogram` gives. None: boxes lie along the axes of the tomogram.
    prior_angles, prior_sigmas
        ``(N, 3)`` degrees, where rot, tilt, psi are expected and how narrowly; NaN where they are free.
    half
        ``(N,)`` 1 or 2, the half set of the particle; None: none were made.
    weight
        ``(N,)`` from 0 on, how much it counts in an average; None: 1 each.
    score
        ``(N,)`` how well it agrees with a reference, as the source counts it; None: not known.
    number
        ``(N,)`` the source's own number of the particle; None: there is none.
    class_number
        ``(N,)``; None: none were made.
    filament, parent
        ``(N,)`` the filament, or the object (virus, vesicle, cell), that it belongs to, a number within its
        tomogram, 0 for none; None: not known. Particles of one share one half.
    wedge_type
        ``(N,)`` Dynamo's kind of wedge (column 13); None: not told.
    tilt_ranges
        ``(N, 4)`` degrees, lowest and highest tilt about y, then about x (Dynamo's columns 14 to 17); None:
        not told.
    visible_tilts
        For each particle which images of its tilt series show it, True or False; empty: not told.
    ctf_premultiplied
        Whether the subtomograms were multiplied by their CTF; None: not told.
    optics
        RELION's ``data_optics`` as it stands, columns of texts by label, kept for the round trip.
    extra
        Other columns by label, ``N`` texts each, kept for the round trip.
    box
        Side of the subtomograms in voxels, as the source tells it; None: not told.
    notes
        What was taken from where, one sentence each.
    warnings
        What the source says that we do not use, and what had to be guessed, one sentence each.

    Raises
    ------
    InputError
        If lengths, indices or numbers are impossible.
    """

    pixel_size: float
    shifts: Float64
    volumes: tuple[Path, ...] = ()
    volume_names: tuple[str, ...] = ()
    weights: tuple[Path | None, ...] = ()
    weight_names: tuple[str, ...] = ()
    tomograms: tuple[str, ...] = ()
    tomogram_index: Int64 | None = None
    coordinates: Float64 | None = None
    origin: Origin = "corner"
    tomogram_pixel_size: float | None = None
    angles: Float64 | None = None
    box_angles: Float64 | None = None
    prior_angles: Float64 | None = None
    prior_sigmas: Float64 | None = None
    half: Int64 | None = None
    weight: Float64 | None = None
    score: Float64 | None = None
    number: Int64 | None = None
    class_number: Int64 | None = None
    filament: Int64 | None = None
    parent: Int64 | None = None
    wedge_type: Int64 | None = None
    tilt_ranges: Float64 | None = None
    visible_tilts: tuple[tuple[bool, ...], ...] = ()
    ctf_premultiplied: bool | None = None
    optics: Mapping[str, list[str]] = field(default_factory=dict)
    extra: Mapping[str, list[str]] = field(default_factory=dict)
    box: int | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if np.ndim(self.shifts) == 0 or len(self) == 0:
            raise InputError("the table of subtomograms is empty", fix="give a table with particles")
        for size in (self.pixel_size, self.tomogram_pixel_size):
            if size is not None and not (math.isfinite(size) and 1e-3 <= size <= 1e4):
                raise InputError(
                    f"the pixel size of the subtomograms is {size:g} A", fix="give the right one in angstrom"
                )
        for name, (width, kinds) in _COLUMNS.items():
            self._check_column(name, getattr(self, name), width, kinds)
        for name in _LISTS:
            self._check_length(name, len(getattr(self, name)), optional=True)
        for label, texts in self.extra.items():
            self._check_length(f"column {label}", len(texts), optional=False)
        self._check_ranges()

    def _check_column(self, name: str, values: NDArray[Any] | None, width: int, kinds: str) -> None:
        if values is None:
            return
        shape = (len(self), width) if width > 1 else (len(self),)
        found = np.asarray(values)
        if found.shape != shape or found.dtype.kind not in kinds:
            raise InputError(
                f"{name} of the table of subtomograms has shape {found.shape} and type {found.dtype},"
                f" not {shape} numbers"
            )
        bad = np.isinf(found) if name in _MAY_BE_FREE else ~np.isfinite(found)
        if bad.any():
            raise InputError(f"{name} of particle {_first_row(bad)} is not a finite number")

    def _check_length(self, name: str, length: int, *, optional: bool) -> None:
        if length != len(self) and (length or not optional):
            raise InputError(f"{name} has {length} values but there are {len(self)} particles")

    def _check_ranges(self) -> None:
        if (self.tomogram_index is None) != (not self.tomograms):
            raise InputError("the table of subtomograms has tomograms without their index, or the reverse")
        for name, first, last in (
            ("tomogram_index", 0, len(self.tomograms) - 1),
            ("half", 1, 2),
            ("weight", 0, math.inf),
            ("prior_sigmas", 0, math.inf),
        ):
            values = getattr(self, name)
            if values is None:
                continue
            bad = (values < first) | (values > last)
            if bad.any():
                worst = values[bad].reshape(-1)[0]
                limits = f"{first} or more" if math.isinf(last) else f"from {first} to {last}"
                raise InputError(f"{name} of particle {_first_row(bad)} is {worst:g}, not {limits}")

    def __len__(self) -> int:
        return len(self.shifts)

    @property
    def positions(self) -> Float64 | None:
        """Where the particles sit in their tomograms, ``(N, 3)`` angstrom from ``origin``."""
        return None if self.coordinates is None else self.coordinates - self.in_tomogram().shifts

    @property
    def particle_weights(self) -> Float64:
        """How much each particle counts, ``(N,)``."""
        return np.ones(len(self)) if self.weight is None else self.weight

    def in_tomogram(self) -> SubtomogramTable:
        """The same with angles and shifts along the axes of the tomogram, as if no box had been turned.

        RELION 4, ``ParticleSet::getMatrix3x3`` and ``getPosition``: ``A_box A`` and ``A_box shift``. Priors
        on tilt and psi, the axis of a filament, are turned too; rot stays free where it was. A prior on one
        of the two alone is no prior on angles in the tomogram and is left out, with a warning.
        """
        if self.box_angles is None:
            return self
        boxes = euler_to_matrices(self.box_angles)
        priors, lost = (None, 0) if self.prior_angles is None else _turned_priors(boxes, self.prior_angles)
        turned = np.einsum("nij,nj->ni", boxes, self.shifts)
        return replace(
            self,
            angles=matrices_to_euler(
                boxes if self.angles is None else boxes @ euler_to_matrices(self.angles)
            ),
            shifts=turned,
            box_angles=None,
            prior_angles=priors,
            prior_sigmas=None if priors is None else self.prior_sigmas,
            warnings=self.warnings if lost == 0 else (*self.warnings, _lost_priors(lost)),
        )

    def tomogram_of(self, particle: int) -> str:
        """The name of a particle's tomogram, empty where it is not known."""
        return "" if self.tomogram_index is None else self.tomograms[int(self.tomogram_index[particle])]

    def name_of(self, particle: int) -> str:
        """What to call a particle in a sentence: its file as the source names it, else its row."""
        if self.volume_names:
            return self.volume_names[particle]
        return str(self.volumes[particle]) if self.volumes else f"particle {particle + 1}"

    def select(self, rows: ArrayLike) -> SubtomogramTable:
        """The particles of these numbers (from 0) or of a mask, in this order; `InputError` if there are
        none.
        """
        try:
            asked = np.atleast_1d(np.asarray(rows))
            chosen = np.arange(len(self))[asked if asked.size else np.zeros(0, dtype=np.int64)]
        except IndexError as error:
            raise InputError(
                f"a particle was asked for that is not among the {len(self)} there are"
            ) from error
        if not chosen.size:
            raise InputError("no particles are left", fix="choose at least one")
        columns: dict[str, Any] = {
            name: values[chosen] for name in _COLUMNS if (values := getattr(self, name)) is not None
        }
        for name in _LISTS:
            if values := getattr(self, name):
                columns[name] = tuple(values[row] for row in chosen.tolist())
        extra = {label: [texts[row] for row in chosen.tolist()] for label, texts in self.extra.items()}
        return replace(self, **columns, extra=extra)

    def subset(self, half: int) -> SubtomogramTable:
        """The particles of half 1 or 2; `InputError` if the table has no halves, or none in this one."""
        if self.half is None:
            raise InputError("the table of subtomograms has no half sets", fix="make half sets first")
        return self.select(np.flatnonzero(self.half == half))

    def with_poses(
        self,
        angles: Float64,
        shifts: Float64,
        *,
        half: Int64 | None = None,
        weight: Float64 | None = None,
        score: Float64 | None = None,
        extra: Mapping[str, list[str]] | None = None,
    ) -> SubtomogramTable:
        """The same particles with other poses; what is left out stays, ``extra`` columns are added."""
        given = {"half": half, "weight": weight, "score": score}
        changed: dict[str, Any] = {name: values for name, values in given.items() if values is not None}
        columns = {**self.extra, **(extra or {})}
        return replace(self, angles=angles, shifts=shifts, extra=columns, **changed)


_COLUMNS: dict[str, tuple[int, str]] = {
    "shifts": (3, "f"),
    "tomogram_index": (1, "iu"),
    "coordinates": (3, "f"),
    "angles": (3, "f"),
    "box_angles": (3, "f"),
    "prior_angles": (3, "f"),
    "prior_sigmas": (3, "f"),
    "half": (1, "iu"),
    "weight": (1, "f"),
    "score": (1, "f"),
    "number": (1, "iu"),
    "class_number": (1, "iu"),
    "filament": (1, "iu"),
    "parent": (1, "iu"),
    "wedge_type": (1, "iu"),
    "tilt_ranges": (4, "f"),
}
"""How many numbers a particle has in each array, and of which kinds."""

_LISTS = ("volumes", "volume_names", "weights", "weight_names", "visible_tilts")
_MAY_BE_FREE = ("prior_angles", "prior_sigmas")


def _turned_priors(boxes: Float64, priors: Float64) -> tuple[Float64 | None, int]:
    """Priors ``(N, 3)`` of boxes as those in the tomogram, None if there are none, and how many got lost.

    ``A_box Rz(psi) Ry(tilt) Rz(rot)`` has rot on the right: free, it leaves tilt and psi as they are.
    """
    given = np.isfinite(priors)
    known = given[:, 1] & given[:, 2]
    turned = matrices_to_euler(boxes @ euler_to_matrices(np.where(given, priors, 0.0)))
    turned[~(known & given[:, 0]), 0] = np.nan
    turned[~known] = np.nan
    lost = int(np.count_nonzero(given.any(axis=1) & ~known))
    return (turned if known.any() else None), lost


def _lost_priors(count: int) -> str:
    return f"the priors of {count} particles, in turned boxes and not on both tilt and psi, are left out"


def _first_row(bad: NDArray[np.bool_]) -> int:
    return int(np.argwhere(bad)[0][0]) + 1
