"""A real filament: the 13-protofilament microtubule of cylindra's tests, from its tomogram to an average.

``python benchmarks/microtubule.py TOMOGRAM.tif FOLDER [--box 32]``; the tomogram is cylindra's
``13pf_MT.tif`` (BSD-3), 36 x 206 x 94 voxels of 1.052 nm, tilted about y from about -60 to 60 degrees.

Boxes are cut every 4.1 nm along the axis that is drawn through three published points, with priors on the
filament's direction, and aligned from their own average in two halves of the filament. Told are the layer line
of 4.1 nm in the power of each half map along its axis, over what is there beside it, and the spacing at its
maximum, and the spacing in the tomogram itself, read along the drawn axis over its whole length. How many protofilaments there are is asked of the particles: aligned at 43 angstrom with 11 to 15 of
them imposed as a symmetry, they agree best with the number that is theirs. (The wedge hides half of the wall in
every box, so a map without symmetry cannot be counted around.) Writes ``benchmarks/results/microtubule.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from scipy import interpolate, ndimage

from manyviews.io.mrc import read_mrc, write_mrc

Float64 = NDArray[np.float64]

RESULT = Path(__file__).parent / "results" / "microtubule.json"
VOXEL = 10.52  # angstrom
AXIS_NM = np.array([[18.97, 190.0, 28.99], [18.97, 107.8, 51.48], [18.97, 35.2, 79.90]])  # z, y, x
REPEAT = 41.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tomogram", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--tilts", type=float, nargs=2, default=[-60, 60])
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    tomogram = folder / "tomogram.mrc"
    write_mrc(tomogram, _read_tiff(arguments.tomogram), VOXEL, overwrite=True)
    positions = folder / "filament.star"
    count = _write_positions(positions)
    _run("extract", tomogram, positions, "--box", arguments.box, "--out", folder / "boxes", "--edge", "fill",
         "--overwrite")  # fmt: skip
    given = (folder / "boxes" / "particles.star", "--tilt-range", *arguments.tilts, "--tilt-axis", "y",
             "--known-poses", "--prior-sigma", 6, "--diameter", 0.95 * arguments.box * VOXEL,
             "--halves", "position", "--joined-resolution", 0, "--shift-range", 25,
             "--start-resolution", 45, "--overwrite", "--quiet")  # fmt: skip
    _run("align", *given, "--out", folder / "run")
    scores = {}
    for fold in range(11, 16):
        _run("align", *given, "--resolution", 43, "--symmetry", f"C{fold}", "--out", folder / f"c{fold}")
        scores[fold] = json.loads((folder / f"c{fold}" / "summary.json").read_text())["mean_score"]
    found: dict[str, object] = {
        "positions": count,
        "score_by_protofilaments": scores,
        "protofilaments": max(scores, key=lambda fold: scores[fold]),
        "spacing_in_the_tomogram_angstrom": _spacing_along_the_axis(read_mrc(tomogram)[0]),
        **{
            name: _measures(read_mrc(folder / "run" / f"{name}.mrc")[0])
            for name in ("volume", "half1", "half2")
        },
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def _run(verb: str, *words: object) -> None:
    subprocess.run([sys.executable, "-m", "manyviews.cli", "subtomo", verb, *map(str, words)], check=True)


def _read_tiff(path: Path) -> NDArray[np.float32]:
    with Image.open(path) as image:
        pages = [np.asarray(page, dtype=np.float32) for page in ImageSequence.Iterator(image)]
    return np.stack(pages)


def _write_positions(path: Path) -> int:
    """A STAR file with a position every repeat, and the direction of the filament there."""
    curve, length = _axis()
    at = np.arange(0, length, REPEAT)
    places, directions = curve(at), curve(at, 1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # the map's z axis lies along the third column of A: (-cos psi sin tilt, sin psi sin tilt, cos tilt)
    tilt = np.rad2deg(np.arccos(directions[:, 2]))
    psi = np.rad2deg(np.arctan2(directions[:, 1], -directions[:, 0]))
    # turned at random about the filament, so that the wedges of all boxes are not the same one
    rot = np.random.default_rng(0).uniform(-180, 180, len(at))
    labels = ("TomoName", "CoordinateX", "CoordinateY", "CoordinateZ", "AngleRot", "AngleTilt", "AnglePsi",
              "AngleTiltPrior", "AnglePsiPrior", "HelicalTubeID", "HelicalTrackLengthAngst")  # fmt: skip
    rows = [
        f"tomogram {x:.4f} {y:.4f} {z:.4f} {r:.3f} {t:.4f} {p:.4f} {t:.4f} {p:.4f} 1 {s:.3f}"
        for (x, y, z), r, t, p, s in zip(places / VOXEL, rot, tilt, psi, at, strict=True)
    ]
    head = "\n".join(f"_rln{label} #{number}" for number, label in enumerate(labels, start=1))
    path.write_text(f"\ndata_particles\n\nloop_\n{head}\n" + "\n".join(rows) + "\n")
    return len(rows)


def _axis() -> tuple[interpolate.CubicSpline, float]:
    """The axis as a curve, x, y, z in angstrom by the distance along it, and its length."""
    points = AXIS_NM[:, ::-1] * 10
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return interpolate.CubicSpline(along, points), float(along[-1])


def _spacing_along_the_axis(tomogram: NDArray[np.float32]) -> float:
    """Where the power near 4.1 nm is highest, of lines along the wall; angstrom."""
    curve, length = _axis()
    at = np.arange(0, length, VOXEL / 2)
    tangent = curve(at, 1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = np.cross(tangent, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    up = np.cross(tangent, across)
    angle = 2 * np.pi * np.arange(72) / 72
    around = np.cos(angle)[:, None] * across[:, None] + np.sin(angle)[:, None] * up[:, None]
    power = 0.0
    for radius in np.arange(90.0, 135.0, 10.0):
        places = (curve(at)[:, None] + radius * around) / VOXEL
        lines = ndimage.map_coordinates(tomogram.astype(np.float64), places.transpose(2, 0, 1)[::-1], order=3)
        lines = (lines - lines.mean(axis=0)) * np.hanning(len(at))[:, None]
        power = power + (np.abs(np.fft.rfft(lines, n=32 * len(at), axis=0)) ** 2).sum(axis=1)
    frequency = np.fft.rfftfreq(32 * len(at), VOXEL / 2)
    near = (frequency > 1 / 46) & (frequency < 1 / 37)
    return round(float(1 / frequency[int(np.argmax(np.where(near, power, 0)))]), 2)


def _measures(volume: NDArray[np.float32]) -> dict[str, float]:
    """Of a map whose axis is z: the layer line near 4.1 nm."""
    box = len(volume)
    wall = _cylinder(volume, box)  # z, radius, angle
    rings = wall[:, 9:13].mean(axis=1)  # the wall of a microtubule lies at 11 to 12 nm
    rings = rings - rings.mean()
    fine = 128  # a bin is 0.04 angstrom wide there
    window = np.hanning(box)[:, None]
    power = np.abs(np.fft.rfft(rings * window, n=fine * box, axis=0)) ** 2
    around = power.sum(axis=1)
    frequency = np.fft.rfftfreq(fine * box, VOXEL)
    near = (frequency > 1 / 46) & (frequency < 1 / 37)
    beside = ((frequency > 1 / 60) & (frequency < 1 / 47)) | ((frequency > 1 / 36) & (frequency < 1 / 30))
    top = int(np.argmax(np.where(near, around, 0)))
    return {
        "layer_line_over_background": round(float(around[near].max() / np.median(around[beside])), 2),
        "spacing_angstrom": round(float(1 / frequency[top]), 2),
    }


def _cylinder(volume: NDArray[np.float32], box: int) -> Float64:
    """``(box, radius, 180)`` samples around the z axis; voxels."""
    angles = 2 * np.pi * np.arange(180) / 180
    radius = np.arange(box // 2)
    x = box // 2 + radius[:, None] * np.cos(angles)
    y = box // 2 + radius[:, None] * np.sin(angles)
    return np.stack([ndimage.map_coordinates(plane, [y, x], order=1) for plane in volume])


if __name__ == "__main__":
    main()
