import os
import re
import subprocess
import tomllib

import pytest

from manyviews.errors import InputError
from manyviews.runs.checkpoint import save_checkpoint
from manyviews.runs.folder import RunFolder

OPTIONS = {"method": "cg", "iterations": 20, "series": {"stacks": ["a.mrc"], "bin": None}}


def begin(path, **changes):
    arguments = {
        "job": "tilt reconstruct",
        "options": OPTIONS,
        "inputs": {"data/a.mrc": "sha256:1"},
        "command": ["manyviews", "tilt", "a b"],
        "seed": 5,
    }
    return RunFolder.open(path, results=("volume.mrc", "figures/ncc.png"), **(arguments | changes))


def test_new_folder_tells_everything(tmp_path):
    with begin(tmp_path / "deep" / "run") as run:
        assert not run.resumed
        assert not run.finished
        record = tomllib.loads((run.path / "run.toml").read_text())
        assert (run.path / "lock").exists()
    assert record["options"] == {"method": "cg", "iterations": 20, "series": {"stacks": ["a.mrc"]}}
    assert record["inputs"] == {"data/a.mrc": "sha256:1"}
    assert record["command"] == ["manyviews", "tilt", "a b"]
    assert record["seeds"] == {"main": 5}
    assert {"manyviews", "python", "numpy", "torch", "numba", "scipy"} <= record["versions"].keys()
    assert record["host"]["cpus"] >= 1
    assert not (run.path / "lock").exists()
    assert "manyviews tilt 'a b'" in (run.path / "log.txt").read_text()


def test_same_command_resumes_and_keeps_the_record(tmp_path):
    begin(tmp_path).close()
    before = (tmp_path / "run.toml").read_bytes()
    with begin(tmp_path, command=["manyviews", "other", "spelling"]) as run:
        assert run.resumed
    assert (tmp_path / "run.toml").read_bytes() == before


def test_a_run_that_should_be_longer_is_told_what_to_do(tmp_path):
    with begin(tmp_path, options={**OPTIONS, "iterations": 100}):
        pass
    with pytest.raises(InputError, match="now 150; its length is fixed when it begins: choose"):
        begin(tmp_path, options={**OPTIONS, "iterations": 150})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {**OPTIONS, "method": "sirt"}}, "method was 'cg', now 'sirt'"),
        (
            {"options": {**OPTIONS, "series": {"stacks": ["a.mrc"], "bin": 2}}},
            "series.bin was not given, now 2",
        ),
        ({"options": {**OPTIONS, "iterations": 20.0}}, "iterations was 20, now 20.0"),
        ({"inputs": {"data/a.mrc": "sha256:2"}}, "data/a.mrc changed"),
        ({"job": "nano"}, "another job"),
        ({"seed": 6}, "another seed"),
    ],
)
def test_other_run_is_refused_by_name(tmp_path, changes, words):
    begin(tmp_path).close()
    with pytest.raises(InputError, match=words) as caught:
        begin(tmp_path, **changes)
    assert "--overwrite" in str(caught.value)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "lock").exists()


def test_unchanged_options_are_not_named(tmp_path):
    begin(tmp_path).close()
    with pytest.raises(InputError) as caught:
        begin(tmp_path, options={**OPTIONS, "method": "sirt"})
    assert "iterations" not in str(caught.value)


def test_foreign_folder_is_refused_even_with_overwrite(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"run.toml is missing, 'thesis.tex'"):
            begin(tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    with begin(tmp_path) as run:
        for name in ("volume.mrc", "extra/half1.mrc", "figures/ncc.png", "figures/mine.png", "thesis.tex"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("x")
        run.finish(["volume.mrc", "extra/half1.mrc"])
        save_checkpoint(tmp_path, {"a": 1}, 1)
    with begin(tmp_path, options={"method": "wbp"}, overwrite=True) as run:
        assert not run.resumed
        assert not run.finished
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["events.jsonl", "figures/mine.png", "log.txt", "run.toml", "thesis.tex"]


def test_a_volume_in_chunks_goes_with_its_run_and_other_folders_stay(tmp_path):
    with begin(tmp_path) as run:
        for name in ("volume.zarr/0", "mine.zarr/0", "results/a", ".volume.zarr.7.tmp/0"):
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "chunk").write_text("x")
        run.finish(["volume.zarr", "results"])
    begin(tmp_path, overwrite=True).close()
    left = {entry.name for entry in tmp_path.iterdir() if entry.is_dir()}
    assert left == {"mine.zarr", "results"}


def test_overwrite_does_not_follow_links_or_hostile_names(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "ncc.png").write_text("mine")
    folder = tmp_path / "run"
    begin(folder).close()
    (folder / "figures").symlink_to(outside)
    (outside / "a.zarr").mkdir()
    (folder / "b.zarr").symlink_to(outside)
    names = '["../outside/ncc.png", "../outside/a.zarr", "figures/a.zarr", "b.zarr", 3]'
    (folder / "events.jsonl").write_text(f'{{"kind": "done", "results": {names}}}\n')
    begin(folder, overwrite=True).close()
    assert (outside / "ncc.png").read_text() == "mine"
    assert (outside / "a.zarr").is_dir()


def test_killed_before_the_record_was_written(tmp_path):
    (tmp_path / ".run.toml.123.tmp").write_text("half")
    with begin(tmp_path) as run:
        assert not run.resumed
    assert not (tmp_path / ".run.toml.123.tmp").exists()


def test_finished(tmp_path):
    with begin(tmp_path) as run:
        (tmp_path / "volume.mrc").write_text("x")
        save_checkpoint(tmp_path, {"a": 1}, 1)
        run.finish(["volume.mrc"])
        assert run.finished
        assert not (tmp_path / "checkpoint").exists()
    with begin(tmp_path) as run:
        assert run.resumed
        assert run.finished
        assert run.results == (tmp_path / "volume.mrc",)
        with pytest.raises(ValueError, match="within the run folder"):
            run.finish(["../x"])
    (tmp_path / "volume.mrc").unlink()
    with begin(tmp_path) as run:
        assert run.resumed
        assert not run.finished


def test_second_opening_is_refused(tmp_path):
    with begin(tmp_path), pytest.raises(InputError, match=f"in use by process {os.getpid()}"):
        begin(tmp_path)
    begin(tmp_path).close()


def test_error_is_logged_and_lock_released(tmp_path):
    with pytest.raises(RuntimeError), begin(tmp_path):
        raise RuntimeError("boom")
    assert "RuntimeError: boom" in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "lock").exists()


def test_stale_lock_is_told_in_the_log(tmp_path):
    begin(tmp_path).close()
    (tmp_path / "lock").write_text("")
    os.utime(tmp_path / "lock", (1, 1))
    begin(tmp_path).close()
    assert "took over the lock" in (tmp_path / "log.txt").read_text()


def test_a_run_that_ended_without_a_word_is_told_in_the_log(tmp_path):
    def log_of_next():
        before = len((tmp_path / "log.txt").read_text())
        begin(tmp_path).close()
        return (tmp_path / "log.txt").read_text()[before:]

    begin(tmp_path).close()
    assert "without a word" not in log_of_next()  # nothing had begun
    with begin(tmp_path) as run:
        run.event("iteration", iteration=1)
    assert "without a word" in log_of_next()
    with pytest.raises(RuntimeError), begin(tmp_path) as run:
        raise RuntimeError("boom")
    assert "without a word" not in log_of_next()
    with begin(tmp_path) as run:
        run.event("stop", iteration=1)
    assert "without a word" not in log_of_next()


def test_an_empty_scratch_folder_may_be_there_before_the_run(tmp_path):
    (tmp_path / "scratch").mkdir()
    nameless = tmp_path / "scratch" / ".nfs0000000000a1"
    nameless.write_text("in use")
    with begin(tmp_path) as run:
        nameless.unlink()
        run.finish([])
    assert not (tmp_path / "scratch").exists()
    other = tmp_path / "other"
    (other / "scratch").mkdir(parents=True)
    (other / "scratch" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="'scratch' is there"):
        begin(other)


def test_other_versions_are_told_in_the_log(tmp_path):
    begin(tmp_path).close()
    text = (tmp_path / "run.toml").read_text()
    version = tomllib.loads(text)["versions"]["numpy"]
    (tmp_path / "run.toml").write_text(text.replace(f'numpy = "{version}"', 'numpy = "1.0"'))
    begin(tmp_path).close()
    assert f"numpy was '1.0', now '{version}'" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("content", ["not toml at all [", "", 'job = "x"\noptions = 3\n'])
def test_damaged_record(tmp_path, content):
    (tmp_path / "run.toml").write_text(content)
    with pytest.raises(InputError, match="not the record of a run"):
        begin(tmp_path)
    begin(tmp_path, overwrite=True).close()


def test_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        begin(tmp_path / "file")
    with pytest.raises(InputError, match="Not a directory"):
        begin(tmp_path / "file" / "run")


def test_read_only_folder(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for path in (small_disk, small_disk / "run"):
        with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
            begin(path)


def test_full_disk(small_disk):
    (small_disk / "fill").write_bytes(bytes(1 << 18))
    run = begin(small_disk / "run")

    def talk_on():
        while True:
            run.event("big", text="x" * 10_000)

    with pytest.raises(InputError, match="No space left on device"):
        talk_on()
    (small_disk / "fill").unlink()
    run.close()
    with begin(small_disk / "run") as again:
        again.event("small")


def test_nothing_is_written_or_removed_before_a_run_begins(tmp_path):
    folder = tmp_path / "deep" / "run"
    with begin(folder, begin=False) as run:
        run.log("said too early")
        assert [path.name for path in folder.iterdir()] == ["lock"]
    assert not folder.exists()
    with begin(folder) as run:
        (folder / "volume.mrc").write_text("x")
        run.finish(["volume.mrc"])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError), begin(folder, overwrite=True, begin=False):
        raise InputError("the images are blank")
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    with begin(folder, overwrite=True, begin=False) as run:
        run.log("said too early")
        run.begin()
        run.begin()
    assert not (folder / "volume.mrc").exists()
    log = (folder / "log.txt").read_text().splitlines()
    assert [line.split(" ", 1)[1][:7] for line in log] == ["started", "said to"]


def test_a_run_of_an_older_version_is_refused(tmp_path):
    begin(tmp_path).close()
    text = (tmp_path / "run.toml").read_text()
    assert "results = [" in text
    (tmp_path / "run.toml").write_text(re.sub(r"results = \[[^]]*\]\n", "", text))
    with pytest.raises(InputError, match="older version of manyviews"):
        begin(tmp_path)
    begin(tmp_path, overwrite=True).close()
