"""Simulated subtomograms: how long, how true, and the wedge measured in them.

``python benchmarks/subtomogram_simulation.py SPECIMEN [--assembly 1]``; 64 voxels of 6 angstrom, one degree
steps, defocus 6 um, one thread. Writes ``benchmarks/results/subtomogram_simulation.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import torch
from scipy import ndimage

from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.geometry.poses import euler_to_matrices
from manyviews.subtomo.simulate import simulate_subtomograms
from manyviews.subtomo.simulate_options import SimulateOptions
from manyviews.subtomo.wedge.contradiction import contradiction
from manyviews.subtomo.wedge.measure import mean_power, measure_wedge
from manyviews.subtomo.wedge.transfer import transfer

RESULT = Path(__file__).parent / "results" / "subtomogram_simulation.json"
RATIOS = (0.03, 0.01, 0.003)
RANGES = ((-60.0, 60.0), (-40.0, 40.0), (-40.0, 60.0))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def told_scheme(options: SimulateOptions) -> TiltScheme:
    """All tilts of the range."""
    low, high = options.tilt_range
    return TiltScheme.of_range(low, high)


def seconds_a_particle(options: SimulateOptions) -> float:
    """CPU seconds of 40 more particles."""
    spent = []
    for count in (4, 44):
        start = time.process_time()
        simulate_subtomograms(replace(options, count=count))
        spent.append(time.process_time() - start)
    return (spent[1] - spent[0]) / 40


def agreement(options: SimulateOptions) -> dict[str, float]:
    """Noise-free subtomograms beside the transfer times the specimen turned in space, mean of 8."""
    made = simulate_subtomograms(replace(options, count=8, noise_free=True, shift_range=0.0))
    box = options.box
    binary = transfer(box, options.pixel_size, told_scheme(options), radius=(box - 1) // 2)
    found: dict[str, list[float]] = {"listed tilts": [], "binary range": []}
    fine = np.pad(made.truth, box // 2)
    for volume, pose in zip(made.volumes, euler_to_matrices(made.poses.angles), strict=True):
        forward = pose.T[::-1, ::-1]
        middle = np.full(3, box)
        turned = ndimage.affine_transform(fine, forward, middle - forward @ middle, order=5)
        cut = turned[(slice(box // 2, box // 2 + box),) * 3]
        spectrum = np.fft.rfftn(np.fft.ifftshift(cut))
        for kind, c in (("listed tilts", made.wedge), ("binary range", binary)):
            wanted = np.fft.fftshift(np.fft.irfftn(spectrum * c, s=(box,) * 3, axes=(0, 1, 2)))
            found[kind].append(correlation(volume, wanted))
    return {kind: round(float(np.mean(values)), 4) for kind, values in found.items()}


def one_set(options: SimulateOptions) -> dict[str, object]:
    """20 particles: their ratio by variances and by the correlation of copies, and their wedge."""
    noisy = simulate_subtomograms(options).volumes
    noise = simulate_subtomograms(replace(options, noise_only=True)).volumes
    signal = noisy - noise
    pairs = [
        correlation(s + n, s + m) for s, n, m in zip(signal, noise, np.roll(noise, 1, axis=0), strict=True)
    ]
    r = float(np.mean(pairs))
    measured = measure_wedge(*mean_power(noisy))
    told = told_scheme(options)
    turned = TiltScheme.of_range(-told.high, -told.low)
    return {
        "asked": options.snr,
        "tilts": list(options.tilt_range),
        "variances": round(float(signal.var(axis=(1, 2, 3)).mean() / noise.var()), 6),
        "r / (1 - r) of two copies": round(r / (1 - r), 6),
        "2 r / (1 - r)": round(2 * r / (1 - r), 6),
        "wedge measured": measured.described(),
        "contradicts what is true": contradiction(measured, told),
        "contradicts the turned range": contradiction(measured, turned),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("specimen")
    parser.add_argument("--assembly")
    given = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    options = SimulateOptions(
        specimen=given.specimen, assembly=given.assembly, count=20, defocus=60_000.0, snr=0.03
    )
    no_ctf = replace(options, defocus=None)
    results = {
        "milliseconds a particle": round(1000 * seconds_a_particle(options), 1),
        "agreement without CTF": {
            str(tilts): agreement(replace(no_ctf, tilt_range=tilts)) for tilts in RANGES
        },
        "sets": [one_set(replace(options, snr=snr, tilt_range=tilts)) for snr in RATIOS for tilts in RANGES],
    }
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    record = {"specimen": Path(given.specimen).name, "results": results, "machine": machine}
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
