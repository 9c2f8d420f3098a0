"""Contrast transfer in tilt series: what each correction gains, and how often the hand is told rightly.

``python benchmarks/tilt_ctf.py [--parts corrections hand] [--seeds 1 2 3]``

*corrections*: the cell-like slab with details of one pixel, 768 x 20 x 96 voxels of 2 angstrom, one axis, 31 views
from -60 to 60 degrees at 100 kV, where defocus tells twice as much as at 300 kV: small volumes stand for larger ones.
Every part of it is out of focus by as much as it lies deep along the beam (hand -1, 1.5 um on average, 0.15 um from
view to view, astigmatism 0.05 um); white noise of 20 % of the deviation of the untilted image. Conjugate gradients by
their defaults with each correction; the true defocus is given. The resolution is where the FSC with the truth, averaged over 15 shells, first falls below 0.5: near the zeros of the CTF single
shells fall below it long before. The FSC is also told by bands.

*hand*: the slab goes on outside of 384 x 384 pixels of 2 angstrom, 64 thick, 21 views, 300 kV, defocus 1.5 um; hand +1, -1
and none (one defocus for all depths), four levels of noise. The test is told the true defocus of the views.

Writes ``benchmarks/results/tilt_ctf.json`` after each case, and ``.md``; what is there is not done again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accuracy import Views
from manyviews.geometry.views import TiltGeometry
from manyviews.metrics.error import relative_error
from manyviews.metrics.fsc import fsc
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.view_transfer import ViewTransfer
from manyviews.random import Stream, generator
from manyviews.simulate.specimens import specimen
from manyviews.simulate.tilt_series import GreyLevels, draw_defocus, tilt_series_images
from manyviews.tilt.ctf.hand import find_hand
from manyviews.tilt.ctf.transfer import ResolvedTransfer
from manyviews.tilt.methods import make_solver
from manyviews.tilt.options import ReconstructOptions
from manyviews.tilt.plan import resolve_plan
from manyviews.tilt.reconstruct import make_problem
from stored_cases import run_cases

NAME = "tilt_ctf"
Record = dict[str, Any]
Images = NDArray[np.float32]

PIXEL = 2.0
SHAPE, STEP, NOISE, KILOVOLTS = (96, 20, 768), 4.0, 0.2, 100.0
DEFOCUS, SPREAD, ASTIGMATISM = 15000.0, 1500.0, 500.0
TRUE_HAND = -1
# words, --ctf, hand
CORRECTIONS = (
    ("none", "none", 0),
    ("phase flip, one defocus a view", "phase-flip", 0),
    ("phase flip in strips", "phase-flip", -1),
    ("phase flip in strips, wrong hand", "phase-flip", 1),
    ("Wiener in strips", "wiener", -1),
    ("3d, one defocus a view", "3d", 0),
    ("3d", "3d", -1),
    ("3d, wrong hand", "3d", 1),
)
BANDS = ((20.0, 12.0), (12.0, 8.0), (8.0, 6.5), (6.5, 5.5))
SHELLS = 15

HAND_SIDE, HAND_DEPTH, HAND_STEP, HAND_DEFOCUS, HAND_KILOVOLTS = 384, 64, 6.0, 15000.0, 300.0
HANDS, NOISES = (1, -1, 0), (0.5, 1.0, 2.0, 4.0)


class Series(Views):
    """A series in memory with the pixels of this benchmark."""

    def __init__(self, geometry: TiltGeometry, images: Images) -> None:
        super().__init__(geometry, images)
        self.pixel_size = PIXEL


def transfer_of(views: int, kilovolts: float, defocus: float, hand: int, seed: int) -> ViewTransfer:
    """Of the views of one series."""
    pairs, angle = draw_defocus(views, defocus, SPREAD, ASTIGMATISM, seed, 0)
    return ViewTransfer(Optics.make(kilovolts, 2.7, 0.07, pairs, angle), np.zeros(views), hand)


def simulated(seed: int) -> tuple[Series, Images, ViewTransfer]:
    """A series, the truth, and its transfer."""
    geometry = TiltGeometry.from_tilt_axis(np.arange(-60.0, 60.0 + STEP / 2, STEP))
    transfer = transfer_of(len(geometry), KILOVOLTS, DEFOCUS, TRUE_HAND, seed)
    phantom = specimen("cell", SHAPE, PIXEL, seed, detail_pixels=1.0)
    flat = GreyLevels(np.ones(len(geometry)), np.zeros(len(geometry)))
    made = partial(
        tilt_series_images, phantom, geometry, SHAPE[1:], PIXEL,
        grey_levels=flat, seed=seed, series=0, transfer=transfer,
    )  # fmt: skip
    clean = np.stack(list(made(noise_std=0.0)))
    deviation = NOISE * float(clean[len(clean) // 2].std(dtype=np.float64))
    rng = generator(seed, Stream.TEST)
    images = clean + np.float32(deviation) * rng.standard_normal(clean.shape, dtype=np.float32)
    return Series(geometry, images), phantom.density(SHAPE, PIXEL), transfer


def correction(series: Series, truth: Images, transfer: ViewTransfer, how: str, hand: int) -> Record:
    """One reconstruction against the truth."""
    began = time.process_time()
    given = ReconstructOptions(thickness=SHAPE[0], device="cpu", ctf=how)  # type: ignore[arg-type]
    plan = resolve_plan(given, series)
    known = ResolvedTransfer(replace(transfer, hand=hand), hand, how != "none", (), ())
    problem, _ = make_problem(series, plan, transfer=None if how == "none" else known)
    solver = make_solver(problem, plan)
    state = solver.init()
    for _ in range(plan.iterations):
        state = solver.step(state)
    seconds = time.process_time() - began
    volume = state.iterate.numpy()
    curve = fsc(volume, truth, PIXEL)
    frequency, correlation = np.asarray(curve.frequency), np.asarray(curve.correlation)
    smooth = np.convolve(correlation, np.ones(SHELLS) / SHELLS, "valid")
    middle = frequency[SHELLS // 2 : SHELLS // 2 + len(smooth)]
    below = np.flatnonzero(smooth < 0.5)
    return {
        "resolution": float(1.0 / middle[below[0]]) if len(below) else 2 * PIXEL,
        "bands": [
            float(correlation[(frequency >= 1 / low) & (frequency < 1 / high)].mean()) for low, high in BANDS
        ],
        "error": float(relative_error(volume, truth)),
        "seconds": seconds,
    }


def corrections(seed: int) -> Record:
    """All corrections of one series."""
    series, truth, transfer = simulated(seed)
    return {words: correction(series, truth, transfer, how, hand) for words, how, hand in CORRECTIONS}


def hand_margins(seed: int, hand: int) -> Record:
    """Margins of the test by noise."""
    shape = (HAND_SIDE, HAND_SIDE)
    geometry = TiltGeometry.from_tilt_axis(np.arange(-60.0, 60.0 + HAND_STEP / 2, HAND_STEP))
    transfer = transfer_of(len(geometry), HAND_KILOVOLTS, HAND_DEFOCUS, hand, seed)
    phantom = specimen("cell", (HAND_DEPTH, *shape), PIXEL, seed, detail_pixels=1.0, lateral_extent=2.2)
    flat = GreyLevels(np.ones(len(geometry)), np.zeros(len(geometry)))
    clean = np.stack(
        list(
            tilt_series_images(
                phantom, geometry, shape, PIXEL,
                grey_levels=flat, noise_std=0.0, seed=seed, series=0, transfer=transfer,
            )
        )
    )  # fmt: skip
    deviation, found = float(clean[len(clean) // 2].std(dtype=np.float64)), {}
    rng = generator(seed, Stream.TEST, 1)
    for noise in NOISES:
        images = torch.from_numpy(
            clean + np.float32(noise * deviation) * rng.standard_normal(clean.shape, dtype=np.float32)
        )
        test = find_hand(images.__getitem__, geometry, transfer, shape, PIXEL)
        found[f"{noise:g}"] = {"margin": test.margin, "told": test.hand}
    return found


def page(found: Record) -> str:
    """All tables."""
    return "\n".join([*correction_lines(found["cases"]), "", *hand_lines(found["cases"])]) + "\n"


def correction_lines(rows: Record) -> Iterator[str]:
    own = [row for name, row in rows.items() if name.startswith("corrections ")]
    yield f"Corrections, {len(own)} seeds: resolution in angstrom (mean, and of each seed), FSC by bands, error, CPU s."
    yield ""
    bands = " | ".join(f"{low:g}-{high:g} A" for low, high in BANDS)
    yield f"| correction | resolution | of each seed | {bands} | relative error | CPU s |"
    yield "|---" * (5 + len(BANDS)) + "|"
    for words, _, _ in CORRECTIONS:
        mine = [row[words] for row in own]
        if not mine:
            continue
        each = ", ".join(f"{one['resolution']:.2f}" for one in mine)
        shares = " | ".join(
            f"{statistics.fmean(one['bands'][band] for one in mine):.3f}" for band in range(len(BANDS))
        )
        yield (
            f"| {words} | {statistics.fmean(one['resolution'] for one in mine):.2f} | {each} | {shares} | "
            f"{statistics.fmean(one['error'] for one in mine):.3f} | "
            f"{statistics.fmean(one['seconds'] for one in mine):.0f} |"
        )


def hand_lines(rows: Record) -> Iterator[str]:
    yield "Hand: how often it is told rightly, wrongly or not at all; margins of each seed in standard errors."
    yield ""
    yield "| hand | noise | right | wrong | not told | margins |"
    yield "|---" * 6 + "|"
    for hand in HANDS:
        own = [row for name, row in rows.items() if name.startswith(f"hand {hand:+d} ")]
        for noise in NOISES if own else ():
            tests = [row[f"{noise:g}"] for row in own]
            right = sum(one["told"] == (hand or None) for one in tests)
            wrong = sum(one["told"] is not None and one["told"] != hand for one in tests)
            untold = sum(one["told"] is None for one in tests)
            margins = ", ".join(f"{one['margin']:+.1f}" for one in tests)
            name = f"{hand:+d}" if hand else "none"
            yield f"| {name} | {noise:g} | {right} of {len(tests)} | {wrong} | {untold} | {margins} |"


def cases(parts: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, Callable[[], Record]]]:
    """Names of cases and what finds them."""
    for seed in seeds if "corrections" in parts else ():
        yield f"corrections {seed}", partial(corrections, seed)
    for seed in seeds if "hand" in parts else ():
        for hand in HANDS:
            yield f"hand {hand:+d} {seed}", partial(hand_margins, seed, hand)


def main() -> None:
    run_cases(NAME, __doc__.partition("\n")[0], ("corrections", "hand"), cases, page)


if __name__ == "__main__":
    main()
