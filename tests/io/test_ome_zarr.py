"""Volumes as OME-Zarr: what is read back, how large voxels are, and what stands in the metadata."""

from __future__ import annotations

import json

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io import ome_zarr
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
