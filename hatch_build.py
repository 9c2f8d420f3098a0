"""README.md as a package index shows it: links into the repository lead nowhere there; their words stay."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n(?:\*.+\*\n)?\n*", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")


def without_relative_links(text: str) -> str:
    """Markdown without pictures of the repository and their captions; of links into it the words alone."""
    return _LINK.sub(r"\1", _PICTURE.sub("", text))


class ReadmeHook(MetadataHookInterface):
    """Sets ``readme`` of the project's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the text in."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": without_relative_links(text)}
