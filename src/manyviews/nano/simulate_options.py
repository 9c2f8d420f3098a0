"""What ``nano simulate`` can be told.

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
    """A specimen that moves and deforms, and how it is scanned."""

    specimen: Literal["tubes", "fibres", "ellipsoids", "tissue"] = option("tubes", section="specimen",
        metavar="KIND",
        help="Simulate this specimen: tubes (seven, hollow), fibres (thin and bent), ellipsoids (with sharp "
        "edges), or tissue (grains of many sizes, cells and tubes).")
    size: tuple[int, ...] = option((128,), section="specimen", metavar="N", least=16,
        help="Make a detector of so many columns and rows, in pixels; one number: as many rows as columns. "
        "The volume is as high as the detector.")
    pixel_size_nm: float = option(20.0, section="specimen", metavar="NM", above=0,
        help="Make pixels of this size in the specimen, in nanometres.")
    seed: int = option(0, section="specimen", least=0, below=SEEDS,
        help="Draw all random numbers from this seed: the same seed gives the same data.")
    views: int = option(192, section="geometry", least=2, help="Take this many views.")
    rotations: int = option(2, section="geometry", least=1,
        help="Share them among this many rotations, one after the other.")
    scan: Literal["interlaced", "timbir", "repeated"] = option("interlaced", section="geometry",
        metavar="SCHEME",
        help="Begin rotations at these angles. interlaced: each a part of a step late, by the base-3 radical "
        "inverse; timbir: in the order of reversed bits, for 1, 2, 4, 8 ... rotations; repeated: all at the "
        "same.")
    arc: float = option(360.0, section="geometry", metavar="DEG", above=0,
        help="Let a rotation go through this angle, in degrees.")
    center: float | None = option(None, section="geometry", metavar="COLUMN",
        help="Put the rotation axis here on the detector, in pixels, the centre of the first being 0. Left "
        "out: in the middle of the detector.")
    deformation: Literal["flow", "object", "none"] = option("flow", section="imperfections", metavar="KIND",
        help="Deform this while it is scanned, fast at first and slowly in the end. flow: projections, by a "
        "smooth random flow; object: the specimen, by a smooth random field in three dimensions, which no "
        "flow of projections describes in full; none: nothing.")
    deformation_percent: float = option(8.0, section="imperfections", metavar="PERCENT", least=0, below=50,
        help="Deform by up to this part of the columns of the detector, in percent, in the end.")
    control_points: int = option(3, section="imperfections", least=2, below=33,
        help="Draw the deformation at so many points along each axis; more are less smooth.")
    warp: Literal["move", "mass"] = option("move", section="imperfections", metavar="KIND",
        help="Keep this where it deforms. move: grey levels, so what shrinks holds less; mass: what is in "
        "it, so what shrinks becomes denser.")
    jitter: float = option(0.0, section="imperfections", metavar="PIXELS", least=0,
        help="Shift every view at random, with this standard deviation along columns and rows, in pixels.")
    drift: float = option(0.0, section="imperfections", metavar="PIXELS", least=0,
        help="Let the views drift smoothly by up to so much along columns and rows, in pixels.")
    jumps: int = option(0, section="imperfections", least=0,
        help="Let the views jump so many times, and stay where they are then.")
    jump_pixels: float = option(5.0, section="imperfections", metavar="PIXELS", least=0,
        help="Make each jump this long, in pixels.")
    blank_views: int = option(0, section="imperfections", least=0,
        help="Lose the specimen in so many views, one after the other.")
    roll: float = option(0.0, section="imperfections", metavar="DEG",
        help="Turn all views in the plane of the detector by this angle, as a tilted rotation axis does, in "
        "degrees.")
    roll_jitter: float = option(0.0, section="imperfections", metavar="DEG", least=0,
        help="Turn every view in that plane at random, with this standard deviation, in degrees.")
    absorption: float = option(1.0, section="noise", above=0, below=20,
        help="Make the specimen so dense that the darkest pixel of its first view has this minus logarithm "
        "of the transmission.")
    photons: float = option(10_000.0, section="noise", least=1, below=1e12,
        help="Send so many photons to each pixel of a view.")
    noise_free: bool = option(False, section="noise", help="Count without noise, in float32.")
    background: float = option(0.0, section="noise", least=0,
        help="Add a slow background, another to every view, of this standard deviation in that of the first "
        "view.")
    flats: int = option(10, section="noise", least=1, help="Take so many images without the specimen.")
    darks: int = option(5, section="noise", least=1, help="Take so many images without the beam.")
    overwrite: bool = option(False, section="output",
        help="Replace a simulation in the same folder; other files in it stay.")
