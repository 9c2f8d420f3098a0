"""Tilt series as arrays with their geometry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.api.keywords import Files, build_options, shows_options
from manyviews.geometry.views import TiltGeometry
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.choices import Choice
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import resolve_series


@dataclass(frozen=True)
class TiltSeries:
    """One or several tilt series: their images, read when first asked for, and how each sees the specimen."""

    source: ImageSource

    @cached_property
    def images(self) -> NDArray[np.float32]:
        """``(view, y, x)``, all stacks one after the other, without the views left out."""
        return self.source.read()

    @property
    def geometry(self) -> TiltGeometry:
        """The view of every image."""
        return self.source.binned_geometry

    @property
    def pixel_size(self) -> float:
        """Angstrom."""
        return self.source.pixel_size

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful, in sentences."""
        return self.source.series.warnings

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Where angles, axes and pixel sizes were found, and what other files say of them."""
        return self.source.series.choices

    def __len__(self) -> int:
        return len(self.geometry)

    def __repr__(self) -> str:
        views, rows, columns = self.source.shape
        doubts = f", warnings: {len(self.warnings)}" if self.warnings else ""
        return f"TiltSeries({views} images of {columns} x {rows} pixels of {self.pixel_size:g} A{doubts})"


@shows_options(SeriesOptions)
def read_tilt_series(
    stacks: Files, *, bin: int = 1, invert_contrast: bool = False, **options: Any
) -> TiltSeries:
    """Read one stack of tilt images or several, with the geometry of every view.

    Parameters
    ----------
    stacks
        An MRC file, or one for each tilt axis.
    bin, invert_contrast
        Average blocks of so many pixels along x and y; change the sign of the images.
    **options
        The fields of `manyviews.tilt.options.SeriesOptions`, as on the command line: ``tilt_angles``,
        ``axis_angle``, ``transform``, ``shifts``, ``x_tilt``, ``tilt_offset``, ``exclude``, ``pixel_size``;
        each one value, or one for each stack.

    Raises
    ------
    InputError
        If there is no such option, or the files are missing, damaged, do not fit each other, or leave
        something undetermined.
    """
    (series,) = build_options({"stacks": stacks, **options}, SeriesOptions)
    return TiltSeries(ImageSource(resolve_series(series), bin, invert_contrast))
