"""From a run folder and the sections of its job to pictures and a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from manyviews.io.atomic import atomic_write
from manyviews.io.faults import explain_write_errors
from manyviews.report.data import read_run
from manyviews.report.page import render_page
from manyviews.report.page_status import with_status
from manyviews.report.sections import Picture, Sections, pictures_of
from manyviews.runs.lock import LOCK_NAME
from manyviews.runs.status import STATUS_FILE, Status

if TYPE_CHECKING:
    from manyviews.report.drawing import Drawing

REPORT_NAME = "report.html"
FIGURES_FOLDER = "figures"
_MOST_FILES = 500
_FIGURES_PART, _DRAWN_PART = 0.3, 0.85  # of the time, when figures are made, and when they are drawn
_UNLISTED = (REPORT_NAME, LOCK_NAME, STATUS_FILE)


def build_report(run_dir: Path, sections: Sections, tell: Callable[[float], None] | None = None) -> Path:
    """Write ``report.html`` and ``figures/*.png`` of a run, finished or not, and return the page's path.

    ``run.toml`` must be there; of ``events.jsonl``, ``summary.json`` and ``log.txt`` what is there is shown.
    ``sections`` is what the job adds, from the files that it writes; the page is not written before they are
    all there. An older report is replaced. ``tell`` is told which part of the work is done.

    Raises
    ------
    InputError
        If it is no run folder, a file in it is damaged, or it cannot be written.
    """
    run = read_run(run_dir)
    parts = tuple(sections(run))
    pictures = _draw(pictures_of(parts), tell or (lambda part: None))
    folder = run_dir / FIGURES_FOLDER
    with explain_write_errors(folder):
        folder.mkdir(exist_ok=True)
    for name, drawing in pictures.items():
        atomic_write(folder / f"{name}.png", drawing.whole, overwrite=True)
    page = run_dir / REPORT_NAME
    atomic_write(
        page, render_page(run, parts, pictures, _files(run_dir)).encode("utf-8", "replace"), overwrite=True
    )
    return page


def _draw(pictures: Sequence[Picture], tell: Callable[[float], None]) -> dict[str, Drawing]:
    if not pictures:
        return {}
    from manyviews.report.drawing import draw  # matplotlib takes its time

    found: dict[str, Drawing] = {}
    for number, picture in enumerate(pictures):
        tell(_FIGURES_PART + (_DRAWN_PART - _FIGURES_PART) * number / len(pictures))
        found[picture.name] = draw(picture.figure)
    tell(_DRAWN_PART)
    return found


def _files(path: Path) -> dict[str, int]:
    """Sizes of the files in a folder and in its folders, links and what changes all the time left out."""
    found: dict[str, int] = {}
    folders = [path]
    while folders and len(found) < _MOST_FILES:
        folder = folders.pop(0)
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith(".") or entry.name in _UNLISTED or entry.is_symlink():
                        continue
                    if entry.is_dir():
                        folders.append(Path(entry.path))
                    elif len(found) < _MOST_FILES:
                        found[os.path.relpath(entry.path, path)] = entry.stat().st_size
        except OSError:
            continue
    return found


def refresh_status(run_dir: Path, status: Status) -> None:
    """Bring how a run is to its page, whose other parts stay; nothing where there is no page.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    page = run_dir / REPORT_NAME
    if not page.is_file():
        return
    with explain_write_errors(page):
        before = page.read_text(encoding="utf-8", errors="replace")
        atomic_write(page, with_status(before, status).encode("utf-8", "replace"), overwrite=True)
