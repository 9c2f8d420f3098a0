"""Tables as they are written and read."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.tables import read_columns, write_table


def test_columns_come_back_as_what_they_were(tmp_path):
    path = tmp_path / "table.csv"
    rows = [(1, "0.5", "a, b", "", "7"), (-2, "", "c", "", "nan")]
    write_table(path, ("whole", "number", "text", "empty", "mixed"), rows)
    columns = read_columns(path)
    assert list(columns) == ["whole", "number", "text", "empty", "mixed"]
    assert columns["whole"].dtype == np.int64
    np.testing.assert_array_equal(columns["whole"], [1, -2])
    np.testing.assert_array_equal(columns["number"], [0.5, np.nan])
    assert columns["text"].tolist() == ["a, b", "c"]
    assert columns["empty"].tolist() == ["", ""]
    np.testing.assert_array_equal(columns["mixed"], [7, np.nan])
    write_table(path, ("a", "b"), [])
    assert {name: column.shape for name, column in read_columns(path).items()} == {"a": (0,), "b": (0,)}


def test_damaged_tables(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(InputError, match=r"table.csv, row 3: 1 fields under 2 headings"):
        read_columns(path)
    for content in (b"", b"a\n\xff\xfe\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as a table"):
            read_columns(path)
    with pytest.raises(InputError, match="cannot be read as a table"):
        read_columns(tmp_path / "absent.csv")
