"""Arrays in files of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.array_file import open_array, write_array


def test_an_array_comes_back_and_is_not_read_at_once(tmp_path):
    flow = np.arange(48.0).reshape(2, 2, 3, 4)
    write_array(tmp_path / "flow.npy", flow)
    found = open_array(tmp_path / "flow.npy", 4)
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, flow)
    with pytest.raises(InputError, match="exists"):
        write_array(tmp_path / "flow.npy", flow)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: None, "is not there"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x08\x00{'descr'"), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: np.save(path, np.array([{}], dtype=object)), "cannot be read"),
        (lambda path: np.save(path, np.zeros((2, 2, 3, 4))), "holds float64"),
        (lambda path: np.save(path, np.zeros((2, 3), np.float32)), "not float32 of 4 axes"),
        (lambda path: np.save(path, np.zeros((0, 2, 3, 4), np.float32)), "holds float32"),
    ],
)
def test_what_is_none_is_refused_in_a_sentence(tmp_path, write, told):
    write(tmp_path / "a.npy")
    with pytest.raises(InputError, match=told):
        open_array(tmp_path / "a.npy", 4)
