"""Our projections against RELION's: ``python benchmarks/relion_projections.py FOLDER [--groel FOLDER]``.

FOLDER holds ``clean70SRibosome_vol_65p.mrc`` and the stacks and STAR files ``rln_proj_*`` that
``relion_project`` made of it: 64 pixels, centred, shifted; 65 pixels. With ``--groel`` also the folder that has
``truth.mrc``, ``part.mrcs`` and ``part.star``: 2,000 projections with CTF, astigmatism and shifts.
Writes ``benchmarks/results/relion_projections.json``: the correlation of every image's pixels with ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import gemmi
import mrcfile
import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from manyviews.operators.contrast_transfer import Optics, ctf_values
from manyviews.operators.fourier_points import half_plane, insert
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.operators.image_shift import shift_phases

RESULT = Path(__file__).parent / "results" / "relion_projections.json"


@dataclass(frozen=True)
class Oracle:
    """A stack, and what was done to the volume (in its voxels) and to the images (in pixels) on every axis.

    ``rln_proj_64`` was made from a volume that lay half a voxel off. For odd boxes ``relion_project`` puts the
    origin one pixel beyond ``n // 2``; RELION's other programs ask for even boxes.
    """

    stack: str
    volume_moved: float = 0.0
    images_moved: int = 0


ORACLES = (
    Oracle("rln_proj_64", volume_moved=-0.5),
    Oracle("rln_proj_64_centered"),
    Oracle("rln_proj_64_shifted"),
    Oracle("rln_proj_65", images_moved=1),
)


def columns(path: Path, block: str = "particles") -> dict[str, NDArray[np.float64]]:
    """Numeric columns of a STAR table, without the leading ``_rln``."""
    table = next(b for b in gemmi.cif.read(str(path)) if b.name == block)
    found = {}
    for loop in (item.loop for item in table if item.loop is not None):
        for k, tag in enumerate(loop.tags):
            values = [loop[row, k] for row in range(loop.length())]
            if all(value.replace(".", "", 1).lstrip("+-").isdigit() for value in values):
                found[tag.removeprefix("_rln")] = np.array(values, dtype=np.float64)
    return found


def cropped_volume(volume: NDArray[np.float32], box: int, moved: float = 0.0) -> NDArray[np.float32]:
    """The volume with ``box`` coarser voxels in the same space, moved by so many old voxels on every axis."""
    spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume)))
    frequency = np.arange(len(volume)) - len(volume) // 2
    phase = np.exp(-2j * np.pi * frequency * moved / len(volume))
    spectrum *= phase[:, None, None] * phase[:, None] * phase
    kept = slice(len(volume) // 2 - box // 2, len(volume) // 2 - box // 2 + box)
    small = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(spectrum[kept, kept, kept])).real)
    return np.ascontiguousarray(small, dtype=np.float32)


def our_projections(
    volume: NDArray[np.float32],
    table: dict[str, NDArray[np.float64]],
    pixel_size: float,
    optics: Optics | None,
) -> NDArray[np.float32]:
    """Images of a volume at the poses of a STAR table."""
    box = volume.shape[0]
    points = half_plane(box // 2, box)
    angles = np.stack([table[f"Angle{name}"] for name in ("Rot", "Tilt", "Psi")], axis=1)
    rotations = Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()
    values = FourierVolume.of(torch.from_numpy(volume), box // 2).slices(rotations, points)
    if "OriginXAngst" in table:
        origins = np.stack([table["OriginXAngst"], table["OriginYAngst"]], axis=1) / pixel_size
    else:
        origins = np.stack([table["OriginX"], table["OriginY"]], axis=1)
    values = values * shift_phases(-origins, points, box)
    if optics is not None:
        values = values * ctf_values(optics, points, box, pixel_size)
    return insert(values.numpy(), points, box)


def correlations(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pearson correlation image by image."""
    rows = [image.reshape(len(image), -1).astype(np.float64) for image in (a, b)]
    p, q = (row - row.mean(axis=1, keepdims=True) for row in rows)
    return np.asarray((p * q).sum(axis=1) / np.sqrt((p**2).sum(axis=1) * (q**2).sum(axis=1)))


def row(name: str, values: NDArray[np.float64]) -> dict[str, object]:
    print(f"{name}: {len(values)} images, correlation {values.min():.6f} to {values.max():.6f}")
    return {
        "stack": name,
        "images": len(values),
        "lowest": round(values.min(), 6),
        "mean": round(values.mean(), 6),
        "each": [round(value, 6) for value in values[:16]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--groel", type=Path)
    given = parser.parse_args()
    volume = mrcfile.read(given.folder / "clean70SRibosome_vol_65p.mrc").astype(np.float32)
    rows = []
    for oracle in ORACLES:
        images = mrcfile.read(given.folder / f"{oracle.stack}.mrcs").astype(np.float32)
        table = columns(given.folder / f"{oracle.stack}.star")
        seen = cropped_volume(volume, images.shape[-1], oracle.volume_moved)
        ours = np.roll(our_projections(seen, table, 1.0, None), (oracle.images_moved,) * 2, (1, 2))
        rows.append(row(oracle.stack, correlations(ours, images)))
    if given.groel:
        table = columns(given.groel / "part.star")
        optics_table = columns(given.groel / "part.star", "optics")
        defocus = np.stack([table["DefocusU"], table["DefocusV"]], axis=1)
        optics = Optics.make(
            optics_table["Voltage"][0],
            optics_table["SphericalAberration"][0],
            optics_table["AmplitudeContrast"][0],
            defocus,
            table["DefocusAngle"],
            table["PhaseShift"],
        )
        truth = mrcfile.read(given.groel / "truth.mrc")
        ours = our_projections(truth, table, float(optics_table["ImagePixelSize"][0]), optics)
        rows.append(row("groel, CTF and shifts", correlations(ours, mrcfile.read(given.groel / "part.mrcs"))))
    result = {
        "correlation": rows,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "torch": torch.__version__,
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
