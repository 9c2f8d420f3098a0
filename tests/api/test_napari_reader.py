"""What napari is handed for a run folder, by the function that the manifest names; without napari."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

from manyviews.api.napari_reader import get_reader
from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from run_files import write_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run7")


def test_maps_become_layers_in_angstrom(run):
    rng = np.random.default_rng(0)
    maps = {name: rng.normal(size=(5, 6, 7)).astype(np.float32) for name in ("volume", "half2", "mask")}
    for name, data in maps.items():
        write_mrc(run / f"{name}.mrc", data, (2.0, 3.0, 4.0), overwrite=True)
    layers = get_reader(str(run))(str(run))
    assert [told["name"] for _, told, _ in layers] == ["run7 volume", "run7 half2", "run7 mask"]
    for (data, told, kind), expected in zip(layers, maps.values(), strict=True):
        assert kind == "image"
        np.testing.assert_array_equal(data, expected)
        assert told["scale"] == pytest.approx((4.0, 3.0, 2.0))  # z, y, x, as the axes of the array
        assert told["units"] == ("angstrom",) * 3
    assert [told["visible"] for _, told, _ in layers] == [True, False, False]


def test_several_runs_at_once(run, tmp_path):
    both = [str(run), str(write_run(tmp_path / "other"))]
    assert [told["name"] for _, told, _ in get_reader(both)(both)] == ["run7 volume", "other volume"]


def test_what_is_no_run_is_left_to_others(run, tmp_path):
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(run / "run.toml")) is None
    assert get_reader([str(run), str(tmp_path)]) is None
    assert get_reader(str(tmp_path / "nowhere")) is None


def test_a_run_without_a_volume_says_so(run):
    (run / "volume.mrc").unlink()
    with pytest.raises(InputError, match="has no volume yet"):
        get_reader(str(run))(str(run))


def test_the_manifest_names_what_is_there():
    """`napari.yaml` lies in the package, where its entry point says."""
    text = files("manyviews").joinpath("napari.yaml").read_text()
    module, _, name = re.search(r"python_name: (\S+)", text)[1].partition(":")
    assert getattr(importlib.import_module(module), name) is get_reader
    ids = re.findall(r"(?:id|command): (\S+)", text)
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_to_be_asked_for_a_file_costs_no_libraries():
    code = "import sys, manyviews.api.napari_reader as r; r.get_reader('x'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "matplotlib"} & set(done.stdout.split())
