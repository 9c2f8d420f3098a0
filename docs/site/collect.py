"""Lay the pages of the documentation, and every file that they link to, as a site's source.

``python docs/site/collect.py FOLDER``: the folder gets README.md, docs/ and what these lead to, each at its
place in the repository, so that one relative link holds on GitHub and on the site. A link that leads nowhere
is left for MkDocs to refuse.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def linked_files(page: Path) -> set[Path]:
    """Files of the repository that a page links to or shows."""
    links = (link.partition("#")[0] for link in _LINK.findall(page.read_text(encoding="utf-8")))
    targets = ((page.parent / link).resolve() for link in links if link and ":" not in link)
    return {target for target in targets if target.is_file() and target.is_relative_to(REPOSITORY)}


def all_files() -> set[Path]:
    """README.md, all pages of docs, and what they lead to, over any number of links."""
    found: set[Path] = set()
    waiting = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += linked_files(path) if path.suffix == ".md" else []
    return found


def main() -> None:
    """Fill the folder that the command line names; what was in it goes."""
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    for path in all_files():
        target = folder / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


if __name__ == "__main__":
    main()
