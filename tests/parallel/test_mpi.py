"""`MpiWorld` on real ranks."""

from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("world_checks.py")


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_call_against_numpy(count: int, run_ranks):
    done = run_ranks(count, "-W", "error", CHECKS)
    assert (done.returncode, done.stdout) == (0, f"checked {count}"), done.stderr
    assert done.stderr == ""
