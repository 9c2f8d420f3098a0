"""What can be said of a scan, in one place: the API, the command line, ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manyviews.options import described, option

Stripes = Literal["none", "fw", "sorting", "vo-all"]


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True)
class ScanOptions:
    """Which scan, and how it becomes projections."""

    scan: Path = option(Path(), section="input", metavar="SCAN", positional=True,
        help="Read this scan: an HDF5 file (Data Exchange or NXtomo), a folder of TIFF files, a TIFF"
            " stack, or "
        "an MRC stack.")
    angles: Path | None = option(None, section="input", metavar="FILE",
        help="Read the angles from this text file, one a view in the order of acquisition, in degrees;"
            " they may "
        "go on beyond 360. Left out: what the scan says, or a list of angles beside it.")
    angle_range: tuple[float, ...] = option((), section="geometry", metavar="DEG",
        help="Take the views to be evenly spaced from the first to the second of these angles, both"
            " included, "
        "in degrees, e.g. 0 180.")
    angle_units: Literal["degrees", "radians"] | None = option(None, section="geometry", metavar="UNIT",
        help="Take angles to be in degrees or in radians. Left out: degrees; what looks like radians is "
        "refused.")
    flats: tuple[Path, ...] = option((), section="input", metavar="FILE",
        help="Take these files, or those in these folders, for images of the beam without the specimen.")
    darks: tuple[Path, ...] = option((), section="input", metavar="FILE",
        help="Take these files, or those in these folders, for images of no beam.")
    exclude: tuple[str, ...] = option((), section="input", metavar="VIEWS",
        help='Leave these views out, counted from 1 without flats and darks, e.g. "1,4-6".')
    rows: tuple[int, ...] = option((), section="input", metavar="ROW", least=0,
        help="Use detector rows from the first of these up to and without the second, counted from 0.")
    axis: Literal["auto", "vertical", "horizontal"] = option("auto", section="geometry", metavar="AXIS",
        help="Take the rotation axis to be vertical in the images, along their columns, or horizontal;"
            " images "
        "of a horizontal one are turned by a quarter. auto: what the scan says, else vertical, but for"
        " an MRC "
        "stack what suits its images.")
    center: float | None = option(None, section="geometry", metavar="COLUMN",
        help="Take the rotation axis to lie here on the detector, in pixels as stored, the centre of"
            " the first "
        "being 0. Left out: by opposite views, else where slices are sharpest.")
    center_search_width: float | None = option(None, section="geometry", metavar="PIXELS", above=0,
        help="Look for the axis within this many pixels about the middle of the detector. Left out: half of "
        "its width.")
    minus_log: bool = option(True, section="input",
        help="Take minus the logarithm of the transmission. --no-minus-log: the images are sums along rays "
        "already, or in another contrast; flats and darks correct them where there are any.")
    air: int = option(0, section="imperfections", metavar="PIXELS", least=0,
        help="Divide every view by the beam that is left of it in so many columns at either side, where"
            " there "
        "is nothing but air; 0: do not.")
    stripes: Stripes = option("none", section="imperfections", metavar="HOW",
        help="Remove what makes rings in slices. none; fw: wavelets and Fourier transforms (Muench 2009); "
        "sorting, vo-all: by sorting, or against all kinds of stripes (Vo 2018).")
    binning: int = option(1, section="volume", least=1,
        help="Average blocks of N x N pixels of the projections.")
    pixel_size_nm: float | None = option(None, section="input", metavar="NM", above=0,
        help="Take the images, as stored, to have pixels of this size in nanometres in the specimen."
            " Left out: "
        "what the scan says.")
# fmt: on
