"""Everything that an alignment can be told. Only the standard library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from manyviews.options import MachineOptions, described, option


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True)
class AlignOptions(MachineOptions):
    """How to align."""

    thickness: int = option(0, section="volume",
        help="Take the specimen to be this thick (z), in unbinned pixels, with some room above and below. "
        "Left out: what a tilt.com given with --tilt-angles says; without one it must be given.")
    bin: int | None = option(None, section="method", least=1,
        help="Average blocks of N x N pixels in the finest of the steps from coarse to fine. Left out: 1 for "
        "images below 192 pixels a side, else 2 or more, for images of 512 pixels at most.")
    axis_search: float = option(8.0, section="method", metavar="DEG", least=0, below=180,
        help="Look for the direction of the tilt axis this far to either side of where it is said to be, in "
        "degrees, before it is fitted; 90 where it is not known at all; 0: start from what is said.")
    keep_axis: bool = option(False, section="method",
        help="Leave the direction of the tilt axis as it is given.")
    rotation: Literal["auto", "never"] = option("auto", section="method", metavar="WHEN",
        help="Turn every view in its plane by itself. auto: where this lowers the misfit of rows kept apart; "
        "never: all views of a stack are turned together.")
    keep_views: bool = option(False, section="method",
        help="Let bad views count like all others; they are still listed.")
    remove_outliers: bool = option(False, section="input",
        help="Replace hot pixels and X-rays, which stand out of an image alone or in clusters of a few, by "
        "the median around them, before anything else is done.")
    aligned_stacks: bool = option(False, section="output",
        help="Write each stack with its images shifted and turned, tilt axis upright, too.")
# fmt: on
