import json

import pytest

from manyviews.io.nested import MOST_LEVELS, parse_json, parse_toml


def test_values_come_as_they_are():
    assert parse_json('{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    assert parse_toml("a.b = [1, 2]") == {"a": {"b": [1, 2]}}


@pytest.mark.parametrize("levels", [MOST_LEVELS + 1, 500, 100_000])
def test_deep_nesting_is_refused(levels):
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * levels + "]" * levels)
    with pytest.raises(ValueError, match="nested too deep"):
        parse_toml("a = " + "[" * levels + "]" * levels)


def test_dots_nest_too():
    with pytest.raises(ValueError, match="nested too deep"):
        parse_toml("a." * 3000 + "b = 1")


def test_as_deep_as_allowed():
    text = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    assert parse_json(text) == json.loads(text)
