"""Sentences stay short, whatever a damaged file holds."""

import pytest

from manyviews.errors import MOST_QUOTED, InputError, quoted, shortened


def test_short_values_are_quoted_as_they_are():
    assert quoted("abc") == "'abc'"
    assert quoted(1.5) == "1.5"
    assert quoted(None) == "None"
    assert shortened("a few words") == "a few words"


@pytest.mark.parametrize("value", ["x" * 10**7, b"x" * 10**7, list(range(10**5)), "\n" * 500, "\x1b" * 500])
def test_long_values_are_cut(value):
    assert len(quoted(value)) == MOST_QUOTED
    assert quoted(value).endswith("...")
    assert len(shortened(value)) <= MOST_QUOTED


def test_a_quote_is_one_line_of_what_can_be_printed():
    assert shortened("a\n  b\tc") == "a b c"
    assert shortened("\x1b[31m\ud800\u2028x") == "\\x1b[31m\\ud800 x"
    assert shortened("Gr\u00f6\u00dfe \u00c5") == "Gr\u00f6\u00dfe \u00c5"


def test_a_sentence_is_cut_where_its_parts_are_endless():
    error = InputError(
        "w" * 9999, path="/" + "p" * 9999 + "/end.mrc", where="line " + "9" * 9999, fix="f" * 9999
    )
    assert len(str(error)) < 1200
    assert "end.mrc" in str(error)
    assert error.what == "w" * 9999  # whole, for those who want it
    assert str(InputError("is empty", path="a.mrc", where="line 1", fix="copy it")) == (
        "a.mrc, line 1: is empty; copy it"
    )
