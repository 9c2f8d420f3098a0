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
    table = {"a": None, "b": Path("x/y"), "c": ("u", 1), "d": "\udcff", "e": float("inf")}
    back = tomllib.loads(dump_toml(table))
    assert back == {"b": "x/y", "c": ["u", 1], "d": "\ufffd", "e": float("inf")}


def test_refuses_other_kinds():
    with pytest.raises(TypeError, match="object"):
        dump_toml({"a": object()})
