"""Everything simulated particles can be told; standard library only, so that the help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SimulateOptions:
    """A specimen, and how its images are taken.

    Attributes
    ----------
    specimen
        complex (made up of Gaussians), the path of a PDB or mmCIF model (also .gz), or of a map in an MRC
        file.
    box
        Side of the images in pixels.
    pixel_size
        Angstrom per pixel.
    count
        Number of images.
    resolution
        Finest detail of an atomic model in angstrom. Left out: three pixels.
    snr
        Variance of the noise-free images over that of the noise. Left out: 0.1, unless noise is given.
    noise
        Standard deviation of the noise in a pixel for a specimen whose voxels sum to --mass, instead of snr;
        0 for none.
    mass
        Sum of the specimen's voxels that --noise refers to.
    noise_colour
        How much stronger than at high frequencies the noise is at low ones, in power; 0 is white.
    no_ctf
        Leave the contrast transfer function out.
    voltage
        Kilovolts.
    spherical_aberration
        Millimetres.
    amplitude_contrast
        Part of the contrast that is amplitude contrast, 0 to 1.
    b_factor
        Square angstrom; the CTF falls off as exp(-B s^2 / 4).
    defocus_min
        Least mean defocus of an image in angstrom.
    defocus_max
        Largest mean defocus in angstrom.
    astigmatism
        Largest difference between the two defocus values of an image in angstrom.
    shift_sigma
        Standard deviation of the particles' shifts in x and in y, angstrom.
    views
        uniform, or belt for side views only, around the z axis of the specimen.
    belt_width
        Standard deviation in degrees of the latitude of a belt.
    seed
        Same seed, same data.
    overwrite
        Replace a simulation in the same folder; other files in it stay.
    """

    specimen: str = "complex"
    box: int = 64
    pixel_size: float = 4.0
    count: int = 2000
    resolution: float | None = None
    snr: float | None = None
    noise: float | None = None
    mass: float = 80_000.0
    noise_colour: float = 0.0
    no_ctf: bool = False
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.07
    b_factor: float = 0.0
    defocus_min: float = 10_000.0
    defocus_max: float = 25_000.0
    astigmatism: float = 600.0
    shift_sigma: float = 5.0
    views: Literal["uniform", "belt"] = "uniform"
    belt_width: float = 15.0
    seed: int = 0
    overwrite: bool = False
