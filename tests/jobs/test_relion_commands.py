"""What is told to be typed for RELION: folders that are there, words that a shell reads as they are meant."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from manyviews.io.particle_stacks import project_folder
from manyviews.jobs.relion import postprocess_command, reconstruct_command


def commands(told):
    """The words of each command in a line."""
    words = shlex.split(told)
    ends = [place for place, word in enumerate(words) if word == "&&"]
    return [
        words[first:last] for first, last in zip([0, *[end + 1 for end in ends]], [*ends, None], strict=True)
    ]


def test_half_maps_from_the_folder_above_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    enter, make, finish = commands(postprocess_command(Path("a run; rm x"), 1.0605))
    assert enter == ["cd", str(tmp_path)]
    assert make == ["mkdir", "-p", "a run; rm x-relion"]
    options = dict(zip(finish[1::2], finish[2::2], strict=True))
    assert finish[0] == "relion_postprocess"
    assert options["--i"] == "a run; rm x/half1.mrc"
    assert options["--mask"] == "a run; rm x/mask.mrc"
    assert options["--angpix"] == "1.0605"
    assert options["--o"] == "a run; rm x-relion/postprocess"  # a folder and a name


@pytest.mark.parametrize(("symmetry", "more"), [("C1", []), ("c1", []), ("C7", ["--sym", "C7"])])
def test_a_map_from_where_the_images_are(tmp_path, symmetry, more):
    told = reconstruct_command(tmp_path / "runs/one/particles.star", tmp_path / "project", symmetry)
    enter, make, finish = commands(told)
    assert enter == ["cd", str(tmp_path / "project")]
    assert make[-1] == "../runs/one-relion"
    made = ["--o", "../runs/one-relion/reconstruct.mrc"]
    assert finish == ["relion_reconstruct", "--i", "../runs/one/particles.star", "--ctf", *more, *made]


def test_the_folder_from_which_all_images_are_found(tmp_path):
    source = tmp_path / "job1/particles.star"
    for name in ("a.mrcs", "b.mrcs"):
        path = tmp_path / "images" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "job1").mkdir()
    names = ["images/a.mrcs", ">images/b.mrcs"]
    assert project_folder(names, source=source) == tmp_path
    assert project_folder(["a.mrcs"], source=source, data_root=tmp_path / "images") == tmp_path / "images"
    assert project_folder([*names, "images/c.mrcs"], source=source) is None  # moved: RELION does not search
    assert project_folder([str(tmp_path / "images/a.mrcs")], source=source) == tmp_path / "job1"
