"""What an x tilt costs: ``python benchmarks/leaning_specimen.py``.

A series about one axis of a specimen that leans along it by 2.5 degrees, as after ``XAXISTILT`` of IMOD: one
shear of the volume for all views, and one turn of it for each view, as before; beside them the same series of a
specimen that does not lean. CPU seconds of one thread, medians of three; errors are relative, of the images of
Gaussians 2 voxels wide. Writes ``benchmarks/results/leaning_specimen.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numba
import numpy as np
import torch

from manyviews.geometry.views import TiltGeometry, rotation_x
from manyviews.operators.slab_projector import SlabProjector
from manyviews.operators.view_kernel import make_kernel
from manyviews.simulate.phantoms import Gaussians

RESULT = Path(__file__).parent / "results" / "leaning_specimen.json"
LEANS, VIEWS, DEPTH = 2.5, 61, 96


def geometry(leans: float) -> TiltGeometry:
    """Tilts of 2 degrees from -60 to 60."""
    found = TiltGeometry.from_tilt_axis(np.linspace(-60.0, 60.0, VIEWS))
    found.matrices[:, :3, :3] = found.matrices[:, :3, :3] @ rotation_x(leans)
    return found


def seconds(work: Callable[[], object]) -> float:
    """Median of three."""
    found = []
    for _ in range(3):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return round(statistics.median(found), 2)


def measure(series: TiltGeometry, size: int) -> dict[str, object]:
    """Time and error of one series."""
    shape = (DEPTH, size, size)
    projector = SlabProjector(series, shape, shape[1:])
    rng = np.random.default_rng(0)
    centres = rng.uniform(-1, 1, (30, 3)) * np.array([0.27 * size, 0.27 * size, DEPTH / 2 - 9.0])
    specimen = Gaussians.isotropic(rng.uniform(0.5, 1.5, 30), centres, 2.0)
    volume = torch.from_numpy(specimen.density(shape, 1.0).astype(np.float32))
    images = projector.forward(volume)
    exact = torch.from_numpy(specimen.project(series, shape[1:], 1.0).astype(np.float32))
    weights = np.ones(len(series))
    return {
        "groups": len(projector.groups),
        "forward_seconds": seconds(lambda: projector.forward(volume)),
        "adjoint_seconds": seconds(lambda: projector.adjoint(images)),
        "kernel_seconds": seconds(lambda: make_kernel(projector.groups, weights, shape)),
        "error": round(float((images - exact).norm() / exact.norm()), 5),
    }


def main() -> None:
    """Measure the three, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    size = parser.parse_args().size
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    rows = {"upright": measure(geometry(0.0), size), "sheared": measure(geometry(LEANS), size)}
    with patch("manyviews.operators.axis_groups._common_plane", lambda matrices: None):
        rows["a turn for each view"] = measure(geometry(LEANS), size)
    for name, row in rows.items():
        print(name, row, flush=True)
    result = {
        "volume": [DEPTH, size, size],
        "views": VIEWS,
        "x_tilt_degrees": LEANS,
        "series": rows,
        "machine": f"{platform.machine()}, one thread",
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
