"""``index.html``: the cards of all runs below a folder as a file."""

from __future__ import annotations

from pathlib import Path

from manyviews.errors import InputError, shortened
from manyviews.io.atomic import atomic_write
from manyviews.io.faults import explain_write_errors
from manyviews.runs.record import RUN_FILE
from manyviews.serve.catalogue import find_runs
from manyviews.serve.index_page import MARK, index_html, static_links
from manyviews.serve.inside import read_inside

INDEX_NAME = "index.html"
_HEAD_BYTES = 1000


def write_index(folder: Path) -> Path:
    """Write the page of all runs below a folder and return its path; an older one is replaced.

    Raises
    ------
    InputError
        If there is no run, a file of that name is no such page, or it cannot be written.
    """
    catalogue = find_runs(folder)
    if not catalogue.cards:
        raise InputError(
            f"is not a run folder ({RUN_FILE} is missing), nor is there one below it",
            path=folder,
            fix="give the folder of a run, or one with runs in it",
        )
    page = folder / INDEX_NAME
    if page.is_symlink() or page.exists():
        before = read_inside(folder, (INDEX_NAME,), _HEAD_BYTES).decode("utf-8", "replace")
        if MARK not in before:
            raise InputError("exists and is no index of runs", path=page, fix="move it away")
    name = shortened(folder.resolve().name, 200)
    html = index_html(name, catalogue, static_links())
    with explain_write_errors(page):
        atomic_write(page, html.encode("utf-8", "replace"), overwrite=True)
    return page
