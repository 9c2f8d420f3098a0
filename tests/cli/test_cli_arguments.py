"""Options dataclasses as command-line options."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest

from manyviews.cli.arguments import CommandParser, Layout, add_options, attribute_texts, build_options
from manyviews.errors import InputError
from manyviews.tilt.options import ReconstructOptions, SeriesOptions, SimulateOptions


@dataclass(frozen=True)
class Example:
    """For the tests.

    Attributes
    ----------
    files
        Some files.
    angle
        An angle, 50% of them
        negative.
    count
        A count.
    way
        A way.
    quickly
        Do it quickly.
    limit
        A limit.
    note
        A note.
    centred
        Centre it.
    corners
        Two corners.

    Notes
    -----
    Not an option.
    """

    files: tuple[Path, ...] = ()
    angle: tuple[float, ...] = ()
    count: int = 3
    way: Literal["left", "right"] = "left"
    quickly: bool = False
    limit: float | None = None
    note: str = ""
    centred: bool = True
    corners: tuple[float, ...] = (1.0, 2.0)


def parse(*words: str, layout: Layout | None = None) -> Example:
    parser = CommandParser("example", "An example.", "FILE [options]", ("manyviews example a",))
    add_options(parser, Example, layout or Layout("options", positional="files"))
    return build_options(Example, parser.parse(words))


def test_defaults_are_those_of_the_dataclass():
    assert parse("a") == Example(files=(Path("a"),))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--angle", "0", "45", "90", "135"], {"angle": (0.0, 45.0, 90.0, 135.0)}),
        (["--angle", "-12.7"], {"angle": (-12.7,)}),
        (["--angle", "-1e-3", "-.5", "-5."], {"angle": (-0.001, -0.5, -5.0)}),
        (["--angle", "1", "--angle", "2"], {"angle": (1.0, 2.0)}),
        (["--angle=-3"], {"angle": (-3.0,)}),
        (["--count", "-4"], {"count": -4}),
        (["--note", "-4"], {"note": "-4"}),
        (["--no-centred"], {"centred": False}),
        (["--corners", "-1", "5"], {"corners": (-1.0, 5.0)}),
        (["--way", "right", "--quickly", "--limit", "0.5"], {"way": "right", "quickly": True, "limit": 0.5}),
    ],
)
def test_values(words: list[str], expected: dict[str, object]):
    assert parse("a", "b", *words) == Example(files=(Path("a"), Path("b")), **expected)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a", "--cuont", "3"], "unknown option --cuont; did you mean --count?"),
        (["a", "--zzz"], "unknown option --zzz; see `manyviews example --help`"),
        (["a", "-c", "3"], "unknown option -c"),
        (["a", "--coun", "3"], "unknown option --coun; did you mean --count?"),
        (["a", "--count", "3.5"], "--count: '3.5' is not a whole number"),
        (["a", "--limit", "much"], "--limit: 'much' is not a number"),
        (["a", "--limit", "nan"], "--limit: 'nan' is not a number"),
        (["a", "--limit", "-inf"], "--limit: '-inf' is not a number"),
        (
            ["--angle", "3", "a"],
            "--angle: 'a' is not a number; if it is an input file, put it before the options",
        ),
        (["a", "--way", "lift"], "--way: there is no 'lift'; did you mean left?"),
        (["a", "--way", "xyz"], "--way: there is no 'xyz'; choose from left, right"),
        (["a", "--count"], "--count: expected one argument"),
        (["a", "--quickly=yes"], "--quickly: "),
        ([], "missing: FILE; see `manyviews example --help`"),
    ],
)
def test_complaints_are_one_sentence(words: list[str], sentence: str):
    with pytest.raises(InputError) as caught:
        parse(*words)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_required_field_must_be_given():
    with pytest.raises(InputError, match="missing: --count"):
        parse("a", layout=Layout("options", positional="files", required=("count",)))


def test_help_texts_come_from_the_docstring():
    texts = attribute_texts(Example)
    assert texts["angle"] == "An angle, 50% of them negative."
    assert set(texts) == {field.name for field in fields(Example)}


@pytest.mark.parametrize("options", [SeriesOptions, ReconstructOptions, SimulateOptions])
def test_every_option_is_documented(options: type):
    texts = attribute_texts(options)
    assert all(texts.get(field.name) for field in fields(options))


def test_help_shows_sections_defaults_and_choices():
    parser = CommandParser("example", "An example.", "FILE [options]", ("manyviews example a",))
    add_options(parser, Example, Layout("options", sections={"angle": "geometry"}, positional="files"))
    text = parser.format_help()
    assert "geometry:" in text
    assert "[default: 3]" in text
    assert "[default: 1.0 2.0]" in text
    assert "One of left, right." in text
    assert "50% of them" in text
    assert text.rstrip().endswith("manyviews example a")
