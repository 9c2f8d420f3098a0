"""What the documentation names is there: links, files, names of the package, commands and their options."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyviews.api.names import HOMES
from manyviews.cli.arguments import build_options
from manyviews.cli.command import find_command
from manyviews.cli.commands import COMMANDS
from manyviews.options import check_options

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "manyviews"
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
SOURCES = sorted(PACKAGE.rglob("*.py"))
GROUPS = {command.name.split()[0] for command in COMMANDS}
# What the pages say of srun, mpiexec and scripts in benchmarks.
FOREIGN_OPTIONS = frozenset({"--bind-to", "--cpus-per-task", "--map-by", "--only", "--resume", "--signal"})

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_NAME = re.compile(r"`(?:import )?(manyviews(?:\.\w+)+)|(?<![\w.])mv(\.\w+)")
_FILE = re.compile(r"`((?:[\w-]+/)+[\w-]+\.(?:py|md|json|png))\b")
_INLINE = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^ *```(\w*)")
_COMMAND = re.compile(r"(?:^|\s)manyviews(?= )")
_OPTION = re.compile(r"^--[a-z][a-z-]*$")


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@functools.cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(text: str) -> Iterator[str]:
    """Logical lines of indented and of fenced blocks, but those in Python, lines that go on joined."""
    fence, joined = None, ""
    for line in text.splitlines():
        if found := _FENCE.match(line):
            fence = found.group(1) if fence is None else None
            continue
        if fence not in (None, "", "bash", "sh") or (fence is None and not line.startswith("    ")):
            continue
        joined += line.strip()
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        yield joined
        joined = ""


def command_lines(text: str) -> Iterator[tuple[list[str], bool]]:
    """Words behind ``manyviews`` of every command line; whether it is whole: in a block, nothing left out."""
    block = list(blocks(text))
    for number, line in enumerate((*block, *_INLINE.findall(text))):
        found = _COMMAND.search(line)
        if found and not line.startswith(("pip ", "import ")):
            words = shlex.split(line[found.end() :], comments=True)
            yield words, number < len(block) and "..." not in words


@functools.cache
def names_in(path: Path, classes: tuple[str, ...] = ()) -> frozenset[str]:
    """What a module defines or imports, or a class in it; nothing is loaded."""
    body = ast.parse(text_of(path)).body
    for name in classes:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == name)
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return frozenset(names)


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or stands in one; what a class inherits is not looked for."""
    parts = dotted.split(".")[1:]
    place = PACKAGE
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if parts and (place / f"{parts[0]}.py").is_file():
        place /= f"{parts.pop(0)}.py"
    else:
        place /= "__init__.py"
    if place == PACKAGE / "__init__.py" and parts and parts[0] in HOMES:
        return True
    classes: tuple[str, ...] = ()
    for name in parts:
        if name not in names_in(place, classes):
            return False
        classes = (*classes, name)
    return place.is_file()


@functools.cache
def options_of(name: str) -> frozenset[str]:
    """All that can be given to a command."""
    command = next(command for command in COMMANDS if command.name == name)
    return frozenset(command.parser()._option_string_actions)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path):
    wrong = []
    for link in _LINK.findall(text_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("page", [*PAGES, *SOURCES], ids=relative)
def test_names_of_the_package_are_there(page: Path):
    names = (whole or f"manyviews{short}" for whole, short in _NAME.findall(text_of(page)))
    assert not [name for name in names if not exists(name)]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_are_there(page: Path):
    """Named from the repository, from the package, from ``docs`` or from ``tests``."""
    roots = (REPOSITORY, PACKAGE, REPOSITORY / "docs", REPOSITORY / "tests", REPOSITORY / "benchmarks")
    names = [name for name in _FILE.findall(text_of(page)) if "NNNN" not in name]
    assert not [name for name in names if not any((root / name).is_file() for root in roots)]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_command_lines_can_be_typed(page: Path):
    for words, whole in command_lines(text_of(page)):
        if words[0].startswith("-") or (len(words) == 1 and words[0] in GROUPS):
            continue  # --help and --version
        found = find_command(COMMANDS, words)
        assert found, f"there is no command {' '.join(words)}"
        command, rest = found
        given = rest[: rest.index("--")] if "--" in rest else rest
        assert not {word for word in given if _OPTION.match(word)} - options_of(command.name)
        if whole:
            arguments = command.parser().parse(rest)
            for options in command.options:
                check_options(build_options(options, arguments))


@pytest.mark.parametrize("page", [PAGES[0], *(REPOSITORY / "docs").glob("*.md")], ids=relative)
def test_options_in_the_text_belong_to_a_command(page: Path):
    known = frozenset.union(FOREIGN_OPTIONS, *(options_of(command.name) for command in COMMANDS))
    codes = [code for code in _INLINE.findall(text_of(page)) if code.startswith("--")]
    found = {word for code in codes for word in code.split() if _OPTION.match(word)}
    assert not found - known


@pytest.mark.parametrize("page", [page for page in PAGES if "simulate" in text_of(page)], ids=relative)
def test_data_that_a_page_simulates_goes_to_folders_of_its_own(page):
    """A reader makes one after the other, and the second is refused where the first lies."""
    said = {tuple(words) for words, _ in command_lines(text_of(page)) if "simulate" in words[:2]}
    folders = [words[words.index("--out") + 1] for words in said if "--out" in words]
    assert len(folders) == len(set(folders)), sorted(folders)


def test_the_test_sees_what_is_wrong():
    for name in ("runs.driver.drive", "io", "fsc", "cli.command.Command.parser", "__version__"):
        assert exists(f"manyviews.{name}")
    for name in ("runs.driver.drives", "nothing", "tilt.images", "cli.command.Command.nothing"):
        assert not exists(f"manyviews.{name}")
    text = "`manyviews no such`\n\n    mpiexec -n 2 manyviews tilt check \\\n        a.mrc   # why\n"
    assert list(command_lines(text)) == [(["tilt", "check", "a.mrc"], True), (["no", "such"], False)]
    assert sum(whole for page in PAGES for _, whole in command_lines(text_of(page))) > 30
