"""How far the convolution is from ``adjoint(forward(x))``: ``python benchmarks/convolution_agreement.py``.

Random volumes, white or smoothed, projected and back-projected on a detector that sees everything.
*interior*: the volume is empty in the outer 16 voxels of its slices and the difference is taken inside them;
*touching*: the volume is full to its sides and the difference is taken everywhere.
Writes ``benchmarks/results/convolution_agreement.json``.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy
import torch
from scipy.ndimage import gaussian_filter

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.convolution import Convolution
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.operators.view_kernel import make_kernel

RESULT = Path(__file__).parent / "results" / "convolution_agreement.json"
VOLUME, IMAGE = (32, 128, 128), (240, 242)
TILTS = np.linspace(-60.0, 60.0, 61)
AXES = ((0.0,), (90.0,), (22.5,), (45.0,), (0.0, 90.0), (0.0, 45.0, 90.0, -45.0), (12.3, -77.7))
SIGMAS = (0.0, 0.75, 1.5, 3.0)
EDGE = 16


def random_volume(sigma: float, *, touching: bool) -> torch.Tensor:
    x = np.random.default_rng(1).normal(size=VOLUME)
    if sigma:
        x = gaussian_filter(x, sigma)
    if not touching:
        inner = np.zeros(VOLUME[1:], dtype=bool)
        inner[EDGE:-EDGE, EDGE:-EDGE] = True
        x = x * inner
    return torch.from_numpy(x.astype(np.float32))


def measure(axes: tuple[float, ...]) -> list[dict[str, Any]]:
    geometry = TiltGeometry.concatenate([TiltGeometry.from_tilt_axis(TILTS, axis) for axis in axes])
    projector = TiltProjector(geometry, VOLUME, IMAGE)
    kernel = make_kernel(projector.groups, np.ones(len(geometry)), VOLUME)
    convolution = Convolution.from_kernel(kernel, VOLUME)
    rows = []
    for sigma in SIGMAS:
        row: dict[str, Any] = {"axes_degrees": axes, "sigma_pixels": sigma, "padded": kernel.padded}
        for name, touching, part in (
            ("interior", False, slice(EDGE, -EDGE)),
            ("touching", True, slice(None)),
        ):
            x = random_volume(sigma, touching=touching)
            exact, ours = projector.normal(x)[:, part, part], convolution.forward(x)[:, part, part]
            row[f"{name}_percent"] = round(100 * float((ours - exact).norm() / exact.norm()), 3)
        print(row)
        rows.append(row)
    return rows


def main() -> None:
    result = {
        "volume": VOLUME,
        "image": IMAGE,
        "tilts_degrees": [TILTS[0], TILTS[-1], len(TILTS)],
        "agreement": [row for axes in AXES for row in measure(axes)],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "numba": numba.__version__,
            "torch": torch.__version__,
        },
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
