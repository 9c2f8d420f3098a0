"""``python docs/site/check.py FOLDER``: refuse a site whose pages fetch anything from elsewhere.

Scripts, styles, fonts and images must be files of the site. A link that a reader may follow is none of these.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_REMOTE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(r"(?:@import\s+|url\(\s*)[\"']?((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)
_FOLLOWED_BY_READERS = {"a", "form"}
_SAID_ONLY = {"canonical", "alternate", "next", "prev"}  # relations of <link> that no browser fetches


class RemoteSources(HTMLParser):
    """Collects what a page fetches from elsewhere, in ``found``."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the addresses of one tag."""
        given = dict(attrs)
        if tag in _FOLLOWED_BY_READERS or (tag == "link" and given.get("rel") in _SAID_ONLY):
            return
        addresses = (given.get(name) or "" for name in ("src", "href", "srcset", "data", "poster"))
        self.found += [address for address in addresses if _REMOTE.match(address)]
        self.found += _IN_STYLE.findall(given.get("style") or "")


def remote_sources(text: str, suffix: str) -> list[str]:
    """Addresses outside the site that a page (``.html``) or a style (``.css``) makes a browser fetch."""
    if suffix == ".css":
        return _IN_STYLE.findall(text)
    parser = RemoteSources()
    parser.feed(text)
    return parser.found


def main() -> int:
    """Check all pages and styles of the folder that the command line names."""
    site = Path(sys.argv[1])
    files = [path for path in site.rglob("*") if path.suffix in {".html", ".css"}]
    wrong = [
        f"{path}: fetches {address}"
        for path in files
        for address in remote_sources(path.read_text(encoding="utf-8"), path.suffix)
    ]
    print(
        "\n".join(wrong)
        or f"{site}/index.html: {len(files)} pages and styles, nothing is fetched from elsewhere"
    )
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main())
