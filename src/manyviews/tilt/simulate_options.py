"""Everything a simulated tilt series can be told; standard library only, so that the help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SimulateOptions:
    """A specimen, and how it is looked at.

    Attributes
    ----------
    phantom
        cell, gaussians, ellipsoids, or the path of a PDB or mmCIF model (also .gz).
    size
        Width and height of the images and of the volume in pixels; one number for both.
    thickness
        Thickness of the volume (z) in pixels.
    pixel_size
        Angstrom per pixel.
    axes
        Direction of the tilt axis of each stack in the image, degrees counter-clockwise from +y.
    tilt_min
        First tilt in degrees.
    tilt_max
        Last tilt in degrees.
    tilt_step
        Degrees between views.
    noise
        Standard deviation of the noise as a fraction of that of the noise-free untilted image.
    snr
        The same as a ratio of variances, signal over noise.
    drift
        How much gain and offset differ between and drift along the stacks, e.g. 0.1 for up to 10 %.
    shift_error
        Standard deviation of random image shifts in pixels; the .xf files written bring the images back.
    axis_error
        Standard deviation in degrees of the angle by which the images of each stack are turned; the .xf
        files written turn them back.
    extended
        Let the specimen go on outside the field, as real ones do.
    dtype
        Pixel type of the stacks, float32 or int16 (scaled).
    seed
        Same seed, same data.
    overwrite
        Replace a simulation in the same folder; other files in it stay.
    """

    phantom: str = "cell"
    size: tuple[int, ...] = (256, 256)
    thickness: int = 64
    pixel_size: float = 8.0
    axes: tuple[float, ...] = (0.0, 45.0, 90.0, 135.0)
    tilt_min: float = -60.0
    tilt_max: float = 60.0
    tilt_step: float = 2.0
    noise: float = 0.0
    snr: float | None = None
    drift: float = 0.0
    shift_error: float = 0.0
    axis_error: float = 0.0
    extended: bool = False
    dtype: Literal["float32", "int16"] = "float32"
    seed: int = 0
    overwrite: bool = False
