"""RELION itself averages subtomograms that our tables describe: angles and shifts mean the same to both."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from manyviews.geometry.poses import euler_to_matrices
from manyviews.io.dynamo_table import write_dynamo_table
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.relion_subtomogram_writer import write_relion_subtomograms
from manyviews.io.subtomogram_formats import read_subtomograms
from manyviews.io.subtomogram_table import SubtomogramTable

BOX, PIXEL, COUNT = 32, 5.0, 24
BEADS = np.array([[0.0, 0, 0], [45, 0, 0], [0, 30, 0], [0, 0, 18], [20, 20, -35]])  # angstrom, x y z


def beads_at(centres: np.ndarray) -> np.ndarray:
    """Round beads in a box, at places in angstrom from voxel ``n // 2``."""
    axis = (np.arange(BOX) - BOX // 2) * PIXEL
    profiles = [np.exp(-((axis - centres[:, [at]]) ** 2) / (2 * 6.0**2)) for at in range(3)]
    return np.einsum("bz,by,bx->zyx", profiles[2], profiles[1], profiles[0]).astype(np.float32)


@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="RELION is not installed")
@pytest.mark.parametrize("through", ["relion", "dynamo"])
def test_relion_finds_the_beads_where_they_were(tmp_path: Path, through: str):
    rng = np.random.Generator(np.random.PCG64(5))
    angles = rng.uniform(-180, 180, (COUNT, 3)) * [1, 0.5, 1] + [0, 90, 0]
    shifts = rng.uniform(-15, 15, (COUNT, 3))
    names = tuple(f"{number}.mrc" for number in range(1, COUNT + 1))
    for name, matrix, shift in zip(names, euler_to_matrices(angles), shifts, strict=True):
        write_mrc(tmp_path / name, beads_at(BEADS @ matrix.T - shift), PIXEL)
    table = SubtomogramTable(
        pixel_size=PIXEL, shifts=shifts, angles=angles, volumes=tuple(map(Path, names)), volume_names=names,
        number=np.arange(1, COUNT + 1), box=BOX,
    )  # fmt: skip
    if through == "dynamo":
        write_dynamo_table(tmp_path / "p.tbl", table)
        read = read_subtomograms(tmp_path / "p.tbl", pixel_size=PIXEL)
        table = table.with_poses(read.angles, read.shifts)
        np.testing.assert_array_equal([path.name for path in read.volumes], names)
    write_relion_subtomograms(tmp_path / "p.star", table)
    command = ["relion_reconstruct", "--i", "p.star", "--o", "average.mrc", "--pad", "2"]
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=threads, check=False
    )
    assert ran.returncode == 0, ran.stderr
    average, _ = read_mrc(tmp_path / "average.mrc")
    truth = beads_at(BEADS)
    assert np.corrcoef(average.ravel(), truth.ravel())[0, 1] > 0.95
    mirrored = truth[:, :, ::-1]
    assert np.corrcoef(average.ravel(), mirrored.ravel())[0, 1] < 0.8
