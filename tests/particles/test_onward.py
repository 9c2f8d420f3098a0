"""What a run over particles tells at its end of other programs, by what it left and where images are."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from manyviews.io.particle_table import OpticsGroup, table_of_stack
from manyviews.particles.onward import say_what_is_next
from manyviews.particles.options import ParticleOptions


@pytest.fixture
def project(tmp_path):
    """Images in ``data``, a run folder beside it with half maps."""
    for folder, name in (
        ("data", "particles.mrcs"), ("data", "particles.star"),
        ("run", "half1.mrc"), ("run", "half2.mrc"), ("run", "mask.mrc"),
    ):  # fmt: skip
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


@pytest.fixture
def table(project):
    group = OpticsGroup("one", 300.0, 2.7, 0.1, 2.0, 32)
    return table_of_stack(project / "data/particles.mrcs", group, np.ones((3, 2)))


def told(project, table, *, speaks=True, **options):
    said: list[str] = []
    job = SimpleNamespace(speaks=speaks, folder=project / "run", say=said.append)
    given = ParticleOptions(particles=project / "data/particles.star", **options)
    say_what_is_next(job, given, table, 2.0, "C3")
    return said


def test_half_maps_and_images(project, table):
    halves, images = told(project, table)
    assert f"cd {project} && " in halves
    assert halves.endswith("--angpix 2 --o run-relion/postprocess")
    assert f"cd {project / 'data'} && " in images
    assert "--i ../run/particles.star --ctf --sym C3 --o ../run-relion/reconstruct.mrc" in images


def test_without_half_maps_it_is_said_why(project, table):
    (project / "run/mask.mrc").unlink()
    first, second = told(project, table)
    assert first.startswith("no half maps, as all particles were posed with one map")
    assert f"manyviews particles refine with --start {project / 'run'} " in first
    assert "relion_reconstruct" in second


def test_nothing_is_told_that_relion_could_not_do(project, table):
    """Protein that is dark, and images that it would not find."""
    dark = replace(table, contrast_sign=np.array([1, -1, 1]))
    assert len(told(project, dark)) == 1
    moved = replace(table, stack_names=("elsewhere/particles.mrcs",))
    assert len(told(project, moved)) == 1
    assert len(told(project, moved, data_root=project / "data")) == 1


def test_what_came_from_cryosparc_goes_back_there(project, table):
    (project / "run/particles.cs").write_bytes(b"")
    _, second = told(project, table)
    assert second.endswith(str(project / "run/particles.cs"))


def test_one_rank_speaks(project, table):
    assert told(project, table, speaks=False) == []
