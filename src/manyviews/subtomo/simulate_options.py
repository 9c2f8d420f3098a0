"""What ``subtomo simulate`` can be told.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from manyviews.options import SEEDS, described, option


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True)
class SimulateOptions:
    """A specimen, and how subtomograms of it come about."""

    specimen: str = option("complex", section="specimen",
        help="Simulate this specimen: complex (made up of Gaussians, without symmetry), the path of a PDB or "
        "mmCIF model (also .gz), or of a map in an MRC file.")
    assembly: str | None = option(None, section="specimen", metavar="NAME",
        help="Build this biological assembly of an atomic model, e.g. 1. Left out: the model as it stands.")
    symmetry: str | None = option(None, section="specimen", metavar="GROUP",
        help="Turn the specimen so that its symmetry axes lie where this point group has them, e.g. D7: 7 "
        "along z, 2 along x. Left out: as it stands.")
    box: int = option(64, section="specimen", least=16, help="Make cubes of this side, in voxels.")
    pixel_size: float = option(6.0, section="specimen", metavar="ANGSTROM", above=0,
        help="Make voxels of this size, in angstrom.")
    count: int = option(100, section="specimen", least=1, help="Make this many subtomograms.")
    resolution: float | None = option(None, section="specimen", metavar="ANGSTROM",
        help="Blur an atomic model to this finest detail, in angstrom. Left out: three voxels.")
    tilt_range: tuple[float, ...] = option((-60.0, 60.0), section="geometry", metavar="DEG",
        help="Tilt from the first of these two angles to the second, in degrees.")
    tilt_step: float = option(1.0, section="geometry", metavar="DEG", above=0,
        help="Tilt in steps of this angle, in degrees.")
    tilt_axis: str = option("y", section="geometry", metavar="AXIS",
        help="Tilt about this axis, right-handed: x, y, z, or degrees counter-clockwise from +y in the "
        "xy plane.")
    beam_axis: Literal["x", "y", "z"] = option("z", section="geometry", metavar="AXIS",
        help="Let the beam of the untilted image run along this axis: x, y or z.")
    shift_range: float | None = option(None, section="poses", metavar="ANGSTROM", least=0,
        help="Shift the particles by up to so much along each axis, in angstrom, evenly distributed. Left "
        "out: a twentieth of the box.")
    defocus: float | None = option(None, section="microscope", metavar="ANGSTROM", least=0,
        help="Image with this defocus, in angstrom, positive under focus, e.g. 60000. Left out: no contrast "
        "transfer function.")
    voltage: float = option(300.0, section="microscope", metavar="KV", above=0,
        help="Set the voltage of the microscope, in kilovolts.")
    spherical_aberration: float = option(2.0, section="microscope", metavar="MM", least=0,
        help="Set the spherical aberration (Cs), in millimetres.")
    amplitude_contrast: float = option(0.07, section="microscope", least=0, below=1,
        help="Let this part of the contrast be amplitude contrast, from 0 to below 1.")
    snr: float = option(0.1, section="noise", above=0,
        help="Add noise of this ratio of variances in the whole box of a subtomogram, the signal's, wedge "
        "and CTF applied, over the noise's. Half of the noise is there before the CTF, half comes after it "
        "and is low-passed, as a detector does.")
    noise_free: bool = option(False, section="noise", help="Add no noise.")
    noise_only: bool = option(False, section="noise",
        help="Leave the particles out: pure noise, as strong as --snr says.")
    seed: int = option(0, section="specimen", least=0, below=SEEDS,
        help="Draw all random numbers from this seed: the same seed gives the same data.")
    overwrite: bool = option(False, section="output",
        help="Replace a simulation in the same folder; other files in it stay.")
