"""From a run folder and the sections of its job to pictures and a page."""

from __future__ import annotations

from pathlib import Path

from manyviews.io.atomic import atomic_write
from manyviews.io.faults import explain_write_errors
from manyviews.report.data import read_run
from manyviews.report.page import render_page
from manyviews.report.sections import Picture, Section, Sections

REPORT_NAME = "report.html"
FIGURES_FOLDER = "figures"


def build_report(run_dir: Path, sections: Sections) -> Path:
    """Write ``report.html`` and ``figures/*.png`` of a run, finished or not, and return the page's path.

    ``run.toml`` must be there; of ``events.jsonl``, ``summary.json`` and ``log.txt`` what is there is shown.
    ``sections`` is what the job adds, from the files that it writes; the page is not written before they are
    all there. An older report is replaced.

    Raises
    ------
    InputError
        If it is no run folder, a file in it is damaged, or it cannot be written.
    """
    from manyviews.report.style import figure_png

    run = read_run(run_dir)
    parts = tuple(sections(run))
    bodies = [part.body for part in parts if isinstance(part, Section)]
    pictures = {body.name: figure_png(body.figure) for body in bodies if isinstance(body, Picture)}
    folder = run_dir / FIGURES_FOLDER
    with explain_write_errors(folder):
        folder.mkdir(exist_ok=True)
    for name, png in pictures.items():
        atomic_write(folder / f"{name}.png", png, overwrite=True)
    page = run_dir / REPORT_NAME
    atomic_write(page, render_page(run, parts, pictures).encode("utf-8", "replace"), overwrite=True)
    return page
