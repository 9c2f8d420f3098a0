"""Tilt series aligned from their images: ``python benchmarks/tilt_align.py``.

Simulated cell-like slabs about 1, 2 and 4 axes, shifted by 20 pixels rms, turned by 3 degrees rms, one view
in twenty bad: what is left of the shifts, less what is no matter of the images; and reconstructions by the
found geometry against those by the true one. An axis that does not lie along the pixels costs a reconstruction
a percent or two by itself, and the found geometry, turned as a whole onto the true one, has no other: so both are
turned by the same degree about the beam, and compared with the formula of the specimen turned by it. With ``--real`` the series of ``shared/data``: shifts against
published ones. Goes on from what is stored; writes ``benchmarks/results/tilt_align.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.options import RunOptions
from manyviews.simulate.cell import cell_slab
from manyviews.simulate.phantoms import Gaussians
from manyviews.tilt.align.align import align
from manyviews.tilt.align.frames import frame_shape, read_level
from manyviews.tilt.align.gauge import common_translation, moved_volume
from manyviews.tilt.align.level import Level
from manyviews.tilt.align.options import AlignOptions
from manyviews.tilt.options import ReconstructOptions, SeriesOptions, SimulateOptions
from manyviews.tilt.reconstruct import reconstruct
from manyviews.tilt.series.alignment_table import write_alignment
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import ResolvedSeries, resolve_series
from manyviews.tilt.simulate import Simulated, simulate

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[2] / "shared" / "data"
AXES = {1: (0.0,), 2: (0.0, 90.0), 4: (0.0, 45.0, 90.0, 135.0)}
SIZE, THICKNESS, STEP, PIXEL = 256, 64, 3.0, 8.0
SHIFT, TURN, BAD, NOISE = 20.0, 3.0, 0.05, 0.5
BIN = 2  # of the reconstructions
OBLIQUE = 1.0  # degrees by which the volumes to compare are turned about the beam
REAL = {
    "openNCEM L2083": ("tilt/openncem-haadf/L2083-K-4-1_haadf.mrc", 0.0, 64),
    "etspy HAADF": ("nano/etspy_HAADF.mrc", 90.0, 160),
}
PUBLISHED = "tilt/openncem-haadf/TomVizAlignments.json:3-18"
DRIFTS = (-0.5, 0.0, 0.25, 0.5, 1.0)  # parts of what is smooth in the difference from published shifts
Record = dict[str, Any]
Float64 = NDArray[np.float64]


def in_pixels(geometry: TiltGeometry, pixel_size: float) -> TiltGeometry:
    """Shifts in pixels."""
    matrices = geometry.matrices.copy()
    matrices[:, :2, 3] /= pixel_size
    return replace(geometry, matrices=matrices)


def common_rotation(found: TiltGeometry, true: TiltGeometry) -> Float64:
    """4 x 4: the turn of the volume by which the true views are nearest to those found."""
    product = np.einsum("vji,vjk->ik", true.matrices[:, :3, :3], found.matrices[:, :3, :3])
    left, _, right = np.linalg.svd(product)
    turn = np.eye(4)
    turn[:3, :3] = left @ right
    return turn


def same_views(geometry: TiltGeometry, wanted: TiltGeometry) -> TiltGeometry:
    """The views of ``geometry`` that are in ``wanted``, in its order."""
    places = {pair: k for k, pair in enumerate(zip(geometry.series, geometry.sections, strict=True))}
    return geometry.select([places[pair] for pair in zip(wanted.series, wanted.sections, strict=True)])


def cpu_seconds() -> float:
    """Of this process and its threads so far."""
    return time.process_time() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def simulated(axes: int, seed: int, size: int, work: Path) -> Record:
    """One series of images of ``size`` pixels a side, aligned and reconstructed; all else scales with it."""
    thickness = THICKNESS * size // SIZE
    options = SimulateOptions(
        size=(size,), thickness=thickness, pixel_size=PIXEL, axes=AXES[axes], tilt_step=STEP, noise=NOISE,
        shift_error=SHIFT * size / SIZE, axis_error=TURN, bad_views=BAD, seed=seed,
    )  # fmt: skip
    made = simulate(options, work / "data")
    given = SeriesOptions(made.stacks, axis_angle=AXES[axes])
    began = cpu_seconds()
    result = align(given, AlignOptions(thickness=thickness, threads=1), RunOptions(work / "run", quiet=True))
    seconds = cpu_seconds() - began
    transforms = tuple(stack.with_suffix(".xf") for stack in made.stacks)
    true = in_pixels(resolve_series(replace(given, transform=transforms)).geometry, PIXEL)
    found = in_pixels(resolve_series(SeriesOptions(made.stacks, alignment=result.run_folder)).geometry, PIXEL)
    true = same_views(true, found)
    turn = common_rotation(found, true)
    turned = replace(found, matrices=found.matrices @ np.linalg.inv(turn))
    regauged = moved_volume(turned, common_translation(turned, true))
    left = np.hypot(*(regauged.matrices - true.matrices)[:, :2, 3].T)
    record = tomllib.loads((made.folder / "simulate.toml").read_text())["stacks"]
    spoiled = sum(len(one) for stack in record.values() for one in stack.get("bad_sections", {}).values())
    specimen = phantom(options, made)
    compared = Compared(made, thickness, size, work)
    upright, _ = compared.error("upright", true, specimen, 0.0)
    error_found, seconds_of_one = compared.error("found", regauged, specimen, OBLIQUE)
    error_true, _ = compared.error("true", true, specimen, OBLIQUE)
    tilts = np.unique(true.series)
    return {
        "axes": axes,
        "size": size,
        "seed": seed,
        "views": int(result.summary["views"]),  # type: ignore[call-overload]
        "bad views": spoiled,
        "left out": int(result.summary["bad_views"]),  # type: ignore[call-overload]
        "residual rms": float(np.sqrt((left**2).mean())),
        "residual largest": float(left.max()),
        "turn of volume": float(np.rad2deg(np.arccos(np.clip((np.trace(turn) - 2) / 2, -1, 1)))),
        "axis error": max(
            abs(_axis(found.select(found.series == k)) - _axis(true.select(true.series == k))) for k in tilts
        ),
        "error found": error_found,
        "error true": error_true,
        "error true upright": upright,
        "align CPU s": seconds,
        "reconstruct CPU s": seconds_of_one,
    }


def phantom(options: SimulateOptions, made: Simulated) -> Gaussians:
    """The specimen of simulated series as a formula."""
    side = options.size[0]
    shape = (options.thickness, side, side)
    found = cell_slab(shape, options.pixel_size, options.seed, smallest_sigma_pixels=options.detail)
    written, _ = read_mrc(made.truth)
    assert np.allclose(found.density(shape, options.pixel_size, threads=1), written, atol=1e-6)
    return found


@dataclass(frozen=True)
class Compared:
    """Reconstructions of simulated series, ``size`` pixels a side, in a folder ``work``."""

    made: Simulated
    thickness: int
    size: int
    work: Path

    def error(
        self, name: str, geometry: TiltGeometry, specimen: Gaussians, degrees: float
    ) -> tuple[float, float]:
        """Relative error and CPU seconds, with volume and specimen turned by ``degrees`` about the beam."""
        turn = rotation_z(degrees)
        matrices = geometry.matrices.copy()
        matrices[:, :3, :3] = matrices[:, :3, :3] @ turn.T
        matrices[:, :2, 3] *= PIXEL
        folder, views = self.work / name, len(geometry)
        folder.mkdir()
        write_alignment(
            folder / "alignment.csv",
            replace(geometry, matrices=matrices, axis_degrees=geometry.axis_degrees + degrees),
            tuple(stack.name for stack in self.made.stacks),
            np.ones(views, bool),
            np.zeros((views, 2)),
            np.zeros(views),
        )
        shape = (self.thickness, self.size, self.size)
        density = specimen.moved(turn, np.zeros(3)).density(shape, PIXEL, threads=1)
        blocks = density.reshape(shape[0] // BIN, BIN, shape[1] // BIN, BIN, shape[2] // BIN, BIN)
        write_mrc(folder / "truth.mrc", blocks.mean(axis=(1, 3, 5)) * BIN, PIXEL * BIN)
        began = cpu_seconds()
        summary = reconstruct(
            SeriesOptions(self.made.stacks, alignment=folder),
            ReconstructOptions(thickness=self.thickness, bin=BIN, threads=1, reference=folder / "truth.mrc"),
            RunOptions(self.work / f"volume-{name}", quiet=True),
        ).summary
        error = float(summary["relative_error_against_the_reference"])  # type: ignore[arg-type]
        return error, cpu_seconds() - began


def _axis(geometry: TiltGeometry) -> float:
    """Direction of the tilt axis in the images of a series, degrees."""
    axis = np.deg2rad(geometry.axis_degrees)
    along = np.stack([-np.sin(axis), np.cos(axis), 0 * axis], axis=1)
    seen = np.einsum("vij,vj->vi", geometry.matrices[:, :2, :3], along)
    return float(np.rad2deg(np.median(np.arctan2(-seen[:, 0], seen[:, 1]))))


def real(name: str, data: Path, work: Path) -> Record:
    """One real series: what the views that the volume is not made of say, and the published shifts."""
    path, axis, thickness = REAL[name]
    stack = data / path
    if not stack.exists():
        import gzip

        stack = work / stack.name
        stack.write_bytes(gzip.decompress((data / f"{path}.gz").read_bytes()))
        angles = data / Path(path).with_suffix(".rawtlt")
        stack.with_suffix(".rawtlt").write_bytes(angles.read_bytes())
    given = SeriesOptions((stack,), axis_angle=(axis,))
    began = cpu_seconds()
    result = align(given, AlignOptions(thickness=thickness, threads=1), RunOptions(work / "run", quiet=True))
    seconds = cpu_seconds() - began
    keys = (
        "views", "bad_views", "axis_in_images_degrees", "largest_shift_pixels", "residual_rms_pixels",
        "correlation_with_the_others_before", "correlation_with_the_others_after",
    )  # fmt: skip
    found: Record = {"name": name, **{key: result.summary[key] for key in keys}, "align CPU s": seconds}
    if name == "openNCEM L2083":
        published = resolve_series(replace(given, shifts=(data / PUBLISHED,)))
        wanted = in_pixels(published.geometry, published.pixel_size)
        options = SeriesOptions((stack,), alignment=result.run_folder)
        ours = in_pixels(resolve_series(options).geometry, published.pixel_size)
        wanted = same_views(wanted, ours)
        moved = moved_volume(ours, common_translation(ours, wanted))
        left = (moved.matrices - wanted.matrices)[:, :2, 3]
        found["correlation published"] = agreement(published, wanted, thickness)
        found["correlation ours"] = agreement(published, ours, thickness)
        found["against published x y"] = np.sqrt((left**2).mean(axis=0)).tolist()
        drift = smooth_part(left, ours.tilt_degrees)
        found["against published x y, less a drift"] = np.sqrt(((left - drift) ** 2).mean(axis=0)).tolist()
        found["correlation ours with their drift"] = [
            [part, agreement(published, shifted(ours, -part * drift), thickness)] for part in DRIFTS
        ]
        found["against published by view"] = np.round(left, 2).tolist()
        found["tilts"] = ours.tilt_degrees.tolist()
    return found


def smooth_part(left: Float64, tilts_degrees: Float64) -> Float64:
    """What of shifts ``(view, 2)`` is constant or goes with the cosine and sine of the tilt."""
    tilts = np.deg2rad(tilts_degrees)
    modes = np.stack([np.ones_like(tilts), np.cos(tilts), np.sin(tilts)], axis=1)
    return np.asarray(modes @ np.linalg.lstsq(modes, left, rcond=None)[0], dtype=np.float64)


def shifted(geometry: TiltGeometry, shifts: Float64) -> TiltGeometry:
    """Views whose images are shifted by ``(view, 2)`` more."""
    matrices = geometry.matrices.copy()
    matrices[:, :2, 3] += shifts
    return replace(geometry, matrices=matrices)


def agreement(series: ResolvedSeries, geometry: TiltGeometry, thickness: int) -> float:
    """Mean correlation of each view with a volume of the others, for poses in pixels, binned by 2."""
    images = read_level(ImageSource(series, BIN), BIN)
    rows, columns = (round(1.1 * side / BIN) for side in series.field_shape)
    shape = (round(1.25 * thickness / BIN), rows, columns)
    level = Level(images, shape, frame_shape(geometry, shape[1:]), damping=0.02, iterations=12)
    found, _ = level.left_out(images.geometry(geometry), np.ones(len(geometry)), folds=5)
    return float(found.mean())


def page(found: Record) -> str:
    """The tables of ``benchmarks/results/tilt_align.md``."""
    lines = [
        f"Simulated series of {SIZE} x {SIZE} x {THICKNESS} voxels (smaller ones: all lengths in proportion), tilts -60 to 60 by {STEP:g} degrees, noise "
        f"{NOISE:g}; shifts {SHIFT:g} pixels rms along x and y, images of each stack turned by {TURN:g} degrees "
        f"rms, {100 * BAD:g} % bad views. Residual: shifts against the truth, less a shift and a turn of the "
        "volume, unbinned pixels. Errors: of reconstructions (cg, binned by 2) against the true density, both "
        f"geometries turned by {OBLIQUE:g} degree about the beam, so that the slices of both are resampled alike; upright: "
        "by the true geometry as it is.",
        "",
        "| axes | size | seed | bad views, left out | residual rms (largest) | axis error | error found | true "
        "| ratio | true, upright | align | reconstruct |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(found["simulated"], key=lambda one: (one["axes"], -one["size"], one["seed"])):
        lines.append(
            f"| {row['axes']} | {row['size']} | {row['seed']} | {row['bad views']}, {row['left out']} "
            f"| {row['residual rms']:.3f} ({row['residual largest']:.2f}) | {row['axis error']:.2f}° "
            f"| {row['error found']:.4f} | {row['error true']:.4f} "
            f"| {row['error found'] / row['error true']:.3f} | {row['error true upright']:.4f} "
            f"| {row['align CPU s']:.0f} CPU s "
            f"| {row['reconstruct CPU s']:.0f} CPU s |"
        )
    if found.get("real"):
        lines += [
            "",
            "Real series: correlation of each view with the volume of others, and the residual they tell.",
            "",
            "| series | views (bad) | axis | largest shift | correlation before, after | residual rms "
            "| against published x, y | less a drift | align |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
    for row in found.get("real", []):
        published = row.get("against published x y")
        shown = "" if published is None else f"{published[0]:.2f}, {published[1]:.2f} px rms"
        rest = row.get("against published x y, less a drift")
        shown += " |" if rest is None else f" | {rest[0]:.2f}, {rest[1]:.2f}"
        lines.append(
            f"| {row['name']} | {row['views']} ({row['bad_views']}) | {row['axis_in_images_degrees'][0]:.2f}° "
            f"| {row['largest_shift_pixels']:.1f} | {row['correlation_with_the_others_before']:.3f}, "
            f"{row['correlation_with_the_others_after']:.3f} | {row['residual_rms_pixels']:.2f} | {shown} "
            f"| {row['align CPU s']:.0f} CPU s |"
        )
    for row in found.get("real", []):
        drifts = row.get("correlation ours with their drift", [])
        if drifts:
            said = ", ".join(f"{part:g}: {value:.5f}" for part, value in drifts)
            lines += [
                "",
                f"{row['name']}: less a drift that is constant or goes with the cosine and sine of the tilt, what is left is "
                f"that of whole pixels (0.29). Correlations with so much of that drift in our shifts: {said}.",
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Do what is asked for and not stored yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--axes", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--real", nargs="*", choices=[*REAL], default=[])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=RESULTS / "tilt_align.json")
    options = parser.parse_args()
    found: Record = {"simulated": [], "real": []}
    if options.out.exists():
        found = json.loads(options.out.read_text())
    asked = [(axes, seed, options.size) for seed in options.seeds for axes in options.axes]
    done = {(row["axes"], row["seed"], row["size"]) for row in found["simulated"]}
    for axes, seed, size in asked:
        if (axes, seed, size) in done:
            continue
        with tempfile.TemporaryDirectory() as work:
            found["simulated"].append(simulated(axes, seed, size, Path(work)))
        print(json.dumps(found["simulated"][-1]), flush=True)
        _store(options.out, found)
    for name in options.real:
        with tempfile.TemporaryDirectory() as work:
            kept = [row for row in found["real"] if row["name"] != name]
            found["real"] = [*kept, real(name, options.data, Path(work))]
        print(json.dumps(found["real"][-1]), flush=True)
        _store(options.out, found)


def _store(path: Path, found: Record) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(found))


if __name__ == "__main__":
    main()
