"""What MkDocs asks while it builds: the order of the pages, and the help of all commands.

The order is that of ``docs/index.md``, the list that readers on GitHub have too.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from manyviews.cli.commands import COMMANDS

_ENTRY = re.compile(r"^- \[(.+?)\]\((.+?)\)")


def navigation(index: str) -> list[Any]:
    """Sections of the index with their pages; headings of level 2 are sections, of level 3 groups in them."""
    section: list[Any] = []
    group = section
    entries: list[Any] = [{"Home": "README.md"}, {"Documentation": "docs/index.md"}]
    for line in index.splitlines():
        if line.startswith("## "):
            section = group = []
            entries.append({line[3:]: section})
        elif line.startswith("### "):
            group = []
            section.append({line[4:]: group})
        elif found := _ENTRY.match(line):
            group.append({found.group(1): posixpath.normpath(f"docs/{found.group(2)}")})
    return entries


def on_config(config: Any) -> Any:
    """Put the pages in order."""
    config.nav = navigation((Path(config.docs_dir) / "docs" / "index.md").read_text(encoding="utf-8"))
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Add to the page of commands what each says of itself."""
    if page.file.src_uri != "docs/reference/commands.md":
        return markdown
    helps = (f"## {one.name}\n\n```text\n{one.parser().format_help()}```\n" for one in COMMANDS)
    return f"{markdown}\n" + "\n".join(helps)
