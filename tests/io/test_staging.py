import pytest

from manyviews.errors import InputError
from manyviews.io.staging import staged_folder


def test_a_folder_appears_whole(tmp_path):
    with staged_folder(tmp_path / "out", ("*.txt",)) as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a.txt").read_text() == "a"


def spoil(out):
    with staged_folder(out, ()) as folder:
        (folder / "a.txt").write_text("a")
        raise RuntimeError("half-way")


def test_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError, match="half-way"):
        spoil(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_only_own_files_are_replaced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("old.mrc", "mine.doc"):
        (out / name).write_text(name)
    with staged_folder(out, ("*.mrc",), overwrite=True) as folder:
        (folder / "new.mrc").write_text("new")
    assert sorted(path.name for path in out.iterdir()) == ["mine.doc", "new.mrc"]


def test_an_empty_folder_may_be_filled_and_a_full_one_may_not(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with staged_folder(out, ()) as folder:
        (folder / "a.txt").write_text("a")
    with pytest.raises(InputError, match="exists already"), staged_folder(out, ()):
        pass
    with pytest.raises(InputError, match="is a file"), staged_folder(out / "a.txt", ()):
        pass
    with pytest.raises(InputError, match="cannot be written"), staged_folder(out / "a.txt" / "b", ()):
        pass
