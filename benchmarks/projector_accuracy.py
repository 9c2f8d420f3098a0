"""How far projections are from the exact ones: ``python benchmarks/projector_accuracy.py``.

Twelve round Gaussians of a given width, projected by `TiltProjector` and by the formula; relative L2 error of
each view. Beside it, the ripple that the voxel lattice leaves in the projection of a uniform slab: for linear
interpolation, and for the projector's footprint. Writes ``benchmarks/results/projector_accuracy.json``.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.streams_cpu import pack_frame, project_streams
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.simulate.phantoms import Gaussians

RESULT = Path(__file__).parent / "results" / "projector_accuracy.json"
AXES = (0.0, 90.0, 45.0, 22.5, -70.0)
SIGMAS = (1.5, 2.0, 3.0)
TILTS = np.arange(-60.0, 61.0, 15.0)
VOLUME, IMAGE = (49, 128, 129), (130, 128)
SEEDS = 5
RIPPLE_TILTS = (26.565051177077990, 30.0, 33.690067525979785, 44.0, 45.0, 50.0, 60.0)


def specimen(sigma: float, seed: int) -> Gaussians:
    """Gaussians that every view sees whole."""
    rng = np.random.default_rng(seed)
    reach = np.array([0.3 * VOLUME[2], 0.3 * VOLUME[1], max(0.0, VOLUME[0] / 2 - 5 * sigma)])
    return Gaussians.isotropic(rng.uniform(0.5, 1.5, 12), rng.uniform(-1, 1, (12, 3)) * reach, sigma)


def view_errors(geometry: TiltGeometry, sigma: float) -> NDArray[np.float64]:
    """Relative L2 error, mean over seeds, ``(view,)``."""
    projector = TiltProjector(geometry, VOLUME, IMAGE)
    errors = []
    for seed in range(SEEDS):
        blobs = specimen(sigma, seed)
        got = projector.forward(torch.from_numpy(blobs.density(VOLUME, 1.0))).numpy()
        exact = blobs.project(geometry, IMAGE, 1.0)
        difference = np.linalg.norm((got - exact).reshape(len(exact), -1), axis=1)
        errors.append(difference / np.linalg.norm(exact.reshape(len(exact), -1), axis=1))
    return np.asarray(np.mean(errors, axis=0), np.float64)


def raw_images(geometry: TiltGeometry) -> TiltGeometry:
    """The same views in images turned by up to 5 degrees, 2 % larger or smaller and shifted."""
    rng = np.random.default_rng(0)
    count = len(geometry)
    angle, scale = np.deg2rad(rng.uniform(-5, 5, count)), np.where(np.arange(count) % 2, 1.02, 0.98)
    transforms = np.tile(np.eye(3), (count, 1, 1))
    transforms[:, 0, :2] = np.stack([np.cos(angle), -np.sin(angle)], axis=1) * scale[:, None]
    transforms[:, 1, :2] = np.stack([np.sin(angle), np.cos(angle)], axis=1) * scale[:, None]
    transforms[:, :2, 2] = rng.uniform(-3, 3, (count, 2))
    return geometry.with_image_transform(transforms)


def accuracy() -> list[dict[str, Any]]:
    rows = []
    for axis in AXES:
        aligned = TiltGeometry.from_tilt_axis(TILTS, axis)
        for images, geometry in (("aligned", aligned), ("raw", raw_images(aligned))):
            for sigma in SIGMAS:
                errors = 100 * view_errors(geometry, sigma)
                rows.append(
                    {
                        "axis_degrees": axis,
                        "images": images,
                        "sigma_pixels": sigma,
                        "error_percent": [round(float(error), 4) for error in errors],
                    }
                )
                summary = f"mean {errors.mean():.3f} %  worst {errors.max():.3f} %"
                print(f"axis {axis:6.1f}  {images:8s} sigma {sigma}  {summary}")
    return rows


def flat_part(depth: int, columns: int, tilt: float, *, linear: bool) -> NDArray[np.float64]:
    """Middle of the projection of a uniform slab."""
    bins, middle = 161, slice(55, 106)
    cosine, sine, offset = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt)), 80.3
    if not linear:
        cosines, sines, offsets, sharpening = (
            torch.tensor([value], dtype=torch.float64) for value in (cosine, sine, offset, 0.0)
        )
        out = torch.empty((1, bins, 1), dtype=torch.float64)
        volume = torch.ones((depth, columns, 1), dtype=torch.float64)
        found = project_streams(pack_frame(volume), cosines, sines, offsets, sharpening, out)
        return np.asarray(found[0, middle, 0])
    row = np.zeros(bins)
    z, s = np.meshgrid(np.arange(depth) - depth // 2, np.arange(columns) - columns // 2, indexing="ij")
    t = cosine * s + sine * z + offset
    place = np.floor(t).astype(int)
    for shift, share in ((0, 1 - t % 1), (1, t % 1)):
        on = (place + shift >= 0) & (place + shift < bins)
        np.add.at(row, place[on] + shift, share[on])
    return row[middle]


def ripple() -> list[dict[str, Any]]:
    rows = []
    for tilt in RIPPLE_TILTS:
        parts = {"tilt_degrees": round(tilt, 3)}
        for name, linear in (("linear", True), ("footprint", False)):
            flat = flat_part(64, 600, tilt, linear=linear)
            parts[f"{name}_amplitude_percent"] = round(float(50 * np.ptp(flat) / flat.mean()), 4)
        rows.append(parts)
        print(parts)
    return rows


def main() -> None:
    result = {
        "volume": VOLUME,
        "image": IMAGE,
        "seeds": SEEDS,
        "tilts_degrees": TILTS.tolist(),
        "accuracy": accuracy(),
        "uniform_slab_ripple": ripple(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "torch": torch.__version__,
        },
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
