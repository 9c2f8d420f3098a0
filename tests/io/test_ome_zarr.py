"""Volumes as OME-Zarr: what is read back, how large voxels are, and what stands in the metadata."""

from __future__ import annotations

import json

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.io import ome_zarr
from manyviews.io.mrc import write_mrc
from manyviews.io.ome_zarr import write_ome_zarr

zarr = pytest.importorskip("zarr", reason="zarr is not installed")


def test_sizes_values_and_places(tmp_path, rng):
    volume = rng.standard_normal((70, 131, 260)).astype(np.float32)
    path = tmp_path / "volume.zarr"
    write_ome_zarr(path, volume, 2.0)
    group = zarr.open_group(path, mode="r")
    (image,) = group.attrs["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["z", "y", "x"]
    assert {axis["unit"] for axis in image["axes"]} == {"nanometer"}
    arrays = [group[level["path"]] for level in image["datasets"]]
    assert [array.shape for array in arrays] == [(70, 131, 260), (35, 65, 130), (17, 32, 65)]
    np.testing.assert_array_equal(arrays[0][:], volume)
    cubes = volume[:, :130].reshape(35, 2, 65, 2, 130, 2)
    np.testing.assert_allclose(arrays[1][:], cubes.mean(axis=(1, 3, 5)), rtol=1e-5, atol=1e-6)
    scale, shift = image["datasets"][2]["coordinateTransformations"]
    assert scale["scale"] == [8.0] * 3
    assert shift["translation"] == [3.0] * 3  # the middle of voxels 0 to 3 of 2 nm
    assert json.loads((path / "0" / ".zarray").read_text())["dimension_separator"] == "/"
    assert (path / "0" / "0" / "0" / "0").is_file()


def test_an_earlier_one_is_replaced_and_nothing_half_written_stays(tmp_path, monkeypatch):
    path = tmp_path / "volume.zarr"
    write_ome_zarr(path, np.zeros((4, 4, 4), np.float32), None)
    write_ome_zarr(path, np.ones((3, 3, 3), np.float32), None)
    group = zarr.open_group(path, mode="r")
    assert "unit" not in group.attrs["multiscales"][0]["axes"][0]
    np.testing.assert_array_equal(group["0"][:], np.ones((3, 3, 3)))

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ome_zarr, "_dataset", full)
    with pytest.raises(InputError, match="cannot be written \\(No space left on device\\)"):
        write_ome_zarr(path, np.zeros((4, 4, 4), np.float32), None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["volume.zarr"]
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["0"][:], np.ones((3, 3, 3)))


def test_without_zarr_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(ome_zarr.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'manyviews\[zarr\]'"):
        ome_zarr.require_zarr()


def test_a_volume_of_a_run_is_copied_in_its_units(tmp_path, capsys):
    """From the folder of a run, or a file of it; values, sizes and units are those of the MRC."""
    run = tmp_path / "run"
    run.mkdir()
    volume = np.random.default_rng(0).normal(size=(70, 9, 130)).astype(np.float32)
    write_mrc(run / "volume.mrc", volume, 12.5)
    for source, name in ((run, "a.ome.zarr"), (run / "volume.mrc", "b.zarr")):
        assert main(["convert", str(source), "--out", str(tmp_path / name)]) == 0
        assert capsys.readouterr().out == f"{tmp_path / name}\n"
        group = zarr.open_group(tmp_path / name, mode="r")
        np.testing.assert_array_equal(group["0"][:], volume)
        [scales] = group.attrs["multiscales"]
        assert scales["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.25] * 3
        assert {axis["unit"] for axis in scales["axes"]} == {"nanometer"}
        assert group["1"].shape == (35, 4, 65)


def test_integers_and_headers_without_a_size(tmp_path, capsys):
    write_mrc(tmp_path / "a.mrc", np.arange(60, dtype=np.int16).reshape(3, 4, 5), (1.0, 1.0, 3.0))
    assert main(["convert", str(tmp_path / "a.mrc"), "--out", str(tmp_path / "a.zarr")]) == 0
    assert "lengths have no unit" in capsys.readouterr().err
    found = zarr.open_group(tmp_path / "a.zarr", mode="r")["0"][:]
    np.testing.assert_array_equal(found.ravel(), np.arange(60))


def test_nothing_but_an_older_copy_is_replaced(tmp_path, capsys):
    write_mrc(tmp_path / "a.mrc", np.ones((3, 4, 5), np.float32), 2.0)
    mine = tmp_path / "mine.zarr"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    words = ["convert", str(tmp_path / "a.mrc"), "--out"]
    copied = [*words, str(tmp_path / "a.zarr")]
    assert main(copied) == 0
    for given, told in (
        (copied, "exists already"),
        ([*words, str(mine), "--overwrite"], "is no OME-Zarr and is not replaced"),
        ([*words, str(tmp_path / "a.mrc.tif")], "let it end in .ome.zarr"),
        ([*words, str(tmp_path / "none/a.zarr")], "the folder is not there"),
        (["convert", str(mine), "--out", str(tmp_path / "b.zarr")], "volume.mrc"),
    ):
        assert main(given) == 2
        assert told in capsys.readouterr().err
    assert (mine / "thesis.tex").read_text() == "mine"
    assert main([*copied, "--overwrite"]) == 0
