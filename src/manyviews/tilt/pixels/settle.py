"""Which pixels of a series count how much, settled before it is reconstructed, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
import torch

from manyviews.io.mrc import MrcStack
from manyviews.parallel.world import World
from manyviews.tilt.pixels.beads import Beads, find_beads
from manyviews.tilt.pixels.faults import Faults
from manyviews.tilt.pixels.find import Found, Wanted, find_faults
from manyviews.tilt.pixels.quick import quick_volume
from manyviews.tilt.pixels.weights import SeriesPixels, edge_weights
from manyviews.tilt.plan import Plan
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.outliers import number_runs

_BEAD_SIDE = 512  # pixels a side of the images that beads are looked for in
_LEAST_SHARE = 0.001  # of the rays that leave the volume, to be worth an exact pass


@dataclass(frozen=True)
class Settled:
    """The images, bad pixels filled; the weights of their pixels, None where all count; and the words."""

    source: ImageSource
    pixels: SeriesPixels | None
    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    found: Found


def settle_pixels(
    source: ImageSource,
    plan: Plan,
    stacks: tuple[MrcStack, ...],
    device: torch.device,
    world: World,
    tell: Callable[[int], None] | None = None,
) -> Settled:
    """Look for all that the plan asks for; all ranks of ``world`` make this call and get the same.

    ``tell`` is told how many images of this rank were looked at.
    """
    edges = cast(Literal["auto", "weigh", "keep"], plan.edges)
    wanted = Wanted(
        edges, plan.mask_detector == "auto", plan.mask_borders == "auto", plan.normalise, plan.volume_shape
    )
    found = find_faults(source, wanted, world, tell)
    weigh = edges == "weigh" or (edges == "auto" and found.outside.has_matter)
    clean = source.with_weights(found.weights(source, stacks))
    lines, warnings = list(_fault_lines(source, found, stacks)), []
    if plan.mask_beads:
        beads = _beads(clean, plan, world, edges=weigh)
        if beads is None:
            warnings.append("no gold beads were found: nothing is far darker or brighter than all else")
        else:
            found = replace(found, faults=_with_discs(found, source, beads))
            clean = source.with_weights(found.weights(source, stacks))
            lines.append(
                f"{len(beads.centres)} gold beads of {2 * beads.radius:.0f} A: pixels that show them do not "
                "count"
            )
    pixels = SeriesPixels(clean, plan.volume_shape, weigh, device)
    share = _edge_share(pixels) if weigh else 0.0
    weigh = share > _LEAST_SHARE
    lines += _edge_lines(plan, found, weigh, share)
    if not weigh:
        pixels = replace(pixels, edges=False)
    return Settled(
        clean, pixels if weigh or clean.stored_weights else None, tuple(lines), tuple(warnings), found
    )


def _beads(source: ImageSource, plan: Plan, world: World, *, edges: bool) -> Beads | None:
    """Of a quick reconstruction, made by the first rank."""
    own: list[list[float]] = []
    if world.rank == 0:
        depth = plan.volume_shape[0] * plan.bin
        beads = find_beads(quick_volume(source, plan, depth, _BEAD_SIDE, edges=edges), plan.bead_diameter)
        if beads is not None:
            own = [[beads.radius, 0.0, 0.0], *beads.centres.tolist()]
    known = world.broadcast(own)
    return Beads(np.array(known[1:]), known[0][0]) if known else None


def _with_discs(found: Found, source: ImageSource, beads: Beads) -> dict[int, Faults]:
    geometry, shape = source.series.geometry, source.series.image_shape
    discs = beads.discs(geometry, shape, source.series.pixel_size)
    return {
        view: replace(found.faults.get(view, Faults()), discs=discs[view]) for view in range(len(geometry))
    }


def _edge_share(pixels: SeriesPixels) -> float:
    """Share of all pixels' weight that rays lose that leave the volume."""
    views = len(pixels.source.binned_geometry)
    return float(np.mean([1.0 - float(edge_weights(pixels.coverage(view)).mean()) for view in range(views)]))


def _fault_lines(source: ImageSource, found: Found, stacks: tuple[MrcStack, ...]) -> Iterator[str]:
    """What was found in the images of each stack, counted from 1."""
    geometry = source.series.geometry
    for stack in range(int(geometry.series.max()) + 1):
        rows, columns = found.always.get(stack, ((), ()))
        for name, numbers in (("row", rows), ("column", columns)):
            if numbers:
                yield (
                    f"stack {stack + 1}: bad in all images, given no weight: {_named(name, numbers)} of the "
                    "detector"
                )
        views = [view for view in sorted(found.faults) if geometry.series[view] == stack]
        single = [
            view
            for view in views
            if set(found.faults[view].rows) - set(rows) or set(found.faults[view].columns) - set(columns)
        ]
        if single:
            count = sum(
                len(set(found.faults[view].rows) - set(rows))
                + len(set(found.faults[view].columns) - set(columns))
                for view in single
            )
            sections = number_runs(geometry.sections[single] + 1)
            lines = f"{count} bad line{'s' if count > 1 else ''}"
            yield f"stack {stack + 1}: {lines} in {sections}: given no weight"
        bordered = [view for view in views if found.border_pixels.get(view)]
        if bordered:
            pixels = sum(found.border_pixels[view] for view in bordered)
            part = 100 * pixels / (len(bordered) * np.prod(source.series.image_shape))
            yield (
                f"stack {stack + 1}: borders of one grey level, {part:.2g} % of the images, in "
                f"{number_runs(geometry.sections[bordered] + 1)}: given no weight"
            )
    for weights in stacks:
        yield f"pixels count by the weights of {weights.path}"


def _named(name: str, numbers: tuple[int, ...]) -> str:
    return f"{name}{'s' if len(numbers) > 1 else ''} {', '.join(str(number + 1) for number in numbers[:10])}"


def _edge_lines(plan: Plan, found: Found, weigh: bool, share: float) -> Iterator[str]:
    """What is done to rays that leave the volume, and why."""
    outside = found.outside
    if weigh:
        why = (
            f"{100 * outside.power_ratio:.0f} % of the power within lies beside the volume"
            if plan.edges == "auto"
            else "as asked for"
        )
        yield (
            f"the specimen goes on beside the volume ({why}): rays that leave it count less, "
            f"{100 * share:.0f} % of the weight of all pixels; --edges keep counts them"
        )
    elif plan.edges == "auto" and outside.is_empty:
        yield "there is nothing beside the volume: rays that leave it count as others do"
