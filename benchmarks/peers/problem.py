"""The problem every projector is given, and what an adapter hands back.

Only numpy and the standard library are imported here: this runs in the environment of every peer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
LARGEST_TILT_DEGREES = 60.0


@dataclass(frozen=True)
class Problem:
    """One volume seen in tilt series about in-plane axes. Sizes in voxels, detector ``(height, width)``.

    Attributes
    ----------
    width, height, depth
        Voxels along x, y, z.
    tilts
        Views about each axis, evenly spaced over +-60 degrees.
    axes_degrees
        Directions of the tilt axes, counter-clockwise from +y.
    """

    width: int
    height: int
    depth: int
    tilts: int
    axes_degrees: tuple[float, ...]

    @property
    def tilt_degrees(self) -> NDArray[np.float64]:
        """Tilts about one axis."""
        return np.linspace(-LARGEST_TILT_DEGREES, LARGEST_TILT_DEGREES, self.tilts)

    @property
    def views(self) -> list[tuple[float, float]]:
        """``(axis, tilt)`` of every view in degrees, axis by axis."""
        return [(axis, float(tilt)) for axis in self.axes_degrees for tilt in self.tilt_degrees]

    @property
    def upright_single_axis(self) -> bool:
        """Whether one series about the y axis is all there is, so that slices across y are independent."""
        return self.axes_degrees == (0.0,)

    @property
    def voxel_updates(self) -> int:
        """Voxels times views, the work of one projection or back-projection."""
        return self.width * self.height * self.depth * len(self.views)

    @property
    def text(self) -> str:
        """Size in words."""
        axes = "1 axis" if len(self.axes_degrees) == 1 else f"{len(self.axes_degrees)} axes"
        return f"{self.width} x {self.height} x {self.depth}, {axes} x {self.tilts} tilts"

    def volume(self) -> Float32:
        """Random blocks ``(z, y, x)`` of both signs, empty near the sides: a wrong geometry shows at once."""
        shape = (self.depth, self.height, self.width)
        block = max(2, min(shape) // 4)
        small = np.random.default_rng(0).random([-(-n // block) for n in shape], dtype=np.float32) - 0.5
        full = np.kron(small, np.ones((block, block, block), np.float32))[tuple(slice(n) for n in shape)]
        y, x = np.ogrid[: self.height, : self.width]
        radius = 0.4 * min(self.height, self.width)
        inside = (y - self.height // 2) ** 2 + (x - self.width // 2) ** 2 < radius**2
        return np.ascontiguousarray(full * inside, dtype=np.float32)

    def images(self) -> Float32:
        """Random images ``(view, y, x)`` to back-project."""
        shape = (len(self.views), self.height, self.width)
        return np.random.default_rng(1).random(shape, dtype=np.float32)


@dataclass(frozen=True)
class Projector:
    """A projector ready to be timed; every call blocks until its result exists.

    Attributes
    ----------
    forward
        Projects the volume of the problem; the result is in the package's own layout.
    back
        Back-projects images in the package's own layout: those of the problem, or the ones given.
    to_images
        From a result of ``forward`` and view indices to images ``(view, y, x)``, to compare with ours.
    packages
        Distributions whose versions belong in the record.
    normal
        ``W' W`` of the volume; None: ``back(forward())``.
    comparable
        Views whose images can be compared with ours; None: all.
    details
        Numbers worth recording.
    """

    forward: Callable[[], Any]
    back: Callable[[Any], Any]
    to_images: Callable[[Any, Sequence[int]], Float32]
    packages: tuple[str, ...]
    normal: Callable[[], Any] | None = None
    comparable: tuple[int, ...] | None = None
    details: dict[str, Any] = field(default_factory=dict)


class NotApplicable(Exception):
    """The package cannot do this geometry on a CPU."""
