"""Every command of the tutorials and how-tos is run, page by page, in the order of the page.

A page runs in a folder of its own that holds small files of the names it uses (``a.mrc``, ``particles.star``,
...). Options that make a job short are added to those of the page (`SHORT`), and numbers that are of the
reader's data become those of the small files (`OF_THE_DATA`); all else that the page says is kept.
What a block is stands behind its fence:

- ``bash``: commands of ours, run in this process;
- ``bash other``: other programs, or the shell's; looked at for not being ours;
- ``bash elsewhere``: ours, on a machine of another kind; ``tests/test_docs.py`` looks at their options;
- ``python``: run.
"""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from manyviews.cli.command import find_command
from manyviews.cli.commands import COMMANDS
from manyviews.cli.main import main
from page_commands_example import put_files

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted([*(DOCS / "how-to").glob("*.md"), *(DOCS / "tutorials").glob("*.md")])
_FENCE = re.compile(r"^ *```(.*)$")
KINDS = {"bash", "bash other", "bash elsewhere", "python", "text"}

OF_THE_DATA = {("--thickness", "200"): "20"}
# Added to a command where the page does not give the option itself; options of a method, where it names none.
SHORT: dict[str, dict[str, str]] = {
    "tilt simulate": {"--tilt-step": "12"},
    "particles simulate": {"--box": "24", "--count": "60", "--pixel-size": "10", "--snr": "1"},
    "particles abinitio": {"--starts": "1", "--refinements": "1", "--batch": "20", "--resolution": "60"},
    "particles solve": {"--starts": "1", "--resolution": "60"},
    "particles refine": {"--iterations": "1", "--resolution": "60"},
    "nano simulate": {"--size": "32", "--views": "32"},
    "nano reconstruct": {
        "--method": "shifts",
        "--levels": "1",
        "--iterations": "1",
        "--no-refine-angles": "",
    },
    "tilt align": {"--keep-axis": "", "--rotation": "never"},
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: what stands behind its fence, and its text."""

    kind: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """Fenced blocks of a page, with what indents them taken off."""
    kind, lines = None, []
    for line in page.splitlines():
        fence = _FENCE.match(line)
        if fence and kind is None:
            kind, lines = fence.group(1).strip(), []
        elif fence:
            yield Block(kind, "\n".join(lines))
            kind = None
        elif kind is not None:
            lines.append(line)


def commands(text: str) -> list[list[str]]:
    """Words of each command line of a block, lines that go on joined, remarks left out."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def shortened(words: list[str]) -> list[str]:
    """A command line of ours, without ``manyviews``, for the small files and with what makes it short."""
    words = words[:1] + [OF_THE_DATA.get(pair, pair[1]) for pair in pairwise(words)]
    found = find_command(COMMANDS, words)
    if found is None or "--" in words:
        return words
    added = SHORT.get(found[0].name, {})
    if "--method" in added and "--method" in words:
        return words
    return words + [
        word for name, value in added.items() if name not in words for word in (name, value) if word
    ]


def run_page(page: str) -> None:
    """Run all blocks of a page; AssertionError with the command line that fails."""
    for block in blocks(page):
        assert block.kind in KINDS, f"a block is fenced as {block.kind!r}"
        if block.kind == "python":
            script = Path("block.py")
            script.write_text(block.text, encoding="utf-8")
            runpy.run_path(str(script))
        for words in commands(block.text) if block.kind.startswith("bash") else []:
            ours = words[0] == "manyviews"
            if block.kind == "bash other":
                assert not ours, f"of ours, but fenced as another program's: {shlex.join(words)}"
            elif block.kind == "bash elsewhere":
                assert "manyviews" in words, f"not of ours: {shlex.join(words)}"
            else:
                assert ours, f"not of ours, and not fenced so: {shlex.join(words)}"
                assert main(shortened(words[1:])) == 0, shlex.join(words)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Where files that pages share are kept."""
    return tmp_path_factory.mktemp("made")


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_the_commands_of_a_page_run(page: Path, tmp_path, made, monkeypatch):
    text = page.read_text(encoding="utf-8")
    put_files(text, tmp_path, made)
    monkeypatch.chdir(tmp_path)
    run_page(text)


@pytest.mark.parametrize(
    "page",
    [
        "```bash\nmanyviews no such command\n```\n",
        "```bash\nmanyviews doctor --no-such-option\n```\n",
        "```bash\nmanyviews tilt check missing.mrc\n```\n",
        "```bash\n3dmod volume.mrc\n```\n",
        "```bash other\nmanyviews doctor\n```\n",
        "```bash elsewhere\nsbatch job.sh\n```\n",
        "```shell\nmanyviews doctor\n```\n",
    ],
)
def test_what_is_wrong_is_seen(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError):
        run_page(page)


def test_lines_that_go_on_are_one_command():
    page = "- text\n\n  ```bash\n  manyviews a \\\n      --b c   # why\n  manyviews d\n  ```\n"
    (block,) = blocks(page)
    assert commands(block.text) == [["manyviews", "a", "--b", "c"], ["manyviews", "d"]]


def test_there_are_pages_and_commands():
    of_pages = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"))]
    count = sum(len(commands(block.text)) for block in of_pages if block.kind == "bash")
    assert len(PAGES) >= 15
    assert count >= 50
