import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_world import outcomes, results
from manyviews.errors import InputError
from manyviews.io.shared_file import require_cover, reserve, together, write_at, writes_span
from manyviews.parallel.world import SingleWorld


def test_results_of_all_ranks():
    assert together(SingleWorld(), lambda: 3) == [3]
    assert (
        results(3, lambda world: together(world, lambda: [world.rank, "x"]))
        == [[[0, "x"], [1, "x"], [2, "x"]]] * 3
    )


@pytest.mark.parametrize(("where", "told"), [(None, "rank 1"), ("byte 3", "byte 3, rank 1")])
def test_the_first_failure_is_told_on_all(where, told):
    def fail(world):
        if world.rank > 0:
            raise InputError(f"what {world.rank}", path="a", where=where, fix="mend it")

    errors = outcomes(3, lambda world: together(world, lambda: fail(world)))
    assert {(error.what, error.path, error.where, error.fix) for error in errors} == {
        ("what 1", "a", told, "mend it")
    }
    assert errors[2].__cause__.what == "what 2"


def test_the_first_rank_needs_no_number():
    def fail():
        raise InputError("what", where="byte 3")

    with pytest.raises(InputError, match=r"^byte 3: what$"):
        together(SingleWorld(), fail)


def test_other_errors_are_the_rank_s_own():
    with pytest.raises(ZeroDivisionError):
        together(SingleWorld(), lambda: 1 / 0)


@given(
    ends=st.lists(st.integers(0, 9), min_size=1, max_size=5).map(sorted),
    order=st.randoms(use_true_random=False),
    copies=st.integers(1, 3),
)
def test_each_part_is_written_once(ends, order, copies):
    spans = list(zip([0, *ends], ends, strict=False)) * copies
    spans.append(None)
    order.shuffle(spans)
    require_cover(spans, ends[-1])
    writers = [span for rank, span in enumerate(spans) if writes_span(spans, rank)]
    assert sorted(part for first, end in writers for part in range(first, end)) == list(range(ends[-1]))


@pytest.mark.parametrize(
    "spans", [[], [None], [(0, 2)], [(0, 2), (3, 4)], [(0, 3), (2, 4)], [(0, 5)], [(1, 4)]]
)
def test_parts_that_are_missing_or_held_in_part(spans):
    with pytest.raises(ValueError, match="of 4"):
        require_cover(spans, 4)


def test_a_reserved_file_has_its_size_and_is_zero(tmp_path):
    descriptor = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    reserve(descriptor, 0)
    reserve(descriptor, 10_000)
    write_at(descriptor, b"abc", 5000)
    write_at(descriptor, b"", 1)
    os.close(descriptor)
    assert (tmp_path / "a").read_bytes() == bytes(5000) + b"abc" + bytes(4997)
    assert (tmp_path / "a").stat().st_blocks * 512 >= 10_000


def test_short_writes_go_on(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: real(descriptor, data[:3], at))
    with open(tmp_path / "a", "wb") as handle:
        write_at(handle.fileno(), b"0123456789", 2)
    assert (tmp_path / "a").read_bytes() == b"\0\x000123456789"
