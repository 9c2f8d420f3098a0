"""The tilt job: from stacks and their geometry to one volume, top to bottom."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.errors import InputError
from manyviews.io.atomic import atomic_write
from manyviews.io.mrc import read_header, write_mrc
from manyviews.metrics.correlation import ncc_views
from manyviews.operators.tilt_projector import TiltProjector, weighted_energy
from manyviews.report.build import build_report
from manyviews.runs.driver import drive
from manyviews.runs.folder import RunFolder
from manyviews.runs.interrupt import Interrupt
from manyviews.runs.memory import format_bytes, peak_memory_bytes, require_disk
from manyviews.runs.progress import Progress
from manyviews.solvers.driver import StopReason
from manyviews.tilt.compare import compare
from manyviews.tilt.estimate import estimate, refuse_if_too_large
from manyviews.tilt.images import ImageSource
from manyviews.tilt.methods import make_solver
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.plan import Settings, settle
from manyviews.tilt.prepared import PreparedImages, prepare
from manyviews.tilt.problem import TiltProblem
from manyviews.tilt.series import ResolvedSeries, resolve_series

VOLUME_FILE = "volume.mrc"
_DAMPED = ("cg", "consensus", "wbp")
# Damping in units of one view for a noise-to-signal ratio of 1. With a white signal the best linear answer
# has 1; real ones have little signal at high frequency, and 10 is about best there (docs/accuracy.md).
_DAMPING_PER_NOISE = 10.0
_TABLES = ("ncc.csv", "geometry.csv", "summary.json")


@dataclass(frozen=True)
class Reconstructed:
    """Where the result is, and its key figures by name."""

    run_folder: Path
    report: Path
    summary: dict[str, object]


def reconstruct(
    series: SeriesOptions,
    options: ReconstructOptions,
    out: Path,
    *,
    overwrite: bool = False,
    command: Sequence[str] = (),
    quiet: bool = False,
    checkpoint_seconds: float = 30.0,
) -> Reconstructed:
    """Reconstruct one volume from one or several tilt series.

    Parameters
    ----------
    series, options
        What from, and how.
    out
        Run folder; the same call on the same folder goes on where an earlier one stopped.
    overwrite
        Start afresh in a folder that holds a run.
    command
        The command line, for the record.
    quiet
        No progress.
    checkpoint_seconds
        Least time between checkpoints; 0: one an iteration.

    Raises
    ------
    InputError
        If anything the user gave cannot be used.
    ManyviewsError
        If the iteration diverges or the run is interrupted.
    """
    began = time.monotonic()
    resolved = resolve_series(series)
    source = ImageSource(resolved, options.bin, options.invert_contrast)
    settings = settle(options, source)
    if settings.device == "cpu":
        stored = sum(stack.path.stat().st_size for stack in resolved.stacks)
        refuse_if_too_large(estimate(settings, source.binned_geometry, stored))
    _check_reference(options.reference, settings)
    if settings.threads:
        _set_threads(settings.threads)
    # Before the folder is touched: blank or broken images leave no half-made run behind.
    problem, images = make_problem(source, settings)
    record = {**settings.record(), "reference": None if options.reference is None else str(options.reference)}
    run_folder = RunFolder.open(
        out,
        job="tilt reconstruct",
        options=record,
        inputs=_fingerprints(source),
        command=command,
        overwrite=overwrite,
    )
    with run_folder as run, Progress(quiet=quiet) as progress, Interrupt() as interrupt:
        if run.finished:
            progress.message(f"{out} holds this run already, finished; nothing to do")
            return Reconstructed(out, build_report(out), _read_summary(out))
        for warning in resolved.warnings:
            run.log(f"warning: {warning}")
            progress.message(f"warning: {warning}")
        require_disk(out, 4 * int(np.prod(settings.volume_shape)))
        progress.message(f"{settings.method}: back-projecting {len(problem.weights)} views")
        solver = make_solver(problem, settings)
        state, reason = drive(
            solver,
            solver.init(),
            iterations=settings.iterations,
            run=run,
            progress=progress,
            interrupt=interrupt,
            checkpoint_seconds=checkpoint_seconds,
        )
        volume = state.volume.cpu()
        if settings.non_negative:
            # the mean of agents that do not quite agree yet may lie a little below zero
            volume = volume.clamp(min=0.0)
        measures = state.measures()
        del solver, state
        summary = _write_results(run, resolved, problem, images, volume, options.reference, settings)
        summary |= _run_figures(settings, reason, measures, began)
        atomic_write(out / "summary.json", json.dumps(summary, indent=1).encode(), overwrite=True)
        results = [VOLUME_FILE, *_TABLES, *(["fsc.csv"] if options.reference else [])]
        run.finish(results)
        return Reconstructed(out, build_report(out), summary)


def make_problem(source: ImageSource, settings: Settings) -> tuple[TiltProblem, PreparedImages]:
    """The least-squares problem of a series, and its images as the problem sees them."""
    device = torch.device(settings.device)
    images = prepare(source, settings.normalise, device)
    geometry = source.binned_geometry
    projector = TiltProjector(geometry, settings.volume_shape, source.shape[1:], source.pixel_size)
    problem = TiltProblem(
        projector=projector,
        read=images.read,
        weights=np.ones(len(geometry)),
        damping=_damping(settings, images),
        convolve=settings.normal == "convolution",
        device=device,
    )
    return problem, images


def _damping(settings: Settings, images: PreparedImages) -> float:
    """What was asked for, or what suits the noise; the paper's own methods are not damped."""
    if settings.damping is not None:
        return settings.damping
    return _DAMPING_PER_NOISE * images.noise_to_signal if settings.method in _DAMPED else 0.0


def _set_threads(count: int) -> None:
    import numba

    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def _check_reference(reference: Path | None, settings: Settings) -> None:
    """Refuse a reference that the result cannot be compared with, before any work is done."""
    if reference is None:
        return
    header = read_header(reference)
    if header.shape != settings.volume_shape:
        raise InputError(
            f"the reference has {_sizes(header.shape)} voxels and the volume will have "
            f"{_sizes(settings.volume_shape)}",
            path=reference,
            fix="give a reference of the same size, or change --thickness or --bin",
        )


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape[::-1])


def _fingerprints(source: ImageSource) -> dict[str, str]:
    """What identifies the input: the stacks, and the geometry as it was resolved."""
    prints = {
        f"{number + 1}: {entry['name']}": " ".join(str(value) for value in list(entry.values())[1:])
        for number, entry in enumerate(source.fingerprint())
    }
    geometry = source.binned_geometry
    digest = hashlib.sha256()
    for values in (geometry.matrices, geometry.series, geometry.sections):
        digest.update(np.ascontiguousarray(values).tobytes())
    return {**prints, "geometry": digest.hexdigest(), "pixel size": repr(source.pixel_size)}


def _write_results(
    run: RunFolder,
    resolved: ResolvedSeries,
    problem: TiltProblem,
    images: PreparedImages,
    volume: torch.Tensor,
    reference: Path | None,
    settings: Settings,
) -> dict[str, object]:
    label = f"manyviews tilt reconstruct, {settings.method}"
    path = run.path / VOLUME_FILE
    write_mrc(path, volume.numpy(), settings.pixel_size, overwrite=True, labels=(label,))
    correlations, energy = reprojection(problem, images, volume)
    _write_ncc(run.path / "ncc.csv", problem, correlations)
    _write_geometry(run.path / "geometry.csv", resolved, problem)
    figures: dict[str, object] = {
        "exact objective": 0.5 * energy,
        "mean NCC of reprojections": float(correlations.mean()),
        "lowest NCC of reprojections": float(correlations.min()),
    }
    if reference is not None:
        figures |= _compare(path, reference, run.path)
    return figures


def reprojection(
    problem: TiltProblem, images: PreparedImages, volume: torch.Tensor
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], float]:
    """NCC of every image with the projection of the volume (paper eq. 10), and the residual energy."""
    correlations = np.zeros(len(problem.weights))
    energy = 0.0
    for views, projected in problem.projector.project_blocks(volume.to(problem.device)):
        measured = images.read(views)
        correlations[views] = ncc_views(measured.cpu().numpy(), projected.cpu().numpy())
        energy += weighted_energy(projected.sub_(measured), problem.weights[views])
    return correlations, energy


def _write_ncc(path: Path, problem: TiltProblem, correlations: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    geometry = problem.projector.geometry
    rows = [
        (view, geometry.series[view], geometry.sections[view], geometry.axis_degrees[view],
         geometry.tilt_degrees[view], f"{correlations[view]:.6f}")
        for view in range(len(geometry))
    ]  # fmt: skip
    _write_table(path, ("view", "series", "section", "axis_degrees", "tilt_degrees", "ncc"), rows)


def _write_geometry(path: Path, resolved: ResolvedSeries, problem: TiltProblem) -> None:
    geometry = problem.projector.geometry
    sources = {choice.stack: choice.source for choice in resolved.choices if choice.field == "tilt angles"}
    header = (
        "view", "series", "section", "axis_degrees", "tilt_degrees", "shift_x_angstrom", "shift_y_angstrom",
        "source",
    )  # fmt: skip
    rows = [
        (view, geometry.series[view], geometry.sections[view], geometry.axis_degrees[view],
         geometry.tilt_degrees[view], f"{geometry.matrices[view, 0, 3]:.4f}",
         f"{geometry.matrices[view, 1, 3]:.4f}", sources.get(int(geometry.series[view]), ""))
        for view in range(len(geometry))
    ]  # fmt: skip
    _write_table(path, header, rows)


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    atomic_write(path, text.getvalue().encode(), overwrite=True)


def _compare(volume: Path, reference: Path, folder: Path) -> dict[str, object]:
    found = compare(volume, reference)
    curve = found.fsc
    rows = [(f"{f:.8g}", f"{c:.6f}") for f, c in zip(curve.frequency, curve.correlation, strict=True)]
    _write_table(folder / "fsc.csv", ("frequency_per_angstrom", "fsc"), rows)
    return {
        "resolution at FSC 0.5 (angstrom)": found.resolution_half,
        "resolution at FSC 0.143 (angstrom)": found.resolution_143,
        "NCC with the reference": found.ncc,
        "relative error against the reference": found.relative_error,
    }


def _run_figures(
    settings: Settings, reason: StopReason, measures: dict[str, float], began: float
) -> dict[str, object]:
    return {
        "method": settings.method,
        "volume (x, y, z)": list(settings.volume_shape[::-1]),
        "stopped because": str(reason),
        **{name.replace("_", " "): value for name, value in measures.items()},
        "wall seconds": round(time.monotonic() - began, 2),
        "peak memory": format_bytes(peak_memory_bytes()),
        "peak memory bytes": peak_memory_bytes(),
    }


def _read_summary(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return found
