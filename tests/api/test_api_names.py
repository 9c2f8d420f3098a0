"""The names that ``import manyviews`` offers, and that nothing heavy is loaded before its time."""

from __future__ import annotations

import subprocess
import sys

import pytest

import manyviews as mv
from manyviews.api.names import HOMES


def run_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_name_is_there_and_listed():
    assert set(mv.__all__) == set(HOMES)
    assert set(mv.__all__) | {"__version__"} <= set(dir(mv))
    for name in mv.__all__:
        assert getattr(mv, name).__doc__, name


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'manyviews' has no attribute 'recontruct'"):
        mv.recontruct  # noqa: B018
    assert not hasattr(mv, "numpy")


def test_import_loads_nothing_heavy_and_each_name_no_more_than_it_needs():
    run_python(
        "import sys, manyviews as mv\n"
        "heavy = {'numpy', 'scipy', 'torch', 'numba', 'matplotlib', 'rich'}\n"
        "assert not heavy & set(sys.modules)\n"
        "dir(mv), mv.InputError\n"
        "assert not heavy & set(sys.modules)\n"
        "mv.open_run, mv.read_mrc, mv.reconstruct, mv.abinitio, mv.align_subtomograms, mv.read_tilt_series\n"
        "mv.reconstruct_scan\n"
        "assert not {'torch', 'numba', 'matplotlib'} & set(sys.modules)\n"
    )
