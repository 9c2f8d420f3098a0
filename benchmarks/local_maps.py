"""Local filter and local resolution on phantoms: ``python benchmarks/local_maps.py``; takes a minute.

The filter: noise with a falling spectrum in a ball, alike everywhere, or a rigid core in a rim that is blurred
to 20 voxels and up to three times as noisy; its error inside the mask beside the best single filter of the
Wiener filter of the masked FSC and of 48 low-passes, chosen with the truth. The resolution: two half balls of
white noise cut at 5 and at 10 voxels; and pairs of pure noise. Writes ``benchmarks/results/local_maps.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from manyviews.maps.bands import HalfSpectra
from manyviews.maps.local_filter import local_filter
from manyviews.maps.local_resolution import local_resolution
from manyviews.maps.radial import low_pass_edge, radial_filter
from manyviews.metrics.fsc import fsc
from manyviews.random import Stream, generator

RESULT = Path(__file__).parent / "results" / "local_maps.json"
BOXES = (48, 96)
NOISES = (3.3, 1.0, 0.33)  # power of a half's noise over that of the particle
NOISE_PAIRS = 10
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]


def normal(box: int, *keys: int) -> Float64:
    return generator(0, Stream.TEST, box, *keys).standard_normal((box,) * 3)


def distances(box: int) -> Float64:
    along = np.arange(box) - box // 2
    return np.asarray(np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + along**2))


def ball(box: int, radius: float) -> Float64:
    return np.asarray(np.clip((radius - distances(box)) / 4 + 0.5, 0, 1))


def texture(box: int, key: int) -> Float64:
    """Noise whose spectrum falls as that of a blurred molecule."""

    def weight(frequency: Float64) -> Float64:
        return np.asarray(np.exp(-15 * frequency**2) / np.sqrt(1 + (20 * frequency) ** 2))

    return radial_filter(normal(box, key), 1.0, weight).astype(np.float64)


def cut(volume: Float64, frequency: float, width: float) -> Float64:
    return radial_filter(volume, 1.0, lambda f: low_pass_edge(f, frequency, width)).astype(np.float64)


def error(volume: NDArray[Any], truth: Float64, mask: Float32) -> float:
    return float(np.sqrt(np.sum(mask * (volume - truth) ** 2) / np.sum(mask * truth**2)))


def best_single(halves: tuple[Float32, Float32], truth: Float64, mask: Float32) -> float:
    mean = (halves[0] + halves[1]) / 2
    curve = fsc(*halves, 1.0, mask=mask)
    correlation = np.clip(curve.correlation, 0, 1)
    wiener = 2 * correlation / (1 + correlation)
    found = [error(radial_filter(mean, 1.0, lambda f: np.interp(f, curve.frequency, wiener)), truth, mask)]
    spectrum = fft.rfftn(mean)
    along = fft.fftfreq(len(mean))
    frequency = np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + fft.rfftfreq(len(mean)) ** 2)
    for limit in np.linspace(0.03, 0.5, 48):
        butterworth = 1 / np.sqrt(1 + (frequency / limit) ** 16)
        found.append(error(fft.irfftn(spectrum * butterworth, mean.shape), truth, mask))
    return min(found)


def filters(box: int) -> list[dict[str, Any]]:
    mask = ball(box, 0.4 * box + 3).astype(np.float32)
    core = 1 / (1 + np.exp((distances(box) - 0.2 * box) / 1.5))
    detail = texture(box, 1)
    particle = ball(box, 0.4 * box)
    truths = {
        "rigid core in a blurred rim": particle * (core * detail + (1 - core) * cut(detail, 0.05, 0.03)),
        "alike everywhere": particle * texture(box, 2),
    }
    power = float(np.sum(truths["alike everywhere"] ** 2) / np.sum(particle))
    rows = []
    for name, truth in truths.items():
        spread = 0.6 + 1.2 * (1 - core) if "core" in name else np.ones_like(core)
        for number, noise in enumerate(NOISES):
            first, second = (
                (truth + spread * np.sqrt(noise * power) * normal(box, 3, number, half)).astype(np.float32)
                for half in range(2)
            )
            found = local_filter(HalfSpectra(first, second, mask, 1.0))
            rows.append({
                "box": box, "specimen": name, "noise": noise,
                "local": round(error(found.volume, truth, mask), 4),
                "best_single": round(best_single((first, second), truth, mask), 4),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def resolutions(box: int) -> list[dict[str, Any]]:
    mask = ball(box, 0.4 * box + 1.2).astype(np.float32)
    white = normal(box, 4)
    along = (np.arange(box) - box // 2)[:, None, None]
    above = 1 / (1 + np.exp(-along / 1.5))
    fine = cut(white, 1 / 5, 0.01)
    truth = ball(box, 0.4 * box) * (above * fine + (1 - above) * cut(white, 1 / 10, 0.01))
    first, second = ((truth + 2 * fine.std() * normal(box, 5, half)).astype(np.float32) for half in range(2))
    rows = []
    for threshold in (0.5, 0.143):
        found = local_resolution(HalfSpectra(first, second, mask, 1.0), 5.5, threshold=threshold).resolution
        resolved = 0
        for pair in range(NOISE_PAIRS):
            one, other = (normal(box, 6, pair, half).astype(np.float32) for half in range(2))
            of_noise = local_resolution(HalfSpectra(one, other, mask, 1.0), 5.5, threshold=threshold)
            resolved += bool(np.isfinite(of_noise.resolution).any())
        rows.append({
            "box": box, "threshold": threshold,
            "fine": round(float(np.median(found[(mask > 0.9) & (along > 4)])), 2),
            "coarse": round(float(np.median(found[(mask > 0.9) & (along < -0.2 * box)])), 2),
            "pairs_of_noise_resolved_anywhere": resolved,
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """As in docs/postprocessing.md."""
    lines = ["| | local, 48^3 | best single | local, 96^3 | best single |", "| --- | --- | --- | --- | --- |"]
    for row in (one for one in rows if one["box"] == BOXES[0]):
        pair = [one for one in rows if all(one[key] == row[key] for key in ("specimen", "noise"))]
        cells = [f"{one[key]:.3f}" for one in pair for key in ("local", "best_single")]
        lines.append(f"| {row['specimen']}, noise {row['noise']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    found = {
        "filters": [row for box in BOXES for row in filters(box)],
        "resolutions": [row for box in BOXES for row in resolutions(box)],
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    RESULT.with_suffix(".md").write_text(table(found["filters"]) + "\n")


if __name__ == "__main__":
    main()
