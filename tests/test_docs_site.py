"""The site of the documentation: what it is made of, and that it fetches nothing. `make docs` builds it."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"


def load(name: str) -> ModuleType:
    """A script of docs/site."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", DOCS / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def remote_sources() -> Callable[[str, str], list[str]]:
    return load("check").remote_sources


def pages_of(navigation: list) -> Iterator[str]:
    """Files of a navigation, sections and groups opened."""
    for entry in navigation:
        for what in entry.values():
            yield from pages_of(what) if isinstance(what, list) else [what]


def test_every_page_has_a_place_in_the_index():
    navigation = load("hooks").navigation((DOCS / "index.md").read_text(encoding="utf-8"))
    pages = list(pages_of(navigation))
    assert len(pages) == len(set(pages))
    assert {str(path.relative_to(REPOSITORY)) for path in DOCS.rglob("*.md")} - set(pages) == set()


def test_the_navigation_has_sections_and_groups():
    index = "## How-to\n\n- [A](a.md): x\n\n### More\n\n- [B](../B.md): y\n\n## Reference\n\n- [C](c/d.md)\n"
    first, second, *sections = load("hooks").navigation(index)
    assert (first, second) == ({"Home": "README.md"}, {"Documentation": "docs/index.md"})
    assert sections == [
        {"How-to": [{"A": "docs/a.md"}, {"More": [{"B": "B.md"}]}]},
        {"Reference": [{"C": "docs/c/d.md"}]},
    ]


def test_all_that_pages_lead_to_is_collected():
    files = {str(path.relative_to(REPOSITORY)) for path in load("collect").all_files()}
    assert {"README.md", "CHANGELOG.md", "benchmarks/README.md", "docs/notebooks/tilt.ipynb"} <= files
    assert not [name for name in files if name.startswith("tests/")]


def test_a_package_index_gets_words_for_links_into_the_repository(monkeypatch):
    interface = ModuleType("hatchling.metadata.plugin.interface")
    interface.MetadataHookInterface = object  # the builder's, which only a build has
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", interface)
    without = load("../../hatch_build").without_relative_links
    assert without(
        "![a](b.png)\n*What it shows.*\n\nSee [docs/x.md](docs/x.md#y) and [it](https://there/).\n"
    ) == ("See docs/x.md and [it](https://there/).\n")
    text = without((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert len(text) > 5000
    assert re.findall(r"\]\((?!https?:)", text) == []


def test_every_name_of_the_reference_is_documented():
    """A name that has gone would be an error of `make docs` alone, which the tests do not run."""
    text = (DOCS / "reference" / "operators-api.md").read_text(encoding="utf-8")
    names = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert len(names) > 4
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ('<script src="https://there/x.js"></script>', ".html"),
        ('<link rel="stylesheet" href="//there/x.css">', ".html"),
        ('<img src="HTTP://there/x.png">', ".html"),
        ('<p style="background: url(https://there/x.png)">', ".html"),
        ("@import 'https://there/x.css';", ".css"),
        ("@font-face { src: url('//there/x.woff2') }", ".css"),
    ],
)
def test_what_is_fetched_from_elsewhere_is_found(remote_sources, text, suffix):
    assert len(remote_sources(text, suffix)) == 1


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ('<a href="https://there/">there</a><script src="assets/x.js"></script>', ".html"),
        ('<link rel="canonical" href="https://there/x.html">', ".html"),
        ("a { mask: url(\"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>\") }", ".css"),
    ],
)
def test_what_is_not_fetched_is_let_be(remote_sources, text, suffix):
    assert remote_sources(text, suffix) == []
