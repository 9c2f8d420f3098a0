"""How long does each flow engine take for a view, and how far off is the flow that it finds?

``python benchmarks/nano_flow.py [--size 256] [--views 16] [--seeds 3]``

Views of the simulated specimen of ``manyviews nano simulate`` are read at places moved by a known flow, noise of 1 %
of their peak is added, and each engine looks for the flow from nothing, with windows that halve from a quarter of
the image to 12 pixels. Motions: ``smooth``, up to 1.5 % of the image; ``drift``, whole images by up to 4 %.

CPU milliseconds are of one thread, all windows together, for a view; the error is the root of the mean square of what
is left of the flow over pixels that tell of motion (`manyviews.nano.injection.telling_pixels`), beside that of the
motion itself. Writes ``benchmarks/results/nano_flow.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.flow.accept import accept_flow
from manyviews.nano.flow.engines import ENGINES, make_engine
from manyviews.nano.flow.windows import FINEST_WINDOW
from manyviews.nano.injection import inject, telling_pixels
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.nano.simulated_scan import SimulatedScan
from manyviews.parallel.launch import set_threads

Float32 = NDArray[np.float32]

RESULTS = Path(__file__).parent / "results"
NOISE = 0.01
MOTIONS = {"smooth": 0.015, "drift": 0.04}


def views_of(size: int, views: int, seed: int) -> Float32:
    """Views ``(view, z, x)`` of a specimen at rest, the strongest value 1."""
    scan = SimulatedScan(
        SimulateOptions(size=(size,), views=views, deformation="none", noise_free=True, seed=seed)
    )
    still = np.stack([view.still for view in scan.views()])
    return np.asarray(still / still.max(), dtype=np.float32)


def windows(size: int) -> list[float]:
    """From a quarter of the image to the finest, halving."""
    found = [size / 4]
    while found[-1] > FINEST_WINDOW:
        found.append(max(FINEST_WINDOW, found[-1] / 2))
    return found


def search(name: str, data: Float32, model: Float32) -> tuple[Float32, float]:
    """The flow that an engine finds, and CPU seconds."""
    engine = make_engine(name)
    flow = np.zeros((len(data), 2, *data.shape[1:]), np.float32)
    began = time.process_time()
    for window in windows(data.shape[1]):
        found = engine.find(data, model, flow, window)
        flow = accept_flow(data, model, flow, found).flow
    return flow, time.process_time() - began


def rms(flow: Float32, seen: NDArray[np.bool_]) -> float:
    squares = (flow.astype(np.float64) ** 2).sum(axis=1)
    return float(np.sqrt(squares[seen].mean()))


def measured(size: int, views: int, seed: int) -> list[dict[str, Any]]:
    model = views_of(size, views, seed)
    seen = telling_pixels(model)
    rng = np.random.default_rng(seed)
    rows = []
    for kind, share in MOTIONS.items():
        moved = inject(model, share * size, motion="smooth" if kind == "smooth" else "drift", seed=seed)
        noise = NOISE * rng.standard_normal(model.shape, dtype=np.float32)
        for name in ENGINES:
            flow, seconds = search(name, moved.projections + noise, model)
            rows.append(
                {
                    "motion": kind,
                    "engine": name,
                    "seed": seed,
                    "cpu_ms_a_view": 1e3 * seconds / views,
                    "motion_pixels": rms(moved.flow, seen),
                    "error_pixels": rms(flow - moved.flow, seen),
                }
            )
            print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| motion | engine | CPU ms a view | motion, pixels rms | error, pixels rms |",
        "| " + "--- | " * 5,
    ]
    for motion in MOTIONS:
        for engine in ENGINES:
            own = [one for one in rows if (one["motion"], one["engine"]) == (motion, engine)]
            middle = {key: float(np.median([one[key] for one in own])) for key in own[0] if key.endswith(("view", "pixels"))}  # fmt: skip
            worst = max(one["error_pixels"] for one in own)
            lines.append(
                f"| {motion} | `{engine}` | {middle['cpu_ms_a_view']:.1f} | {middle['motion_pixels']:.2f} | "
                f"{middle['error_pixels']:.3f} (worst {worst:.3f}) |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    set_threads(1)
    measured(64, 2, 0)  # compiles
    rows = [row for seed in range(given.seeds) for row in measured(given.size, given.views, seed)]
    what = {
        "what": __doc__.splitlines()[0],
        "size": given.size,
        "views": given.views,
        "machine": {"processor": platform.machine(), "python": platform.python_version()},
        "rows": rows,
    }
    (RESULTS / "nano_flow.json").write_text(json.dumps(what, indent=1) + "\n")
    (RESULTS / "nano_flow.md").write_text(table(rows))


if __name__ == "__main__":
    main()
