"""Defocus files of a tilt series, and how they are read for a user."""

from __future__ import annotations

from pathlib import Path

from fuzzing import samples
from manyviews.tilt.ctf.transfer import resolve_transfer
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.series.resolve import resolve_series

DEFOCUS = (
    ("defocus of CTFFIND", "d.txt", samples.CTFFIND),
    ("defocus of IMOD", "d.defocus", samples.IMOD_DEFOCUS),
    ("defocus of RELION", "d.star", samples.DEFOCUS_STAR),
)


def read_defocus(path: Path, drawn: bool) -> None:
    """As the defocus and, where it holds some, the dose of the series beside it."""
    stack, angles = path.parent / "a.mrc", path.parent / "a.tlt"
    series = resolve_series(SeriesOptions(stacks=(stack,), tilt_angles=(angles,), axis_angle=(0.0,)))
    weighted = path.suffix == ".star"
    resolve_transfer(
        ReconstructOptions(thickness=2, ctf="3d", defocus=(path,), dose_weighting=weighted), series
    )
