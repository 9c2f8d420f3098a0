"""The table of a job over subtomograms, read as its options say."""

from __future__ import annotations

from manyviews.errors import InputError
from manyviews.io import subtomogram_formats
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.subtomo.options import SubtomogramOptions


def read_subtomograms(options: SubtomogramOptions) -> SubtomogramTable:
    """Read the table, whose volumes must be there; `InputError` as of the reader of its format."""
    return subtomogram_formats.read_subtomograms(
        options.particles, pixel_size=options.pixel_size, data_root=options.data_root
    )


def told_tilt_range(options: SubtomogramOptions) -> tuple[float, float] | None:
    """Lowest and highest tilt in degrees, None where they were not told.

    `InputError` if they are not two, in order, at most half a turn apart, or beam and tilt axis are the same.
    """
    if options.tilt_axis == options.beam_axis:
        raise InputError(
            f"tilting about {options.tilt_axis}, along which the beam runs, shows nothing new",
            where="--tilt-axis",
            fix="give the axis about which the specimen was tilted",
        )
    if not options.tilt_range:
        return None
    shown = " ".join(f"{angle:g}" for angle in options.tilt_range)
    if len(options.tilt_range) != 2:
        raise InputError(f"{shown} are not two angles", where="--tilt-range", fix="give e.g. -60 60")
    lowest, highest = options.tilt_range
    if not (lowest < highest and highest - lowest <= 180 and max(abs(lowest), abs(highest)) <= 180):
        raise InputError(
            f"{shown} is no range of tilts",
            where="--tilt-range",
            fix="give the lowest and then the highest, at most 180 degrees apart",
        )
    return lowest, highest
