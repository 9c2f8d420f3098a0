"""Options dataclasses as command-line options."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest

from manyviews.cli.arguments import CommandParser, add_options, build_options
from manyviews.cli.commands import COMMANDS
from manyviews.errors import InputError
from manyviews.options import check_options, described, option, option_of


@described
@dataclass(frozen=True)
class Example:
    """For the tests."""

    files: tuple[Path, ...] = option((), section="input", positional=True, help="Read some files.")
    angle: tuple[float, ...] = option((), section="geometry", help="Set an angle, 50% of them negative.")
    count: int = option(3, section="method", required=True, least=0, help="Count.")
    way: Literal["left", "right"] = option("left", section="method", help="Go there.")
    quickly: bool = option(False, section="method", methods=("right",), help="Do it quickly.")
    limit: float | None = option(None, section="method", above=0, below=1, help="Set a limit.")
    note: str = option("", section="method", help="Take a note.")
    centred: bool = option(True, section="method", help="Centre it.")
    corners: tuple[float, ...] = option((1.0, 2.0), section="volume", least=-1, help="Set two corners.")
    silent: str = "not an option"

    @property
    def method(self) -> str:
        return self.way


def example_parser(*, required: bool = False) -> CommandParser:
    parser = CommandParser("example", "An example.", "FILE [options]", ("manyviews example a",))
    add_options(parser, Example, required=required)
    return parser


def parse(*words: str, required: bool = False) -> Example:
    return build_options(Example, example_parser(required=required).parse(words))


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
        ([""], "FILE: the name of the file is empty; is a variable of the shell not set?"),
        (["a", " "], "FILE: the name of the file is empty; is a variable of the shell not set?"),
        (["a", "--quickly=yes"], "--quickly: "),
        ([], "missing: FILE; see `manyviews example --help`"),
    ],
)
def test_complaints_are_one_sentence(words: list[str], sentence: str):
    with pytest.raises(InputError) as caught:
        parse(*words)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_what_a_run_requires_must_be_given():
    with pytest.raises(InputError, match="missing: --count"):
        parse("a", required=True)
    assert parse("a", "--count", "4", required=True).count == 4


def test_an_option_without_default_must_always_be_given():
    @dataclass(frozen=True)
    class Output:
        out: Path = option(section="output", help="Write here.")

    parser = CommandParser("example", "An example.", "[options]", ())
    add_options(parser, Output, required=False)
    with pytest.raises(InputError, match="missing: --out"):
        build_options(Output, parser.parse([]))
    with pytest.raises(TypeError, match="out"):
        Output()


def test_a_section_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="no help section 'metod'"):
        option(1, section="metod", help="Count.")  # type: ignore[arg-type]


def test_fields_that_are_no_options_are_left_alone():
    assert "silent" not in example_parser().format_help()


def test_options_are_described_in_python_too():
    assert str(Example.__doc__).startswith("For the tests.\n\n    Attributes\n    ----------\n    files\n")
    assert "    angle\n        Set an angle, 50% of them negative.\n" in str(Example.__doc__)


OPTIONS = sorted(
    {options for command in COMMANDS for options in command.options},
    key=lambda one: (one.__module__, one.__name__),  # the same order for every worker
)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda one: f"{one.__module__}.{one.__name__}")
def test_every_help_text_is_whole_sentences(options: type):
    for item in fields(options):
        if about := option_of(item):
            assert re.match(r"[A-Z].{9,}\.$", about.help), item.name
            assert not re.match(r"(Of|The|A|An|Number|Standard)\b", about.help), (
                f"{item.name}: say what it does"
            )


def test_help_shows_sections_defaults_and_choices():
    text = example_parser().format_help()
    assert "geometry:" in text
    assert text.index("input:") < text.index("geometry:") < text.index("volume:") < text.index("method:")
    assert "output:" not in text
    assert "[default: left]" in text
    assert "[default: 1.0 2.0]" in text
    assert "One of left, right." in text
    assert "50% of them" in text
    assert "[default: 3]" not in text  # must be given to a run
    assert text.rstrip().endswith("manyviews example a")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"count": -1}, "--count: -1 is too small; give a whole number from 0 on"),
        ({"limit": 0.0}, "--limit: 0 is too small; give a number above 0 and below 1"),
        ({"limit": 1.5}, "--limit: 1.5 is too large; give a number above 0 and below 1"),
        ({"limit": float("nan")}, "--limit: nan is not a number; give a number above 0 and below 1"),
        ({"angle": (1.0, float("inf"))}, "--angle: inf is not a number; give a number"),
        ({"corners": (-1.0, -2.0)}, "--corners: -2 is too small; give a number from -1 on"),
        ({"way": "up"}, "--way: 'up' is no way; choose from left, right"),
        ({"quickly": True}, "--quickly: left has no such option; leave it out, or use --method right"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, object], sentence: str):
    with pytest.raises(InputError) as caught:
        check_options(Example(**options))
    assert str(caught.value) == sentence


def test_what_can_be_passes():
    check_options(Example())
    check_options(Example(way="right", quickly=True, limit=0.5, corners=(-1.0, 3.0), note="-"))
