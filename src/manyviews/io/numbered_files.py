"""Volumes that a table names by number only, ``particle_00012.em`` or ``subtomo_12.mrc``, in their folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from manyviews.errors import InputError

_NUMBERED = re.compile(r"^(?P<begin>.*?)(?P<number>\d{1,15})\.(?P<kind>em|mrc)$", re.IGNORECASE)


def find_numbered_volumes(folder: Path, numbers: Sequence[int], source: Path) -> tuple[Path, ...]:
    """The file of each number, in their order, all of one kind and with names that begin alike.

    Raises
    ------
    InputError
        If the folder cannot be read, a number has no file, or several kinds of files would do.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})",
            path=folder,
            fix="give the folder of the subtomograms with --data-root",
        ) from error
    series: dict[tuple[str, str], dict[int, Path]] = {}
    for name in names:
        if match := _NUMBERED.match(name):
            kind = (match["begin"], match["kind"].lower())
            series.setdefault(kind, {})[int(match["number"])] = Path(folder) / name
    whole = [files for files in series.values() if all(number in files for number in numbers)]
    if len(whole) == 1:
        return tuple(whole[0][number] for number in numbers)
    if whole:
        first, second = (files[numbers[0]].name for files in whole[:2])
        raise InputError(
            f"particle {numbers[0]} could be {first} or {second}",
            path=folder,
            fix="keep one kind of files in the folder",
        )
    best = max(series.values(), key=lambda files: sum(number in files for number in numbers), default={})
    missing = next(number for number in numbers if number not in best)
    raise InputError(
        f"there is no volume for particle {missing}, a file whose name ends in its number and .em or .mrc",
        path=folder,
        where=f"for {source.name}",
        fix="give the folder of the subtomograms with --data-root",
    )
