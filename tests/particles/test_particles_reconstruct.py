"""From a table with poses to maps, curves and a summary; what cannot be reconstructed is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.particle_images import ParticleImages
from manyviews.io.relion_particles import read_relion_particles
from manyviews.metrics.fsc import FscCurve, fsc
from manyviews.particles.known_poses import (
    read_images,
    reconstruct_as_planned,
    resolve_reconstruction,
    write_reconstruction,
)
from manyviews.particles.options import ReconstructOptions, SimulateOptions
from manyviews.particles.simulate import simulate

BOX, PIXEL = 20, 8.0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("particles")
    simulate(SimulateOptions(box=BOX, pixel_size=PIXEL, count=300, snr=0.5, seed=4), folder)
    return folder


@pytest.fixture
def table(data):
    return read_relion_particles(data / "truth.star")


def resolved(table, **options):
    return resolve_reconstruction(ReconstructOptions(**options), table, BOX)


@pytest.mark.usefixtures("one_thread")
def test_from_a_table_to_files(data, table, tmp_path):
    plan = resolved(table, diameter=130.0, reference=data / "truth.mrc")
    assert (plan.box, plan.pixel_size, plan.radius) == (ParticleImages(table).box, PIXEL, 9)
    told = []
    images = read_images(plan, table, tell=told.append)
    assert told[-1] == 300
    found = reconstruct_as_planned(images, plan)
    summary = write_reconstruction(tmp_path, plan, found)
    truth, _ = read_mrc(data / "truth.mrc")
    assert np.all(fsc(found.volume, truth, PIXEL).correlation[1:6] > 0.9)
    volume, header = read_mrc(tmp_path / "volume.mrc")
    np.testing.assert_array_equal(volume, found.volume)
    assert header.pixel_size[0] == pytest.approx(PIXEL)
    halves = [read_mrc(tmp_path / f"half{number}.mrc")[0] for number in (1, 2)]
    again = FscCurve.read_csv(tmp_path / "fsc.csv")
    np.testing.assert_allclose(again.correlation, fsc(*halves, PIXEL).correlation, atol=1e-5)
    assert FscCurve.read_csv(tmp_path / "fsc_reference.csv").correlation[1] > 0.9
    assert summary["particles"] == 300
    assert 2 * PIXEL <= summary["resolution at FSC 0.5 with the reference (angstrom)"] < 30


def test_halves_are_the_tables_or_odd_and_even_ones(table):
    plan = resolved(table)
    assert list(plan.halves[:4]) == [1, 2, 1, 2]
    assert "names no halves" in plan.warnings[0]
    half = np.repeat([1, 2], 150)
    plan = resolved(replace(table, half=half))
    assert (list(plan.halves), plan.warnings) == (list(half), ())


def test_defaults_and_record(table):
    plan = resolved(replace(table, shifts=None), resolution=32.0)
    assert (plan.diameter, plan.radius) == (160.0, 5)
    assert not plan.shifts.any()
    assert plan.record() == {
        "diameter": 160.0, "resolution": 32.0, "radius": 5, "symmetry": "C1", "padding": 2, "reference": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"diameter": 500.0}, "does not go with a box of 160"),
        ({"padding": 5}, "a padding of 5"),
        ({"resolution": 10.0}, "do not reach 10"),
        ({"symmetry": "Q"}, "Q"),
        ({"device": "cuda"}, "run on the CPU"),
    ],
)
def test_options_that_make_no_sense_are_refused(table, options, said):
    with pytest.raises(InputError, match=said):
        resolved(table, **options)


def test_a_table_without_poses_and_a_reference_of_another_size_are_refused(table, tmp_path):
    with pytest.raises(InputError, match="have no poses"):
        resolved(replace(table, angles=None))
    write_mrc(tmp_path / "small.mrc", np.ones((8, 8, 8), np.float32), PIXEL)
    with pytest.raises(InputError, match="8 x 8 x 8 voxels, the map will have 20"):
        resolved(table, reference=tmp_path / "small.mrc")
