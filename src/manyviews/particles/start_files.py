"""What random starts came to, so that the report shows all of them.

``starts.csv`` has a row a start, in the order in which they were made; ``starts.mrc`` the planes xy, xz and
yz through the middle of each one's map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from manyviews.io.tables import read_numbers, require_ordinary, write_table
from manyviews.report.planes import central_planes, read_planes, write_planes
from manyviews.report.sections import Picture, Section

STARTS_FILE, START_PLANES_FILE = "starts.csv", "starts.mrc"
PICTURE = "starts"
_COLUMNS = ("start", "log_likelihood")
_MOST = 1e9
_SHOWN = 8


def write_starts(
    folder: Path, maps: Sequence[torch.Tensor], log_likelihoods: Sequence[float], side_angstrom: float
) -> None:
    """Write both files; the maps ``(n, n, n)`` are ``side_angstrom`` wide."""
    planes = [central_planes(one.cpu().numpy()) for one in maps]
    write_planes(folder / START_PLANES_FILE, planes, side_angstrom / len(maps[0]))
    rows = ((number + 1, f"{value:.6g}") for number, value in enumerate(log_likelihoods))
    write_table(folder / STARTS_FILE, _COLUMNS, rows)


def starts_section(folder: Path) -> Iterator[Section]:
    """All starts beside each other; nothing where their files are not there. `InputError` if damaged."""
    from manyviews.report.plots import planes_figure

    planes = read_planes(folder / START_PLANES_FILE, _SHOWN)
    table = read_numbers(folder / STARTS_FILE, _COLUMNS)
    if not planes or not len(table):
        return
    require_ordinary(table, folder / STARTS_FILE, least=-_MOST, most=_MOST)
    best = int(np.argmax(table[:, 1]))
    captions = {
        int(number): f"{int(number)}: {value:.2f}" + (", best" if place == best else "")
        for place, (number, value) in enumerate(table.tolist())
    }
    picture = Picture(PICTURE, "Central planes of each start's map", planes_figure(planes, captions))
    caption = "By number, with the mean log likelihood of images, 0 for noise alone; the best was refined."
    yield Section("All random starts", picture, caption)
