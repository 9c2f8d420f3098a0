"""From a run folder to its pictures and its page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from manyviews.io.atomic import atomic_write
from manyviews.io.faults import explain_write_errors
from manyviews.report.data import RunData, read_run
from manyviews.report.page import render_page
from manyviews.report.particle_data import ParticleRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_NAME = "report.html"
FIGURES_FOLDER = "figures"


def _pictures(run: RunData) -> dict[str, bytes]:
    """PNG bytes of every picture that the run has the data for."""
    from manyviews.report import figures
    from manyviews.report.style import figure_png

    made = _particle_pictures(run.particles) if run.particles is not None else {}
    if run.slices is not None:
        made["slices"] = figures.slices_figure(run.slices)
    if run.ncc:
        made["ncc"] = figures.ncc_figure(run.ncc)
    if run.convergence is not None:
        made["convergence"] = figures.convergence_figure(run.convergence)
    if run.fsc is not None:
        made["fsc"] = figures.fsc_figure(run.fsc)
    return {name: figure_png(figure) for name, figure in made.items()}


def _particle_pictures(particles: ParticleRun) -> dict[str, Figure]:
    """What only runs over single particles have."""
    from manyviews.report import particle_figures as figures

    made = {}
    if particles.model is not None and figures.has_surface(particles.model):
        made["surface"] = figures.surface_figure(particles.model)
    if particles.halves is not None or particles.reference is not None:
        made["resolution"] = figures.resolution_figure(
            particles.halves, particles.reference, independent=particles.independent
        )
    if particles.directions is not None:
        made["directions"] = figures.directions_figure(particles.directions)
    if particles.spread is not None:
        made["spread"] = figures.spread_figure(particles.spread)
    if particles.learning is not None:
        made["learning"] = figures.learning_figure(particles.learning)
        if np.isfinite(particles.learning.fraction).any():
            made["poses"] = figures.poses_figure(particles.learning)
    return made


def build_report(run_dir: Path) -> Path:
    """Write ``report.html`` and ``figures/*.png`` of a run, finished or not, and return the page's path.

    Parameters
    ----------
    run_dir
        The run folder. ``run.toml`` must be there; of ``events.jsonl``, ``volume.mrc``, ``ncc.csv``,
        ``fsc.csv``, ``geometry.csv`` and ``summary.json``, and of ``fsc_reference.csv``, ``directions.csv``,
        ``spread.csv`` and ``log.txt`` of single particles, what is there is shown. An older report is
        replaced.

    Raises
    ------
    InputError
        If it is no run folder, a table in it is damaged, or it cannot be written.
    """
    run = read_run(run_dir)
    pictures = _pictures(run)
    folder = run_dir / FIGURES_FOLDER
    with explain_write_errors(folder):
        folder.mkdir(exist_ok=True)
    for name, png in pictures.items():
        atomic_write(folder / f"{name}.png", png, overwrite=True)
    page = run_dir / REPORT_NAME
    atomic_write(page, render_page(run, pictures).encode("utf-8", "replace"), overwrite=True)
    return page
