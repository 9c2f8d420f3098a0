"""A run folder that several ranks open together."""

import threading

import pytest

from fake_world import outcomes, results
from manyviews.errors import InputError
from manyviews.runs import folder as module
from manyviews.runs.folder import RunFolder


def begin(path, world, **changes):
    arguments = {"job": "toy", "options": {"method": "cg"}, "inputs": {}, "command": ["toy"]}
    return RunFolder.open(path, world=world, **(arguments | changes))


def test_all_ranks_know_what_the_first_found(tmp_path):
    def work(world):
        with begin(tmp_path, world) as run:
            before = run.resumed, run.finished
            world.barrier()
            run.event("iteration", iteration=world.rank)
            run.sync()
            if world.rank == 0:
                (tmp_path / "volume.mrc").write_text("x")
            run.finish(["volume.mrc"])
            world.barrier()
            return (*before, run.finished)

    assert results(3, work) == [(False, False, True)] * 3
    assert not (tmp_path / "lock").exists()
    assert results(3, work) == [(True, True, True)] * 3
    (tmp_path / "volume.mrc").unlink()
    assert results(3, work) == [(True, False, True)] * 3
    assert "iteration" in (tmp_path / "events.jsonl").read_text()
    assert not (tmp_path / "logs").exists()


def test_the_first_rank_alone_writes_events(tmp_path):
    def work(world):
        with begin(tmp_path, world) as run:
            run.event("start", rank=world.rank)
            run.rewind("main", 5)
            run.sync()

    results(3, work)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert '"rank": 0' in lines[0]


def test_a_refusal_is_the_same_on_all_ranks(tmp_path):
    results(2, lambda world: begin(tmp_path, world).close())
    errors = outcomes(3, lambda world: begin(tmp_path, world, options={"method": "sirt"}))
    assert all(isinstance(error, InputError) for error in errors)
    assert {(error.what, error.path, error.where, error.fix) for error in errors} == {
        (
            "holds a run with other options: method was 'cg', now 'sirt'",
            str(tmp_path),
            None,
            "choose another --out or give --overwrite",
        )
    }
    assert not (tmp_path / "lock").exists()


def test_a_folder_in_use_is_refused_on_all_ranks(tmp_path):
    with begin(tmp_path, None):
        errors = outcomes(2, lambda world: begin(tmp_path, world))
    assert all("is in use by process" in str(error) for error in errors)
    assert not (tmp_path / "lock").exists()


def test_another_number_of_ranks_is_told_and_not_refused(tmp_path):
    results(1, lambda world: begin(tmp_path, world).close())
    results(3, lambda world: begin(tmp_path, world).close())
    assert "ranks: started with 1, goes on with 3" in (tmp_path / "log.txt").read_text()
    text = (tmp_path / "run.toml").read_text()
    for damaged in (text.replace("ranks = 1", 'ranks = "x"'), text.replace("[host]", "[toast]")):
        (tmp_path / "run.toml").write_text(damaged)
        results(2, lambda world: begin(tmp_path, world).close())


def test_each_rank_has_a_log_of_its_own_where_it_speaks(tmp_path):
    def work(world):
        with begin(tmp_path, world) as run:
            if world.rank != 1:
                run.log(f"I am {world.rank}")

    results(3, work)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["rank-0002.txt"]
    assert (tmp_path / "logs/rank-0002.txt").read_text().endswith("I am 2\n")
    assert "I am 0" in (tmp_path / "log.txt").read_text()


def test_an_error_of_one_rank_is_in_its_log(tmp_path):
    def work(world):
        with begin(tmp_path, world):
            world.barrier()
            if world.rank == 1:
                raise InputError("no scratch on this machine")

    errors = outcomes(2, work)
    assert errors[0] is None
    assert "ended by InputError: no scratch" in (tmp_path / "logs/rank-0001.txt").read_text()
    assert not (tmp_path / "lock").exists()


def test_overwrite_removes_the_logs_of_ranks_and_nothing_else(tmp_path):
    def work(world):
        with begin(tmp_path, world) as run:
            run.log("x")

    results(3, work)
    (tmp_path / "logs/mine.txt").write_text("mine")
    results(1, lambda world: begin(tmp_path, world, overwrite=True).close())
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["mine.txt"]
    (tmp_path / "logs/mine.txt").unlink()
    results(1, lambda world: begin(tmp_path, world, overwrite=True).close())
    assert not (tmp_path / "logs").exists()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "rank-0001.txt").write_text("mine")
    (tmp_path / "logs").symlink_to(outside)
    results(1, lambda world: begin(tmp_path, world, overwrite=True).close())
    assert (outside / "rank-0001.txt").read_text() == "mine"


@pytest.mark.parametrize("there", [False, True])
def test_ranks_that_see_different_folders_are_told(tmp_path, monkeypatch, there):
    monkeypatch.setattr(module, "_VISIBLE_SECONDS", 0.05)
    for name in ("0", "1") if there else ():
        begin(tmp_path / name, None).close()
    errors = outcomes(2, lambda world: begin(tmp_path / str(world.rank), world))
    for error in errors:
        assert isinstance(error, InputError)
        assert "rank 1: is not the folder that the first rank has opened" in str(error)
        assert "choose an --out on a disk that all machines share" in str(error)
    assert not (tmp_path / "0/lock").exists()


def test_a_folder_that_is_seen_late_is_waited_for(tmp_path, monkeypatch):
    real = module._token
    calls = []

    def token(path):
        calls.append(threading.get_ident())
        return "" if calls.count(threading.get_ident()) == 1 and len(calls) > 1 else real(path)

    monkeypatch.setattr(module, "_token", token)
    results(3, lambda world: begin(tmp_path, world).close())
    assert len(calls) > 4
