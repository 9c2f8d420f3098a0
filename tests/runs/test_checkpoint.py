import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.runs import checkpoint as module
from manyviews.runs.checkpoint import load_checkpoint, remove_checkpoints, save_checkpoint
from manyviews.runs.npy import read_array


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
        files = (tmp_path / "checkpoint" / f"{iteration:06d}").iterdir()
        assert written == sum(file.stat().st_size for file in files)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["000005", "000009"]
    found, iteration = load_checkpoint(tmp_path)
    assert iteration == 9
    assert_same(found, some_state(9))


def test_arrays_are_plain_npy_files(tmp_path):
    save_checkpoint(tmp_path, some_state(1), 1)
    for name in ("volume", "turned", "empty", "point"):
        read = np.load(tmp_path / "checkpoint/000001" / f"{name}.npy", allow_pickle=False)
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
    path.write_bytes(path.read_bytes().replace(b'"iteration": 2', b'"iteration": 3'))


def damage_no_manifest(folder):
    (folder / "manifest.json").unlink()


def damage_no_array(folder):
    (folder / "volume.npy").unlink()


def damage_half_manifest(folder):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])


def damage_deep_json(folder):
    (folder / "manifest.json").write_bytes(b"[" * 100_000)


def damage_pipe(folder):
    (folder / "volume.npy").unlink()
    os.mkfifo(folder / "volume.npy")


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_falls_back_and_says_so(tmp_path, damage):
    save_checkpoint(tmp_path, some_state(1), 1)
    save_checkpoint(tmp_path, some_state(2), 2)
    damage(tmp_path / "checkpoint/000002")
    said = []
    found, iteration = load_checkpoint(tmp_path, said.append)
    assert iteration == 1
    assert_same(found, some_state(1))
    assert len(said) == 1
    assert "000002" in said[0]
    save_checkpoint(tmp_path, some_state(2), 2)
    found, iteration = load_checkpoint(tmp_path)
    assert iteration == 2
    assert_same(found, some_state(2))


def rewrite(folder, name, data, claimed=None):
    """Put hostile bytes into a checkpoint with a manifest that fits them."""
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    if data is not None:
        (folder / name).write_bytes(data)
        claimed = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["files"][name] = claimed
    (folder / "manifest.json").write_text(json.dumps(manifest))


def npy_header(shape, descr="'<f4'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_hostile_content_is_refused(tmp_path):
    secret = tmp_path / "secret.npy"
    np.save(secret, np.zeros(3))
    save_checkpoint(tmp_path, some_state(1), 1)
    folder = tmp_path / "checkpoint/000001"
    clean = (folder / "manifest.json").read_bytes()
    entry = {"bytes": secret.stat().st_size, "sha256": "0" * 64}
    said = []
    for name in ("../../secret.npy", str(secret), "a/b.npy", "..npy", "x.pkl", "run.toml", ""):
        rewrite(folder, name, None, entry)
        assert load_checkpoint(tmp_path, said.append) is None
        assert "no part of a checkpoint" in said.pop()
        (folder / "manifest.json").write_bytes(clean)
    huge = npy_header((1 << 40, 1 << 40)) + b"1234"
    for data in (
        huge,
        npy_header((-1, -1)) + b"1234",
        npy_header((1,), "'|O'") + b"12345678",
        npy_header("(__import__('os').abort(),)"),
        b"",
        b"\x93NUMPY\x09\x00",
        b"no array at all",
    ):
        rewrite(folder, "volume.npy", data)
        assert load_checkpoint(tmp_path, said.append) is None
        assert "volume.npy" in said.pop()
    os.unlink(folder / "volume.npy")
    os.symlink(secret, folder / "volume.npy")
    assert load_checkpoint(tmp_path, said.append) is None


def test_no_pickle_and_no_odd_names_are_written(tmp_path):
    for bad in (np.array([object()]), np.array(["text"]), object(), {"a": object()}):
        with pytest.raises(TypeError):
            save_checkpoint(tmp_path, {"x": bad}, 1)
    for name in ("../x", "a/b", "", ".x", "a..b", "x\n"):
        with pytest.raises(ValueError, match="cannot be the name"):
            save_checkpoint(tmp_path, {name: 1}, 1)
    assert list((tmp_path / "checkpoint").iterdir()) == []


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
        assert left[-1] == "000004"
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


def test_sigkill_while_writing(tmp_path):
    for round_number in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            for _ in range(3 + 5 * round_number):
                last = int(process.stdout.readline())
            process.kill()
        state, iteration = load_checkpoint(tmp_path)
        assert iteration >= last
        assert state["n"] == iteration
        assert (state["volume"] == iteration).all()
        remove_checkpoints(tmp_path)
        assert not (tmp_path / "checkpoint").exists()


def test_foreign_files_survive_removal(tmp_path):
    save_checkpoint(tmp_path, some_state(1), 1)
    note = tmp_path / "checkpoint/000001/notes.txt"
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
    assert sorted(path.name for path in (small_disk / "checkpoint").iterdir()) == ["000001", "000002"]


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


def test_file_size_limit(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stdout


def test_saving_takes_no_second_copy(tmp_path):
    array = np.zeros((64, 256, 1024), np.float32)
    array[:] = 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    save_checkpoint(tmp_path, {"volume": array, "turned": array.transpose(1, 0, 2)}, 1)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 24 * 1024  # KiB; the array has 64 MiB


def test_read_array_rejects_changed_bytes(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="changed"):
        read_array(tmp_path / "a.npy", "0" * 64)


def test_module_keeps_two():
    assert module.KEPT == 2
