"""What no flow of projections describes: motion that differs along the rays.

``python benchmarks/nano_depth.py``. A specimen deforms in three dimensions; its projections are compared with
those of the specimen at rest, read along (a) the mean along rays of what moved, by mass, and (b) the flow that
the grid engine finds between the two from there. What is left is the least misfit that any alignment by a flow
for each view can come to, if the specimen itself were known. Brightness follows where mass is kept. 96 pixels,
24 views; writes ``benchmarks/results/nano_depth.json``.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.flow.engines import make_engine
from manyviews.nano.simulate import ScanArrays, simulate_arrays
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.simulate.deformation import read_at

RESULT = Path(__file__).parent / "results" / "nano_depth.json"
WINDOWS = (32.0, 16.0, 12.0, 8.0)
SIZE, VIEWS = 96, 24


def along(made: ScanArrays, flow: NDArray[np.float32], *, mass: bool) -> NDArray[np.float64]:
    """Views at rest read along flows; where mass is kept as bright as areas there are larger."""
    images = np.stack(
        [read_at(image, one.astype(float)) for image, one in zip(made.still, flow, strict=True)]
    )
    if not mass:
        return images
    xz, xx = np.gradient(flow[:, 0].astype(float), axis=(1, 2))
    zz, zx = np.gradient(flow[:, 1].astype(float), axis=(1, 2))
    return np.asarray(images * np.abs((1 + xx) * (1 + zz) - xz * zx))


def smoothed(made: ScanArrays) -> NDArray[np.float32]:
    """The mean flow, carried on beyond the specimen, where it is not defined, by its surroundings."""
    from scipy import ndimage

    there = made.projections > 0.02 * made.projections.max(axis=(1, 2), keepdims=True)
    sigma = (0, 0, 2.0, 2.0)
    weight = ndimage.gaussian_filter(there[:, None].astype(float), sigma) + 1e-6
    wide = ndimage.gaussian_filter(np.where(there[:, None], made.flow, 0.0), sigma) / weight
    return wide.astype(np.float32)


def left(made: ScanArrays, flow: NDArray[np.float32] | None, *, mass: bool) -> float:
    """Norm of the misfit in the norm of the data, over the last half of the views."""
    images = made.still if flow is None else along(made, flow, mass=mass)
    part = slice(VIEWS // 2, None)
    rest = made.projections[part] - images[part]
    return round(float(np.linalg.norm(rest) / np.linalg.norm(made.projections[part])), 4)


def one_case(specimen: str, kept: str, percent: float) -> dict[str, object]:
    mass = kept == "mass"
    options = SimulateOptions(
        specimen=specimen, size=(SIZE,), views=VIEWS, deformation="object", warp=kept,  # type: ignore[arg-type]
        deformation_percent=percent, noise_free=True,
    )  # fmt: skip
    made = simulate_arrays(options)
    mean = smoothed(made)
    found = mean
    for window in WINDOWS:
        found = make_engine("grid").find(made.projections, made.still, found, window)
    return {
        "specimen": specimen,
        "kept": kept,
        "percent": percent,
        "misfit at rest": left(made, None, mass=mass),
        "along the mean flow": left(made, mean, mass=mass),
        "along the flow found": left(made, found, mass=False),
    }


def main() -> None:
    results = [
        one_case(specimen, kept, percent)
        for specimen in ("tubes", "tissue", "ellipsoids")
        for kept in ("move", "mass")
        for percent in (4.0, 8.0, 12.0)
    ]
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    RESULT.write_text(json.dumps({"results": results, "machine": machine}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
