"""Compare two volumes: Fourier shell correlation, resolution, correlation, error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from manyviews.errors import InputError

if TYPE_CHECKING:
    from manyviews.io.mrc import MrcHeader
    from manyviews.metrics.fsc import FscCurve

UNALIGNED = (
    "the maps look unaligned, turned or shifted against each other: "
    "`manyviews particles compare` lays one over the other first"
)
FILES = ("fsc.csv", "fsc.png")  # of `Comparison.write`
_SHELLS_BY_CHANCE = 6  # so few coarse shells may agree whatever the maps show
_PIXEL_TOLERANCE = 1e-3  # relative; headers hold float32 lengths that others have rounded


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    ``shape`` is ``(z, y, x)``, ``pixel_size`` angstrom. The resolutions are in angstrom where the FSC falls
    below 0.5, 0.143 and the half-bit curve: two pixels where it never does, infinite where it is never above.
    ``ncc`` is the normalised correlation of all voxels, ``relative_error`` is ``|A - B| / |B|``,
    ``scaled_error`` the same after the best scaling of A, by ``scale``.
    """

    shape: tuple[int, int, int]
    pixel_size: float
    fsc: FscCurve
    resolution_half: float
    resolution_143: float
    resolution_half_bit: float
    ncc: float
    relative_error: float
    scaled_error: float
    scale: float

    def lines(self) -> list[str]:
        """The result in words, for a terminal."""
        nz, ny, nx = self.shape
        return [
            f"{nx} x {ny} x {nz} voxels of {self.pixel_size:g} angstrom",
            f"resolution at FSC 0.5:      {in_words(self.resolution_half, self.pixel_size)}",
            f"resolution at FSC 0.143:    {in_words(self.resolution_143, self.pixel_size)}",
            f"resolution at the half bit: {in_words(self.resolution_half_bit, self.pixel_size)}",
            f"NCC: {self.ncc:.4f}",
            f"relative error: {self.relative_error:.4f}"
            f" ({self.scaled_error:.4f} with the first scaled by {self.scale:.4g})",
            *([UNALIGNED] if self.look_unaligned else []),
        ]

    @property
    def look_unaligned(self) -> bool:
        """Whether two cubes agree in the coarsest shells at most, as maps that are turned or shifted do."""
        coarsest = max(self.shape) * self.pixel_size / _SHELLS_BY_CHANCE
        return len(set(self.shape)) == 1 and self.resolution_half > coarsest

    def write(self, folder: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
        """Write ``fsc.csv`` and ``fsc.png`` into a folder; ``overwrite`` replaces those that are there.

        Raises
        ------
        InputError
            If the files exist already and must not be replaced, or the folder cannot be written.
        """
        from manyviews.io.atomic import atomic_write
        from manyviews.io.faults import explain_write_errors
        from manyviews.report.plots import fsc_figure
        from manyviews.report.style import figure_png

        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        table, picture = (folder / name for name in FILES)
        self.fsc.write_csv(table, samples=True, overwrite=overwrite)
        atomic_write(picture, figure_png(fsc_figure(self.fsc, half_bit=True)), overwrite=overwrite)
        return table, picture


def in_words(resolution: float, pixel_size: float) -> str:
    """A resolution of `FscCurve.resolution` for a terminal."""
    if math.isinf(resolution):
        return "none, the curve is below everywhere"
    limit = " or better (the limit of the pixel size)" if resolution <= 2 * pixel_size else ""
    return f"{resolution:.4g} angstrom{limit}"


def compare(a: Path, b: Path) -> Comparison:
    """Compare volume A with volume B, the truth or the other half.

    Raises
    ------
    InputError
        If a file cannot be read, or their shapes or pixel sizes differ.
    """
    from manyviews.io.mrc import read_mrc
    from manyviews.metrics.correlation import ncc
    from manyviews.metrics.error import relative_error, scaled_error
    from manyviews.metrics.fsc import fsc

    volume_a, header_a = read_mrc(a)
    volume_b, header_b = read_mrc(b)
    pixel_size = _check_alike(header_a, header_b, a, b)
    curve = fsc(volume_a, volume_b, pixel_size)
    best_error, scale = scaled_error(volume_a, volume_b)
    return Comparison(
        shape=header_a.shape,
        pixel_size=pixel_size,
        fsc=curve,
        resolution_half=curve.resolution(0.5),
        resolution_143=curve.resolution(0.143),
        resolution_half_bit=curve.resolution(curve.half_bit()),
        ncc=ncc(volume_a, volume_b),
        relative_error=relative_error(volume_a, volume_b),
        scaled_error=best_error,
        scale=scale,
    )


def _check_alike(a: MrcHeader, b: MrcHeader, path_a: Path, path_b: Path) -> float:
    """Check that the shapes and pixel sizes agree and are usable; return the pixel size."""
    if a.shape != b.shape:
        sizes = [" x ".join(map(str, header.shape[::-1])) for header in (a, b)]
        raise InputError(
            f"the volume is {sizes[0]} but {path_b} is {sizes[1]}",
            path=path_a,
            fix="give two volumes of the same size",
        )
    lengths = []
    for header, path in ((a, path_a), (b, path_b)):
        if header.pixel_size is None:
            raise InputError("its header holds no pixel size", path=path, fix="write the voxel size into it")
        if max(header.pixel_size) > min(header.pixel_size) * (1 + _PIXEL_TOLERANCE):
            text = " x ".join(f"{length:g}" for length in header.pixel_size)
            raise InputError(f"its voxels are {text} angstrom", path=path, fix="give cubic voxels")
        lengths.append(header.pixel_size[0])
    if abs(lengths[0] - lengths[1]) > _PIXEL_TOLERANCE * lengths[1]:
        raise InputError(
            f"the pixel size is {lengths[0]:g} angstrom but that of {path_b} is {lengths[1]:g}",
            path=path_a,
            fix="give two volumes of the same pixel size",
        )
    return lengths[0]
