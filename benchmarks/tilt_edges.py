"""Weights of pixels in tilt series, and the thickness that is proposed: what they are worth against the truth.

``python benchmarks/tilt_edges.py [--parts edges clean beads lines thickness] [--seeds 1 2 3]``

Cell-like slabs and scattered ellipsoids of 32 x 128 x 128 voxels, projected by their formulas at 41 tilts from
-60 to 60 degrees about one, two and four axes, noise of 10 % of the deviation of the untilted image, ``cg`` as it comes.

*edges*: the specimen goes on to 2.2 times the field of view. Error within the field with ``--edges keep`` (as before),
``auto``, and of the same specimen cut off at the field (``keep``).

*clean*: nothing beside the volume and nothing bad: everything ``auto`` against everything off.

*beads*: eight gold beads, eight times as dense as the specimen's densest voxel and 10 pixels wide. Error more than two
pixels away from them, without and with ``--mask-beads``, and of the same specimen without beads.

*lines*: a column off by half the spread of the images in all views, a row by twice that in every seventh, a row of noise
in one. Error without and with ``--mask-detector auto``, and of images without bad lines.

*thickness*: slabs of 64 nominal slices, 5 and 20 % noise. Thickness found over that of the truth, by where the
power of detail in a slice falls to a tenth of that within, and how far the middle is off.

Writes ``benchmarks/results/tilt_edges.json`` after each case, and ``.md``; what is there is not done again.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accuracy import PIXEL_SIZE, Views, tilt_geometry
from manyviews.geometry.views import TiltGeometry
from manyviews.parallel.world import SingleWorld
from manyviews.random import Stream, generator
from manyviews.simulate.phantoms import Ellipsoids, Phantom
from manyviews.simulate.specimens import specimen
from manyviews.simulate.tilt_series import GreyLevels, tilt_series_images
from manyviews.tilt.methods import make_solver
from manyviews.tilt.options import ReconstructOptions
from manyviews.tilt.pixels.quick import quick_volume
from manyviews.tilt.pixels.settle import Settled, settle_pixels
from manyviews.tilt.pixels.slab import detail_power, extent, find_slab
from manyviews.tilt.plan import resolve_plan
from manyviews.tilt.reconstruct import make_problem
from manyviews.tilt.series.images import ImageSource
from stored_cases import run_cases

NAME = "tilt_edges"
Record = dict[str, Any]
Float32 = NDArray[np.float32]

SHAPE = (32, 128, 128)
TILTS = np.arange(-60.0, 61.0, 3.0)
AXES = {1: (0.0,), 2: (0.0, 90.0), 4: (0.0, 45.0, 90.0, 135.0)}
KINDS, NOISE, EXTENT = ("cell", "ellipsoids"), 0.1, 2.2
BEADS, BEAD_RADIUS, BEAD_DENSITY = 8, 5.0, 8.0
DEPTHS, NOISES = (64,), (0.05, 0.2)
COLUMN, ROW, NOISY_ROW = 40, 90, 17
NOTHING: Record = {"edges": "keep", "mask_detector": "never", "mask_borders": "never"}


class StoredViews(Views):
    """A series in memory whose images are read as those of files are, faults and all."""

    read = ImageSource.read
    inspect = ImageSource.inspect

    def stored(self, view: int) -> Float32:
        """A copy of an image."""
        return np.array(self.images[view], dtype=np.float32)


def images_of(
    phantom: Phantom, geometry: TiltGeometry, shape: tuple[int, int, int], noise: float, seed: int
) -> Float32:
    """Exact projections with white noise, ``(view, y, x)``."""
    first = phantom.project(geometry.select(geometry.series == 0), shape[1:], PIXEL_SIZE)
    deviation = noise * float(first[len(TILTS) // 2].std(dtype=np.float64))
    flat = GreyLevels(np.ones(len(TILTS)), np.zeros(len(TILTS)))
    found = [
        image
        for series in np.unique(geometry.series)
        for image in tilt_series_images(
            phantom, geometry.select(geometry.series == series), shape[1:], PIXEL_SIZE,
            grey_levels=flat, noise_std=deviation, seed=seed, series=int(series),
        )
    ]  # fmt: skip
    return np.stack(found)


def solved(source: StoredViews, **options: Any) -> tuple[Float32, Settled]:
    """The volume of a reconstruction, and what was found out about the pixels."""
    plan = resolve_plan(ReconstructOptions(thickness=SHAPE[0], device="cpu", **options), source)
    settled = settle_pixels(source, plan, (), torch.device("cpu"), SingleWorld())
    problem, _ = make_problem(settled.source, plan, pixels=settled.pixels)
    solver = make_solver(problem, plan)
    state = solver.init()
    for _ in range(plan.iterations):
        state = solver.step(state)
    return state.iterate.numpy(), settled


def error(volume: Float32, truth: Float32, counted: NDArray[np.bool_] | None = None) -> float:
    """Relative error of the voxels that count."""
    where = np.ones(truth.shape, bool) if counted is None else counted
    return round(float(np.linalg.norm((volume - truth)[where]) / np.linalg.norm(truth[where])), 4)


def edges(kind: str, axes: int, seed: int) -> Record:
    """A specimen that goes on beyond the field."""
    geometry = tilt_geometry(AXES[axes], TILTS)
    phantom = specimen(kind, SHAPE, PIXEL_SIZE, seed, lateral_extent=EXTENT)
    half = 0.5 * PIXEL_SIZE * np.array([SHAPE[2], SHAPE[1]])
    cut = phantom.select(np.all(np.abs(phantom.centre[:, :2]) < half, axis=1))
    source = StoredViews(geometry, images_of(phantom, geometry, SHAPE, NOISE, seed))
    within = StoredViews(geometry, images_of(cut, geometry, SHAPE, NOISE, seed))
    truth = phantom.density(SHAPE, PIXEL_SIZE)
    return {
        "keep": error(solved(source, **NOTHING)[0], truth),
        "auto": error(solved(source)[0], truth),
        "cut off": error(solved(within, **NOTHING)[0], cut.density(SHAPE, PIXEL_SIZE)),
    }


def clean(kind: str, axes: int, seed: int) -> Record:
    """Nothing to be found."""
    geometry = tilt_geometry(AXES[axes], TILTS)
    phantom = specimen(kind, SHAPE, PIXEL_SIZE, seed)
    source = StoredViews(geometry, images_of(phantom, geometry, SHAPE, NOISE, seed))
    truth = phantom.density(SHAPE, PIXEL_SIZE)
    return {
        "off": error(solved(source, **NOTHING)[0], truth),
        "auto": error(solved(source)[0], truth),
        "weigh": error(solved(source, edges="weigh")[0], truth),
    }


def beads(kind: str, axes: int, seed: int) -> Record:
    """Gold in the specimen."""
    geometry = tilt_geometry(AXES[axes], TILTS)
    phantom = specimen(kind, SHAPE, PIXEL_SIZE, seed)
    truth = phantom.density(SHAPE, PIXEL_SIZE)
    rng = generator(seed, Stream.TEST)
    room = np.array(SHAPE[::-1]) / 2 - BEAD_RADIUS - 2
    centres = rng.uniform(-room, room, (BEADS, 3))
    gold = Ellipsoids(
        np.full(BEADS, BEAD_DENSITY * float(truth.max())),
        centres * PIXEL_SIZE,
        np.full((BEADS, 3), BEAD_RADIUS * PIXEL_SIZE),
        np.tile(np.eye(3), (BEADS, 1, 1)),
    )
    images = images_of(phantom, geometry, SHAPE, NOISE, seed)
    spoilt = StoredViews(geometry, images + gold.project(geometry, SHAPE[1:], PIXEL_SIZE))
    places = np.moveaxis(np.indices(SHAPE)[::-1], 0, -1) - np.array(SHAPE[::-1]) // 2
    far = np.ones(SHAPE, bool)
    for centre in centres:
        far &= np.square(places - centre).sum(axis=-1) > (BEAD_RADIUS + 2) ** 2
    masked, settled = solved(spoilt, mask_beads=True)
    found = max((len(faults.discs) for faults in settled.found.faults.values()), default=0)
    return {
        "keep": error(solved(spoilt)[0], truth, far),
        "masked": error(masked, truth, far),
        "none": error(solved(StoredViews(geometry, images))[0], truth, far),
        "found": found,
    }


def lines(kind: str, axes: int, seed: int) -> Record:
    """Bad lines of the detector."""
    geometry = tilt_geometry(AXES[axes], TILTS)
    phantom = specimen(kind, SHAPE, PIXEL_SIZE, seed)
    truth = phantom.density(SHAPE, PIXEL_SIZE)
    good = images_of(phantom, geometry, SHAPE, NOISE, seed)
    bad, spread = good.copy(), float(good.std())
    bad[:, :, COLUMN] += 0.5 * spread
    bad[::7, ROW] -= spread
    bad[3, NOISY_ROW] += 4 * spread * generator(seed, Stream.TEST).standard_normal(SHAPE[2], np.float32)
    source = StoredViews(geometry, bad)
    return {
        "keep": error(solved(source, mask_detector="never")[0], truth),
        "masked": error(solved(source)[0], truth),
        "none": error(solved(StoredViews(geometry, good))[0], truth),
    }


def thickness(kind: str, depth: int, axes: int, noise: float, seed: int) -> Record:
    """A slab in a quick reconstruction that is thicker."""
    shape = (depth, *SHAPE[1:])
    geometry = tilt_geometry(AXES[axes], TILTS)
    phantom = specimen(kind, shape, PIXEL_SIZE, seed)
    source = StoredViews(geometry, images_of(phantom, geometry, shape, noise, seed))
    plan = resolve_plan(ReconstructOptions(thickness=SHAPE[1], device="cpu"), source)
    slab = find_slab(quick_volume(source, plan, SHAPE[1], SHAPE[1], edges=False).volume)
    true = extent(detail_power(phantom.density((SHAPE[1], *SHAPE[1:]), PIXEL_SIZE)).mean(axis=(1, 2)))
    assert slab is not None
    assert true is not None
    return {
        "true": round(float(true[1] - true[0]), 2),
        "found": round(float(slab.thickness), 2),
        "middle off": round(float(slab.height - 0.5 * sum(true) + SHAPE[1] // 2), 2),
        "tilt": round(slab.tilt_degrees, 2),
    }


def cases(parts: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, Callable[[], Record]]]:
    """Name and work of every case."""
    work = {"edges": edges, "clean": clean, "beads": beads, "lines": lines}
    for seed in seeds:
        for part, axes in (("edges", (1, 2, 4)), ("clean", (1, 2)), ("beads", (1, 2)), ("lines", (1, 2))):
            if part in parts:
                for kind in KINDS:
                    for count in axes:
                        yield f"{part} {kind} {count} {seed}", partial(work[part], kind, count, seed)
        if "thickness" in parts:
            for kind in KINDS:
                for depth in DEPTHS:
                    for count in AXES:
                        for noise in NOISES:
                            own = kind, depth, count, noise, seed
                            yield (
                                f"thickness {kind} {depth} {count} {noise:g} {seed}",
                                partial(thickness, *own),
                            )


COLUMNS = {
    "edges": ("keep", "auto", "cut off"),
    "clean": ("off", "auto", "weigh"),
    "beads": ("keep", "masked", "none"),
    "lines": ("keep", "masked", "none"),
}
HEADINGS = {
    "edges": ("The specimen goes on beside the volume", "as before", "weighed", "cut off at the field"),
    "clean": ("Nothing beside the volume, nothing bad", "all off", "all auto", "--edges weigh"),
    "beads": ("Beads", "counted", "masked", "no beads"),
    "lines": ("Bad lines", "counted", "masked", "no bad lines"),
}


def page(rows: Record) -> str:
    """All tables."""
    found = ["Relative errors against the truth, mean over seeds."]
    for part, columns in COLUMNS.items():
        title, *names = HEADINGS[part]
        found += ["", f"{title}:", "", f"| specimen | axes | seeds | {' | '.join(names)} |", "|---" * 6 + "|"]
        for kind in KINDS:
            for axes in AXES:
                own = [row for name, row in rows.items() if name.startswith(f"{part} {kind} {axes} ")]
                if own:
                    cells = [f"{statistics.fmean(row[column] for row in own):.3f}" for column in columns]
                    found.append(f"| {kind} | {axes} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join([*found, *_thickness_lines(rows)]) + "\n"


def _thickness_lines(rows: Record) -> Iterator[str]:
    yield from ("", "Thickness found over the true one, least and most of all seeds and both noises:", "")
    yield "| specimen | true, slices | axes | cases | found over true | middle off by at most |"
    yield "|---" * 6 + "|"
    for kind in KINDS:
        for depth in DEPTHS:
            for axes in AXES:
                own = [
                    row for name, row in rows.items() if name.startswith(f"thickness {kind} {depth} {axes} ")
                ]
                if own:
                    ratios = [row["found"] / row["true"] for row in own]
                    true = [row["true"] for row in own]
                    off = max(abs(row["middle off"]) for row in own)
                    yield (
                        f"| {kind} | {min(true):.1f} to {max(true):.1f} | {axes} | {len(own)} | "
                        f"{min(ratios):.2f} to {max(ratios):.2f} | {off:.1f} |"
                    )


def main() -> None:
    run_cases(
        NAME, __doc__.partition("\n")[0], [*COLUMNS, "thickness"], cases, lambda found: page(found["cases"])
    )


if __name__ == "__main__":
    main()
