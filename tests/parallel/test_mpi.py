"""`MpiWorld` on real ranks."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest

CHECKS = Path(__file__).with_name("world_checks.py")


def assert_checked(done: CompletedProcess[str], count: int) -> None:
    assert (done.returncode, done.stdout) == (0, f"checked {count}"), done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("count", [1, 2])
def test_every_call_against_numpy(count: int, run_ranks):
    assert_checked(run_ranks(count, "-W", "error", CHECKS), count)


@pytest.mark.parametrize("count", [3, 4])
def test_every_call_of_more_ranks(count: int, run_warm_ranks):
    assert_checked(run_warm_ranks(count, CHECKS), count)
