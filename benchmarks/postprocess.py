"""Half maps finished beside RELION: ``python benchmarks/postprocess.py MODEL.pdb.gz [--boxes 128 256]``.

Halves are an atomic model on a cube of 128 voxels of 2 A, blurred by a known B factor, in independent white
noise. Both programs get the same halves and our automatic mask. RELION's random phases are one draw, so its
corrected curve is the mean over eight seeds; ours is the mean of four draws. Then the whole command is run on
cubes of several sizes: seconds of the processor, peak memory. Writes ``benchmarks/results/postprocess.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.star import read_star
from manyviews.maps.radial import radial_filter
from manyviews.random import Stream, generator
from manyviews.simulate.atoms import atoms_to_density

RESULT = Path(__file__).parent / "results" / "postprocess.json"
BOX, PIXEL, B_FACTOR, RESOLUTION = 128, 2.0, 120.0, 4.0
NOISES = (0.3, 1.0, 2.0)  # standard deviation of a half's noise over that of the particle's voxels
SEEDS = 8
CURVES = {
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "corrected": "rlnFourierShellCorrelationCorrected",
    "random": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
}
Curves = dict[str, NDArray[np.float64]]


def blurred(model: Path, box: int, pixel_size: float) -> NDArray[np.float32]:
    """The model's density times ``exp(-B / 4 f^2)``, as atoms without a B factor of their own have it."""
    density = atoms_to_density(model, (box,) * 3, pixel_size, resolution=RESOLUTION, b_factor=0.0)
    more = B_FACTOR - 4 * RESOLUTION**2  # the density is blurred by its resolution already
    return radial_filter(density, pixel_size, lambda f: np.exp(-more / 4 * f**2))


def write_halves(folder: Path, truth: NDArray[np.float32], noise: float, pixel_size: float) -> None:
    particle = truth[truth > 0.1 * truth.max()].std()
    for number in (1, 2):
        draws = generator(0, Stream.TEST, number).standard_normal(truth.shape, dtype=np.float32)
        half = truth + np.float32(noise * particle) * draws
        write_mrc(folder / f"half{number}_unfil.mrc", half, pixel_size, overwrite=True)


def ours(folder: Path, *words: str) -> tuple[Path, dict[str, Any], float]:
    """The command's run folder, its key figures, and seconds of the processor."""
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    halves = [str(folder / f"half{number}_unfil.mrc") for number in (1, 2)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "manyviews.cli", "particles", "postprocess", *halves]
    subprocess.run([*command, "--out", str(out), "--quiet", *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return out, json.loads((out / "summary.json").read_text()), seconds


def relion(folder: Path, seed: int, *words: str) -> tuple[Curves, float, float]:
    """RELION's curves, its resolution and its B factor, which it fits up to Nyquist if not told otherwise."""
    (folder / "relion").mkdir(exist_ok=True)
    command = [
        "relion_postprocess", "--i", "half1_unfil.mrc", "--i2", "half2_unfil.mrc", "--mask", "run/mask.mrc",
        "--angpix", f"{PIXEL}", "--auto_bfac", "--o", "relion/out", "--random_seed", str(seed + 1), *words,
    ]  # fmt: skip
    # it ends with an error where Ghostscript is not there, after all is written
    subprocess.run(command, cwd=folder, check=False, capture_output=True)
    star = next(iter((folder / "relion").glob("*.star")))
    general = gemmi.cif.read(str(star)).find_block("general")
    values = [general.find_value(f"_rln{name}") for name in ("FinalResolution", "BfactorUsedForSharpening")]
    table = gemmi.cif.read(str(star)).find_block("fsc")
    curves = {
        name: np.array([float(value) for value in table.find_loop(f"_{label}")])
        for name, label in CURVES.items()
    }
    return curves, float(values[0]), float(values[1])


def our_curves(out: Path) -> tuple[Curves, float]:
    general, shells, *_ = read_star(out / "postprocess.star")
    found = {name: np.array(shells.columns[label], dtype=float) for name, label in CURVES.items()}
    return found, float(general.columns["rlnFinalResolution"][0])


def compared(folder: Path, truth: NDArray[np.float32], noise: float) -> dict[str, Any]:
    """Both programs on halves of one noise."""
    write_halves(folder, truth, noise, PIXEL)
    out, summary, _ = ours(folder)
    mine, resolution = our_curves(out)
    runs = [relion(folder, seed) for seed in range(SEEDS)]
    theirs = {name: np.mean([one[name] for one, _, _ in runs], axis=0) for name in CURVES}
    spread = np.std([one["corrected"] for one, _, _ in runs], axis=0)
    side = BOX * PIXEL
    shells = slice(1, None)
    row: dict[str, Any] = {
        "noise": noise,
        "mask_share": round(float(read_mrc(out / "mask.mrc")[0].mean()), 4),
        "our_shell": round(side / resolution),
        "relion_shells": sorted({round(side / one) for _, one, _ in runs}),
        "our_b_factor": summary["b_factor_square_angstrom"],
        "relion_b_factor": round(runs[0][2], 1),
        "relion_b_factor_to_the_resolution": round(
            relion(folder, 0, "--autob_highres", f"{resolution}")[2], 1
        ),
    }
    for name in ("unmasked", "masked", "corrected"):
        difference = np.abs(mine[name] - theirs[name])[shells]
        row[f"largest_difference_{name}"] = round(float(difference.max()), 4)
        row[f"mean_difference_{name}"] = round(float(difference.mean()), 4)
    row["largest_spread_of_relion_seeds"] = round(float(spread.max()), 4)
    return row


def sizes(folder: Path, model: Path, boxes: list[int]) -> list[dict[str, Any]]:
    rows = []
    for box in boxes:
        pixel_size = BOX * PIXEL / box
        write_halves(folder, blurred(model, box, pixel_size), 1.0 * (box / BOX) ** 1.5, pixel_size)
        _, summary, seconds = ours(folder, "--threads", "1")
        rows.append({
            "box": box, "cpu_seconds": round(seconds, 1), "peak_memory_bytes": summary["peak_memory_bytes"],
            "resolution": summary["resolution_fsc0143_of_the_halves_angstrom"],
            "local_resolution": [value for name, value in summary.items() if "local_resolution" in name],
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--boxes", type=int, nargs="+", default=[128, 256])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = blurred(arguments.model, BOX, PIXEL)
        rows = [compared(folder, truth, noise) for noise in NOISES]
        for row in rows:
            print(row, flush=True)
        found = {
            "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
            "box": BOX, "pixel_size": PIXEL, "b_factor": -B_FACTOR, "relion": "3.1.3", "seeds": SEEDS,
            "rows": rows, "sizes": sizes(folder, arguments.model, arguments.boxes),
        }  # fmt: skip
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
