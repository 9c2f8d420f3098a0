"""What a file of any format says about the defocus of the views of one tilt series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError

Float64 = NDArray[np.float64]

_LARGEST_ANGSTROM = 1e6


@dataclass(frozen=True)
class DefocusTable:
    """Defocus by section; a row is a view.

    Attributes
    ----------
    source
        The file.
    defocus
        ``(row, 2)`` in angstrom, positive under focus: of the two axes of astigmatism.
    angle
        ``(row,)`` degrees from the x axis of the image to the first of them.
    phase_shift
        ``(row,)`` degrees, of a phase plate.
    sections
        ``(row,)`` section of the stack, from 0, all different.
    tilt_degrees
        ``(row,)``, or None where the file does not say.
    voltage_kv, spherical_aberration_mm, amplitude_contrast
        Of the microscope, or None.
    hand, defocus_slope
        Sign of the change of defocus with depth, or None, and its size.
    microscope_source
        Where microscope and hand are from, if it is another file.
    is_nominal
        Whether it is what was asked of the microscope, not measured.
    """

    source: str
    defocus: Float64
    angle: Float64
    phase_shift: Float64
    sections: NDArray[np.int64]
    tilt_degrees: Float64 | None = None
    voltage_kv: float | None = None
    spherical_aberration_mm: float | None = None
    amplitude_contrast: float | None = None
    hand: int | None = None
    defocus_slope: float = 1.0
    microscope_source: str | None = None
    is_nominal: bool = False

    @property
    def told_by(self) -> str:
        """The file that tells of the microscope."""
        return self.microscope_source or self.source

    def __post_init__(self) -> None:
        """`InputError` for a defocus that is not under focus, or none of a microscope."""
        if not len(self.defocus):
            raise InputError("holds no defocus", path=self.source, fix="give the file of the whole series")
        good = ((self.defocus > 0) & (self.defocus < _LARGEST_ANGSTROM)).all(axis=1)
        if not good.all():
            row = int(np.argmin(good))
            raise InputError(
                f"the defocus of section {self.sections[row] + 1} is {self.defocus[row].min():.6g} angstrom",
                path=self.source,
                fix="give under focus, as a number above zero and below 1e6 angstrom",
            )
        if self.sections.min() < 0 or len(np.unique(self.sections)) < len(self.sections):
            raise InputError(
                "the sections are not all different and from 1", path=self.source, fix="number them from 1"
            )
