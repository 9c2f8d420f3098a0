import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyviews.runs.toml import dump_toml

leaves = (
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
)
plain = leaves | st.lists(leaves, max_size=3)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text("ab .\"'é"), plain | st.dictionaries(st.text("xy z"), plain)))
def test_reads_back(table):
    assert tomllib.loads(dump_toml(table)) == table


def test_none_paths_and_odd_bytes():
    table = {"a": None, "b": Path("x/y"), "c": ("u", 1), "d": "\udcff", "e": float("inf"), "f": {"g": None}}
    back = tomllib.loads(dump_toml(table))
    assert back == {"b": "x/y", "c": ["u", 1], "d": "\ufffd", "e": float("inf"), "f": {}}


def test_entries_keep_their_order_and_floats_their_digits():
    table = {"z": 1, "a": 0.1 + 0.2, "tables": {"y": float("nan"), "b": 1e-300}, "last": -0.0}
    back = tomllib.loads(dump_toml(table))
    assert list(back) == ["z", "a", "last", "tables"]  # tables come behind what belongs to none
    assert list(back["tables"]) == ["y", "b"]
    assert repr(back["a"]) == repr(0.1 + 0.2)
    assert repr(back["tables"]["y"]) == "nan"
    assert repr(back["last"]) == "-0.0"


def test_refuses_other_kinds():
    with pytest.raises(TypeError, match="object"):
        dump_toml({"a": object()})
    with pytest.raises(TypeError, match="NoneType"):
        dump_toml({"a": [None]})
