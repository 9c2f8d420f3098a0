"""The table of an alignment: what is read of it for a stack, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fuzzing.job_runs import RUNS
from manyviews.errors import InputError
from manyviews.tilt.series.alignment_table import ALIGNMENT_FILE, read_alignment

WHOLE = RUNS["alignment"].files[ALIGNMENT_FILE].decode()


def test_the_lines_of_a_stack(tmp_path):
    (tmp_path / ALIGNMENT_FILE).write_text(WHOLE)
    found = read_alignment(tmp_path, Path("folder/a.mrc"))
    np.testing.assert_array_equal(found.sections, [0, 1, 2, 3])
    np.testing.assert_array_equal(found.used, [True, False, True, True])
    np.testing.assert_array_equal(found.tilts, [-30, -10, 10, 30])
    np.testing.assert_array_equal(found.shifts[:, 0], [3, 6, 9, 12])
    assert found.axis_degrees == 10


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("a.mrc,2,", "a.mrc,1e20,", r"alignment.csv: a number is missing, not finite or not below 1e\+09"),
        ("a.mrc,2,", "a.mrc,nan,", "a number is missing"),
        ("a.mrc,2,", "a.mrc,x,", "holds something that is not a number"),
        ("a.mrc,2,", "a.mrc,1,", "the lines of a.mrc contradict each other"),
        ("a.mrc", "b.mrc", "speaks of b.mrc, not of a.mrc; give the stacks it is of"),
        ("section", "sectoin", "line 1: has no column section"),
    ],
)
def test_what_is_refused(tmp_path, old, new, said):
    (tmp_path / ALIGNMENT_FILE).write_text(WHOLE.replace(old, new))
    with pytest.raises(InputError, match=said):
        read_alignment(tmp_path, Path("a.mrc"))
