"""`MpiWorld` on real ranks."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest

CHECKS = Path(__file__).with_name("world_checks.py")


def assert_checked(done: CompletedProcess[str], count: int) -> None:
    assert (done.returncode, done.stdout) == (0, f"checked {count}"), done.stderr
    assert done.stderr == ""


def test_every_call_against_numpy(run_ranks):
    assert_checked(run_ranks(2, "-W", "error", CHECKS), 2)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_every_call_of_other_numbers(count: int, run_warm_ranks):
    assert_checked(run_warm_ranks(count, CHECKS), count)
