"""What each pass of a refinement came to, so that the report shows the map of every one.

``STAGE_passes.csv`` has a row a pass, ``STAGE_passes.mrc`` the planes xy, xz and yz through the middle of its
map, at most 64 pixels a side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import torch

from manyviews.errors import InputError
from manyviews.io.tables import read_numbers, require_ordinary, write_table
from manyviews.jobs.run import Job
from manyviews.report.planes import add_planes, read_planes, small_planes
from manyviews.report.sections import Picture, Section

REFINEMENT, HALVES = "refinement", "halves"
_COLUMNS = ("pass", "finest_detail_angstrom")
_MOST_PIXELS, _SHOWN, _MOST = 64, 16, 1e9


class _State(Protocol):
    """A map, and up to which frequency in Fourier pixels the images were used for it."""

    @property
    def iterate(self) -> torch.Tensor: ...

    @property
    def iteration(self) -> int: ...

    @property
    def radius(self) -> int: ...


def pass_files(stage: str) -> tuple[str, str]:
    """Names of the table and of the planes of a stage."""
    return f"{stage}_passes.csv", f"{stage}_passes.mrc"


def noting(job: Job, stage: str, box: int, pixel_size: float) -> Callable[[_State], None]:
    """Writes down every state that it is told, of images of ``box`` pixels of ``pixel_size`` angstrom.

    A state that tells its ``passes``, of one batch of a pass, takes the place of that before it in the same.
    """
    table, planes = (job.folder / name for name in pass_files(stage))
    side = min(box, _MOST_PIXELS)

    def note(state: _State) -> None:
        if not job.speaks:
            return
        number = max(1, round(getattr(state, "passes", state.iteration)))
        try:
            known = [tuple(row) for row in read_numbers(table, _COLUMNS).tolist() if row[0] < number]
        except InputError:  # damaged: what is shown must not end a run
            known = []
        rows = [*known, (number, box * pixel_size / max(1, state.radius))]
        write_table(table, _COLUMNS, ((int(one), f"{detail:.4g}") for one, detail in rows))
        add_planes(planes, number, small_planes(state.iterate, side), box * pixel_size / side)

    return note


def passes_section(folder: Path, stage: str, title: str = "Maps of all passes") -> Iterator[Section]:
    """The maps beside each other; nothing where their files are not there. `InputError` if damaged."""
    from manyviews.report.plots import planes_figure

    table, planes = (folder / name for name in pass_files(stage))
    found, rows = read_planes(planes, _SHOWN), read_numbers(table, _COLUMNS)
    if not found or not len(rows):
        return
    require_ordinary(rows, table, least=0, most=_MOST)
    captions = {int(number): f"{int(number)}: {detail:.3g} Å" for number, detail in rows.tolist()}
    picture = Picture(
        f"{stage}_passes", "Central planes of the map of each pass", planes_figure(found, captions)
    )
    caption = (
        "By number, with the finest detail of the images that was used. xy, xz and yz through the middle; "
        f"each map has its own grey levels. Of more than {_SHOWN}, so many, evenly chosen."
    )
    yield Section(title, picture, caption)
