"""Everything that jobs over subtomograms can be told, in one place: the API, the command line, ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manyviews.options import described, option

Axis = Literal["x", "y", "z"]
TableKind = Literal["relion", "relion-tomo", "dynamo", "em", "stopgap"]


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True)
class SubtomogramOptions:
    """Which subtomograms, and what of them was measured."""

    particles: Path = option(Path(), section="input", metavar="PARTICLES", positional=True,
        help="Read the subtomograms from this table: RELION's .star (3 to 5), Dynamo's .tbl, a motive list "
        ".em, or STOPGAP's .star. A STAR file with nothing but rlnImageName is enough.")
    data_root: Path | None = option(None, section="input", metavar="DIR",
        help="Look for the volumes in this folder, as the table names them or by their numbers. Left out: "
        "the table's folder or one above it.")
    pixel_size: float | None = option(None, section="input", metavar="ANGSTROM", above=0,
        help="Take the subtomograms to have voxels of this size in angstrom. Left out: what the table or the "
        "headers say.")
    tilt_range: tuple[float, ...] = option((), section="geometry", metavar="DEG",
        help="Take tilts from the first to the second angle to have been measured, in degrees, e.g. -60 60. "
        "Left out: what the table or its weight volumes (rlnCtfImage) say.")
    tilt_angles: Path | None = option(None, section="geometry", metavar="PATH",
        help="Take the tilts in this file (.tlt, .rawtlt, AreTomo's _TLT.txt) to have been measured, in "
        "all tomograms; or those in the files of this folder that are called as the table calls its "
        "tomograms (NAME.tlt, NAME.rawtlt or NAME_TLT.txt). Of tilts that the table says a particle is not "
        "seen in (rlnTomoVisibleFrames) none counts.")
    tilt_axis: Axis = option("y", section="geometry", metavar="AXIS",
        help="Take the tomograms to have been tilted about their x, y or z axis.")
    beam_axis: Axis = option("z", section="geometry", metavar="AXIS",
        help="Take the beam to have run along this axis of the tomograms at no tilt: x, y or z.")


@described
@dataclass(frozen=True)
class ConvertOptions:
    """Which table becomes which."""

    table: Path = option(section="input", metavar="TABLE", positional=True,
        help="Read this table: RELION's .star (3 to 5), Dynamo's .tbl, a motive list .em, or STOPGAP's "
        ".star.")
    out: Path = option(section="output", metavar="FILE",
        help="Write this table.")
    format: TableKind | None = option(None, section="output", metavar="FORMAT",
        help="Write it as relion (version 3), relion-tomo (versions 4 and 5), dynamo, em (motive list) or "
        "stopgap. Left out: what the ending of its name says, .star being relion.")
    pixel_size: float | None = option(None, section="input", metavar="ANGSTROM", above=0,
        help="Take the subtomograms to have voxels of this size in angstrom. Left out: what the table says, "
        "which those of Dynamo, motive lists and STOPGAP do not.")
    tomogram_pixel_size: float | None = option(None, section="input", metavar="ANGSTROM", above=0,
        help="Take rlnCoordinateX, Y, Z to be counted in voxels of this size in angstrom. Left out: what the "
        "STAR file says.")
    tomogram_size: tuple[int, ...] = option((), section="input", metavar="N", least=1,
        help="Take the tomograms to have so many voxels of the tilt series in x, y, z: what "
        "rlnCenteredCoordinateXAngst needs to become a position from the first voxel.")
    data_root: Path | None = option(None, section="input", metavar="DIR",
        help="Look for volumes that a table names by number in this folder, and name them in a STAR file.")
    overwrite: bool = option(False, section="output", help="Replace such a file.")


@described
@dataclass(frozen=True)
class ExtractOptions:
    """Which boxes are cut out of which tomograms."""

    tomogram: Path = option(section="input", metavar="TOMOGRAM", positional=True,
        help="Cut out of this tomogram (MRC or EM); of those in this folder that are called as the table "
        "calls them (NAME, NAME.mrc, NAME.rec, NAME.em or rec_NAME.mrc); or of those in this tomograms.star "
        "of RELION 5.")
    positions: Path = option(section="input", metavar="POSITIONS", positional=True,
        help="Cut out boxes around these positions: a table (.star, .tbl, .em), or x y z on every line "
        "(.txt, .csv), the middle of the first voxel being 0.")
    box: int = option(section="particle", least=4, below=4097,
        help="Make cubes of this side, in voxels.")
    out: Path = option(section="output", metavar="DIR",
        help="Write the subtomograms, particles.star and extracted.csv to this new folder, which appears "
        "when it is complete.")
    edge: Literal["skip", "fill", "fail"] = option("skip", section="volume", metavar="POLICY",
        help="Where a box reaches beyond its tomogram, skip it; fill what lacks with the mean of the rest; "
        "or fail. What is skipped and filled is listed in extracted.csv.")
    units: Literal["voxels", "angstrom"] | None = option(None, section="input", metavar="UNITS",
        help="Take the numbers of a .txt or .csv file as voxels of the tomogram or as angstrom.")
    pixel_size: float | None = option(None, section="input", metavar="ANGSTROM", above=0,
        help="Take the tomogram to have voxels of this size in angstrom. Left out: what its header says.")
    position_pixel_size: float | None = option(None, section="input", metavar="ANGSTROM", above=0,
        help="Take a table to count positions in voxels of this size in angstrom. Left out: what it says, "
        "else the voxels of the tomogram.")
    only: str | None = option(None, section="input", metavar="NAME",
        help="Cut out only what the table says lies in the tomogram of this name.")
    min_distance: float = option(0.0, section="particle", metavar="ANGSTROM", least=0,
        help="Leave out particles within this distance of a better one, in angstrom, centre to centre.")
    invert: bool = option(False, section="volume",
        help="Multiply by -1, so that protein that is dark in the tomogram becomes white.")
    quiet: bool = option(False, section="output", help="Print the result only, no progress.")
    overwrite: bool = option(False, section="output", help="Replace an earlier extraction in that folder.")
# fmt: on
