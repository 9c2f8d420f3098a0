"""The pixel size of RELION's subtomograms and of their positions, from where it stands, and said aloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from manyviews.errors import InputError
from manyviews.io.star import StarBlock, column_numbers, column_whole_numbers
from manyviews.io.subtomogram_table import Float64
from manyviews.io.volume_files import volume_header

IMAGE, PIXEL = "rlnImagePixelSize", "rlnPixelSize"
SERIES, BINNING = "rlnTomoTiltSeriesPixelSize", "rlnTomoSubtomogramBinning"
MICROGRAPH, ORIGINAL = "rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize"
DETECTOR, MAGNIFICATION = "rlnDetectorPixelSize", "rlnMagnification"
PIXEL_SIZE_LABELS = (IMAGE, PIXEL, SERIES, DETECTOR, MAGNIFICATION)
"""Columns of the particles that are used up in the pixel size."""

_SAME = 1e-4
_CLOSE = 1e-2  # headers hold lengths that others have rounded


@dataclass(frozen=True)
class Told:
    """What to say: ``notes`` on what was taken from where, ``warnings`` of guesses and what is not used."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sources:
    """Where a pixel size may stand; ``volumes`` are those that are there."""

    particles: StarBlock
    optics: StarBlock | None
    path: Path
    volumes: Sequence[Path]

    def numbers(self, label: str) -> Float64 | None:
        """Values of a column of the optics groups in use, else of the particles; None where there is none."""
        if self.optics is not None and label in self.optics.columns:
            return column_numbers(self.optics.columns[label], label, self.path)[self._groups()]
        if label in self.particles.columns:
            return column_numbers(self.particles.columns[label], label, self.path)
        return None

    def one(self, label: str) -> float | None:
        """The one value of a column, positive; None if there is none; `InputError` if there are several."""
        values = self.numbers(label)
        if values is None or not len(values):
            return None
        if values.min() <= 0:
            raise InputError(
                f"{values.min():g} A is not a pixel size", path=self.path, where=f"column {label}",
                fix="correct the table, or give --pixel-size",
            )  # fmt: skip
        if values.max() > (1 + _SAME) * values.min():
            raise InputError(
                f"the particles have different pixel sizes ({values.min():g} to {values.max():g} A)",
                path=self.path,
                where=f"column {label}",
                fix="rescale the volumes to one pixel size or select particles of one",
            )
        return float(values[0])

    def from_magnification(self) -> float | None:
        """RELION 3.0: detector pixel size (um) x 10^4 / magnification."""
        detector, magnification = self.one(DETECTOR), self.one(MAGNIFICATION)
        return None if detector is None or magnification is None else detector * 1e4 / magnification

    def from_headers(self) -> float | None:
        """That of the first volume."""
        return volume_header(self.volumes[0]).pixel_size if self.volumes else None

    def _groups(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Rows of the optics table that particles belong to; all where they do not say."""
        assert self.optics is not None
        label = "rlnOpticsGroup"
        if label not in self.particles.columns or label not in self.optics.columns:
            return np.arange(len(self.optics))
        known = column_whole_numbers(self.optics.columns[label], label, self.path)
        wanted = column_whole_numbers(self.particles.columns[label], label, self.path)
        unknown = ~np.isin(wanted, known)
        if unknown.any():
            row = int(np.flatnonzero(unknown)[0])
            raise InputError(
                f"optics group {wanted[row]} is not in data_optics",
                path=self.path,
                where=f"column {label}, row {row + 1}",
                fix="correct the table",
            )
        return np.flatnonzero(np.isin(known, wanted))


def resolve_pixel_size(sources: Sources, given: float | None, default: float | None, told: Told) -> float:
    """Angstrom, of the subtomograms; where it comes from, and what it beat, is added to ``told``.

    ``given`` beats everything, ``default`` nothing.
    """
    found, where = _from_table(sources)
    header = sources.from_headers()
    if given is not None:
        for other, place in ((found, where), (header, "the header of the first volume")):
            if other is not None and abs(other / given - 1) > _SAME * 10:
                told.warnings.append(
                    f"the pixel size is {given:g} A as told, not the {other:.5g} A of {place}"
                )
                break
        return given
    if found is not None:
        told.notes.append(f"the pixel size is {found:.5g} A: {where}")
        if header is not None and abs(header / found - 1) > _CLOSE:
            told.warnings.append(f"the header of the first volume says {header:.5g} A, which is not used")
        return found
    if header is not None:
        told.notes.append(f"the pixel size is {header:.5g} A: the header of the first volume")
        return header
    if default is not None:
        return default
    raise InputError(
        "the pixel size of the subtomograms is not told, neither there nor in their headers",
        path=sources.path,
        fix="give it with --pixel-size, in angstrom",
    )


def _from_table(sources: Sources) -> tuple[float | None, str]:
    """Angstrom and where it stands."""
    for label in (IMAGE, PIXEL):
        if (size := sources.one(label)) is not None:
            return size, label
    series, binning = sources.one(SERIES), sources.one(BINNING)
    if series is not None:
        is_binned = binning is not None and binning != 1
        return series * (binning or 1), f"{SERIES} x {BINNING}" if is_binned else SERIES
    return sources.from_magnification(), f"{DETECTOR} and {MAGNIFICATION}"


def position_pixel_size(sources: Sources, given: float | None, pixel_size: float, told: Told) -> float:
    """Angstrom, in which the table counts positions: of RELION 4's tilt series, of Warp's tomograms.

    Where it comes from is added to ``told``.
    """
    if given is not None:
        return given
    for label in (SERIES, MICROGRAPH, ORIGINAL):
        if (size := sources.one(label)) is not None:
            told.notes.append(f"positions are counted in voxels of {size:.5g} A: {label}")
            return size
    told.warnings.append(
        f"positions are taken to be counted in voxels of the subtomograms, {pixel_size:.5g} A"
    )
    return pixel_size
