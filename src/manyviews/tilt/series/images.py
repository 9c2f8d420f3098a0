"""Images of all views of a series, binned and read when asked for."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.kernels.specks import Specks, find_specks
from manyviews.tilt.pixels.faults import filled
from manyviews.tilt.pixels.stored import StoredWeights
from manyviews.tilt.series.binning import bin_geometry, block_average
from manyviews.tilt.series.resolve import ResolvedSeries


class ImageSource:
    """Images of a resolved series in the order of its geometry, blocks of ``bin`` x ``bin`` pixels averaged.

    Hot pixels and X-rays are replaced before that by the median around them, if asked for; then pixels that
    do not count, by what is around them (`with_weights`).

    Attributes
    ----------
    shape
        ``(view, y, x)`` after binning.
    pixel_size
        Angstrom after binning.
    binned_geometry
        The geometry that goes with the binned images.

    Raises
    ------
    InputError
        If ``bin`` is not a whole number from 1 to the smaller side.
    """

    def __init__(
        self,
        series: ResolvedSeries,
        bin: int = 1,
        invert_contrast: bool = False,
        remove_outliers: bool = False,
    ) -> None:
        self.series = series
        self._invert_contrast = invert_contrast
        self._remove_outliers = remove_outliers
        self._specks: dict[int, Specks] = {}  # of the views that were searched
        self.stored_weights: StoredWeights | None = None
        self._set_bin(bin)

    def _set_bin(self, bin: int) -> None:
        series = self.series
        rows, columns = series.image_shape
        if bin != int(bin) or not 1 <= bin <= min(rows, columns):
            raise InputError(
                f"{bin} does not fit images of {columns} x {rows} pixels",
                where="option bin",
                fix="give a whole number from 1 to the smaller side",
            )
        self.bin = int(bin)
        self.shape = (len(series.geometry), rows // self.bin, columns // self.bin)
        self.pixel_size = series.pixel_size * self.bin
        self.binned_geometry = (
            series.geometry
            if self.bin == 1
            else bin_geometry(series.geometry, series.image_shape, series.pixel_size, self.bin)
        )

    def binned(self, bin: int) -> ImageSource:
        """The same images in other blocks of stored pixels."""
        found = copy.copy(self)
        found._set_bin(bin)
        return found

    def with_weights(self, weights: StoredWeights) -> ImageSource:
        """The same images, those pixels filled that hardly count."""
        found = copy.copy(self)
        found.stored_weights = weights if weights else None
        return found

    def pixel_weights(self, view: int) -> NDArray[np.float32] | None:
        """What the pixels ``(y, x)`` of a view count, from 0 to 1; None: all fully."""
        if self.stored_weights is None:
            return None
        weights = self.stored_weights.of(view, self.stored(view))
        return None if weights is None else block_average(weights, self.bin)

    def read(self, views: ArrayLike | None = None) -> NDArray[np.float32]:
        """The given views (all by default) as float32 ``(n, y, x)``.

        Raises
        ------
        InputError
            If an image holds NaN or infinity, with its file and section.
        """
        wanted = np.arange(self.shape[0]) if views is None else np.atleast_1d(np.asarray(views, np.int64))
        images = np.empty((len(wanted), *self.shape[1:]), dtype=np.float32)
        for image, view in zip(images, wanted.tolist(), strict=True):
            image[...] = self._read(view, search=self._remove_outliers)
        return images

    def inspect(self, view: int) -> tuple[NDArray[np.float32], Specks]:
        """One view ``(y, x)`` as `read` gives it, and the specks of its image as it is stored."""
        image = self._read(view, search=True)
        return image, self._specks[view]

    def stored(self, view: int) -> NDArray[np.float32]:
        """The image ``(y, x)`` of a view as it is stored."""
        geometry = self.series.geometry
        image: NDArray[np.float32] = self.series.stacks[geometry.series[view]].read(geometry.sections[view])[
            0
        ]
        return image

    def _read(self, view: int, *, search: bool) -> NDArray[np.float32]:
        stored = self.stored(view)
        if search and view not in self._specks:
            self._specks[view] = find_specks(stored[None])
        weights = None if self.stored_weights is None else self.stored_weights.of(view, stored)
        if self._remove_outliers:
            self._specks[view].mend(stored[None])
        if weights is not None:
            stored = filled(stored, weights)
        image = block_average(stored, self.bin)
        return np.negative(image) if self._invert_contrast else image
