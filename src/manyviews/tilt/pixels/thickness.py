"""Thickness of the volume and height of its middle from the images, where nobody has said them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from manyviews.errors import InputError
from manyviews.parallel.world import SingleWorld, World
from manyviews.tilt.options import ReconstructOptions
from manyviews.tilt.pixels.find import Wanted, find_faults
from manyviews.tilt.pixels.quick import quick_volume
from manyviews.tilt.pixels.slab import Slab, find_slab
from manyviews.tilt.plan import Plan, resolve_plan
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import ResolvedSeries

_SIDE = 128  # pixels a side of the images that are looked at
_MARGIN, _LEAST_MARGIN = 0.05, 2.0  # of the thickness above and below, and voxels of the quick volume
_TOLD_DEGREES = 1.0  # a tilt of the slab that is worth telling
_MOST_OF_DEPTH = 0.7  # of the quick volume: a thicker slab is looked at in a thicker one
_SURE = 0.25  # of the thickness between its bounds


@dataclass(frozen=True)
class Proposal:
    """A thickness, and what it rests on; lengths in stored pixels.

    ``thickness`` is that of the volume, with room above and below; ``height`` is of its middle above that of
    the geometry. ``slab`` is what was found in voxels of ``bin`` pixels.
    """

    thickness: int
    height: float
    slab: Slab
    bin: int

    @property
    def lines(self) -> tuple[str, ...]:
        """What is proposed, and how sure that is."""
        slab, bin = self.slab, self.bin
        spread = slab.most - slab.least
        sure = "sure" if spread <= _SURE * slab.thickness else "not sure: give --thickness if you know it"
        side = "above" if self.height >= 0 else "below"
        found = (
            f"the images show a specimen {bin * slab.thickness:.0f} pixels thick ({bin * slab.least:.0f} to "
            f"{bin * slab.most:.0f}, {sure}), its middle {abs(self.height):.0f} {side} that of the geometry: "
            f"the volume is made {self.thickness} thick around it"
        )
        lines = [found]
        if slab.tilt_degrees >= _TOLD_DEGREES:
            about_y = -np.rad2deg(np.arctan(slab.slope_x))
            about_x = np.rad2deg(np.arctan(slab.slope_y))
            lines.append(
                f"the specimen lies tilted in the volume by {slab.tilt_degrees:.1f} degrees: {about_x:+.1f} "
                f"about x, {about_y:+.1f} about y"
            )
        return tuple(lines)

    def centred(self, series: ResolvedSeries) -> ResolvedSeries:
        """The series as seen from the middle of the slab, with the thickness.

        Depths along the beam stay as they are: the defocus of a view is that of the specimen's middle.
        """
        matrices = series.geometry.matrices.copy()
        matrices[:, :2, 3] += matrices[:, :2, 2] * self.height * series.pixel_size
        return replace(series, geometry=replace(series.geometry, matrices=matrices), thickness=self.thickness)


def propose_thickness(series: ResolvedSeries, options: ReconstructOptions, world: World) -> Proposal | None:
    """From a quick reconstruction half as thick as wide, or as thick; None where it shows no slab.

    All ranks of ``world`` make this call; the first one works and all get the same.
    """
    numbers: list[float] = []
    if world.rank == 0:
        found = _found(series, options)
        if found is not None:
            slab, bin = found
            numbers = [
                slab.thickness, slab.least, slab.most, slab.height, slab.slope_x, slab.slope_y, float(bin)
            ]  # fmt: skip
    known = world.broadcast(numbers)
    if not known:
        return None
    slab, bin = Slab(*known[:6]), int(known[6])
    margin = max(_LEAST_MARGIN, _MARGIN * slab.thickness)
    return Proposal(int(np.ceil(bin * (slab.thickness + 2 * margin))), bin * slab.height, slab, bin)


def _found(series: ResolvedSeries, options: ReconstructOptions) -> tuple[Slab, int] | None:
    """The slab in voxels, and how many pixels these are wide."""
    width = max(series.field_shape)
    source = ImageSource(series, options.bin, options.invert_contrast, options.remove_outliers)
    try:
        plan = resolve_plan(replace(options, thickness=width, method="cg"), source)
        return _looked_for(source, plan, options, width)
    except InputError:  # blank images, say: whoever asks is told so when they are used
        return None


def _looked_for(
    source: ImageSource, plan: Plan, options: ReconstructOptions, width: int
) -> tuple[Slab, int] | None:
    wanted = Wanted(
        options.edges, options.mask_detector == "auto", options.mask_borders == "auto", plan.normalise,
        (max(1, plan.volume_shape[0] // 4), *plan.volume_shape[1:]),
    )  # fmt: skip
    faults = find_faults(source, wanted, SingleWorld())
    clean = source.with_weights(faults.weights(source))
    edges = options.edges == "weigh" or (options.edges == "auto" and faults.outside.has_matter)
    for depth in (width // 2, width):
        quick = quick_volume(clean, plan, depth, _SIDE, edges=edges)
        slab = find_slab(quick.volume)
        if slab is not None and (depth == width or slab.most < _MOST_OF_DEPTH * len(quick.volume)):
            return slab, quick.bin
    return None
