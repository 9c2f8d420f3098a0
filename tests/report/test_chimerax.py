"""The script for ChimeraX: which maps it opens, in which order, and at which levels."""

from __future__ import annotations

import re

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.report.chimerax import VIEW_FILE, write_view_script


def ball(side, radius, height=1.0):
    along = (np.arange(side) - side // 2) ** 2.0
    distance = np.sqrt(along[:, None, None] + along[:, None] + along)
    return (height * np.exp(-((distance / radius) ** 2))).astype(np.float32)


def script(folder):
    assert write_view_script(folder)
    return (folder / VIEW_FILE).read_text().splitlines()


def levels(lines):
    return {int(n): float(v) for n, v in re.findall(r"volume #(\d+) .*level (\S+)", "\n".join(lines))}


def test_a_map_with_its_halves_and_mask(tmp_path):
    volume, noise = ball(32, 6), np.random.default_rng(0).normal(0, 2, (32, 32, 32)).astype(np.float32)
    mask = (ball(32, 6) > 0.05).astype(np.float32)
    for name, data in (
        ("volume", volume),
        ("half1", 3 * volume),
        ("half2", 3 * volume + noise),
        ("mask", mask),
    ):
        write_mrc(tmp_path / f"{name}.mrc", data, 2.0)
    lines = script(tmp_path)
    opened = [line.split()[1] for line in lines if line.startswith("open ")]
    assert opened == ["volume.mrc", "half1.mrc", "half2.mrc", "mask.mrc"]
    assert [line for line in lines if line.startswith("hide")] == [f"hide #{n} models" for n in (2, 3, 4)]
    found = levels(lines)
    above = volume[volume > found[1]].sum() / volume.sum()
    assert above == pytest.approx(0.7, abs=0.02)
    assert 3 * found[1] < found[2] < 3.0  # within the mask, where less of the density is weak
    assert found[4] == 0.5
    assert "style mesh" in lines[-3]
    assert lines[-1] == "view"
    # every command names its map by the number that an empty session gives it
    numbers = [re.search(r"#(\d)", line)[1] for line in lines if line.startswith("volume")]
    assert numbers == ["1", "2", "3", "4"]


def test_a_wide_and_flat_volume_is_shown_by_its_planes(tmp_path):
    write_mrc(tmp_path / "volume.mrc", np.zeros((8, 20, 31), np.float32), 5.0)
    lines = script(tmp_path)
    assert "volume #1 orthoplanes xyz positionPlanes 15,10,4 style image region all" in lines
    assert levels(lines) == {}


def test_without_density_above_zero_no_level_is_told(tmp_path):
    write_mrc(tmp_path / "volume.mrc", -ball(16, 3), 5.0)
    assert "volume #1 style surface color goldenrod" in script(tmp_path)


def test_no_volume_no_script(tmp_path):
    assert not write_view_script(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_map_is_named(tmp_path):
    (tmp_path / "volume.mrc").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match=r"volume\.mrc"):
        write_view_script(tmp_path)
