"""Files that were moved: found in a folder by the last parts of the names they had."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from manyviews.errors import InputError, quoted

_MOST_FILES = 1_000_000


class MovedFiles:
    """The files in a folder and all below it, listed when the first is looked for; links to folders are not
    followed.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, name: str, source: Path) -> Path | None:
        """The file whose path ends as ``name`` does, in as many parts as any other; None if there is none.

        `InputError` about ``source``, which names it, if two files do equally well.
        """
        if self._folder is None:
            return None
        if self._by_name is None:
            self._by_name = _files_by_name(self._folder)
        parts = PurePosixPath(name).parts
        files = self._by_name.get(parts[-1], [])
        agreeing = [_common_end(file.parts, parts) for file in files]
        longest = [file for file, count in zip(files, agreeing, strict=True) if count == max(agreeing)]
        best = list({os.path.realpath(file): file for file in longest if file.is_file()}.values())
        if len(best) > 1:
            raise InputError(
                f"the image stack {quoted(name)} could be {best[0]} or {best[1]}",
                path=source,
                fix="give with --data-root a folder that holds only the right one",
            )
        return best[0] if best else None


def _files_by_name(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    count = 0
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            found.setdefault(file, []).append(Path(parent) / file)
        count += len(files)
        if count > _MOST_FILES:
            raise InputError(
                f"holds more than {_MOST_FILES} files, too many to look for moved images among them",
                path=folder,
                fix="give the folder that holds the images with --data-root",
            )
    return found


def _common_end(first: Sequence[str], second: Sequence[str]) -> int:
    """How many parts at the end of both are the same."""
    pairs = list(zip(reversed(first), reversed(second), strict=False))
    return next((number for number, (a, b) in enumerate(pairs) if a != b), len(pairs))
