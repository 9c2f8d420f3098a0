import hashlib
import json
import os
import resource
import subprocess
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.scratch import ScratchFolder
from manyviews.runs import checkpoint as module
from manyviews.runs.checkpoint import (
    has_checkpoints,
    load_checkpoint,
    refuse_old_checkpoints,
    remove_checkpoints,
    save_checkpoint,
)
from manyviews.runs.manifest import ArrayEntry
from manyviews.runs.placement import Placement

# what a process alone says of its state: which fields have slices
ALONE = replace(Placement.alone(), slabs=frozenset({"volume", "states"}), of_agents=frozenset({"states"}))


def some_state(number):
    generator = np.random.default_rng(number)
    return {
        "volume": generator.normal(size=(5, 6, 7)).astype(np.float32),
        "agents.0": generator.normal(size=(3, 4)),
        "random": generator.integers(0, 255, 40).astype(np.uint8),
        "empty": np.empty((0, 4), np.float32),
        "point": np.array(3.5),
        "turned": generator.normal(size=(4, 5, 6)).transpose(2, 0, 1),
        "step": 0.1 + number,
        "name": "toy",
        "nothing": None,
        "flag": True,
        "list": [1, 2.5, "x"],
        "infinite": float("inf"),
    }


def assert_same(found, state):
    assert found.keys() == state.keys()
    for key, value in state.items():
        if isinstance(value, np.ndarray):
            assert found[key].dtype == value.dtype
            assert found[key].ctypes.data % 64 == 0 or value.size == 0
            np.testing.assert_array_equal(found[key], value)
        else:
            assert found[key] == value
            assert type(found[key]) is type(value)


def test_round_trip_and_two_kept(tmp_path):
    assert load_checkpoint(tmp_path) is None
    for iteration in (1, 2, 5, 9):
        written = save_checkpoint(tmp_path, some_state(iteration), iteration)
        files = (tmp_path / "checkpoint" / f"main-{iteration:06d}").iterdir()
        assert written == sum(file.stat().st_size for file in files)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["main-000005", "main-000009"]
    found, iteration = load_checkpoint(tmp_path)
    assert iteration == 9
    assert_same(found, some_state(9))


def test_arrays_are_plain_npy_files(tmp_path):
    save_checkpoint(tmp_path, some_state(1), 1)
    for name in ("volume", "turned", "empty", "point"):
        read = np.load(tmp_path / "checkpoint/main-000001" / f"{name}.npy", allow_pickle=False)
        np.testing.assert_array_equal(read, some_state(1)[name])


def damage_flip(folder):
    path = folder / "volume.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def damage_truncate(folder):
    path = folder / "agents.0.npy"
    path.write_bytes(path.read_bytes()[:-3])


def damage_flip_scalar(folder):
    path = folder / "state.json"
    path.write_bytes(path.read_bytes().replace(b"toy", b"tox"))


def damage_manifest_number(folder):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"name": "main-000002', b'"name": "main-000003'))


def damage_no_manifest(folder):
    (folder / "manifest.json").unlink()


def damage_no_array(folder):
    (folder / "volume.npy").unlink()


def damage_half_manifest(folder):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])


def damage_deep_json(folder):
    (folder / "manifest.json").write_bytes(b"[" * 100_000)


def damage_digests(folder):
    path = folder / "parts.sha256"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)


def damage_header(folder):
    path = folder / "volume.npy"
    path.write_bytes(path.read_bytes().replace(b"(5, 6, 7)", b"(6, 5, 7)"))


def damage_old_format(folder):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"format": 3', b'"format": 2'))


def damage_pipe(folder):
    (folder / "volume.npy").unlink()
    os.mkfifo(folder / "volume.npy")


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_falls_back_and_says_so(tmp_path, damage):
    save_checkpoint(tmp_path, some_state(1), 1)
    save_checkpoint(tmp_path, some_state(2), 2)
    damage(tmp_path / "checkpoint/main-000002")
    said = []
    found, iteration = load_checkpoint(tmp_path, said.append)
    assert iteration == 1
    assert_same(found, some_state(1))
    assert len(said) == 1
    assert "main-000002" in said[0]
    save_checkpoint(tmp_path, some_state(2), 2)
    found, iteration = load_checkpoint(tmp_path)
    assert iteration == 2
    assert_same(found, some_state(2))


def rewrite(folder, change):
    """Change the manifest, and let it fit the files that are no arrays."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    for name in ("state.json", "parts.sha256"):
        data = (folder / name).read_bytes()
        manifest["files"][name] = [len(data), hashlib.sha256(data).hexdigest()]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def refusal(tmp_path, **options):
    said = []
    assert load_checkpoint(tmp_path, said.append, **options) is None
    assert len(said) == 1
    return said[0]


@pytest.mark.parametrize("name", ["../../secret", "a/b", ".", "", "a..b", "run.toml\n", "/secret"])
@pytest.mark.parametrize("table", ["arrays", "files"])
def test_hostile_names_are_refused(tmp_path, name, table):
    np.save(tmp_path / "secret.npy", np.zeros(3))
    save_checkpoint(tmp_path, some_state(1), 1)
    entry = {"arrays": ["<f8", [3]], "files": [152, "0" * 64]}[table]
    rewrite(tmp_path / "checkpoint/main-000001", lambda manifest: manifest[table].update({name: entry}))
    assert "no part of a checkpoint" in refusal(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        ["<f4", [1 << 40, 1 << 40], True],
        ["<f4", [1 << 40, 0, 7], True],
        ["<f4", [1 << 70], True],
        ["<f4", [-5, -6, 7], True],
        ["<f4", [5.0, 6, 7], True],
        ["<f4", [True, 6, 7], True],
        ["<f4", "567", True],
        ["<f4", [1] * 1000, True],
        ["<f4", 210, True],
        ["|O8", [5, 6, 7], True],
        ["<f3", [5, 6, 7], True],
        ["<M8", [5, 6, 7], True],
        ["f4, f4", [5, 6, 7], True],
        [["f4"], [5, 6, 7], True],
        ["<f4"],
        {},
        None,
        "volume",
        ["<i4", [5, 6, 7], True],
        ["<f4", [6, 5, 7], True],
        ["<f4", [5, 6, 7], False],
        ["<f4", [5, 6, 7], 1],
        ["<f4", [5, 6, 7]],
        ["<f4", [], True],
    ],
)
def test_hostile_shapes_are_refused_before_memory_is_taken(tmp_path, entry):
    save_checkpoint(tmp_path, some_state(1), 1, placement=ALONE)
    rewrite(tmp_path / "checkpoint/main-000001", lambda manifest: manifest["arrays"].update(volume=entry))
    assert refusal(tmp_path, placement=ALONE)


def test_a_huge_file_that_fits_is_not_believed(tmp_path):
    """Nothing but the header and the digests of so many slices could make it a checkpoint."""
    save_checkpoint(tmp_path, some_state(1), 1, placement=ALONE)
    folder = tmp_path / "checkpoint/main-000001"
    entry = ArrayEntry((1 << 20, 1 << 10, 1 << 10), np.dtype("<f4"), sliced=True)
    os.truncate(folder / "volume.npy", entry.file_bytes)  # takes no room
    rewrite(folder, lambda manifest: manifest["arrays"].update(volume=entry.to_json()))
    assert "parts.sha256 does not fit" in refusal(tmp_path, placement=ALONE)


@pytest.mark.parametrize("name", ["volume.npy", "state.json", "parts.sha256", "manifest.json"])
def test_links_are_not_followed(tmp_path, name):
    save_checkpoint(tmp_path, some_state(1), 1)
    file = tmp_path / "checkpoint/main-000001" / name
    os.rename(file, tmp_path / name)
    os.symlink(tmp_path / name, file)
    assert refusal(tmp_path)


def test_no_pickle_and_no_odd_names_are_written(tmp_path):
    for bad in (np.array([object()]), np.array(["text"]), object(), {"a": object()}):
        with pytest.raises(TypeError):
            save_checkpoint(tmp_path, {"x": bad}, 1)
    for name in ("../x", "a/b", "", ".x", "a..b", "x\n"):
        with pytest.raises(ValueError, match="cannot be the name"):
            save_checkpoint(tmp_path, {name: 1}, 1)
    assert list(tmp_path.iterdir()) == []


class FakeCrash(BaseException):
    pass


def count_disk_calls(monkeypatch, crash_at=None):
    """Count fsync, replace and unlink; at call number ``crash_at`` everything stops, as in a crash."""
    calls = [0]

    def wrap(name, owner):
        real = getattr(owner, name)

        def counted(*arguments, **options):
            calls[0] += 1
            if crash_at is not None and calls[0] >= crash_at:
                raise FakeCrash
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    for name in ("fsync", "replace"):
        wrap(name, os)
    wrap("unlink", Path)
    wrap("rmdir", Path)
    return calls


def test_every_crash_point_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    def prepared(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        for iteration in (1, 2):
            save_checkpoint(folder, some_state(iteration), iteration)
        return folder

    with monkeypatch.context() as patch:
        folder = prepared("count")
        calls = count_disk_calls(patch)
        save_checkpoint(folder, some_state(3), 3)
        total = calls[0]
    assert total > 10
    for crash_at in range(1, total + 1):
        folder = prepared(crash_at)
        with monkeypatch.context() as patch:
            count_disk_calls(patch, crash_at)
            with pytest.raises(FakeCrash):
                save_checkpoint(folder, some_state(3), 3)
        found, iteration = load_checkpoint(folder)
        assert iteration in (2, 3)
        assert_same(found, some_state(iteration))
        save_checkpoint(folder, some_state(4), 4)
        left = sorted(path.name for path in (folder / "checkpoint").iterdir())
        assert left[-1] == "main-000004"
        assert all(not name.startswith(".") for name in left)


SCRIPT = """
import sys, numpy as np
from pathlib import Path
from manyviews.runs.checkpoint import save_checkpoint
folder = Path(sys.argv[1])
for iteration in range(1, 10_000):
    volume = np.full((64, 64, 64), iteration, np.float32)
    save_checkpoint(folder, {"volume": volume, "n": iteration}, iteration)
    print(iteration, flush=True)
"""


def test_sigkill_while_writing(tmp_path, warm):
    for round_number in range(4):
        with subprocess.Popen(
            [*warm, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            for _ in range(3 + 5 * round_number):
                last = int(process.stdout.readline())
            process.kill()
            process.stdout.read()  # to its end
        state, iteration = load_checkpoint(tmp_path)
        assert iteration >= last
        assert state["n"] == iteration
        assert (state["volume"] == iteration).all()
        remove_checkpoints(tmp_path)
        assert not (tmp_path / "checkpoint").exists()


def test_foreign_files_survive_removal(tmp_path):
    save_checkpoint(tmp_path, some_state(1), 1)
    note = tmp_path / "checkpoint/main-000001/notes.txt"
    note.write_text("mine")
    remove_checkpoints(tmp_path)
    assert note.read_text() == "mine"
    assert list(note.parent.iterdir()) == [note]


def test_full_disk_keeps_the_older_checkpoint(small_disk):
    state = {"volume": np.zeros(80_000, np.float32)}
    save_checkpoint(small_disk, state, 1)
    save_checkpoint(small_disk, state, 2)
    with pytest.raises(InputError, match="No space left on device"):
        save_checkpoint(small_disk, {"volume": np.zeros(200_000, np.float32)}, 3)
    assert load_checkpoint(small_disk)[1] == 2
    assert sorted(path.name for path in (small_disk / "checkpoint").iterdir()) == [
        "main-000001",
        "main-000002",
    ]


LIMITED = """
import resource, signal, sys, numpy as np
from pathlib import Path
from manyviews.errors import InputError
from manyviews.runs.checkpoint import load_checkpoint, save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
save_checkpoint(folder, {"volume": np.zeros(10)}, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save_checkpoint(folder, {"volume": np.zeros(10_000)}, 2)
except InputError as error:
    print(error)
    assert load_checkpoint(folder)[1] == 1
    sys.exit(error.exit_code)
"""


def test_file_size_limit(tmp_path, warm):
    done = subprocess.run([*warm, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stdout


def test_saving_takes_no_second_copy(tmp_path):
    array = np.zeros((64, 256, 1024), np.float32)
    array[:] = 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    save_checkpoint(tmp_path, {"volume": array, "turned": array.transpose(1, 0, 2)}, 1)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 24 * 1024  # KiB; the array has 64 MiB


def test_one_can_be_kept(tmp_path):
    for iteration in (1, 2, 3):
        save_checkpoint(tmp_path, some_state(iteration), iteration, keep=1)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["main-000003"]
    assert_same(load_checkpoint(tmp_path)[0], some_state(3))


def test_memory_is_taken_where_the_caller_wants(tmp_path):
    save_checkpoint(tmp_path, some_state(1), 1, placement=ALONE)
    given = []

    def allocate():
        given.append(np.empty((5, 6, 7), np.float32))
        return given[-1]

    found, _ = load_checkpoint(tmp_path, placement=ALONE, allocate=allocate)
    assert found["volume"] is given[0]
    np.testing.assert_array_equal(found["volume"], some_state(1)["volume"])
    assert found["turned"].shape == (6, 4, 5)  # of another shape: not there


def test_loading_into_files_takes_no_memory(tmp_path):
    whole = np.ones((64, 256, 256), np.float32)
    save_checkpoint(tmp_path, {"volume": whole, "states.0": whole, "states.1": whole}, 1, placement=ALONE)
    with ScratchFolder(tmp_path / "scratch") as scratch:
        tracemalloc.start()
        found, _ = load_checkpoint(
            tmp_path, placement=ALONE, allocate=lambda: scratch.allocate(whole.shape, "float32")
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < whole.nbytes / 8
    assert all(np.array_equal(found[name], whole) for name in ("volume", "states.0", "states.1"))


def test_module_keeps_two():
    assert module.KEPT == 2


def test_stages_are_kept_apart(tmp_path):
    for stage, iteration in (("starts", 3), ("starts", 5), ("starts", 9), ("trial-2", 1)):
        save_checkpoint(tmp_path, some_state(iteration), iteration, stage=stage)
    found = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert found == ["starts-000005", "starts-000009", "trial-2-000001"]
    assert load_checkpoint(tmp_path, stage="starts")[1] == 9
    assert load_checkpoint(tmp_path, stage="trial-2")[1] == 1
    assert load_checkpoint(tmp_path, stage="trial") is None
    assert has_checkpoints(tmp_path, "trial-2")
    assert not has_checkpoints(tmp_path, "trial")
    remove_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "-a", "A", "a/b", "a-", "000001", "..", "a b"])
def test_a_stage_has_a_plain_name(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be the name of a stage"):
        save_checkpoint(tmp_path, some_state(1), 1, stage=name)
    assert list(tmp_path.iterdir()) == []


def test_poses_are_one_part_with_one_digest(tmp_path):
    """Once there were a write and a digest for each of them, because they have three axes."""
    save_checkpoint(tmp_path, {"rotations": np.ones((5000, 3, 3), np.float32)}, 1, placement=ALONE)
    assert (tmp_path / "checkpoint/main-000001/parts.sha256").stat().st_size == 32
    assert load_checkpoint(tmp_path, placement=ALONE)[0]["rotations"].shape == (5000, 3, 3)


def test_a_checkpoint_of_an_older_version_is_refused_by_name(tmp_path):
    refuse_old_checkpoints(tmp_path)
    save_checkpoint(tmp_path, some_state(1), 1)
    refuse_old_checkpoints(tmp_path)
    (tmp_path / "checkpoint/main-000001").rename(tmp_path / "checkpoint/000001")
    with pytest.raises(InputError, match="checkpoint/000001: was written by an older version"):
        refuse_old_checkpoints(tmp_path)
    remove_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []
