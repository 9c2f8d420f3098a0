"""Images as the solvers get them: normalised tensors on the right device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.kernels.specks import Specks
from manyviews.parallel.world import SingleWorld, World, shares
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.outliers import Outliers
from manyviews.tilt.series.power import SHELLS, Power, power_by_shell

_BORDER = 0.05
_LOW_TILT_DEGREES = 15.0
_LEAST_LEVEL = 0.1  # of the contrast; a mean below it is about zero
# Least share of an image's variance that is taken for signal.
_LEAST_SIGNAL = 0.01
# Noise is measured in the middle of an image, of this many pixels a side at most.
_NOISE_SIDE = 1024


@dataclass(frozen=True)
class GreyLevels:
    """Mean and standard deviation of every image, ``(view,)``."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, source: ImageSource) -> tuple[GreyLevels, Outliers]:
        """Read every image once; hot pixels and X-rays are found on the way."""
        figures, specks = np.empty((2, source.shape[0])), {}
        for view in range(source.shape[0]):
            image, specks[view] = source.inspect(view)
            figures[:, view] = image.mean(dtype=np.float64), image.std(dtype=np.float64)
        return cls(figures[0], figures[1]), Outliers.gathered(specks, source.shape[0], SingleWorld())

    @property
    def scale(self) -> float:
        """What a drift is relative to: the level, or the contrast where images are about zero."""
        level, contrast = abs(float(np.median(self.mean))), float(np.median(self.spread))
        return level if level > _LEAST_LEVEL * contrast else contrast


@dataclass(frozen=True)
class PreparedImages:
    """``(image - offset) * gain`` for every view, on a device.

    ``levels`` are grey levels as they were read, ``outliers`` the hot pixels and X-rays in the stored images.

    ``offset`` and ``gain`` are ``(view,)``. ``noise_to_signal`` is the variance of the noise over that of the
    signal, ``noise_deviation`` its standard deviation in images as they are read here; medians over the
    views, 0 where not measured. ``power`` is that of the images by frequency, None where not measured.
    ``correct(views, images)`` is done to the images in the end; None: nothing.
    """

    source: ImageSource
    offset: NDArray[np.float32]
    gain: NDArray[np.float32]
    device: torch.device
    levels: GreyLevels
    outliers: Outliers
    noise_to_signal: float = 0.0
    noise_deviation: float = 0.0
    power: Power | None = None
    correct: Callable[[NDArray[np.int64], torch.Tensor], torch.Tensor] | None = None

    def read(self, views: NDArray[np.int64]) -> torch.Tensor:
        """Images ``(k, y, x)`` of the given views."""
        images = self.source.read(views)
        images -= self.offset[views, None, None]
        images *= self.gain[views, None, None]
        found = torch.from_numpy(images).to(self.device)
        return found if self.correct is None else self.correct(views, found)


def prepare(
    source: ImageSource,
    normalise: str,
    device: torch.device,
    world: World | None = None,
    *,
    measure_noise: bool = True,
) -> PreparedImages:
    """Measure grey levels where normalisation asks for it; see ``normalise`` of the options.

    The ranks of ``world`` share the images among them.

    Raises
    ------
    InputError
        If all images are blank, or one is and cannot be normalised.
    """
    count = source.shape[0]
    world = world or SingleWorld()
    own = shares(count, world.size)[world.rank]
    offset, gain = np.zeros(count, np.float32), np.ones(count, np.float32)
    mean, spread, noise = np.zeros(count), np.zeros(count), np.zeros(count)
    power = np.zeros((count, SHELLS))
    specks: dict[int, Specks] = {}
    for view in range(own.start, own.stop):
        image, specks[view] = source.inspect(view)
        mean[view] = image.mean(dtype=np.float64)
        # the deviation of equal values is not always zero in floating point
        spread[view] = float(image.std()) if image.min() < image.max() else 0.0
        if measure_noise:
            noise[view] = noise_deviation(_middle(image))
            power[view] = power_by_shell(_middle(image))
        if normalise == "background":
            offset[view] = border_level(image)
        elif normalise == "statistics":
            offset[view] = image.mean()
    for measured in (offset, mean, spread, noise, power):
        measured[:] = world.sum(torch.from_numpy(measured)).numpy()
    if not spread.any():
        raise InputError("all images are blank", fix="check the stack and its data mode")
    if normalise == "statistics":
        if not spread.all():
            geometry, blank = source.binned_geometry, int(np.argmin(spread))
            stack, section = geometry.series[blank] + 1, geometry.sections[blank] + 1
            raise InputError(
                f"section {section} of stack {stack} is blank and has no grey-level statistics",
                where="--normalise",
                fix=f"leave it out with --exclude {stack}:{section}",
            )
        low = np.abs(source.binned_geometry.tilt_degrees) <= _LOW_TILT_DEGREES
        gain[:] = np.median(spread[low] if low.any() else spread) / spread
    signal = np.maximum(spread**2 - noise**2, _LEAST_SIGNAL * spread**2)
    ratios = noise[spread > 0] ** 2 / signal[spread > 0]
    levels = GreyLevels(mean, spread)
    outliers = Outliers.gathered(specks, count, world)
    deviation = float(np.median((gain * noise)[spread > 0]))
    ratio = float(np.median(ratios))
    by_frequency = _mean_power(source, gain, power, noise) if measure_noise else None
    return PreparedImages(source, offset, gain, device, levels, outliers, ratio, deviation, by_frequency)


def _mean_power(
    source: ImageSource, gain: NDArray[np.float32], power: NDArray[np.float64], noise: NDArray[np.float64]
) -> Power | None:
    """Of normalised images, from ``power (view, shell)`` and ``noise (view,)`` as they are stored."""
    squares = np.square(gain.astype(np.float64))
    rows, columns = source.shape[1:]
    shape = min(rows, _NOISE_SIDE), min(columns, _NOISE_SIDE)
    return Power.of(shape, (squares[:, None] * power).mean(axis=0), float((squares * noise**2).mean()))


def noise_deviation(image: NDArray[np.float32]) -> float:
    """Standard deviation of white noise in an image ``(y, x)``.

    From second differences in both directions, which no smooth structure has (Immerkaer 1996, Computer Vision
    and Image Understanding 64:300). Zero for images with fewer than three rows or columns.
    """
    if min(image.shape) < 3:
        return 0.0
    rows = image[:-2] - 2.0 * image[1:-1] + image[2:]
    both = rows[:, :-2] - 2.0 * rows[:, 1:-1] + rows[:, 2:]
    return float(np.abs(both).mean() * np.sqrt(np.pi / 2.0) / 6.0)


def _middle(image: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = (max(0, side - _NOISE_SIDE) // 2 for side in image.shape)
    return image[rows : rows + _NOISE_SIDE, columns : columns + _NOISE_SIDE]


def border_level(image: NDArray[np.float32]) -> float:
    """Median of the pixels of a frame along the edges of an image ``(y, x)``."""
    return float(np.median(_border(image)))


def _border(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels of a frame along the edges."""
    margin = max(1, int(_BORDER * min(image.shape)))
    inner = np.zeros(image.shape, bool)
    inner[margin:-margin, margin:-margin] = True
    return image[~inner]
