"""`manyviews particles convert`, and the tables that jobs leave for the program that theirs came from."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.io.cryosparc import read_cryosparc_particles
from manyviews.io.mrc import read_header
from manyviews.io.relion_particles import read_relion_particles
from manyviews.particles.options import SimulateOptions
from manyviews.particles.simulate import simulate

COUNT = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("particles") / "data"
    simulate(SimulateOptions(box=16, pixel_size=8.0, count=COUNT, snr=1.0, seed=4), folder)
    return folder


def test_to_cryosparc_and_back(data, tmp_path, capsys):
    cs, star = tmp_path / "p.cs", tmp_path / "p.star"
    assert main(["particles", "convert", str(data / "truth.star"), "--out", str(cs)]) == 0
    told = capsys.readouterr()
    assert f"{COUNT} particles for cryoSPARC\n{cs}\n" == told.out
    assert f"--data-root {data}" in told.err
    words = ["particles", "convert", str(cs), "--out", str(star), "--data-root", str(data)]
    assert main(words) == 0
    assert f"{COUNT} particles for RELION" in capsys.readouterr().out
    first = read_relion_particles(data / "truth.star")
    found = read_relion_particles(star, data_root=data)
    assert found.stacks == first.stacks
    np.testing.assert_array_equal(found.section, first.section)
    np.testing.assert_allclose(found.angles, first.angles, atol=1e-4)
    np.testing.assert_allclose(found.shifts, first.shifts, atol=1e-5)
    assert found.image_size == read_header(data / "particles.mrcs").shape[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{data}/truth.star", "--out", "{new}/p.txt"], "let it end in .star or .cs"),
        (["{data}/truth.star", "--out", "{data}/particles.star"], "exists already"),
        (["{data}/nowhere.star", "--out", "{new}/p.cs"], "nowhere.star"),
        (["{data}/truth.star", "--out", "{new}/missing/p.cs"], "cannot be written"),
        (["{data}/truth.star", "--passthrough", "{data}/truth.star", "--out", "{new}/p.cs"], "--passthrough"),
    ],
)
def test_one_sentence_for_what_cannot_be(data, tmp_path, capsys, words, message):
    given = [word.format(data=data, new=tmp_path) for word in words]
    assert main(["particles", "convert", *given]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert list(tmp_path.iterdir()) == []


def test_tables_without_their_images(data, tmp_path):
    moved = tmp_path / "moved.star"
    moved.write_bytes((data / "truth.star").read_bytes())
    words = ["particles", "convert", str(moved), "--out", str(tmp_path / "p.cs")]
    assert main(words) == 2
    assert main([*words, "--without-images"]) == 0
    assert len(read_cryosparc_particles(tmp_path / "p.cs", with_images=False)) == COUNT
