"""Real particles and tables of other programs: do they load, score and survive a round trip.

``python benchmarks/real_particles.py FOLDER`` reads every ``.star`` and ``.cs`` in the folder, writes it as STAR and
reads that again; where the images are there too, they are turned into Fourier coefficients and scored against a
random map. Writes ``benchmarks/results/real_particles.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from manyviews.errors import InputError
from manyviews.io.particle_images import read_particles
from manyviews.io.particle_table import ParticleTable
from manyviews.io.relion_particles import read_relion_particles, write_relion_particles
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.em.expectation import PoseGrid, sample_everywhere
from manyviews.particles.em.pose_grids import coarse_level
from manyviews.particles.images.load import noise_spectrum, read_fourier_images
from manyviews.particles.images.random_start import power_scale, random_spheres

RESULT = Path(__file__).parent / "results" / "real_particles.json"


def round_trip(table: ParticleTable) -> float:
    """Largest difference of any number after writing and reading."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "again.star"
        write_relion_particles(written, table)
        again = read_relion_particles(written, with_images=False)
    assert len(again) == len(table)
    names = ("defocus", "defocus_angle", "phase_shift", "angles", "shifts", "half", "section")
    pairs = [(getattr(table, name), getattr(again, name)) for name in names]
    return max(float(np.abs(a - b).max()) for a, b in pairs if a is not None and b is not None)


def score(table: ParticleTable) -> dict[str, Any]:
    """Log likelihoods of the images under a random map, and how sharp their posteriors are."""
    numbers = np.arange(len(table))
    box = table.image_size or 0
    side = box * table.pixel_size
    images, spectra, counts = read_fourier_images(table, numbers, radius=12, diameter=0.7 * side)
    images.noise_variance[:] = noise_spectrum(spectra, counts, box)
    level = coarse_level(8, box, 0.7)
    seen = images.crop(8)
    spheres = random_spheres(24, 1)
    grid = PoseGrid.everywhere(
        FourierVolume.of(spheres * power_scale(spheres, seen), 8),
        level,
        box,
        box / 40,
        np.eye(3, dtype=np.float32),
    )
    samples, logs = sample_everywhere(seen, grid, box / 40, np.zeros(len(table)), 24)
    return {
        "images": len(table),
        "box": box,
        "pixel_size": table.pixel_size,
        "scores_finite": bool(np.isfinite(logs).all()),
        "poses_drawn_of_24": round(len(samples) / len(table), 1),
        "noise_white": round(float(images.noise_variance.max() / images.noise_variance.min()), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    found: dict[str, Any] = {}
    for path in sorted([*folder.glob("*.star"), *folder.glob("*.cs")]):
        entry: dict[str, Any] = {}
        try:
            table = read_particles(path, with_images=False)
            entry |= {
                "particles": len(table),
                "optics_groups": len(table.optics),
                "warnings": list(table.warnings),
            }
            entry["largest_change_in_round_trip"] = round_trip(table)
            entry["score"] = score(read_particles(path))
        except InputError as error:
            entry["told"] = str(error).replace(f"{folder}/", "").replace(str(folder), "FOLDER")
        found[path.name] = entry
        print(path.name, entry, flush=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
